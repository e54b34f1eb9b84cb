"""The consumer's work on an alert without Kafka and without the network, which answers at no cost."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from broker import native
from broker.alert import Message
from broker.avro.deserializer import Deserializer
from broker.avro.store import SchemaStore
from broker.contract import ModelContract
from broker.inference import Model
from broker.pipeline import Pipeline
from broker.records import RecordBuilder
from broker.survey import WANTED

PIECE = 64
"""Alerts the pipeline is given at once, as the consumer does."""


class Spy:
    """A model whose inputs are kept, those of all its calls together."""

    def __init__(self, model: Model) -> None:
        self.contract = model.contract
        self.inputs: dict[str, Any] = {}
        self._model = model

    def __call__(self, inputs: Any) -> dict[str, Any]:
        """Note them, and answer."""
        for name, values in inputs.items():
            before = self.inputs.get(name)
            self.inputs[name] = values if before is None else np.concatenate([before, values])
        return self._model(inputs)


class Stored:
    """Answers as the network would, at no cost: what it said of one alert, for each."""

    def __init__(self, model: Model, inputs: dict[str, Any]) -> None:
        self.contract: ModelContract = model.contract
        self._row = {
            name: values[:1] for name, values in model({k: v[:1] for k, v in inputs.items()}).items()
        }

    def __call__(self, inputs: Any) -> dict[str, Any]:
        """Repeat the row."""
        return {name: np.repeat(row, len(inputs["survey"]), axis=0) for name, row in self._row.items()}


def messages(packets: Sequence[bytes]) -> list[Message]:
    """Give packets as they come from Kafka."""
    return [Message(value, "alerts", 0, n, None, (), 1_790_000_000_000) for n, value in enumerate(packets)]


def network_inputs_of(model: Model, packets: Sequence[bytes]) -> dict[str, Any]:
    """Give what the network is given for packets."""
    spy = Spy(model)
    Pipeline(Deserializer(WANTED), spy)(messages(packets))
    return spy.inputs


class Work:
    """All of it, from a message's value to its record.

    Parameters
    ----------
    model : Model
    packet : bytes
        One that can be read, for the stored answer.
    """

    def __init__(self, model: Model, packet: bytes) -> None:
        store = SchemaStore(WANTED)
        stored = Stored(model, network_inputs_of(model, [packet]))
        self._pipeline = Pipeline(Deserializer(WANTED, store=store), stored)
        self._pack = RecordBuilder(lambda topic: topic, "0", store)

    def __call__(self, batch: Sequence[Message]) -> None:
        """Do it for a batch, in pieces."""
        for start in range(0, len(batch), PIECE):
            for outcome in self._pipeline.outcomes(batch[start : start + PIECE]):
                self._pack(outcome)


@contextmanager
def helper(*, compiled: bool) -> Iterator[None]:
    """Use the compiled helper, or leave it aside."""
    with ExitStack() as stack:
        if not compiled:
            for name in native.FUNCTIONS:
                stack.enter_context(patch.object(native, name, None))
        yield
