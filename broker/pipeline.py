"""The one place that knows the order of stages: messages in, outcomes out.

Pure in the sense that matters: no Kafka, no clock, no files. The same messages and the
same model give the same outcomes, one for each message and in their order.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from broker.alert import BANDS, SURVEYS, Alert, Enriched, Message, Outcome, Rejected
from broker.answers import Answers
from broker.avro.deserializer import Deserializer
from broker.contract import ModelContract
from broker.errors import AlertError
from broker.geometry import Stamps, lay
from broker.heads import HeadContract
from broker.survey import read_alert

MOST_HELD = 32 * 1024 * 1024
"""Bytes of alerts after which a piece is closed: room for several hundred of the largest ordinary alerts, so that only
data that inflate reach it, and two of the largest that a container may hold."""


class Embedder(Protocol):
    """What the pipeline asks of a model."""

    @property
    def contract(self) -> ModelContract:
        """What the model promises."""

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Arrays named as in the contract's `outputs`, for those of `broker.contract.INPUTS`."""


class EmbeddingHead(Protocol):
    """What the pipeline asks of an additional head."""

    @property
    def contract(self) -> HeadContract:
        """What the head promises."""

    def __call__(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values, shape (n, n_labels), of embeddings, shape (n, embedding_size)."""


class Pipeline:
    """Turns a batch of messages into outcomes.

    Parameters
    ----------
    deserialize : Deserializer
    embed : Embedder
    heads : sequence of EmbeddingHead
        Fitted on this embedding.
    """

    def __init__(
        self, deserialize: Deserializer, embed: Embedder, heads: Sequence[EmbeddingHead] = ()
    ) -> None:
        self._deserialize = deserialize
        self._embed = embed
        self._heads = heads
        self._grid = embed.contract.grid
        self._answers = Answers(embed.contract, [head.contract for head in heads])

    def __call__(self, messages: Sequence[Message]) -> list[Outcome]:
        """Enrich what can be read, reject what cannot.

        Parameters
        ----------
        messages : sequence of Message

        Returns
        -------
        list of Outcome
            One for each message, in their order.
        """
        return list(self.outcomes(messages))

    def outcomes(self, messages: Iterable[Message]) -> Iterator[Outcome]:
        """Do the same as they are taken: no more is held than `MOST_HELD` bytes of alerts, however far they inflate."""
        for piece in self._pieces(messages):
            enriched = iter(self._enrich([one for one in piece if not isinstance(one, Rejected)]))
            for one in piece:
                yield one if isinstance(one, Rejected) else next(enriched)

    def pass_on(self, messages: Iterable[Message]) -> Iterator[Outcome]:
        """Read messages without letting the network see them: partial, with flag ``shed``; or rejected as ever."""
        for message in messages:
            read = self._read(message)
            yield read if isinstance(read, Rejected) else Enriched(message, read, self._answers.unseen(read))

    def _pieces(self, messages: Iterable[Message]) -> Iterator[list[tuple[Message, Alert] | Rejected]]:
        piece: list[tuple[Message, Alert] | Rejected] = []
        held = 0
        for message in messages:
            read = self._read(message)
            if isinstance(read, Rejected):
                piece.append(read)
                continue
            piece.append((message, read))
            # A name is in the datum too, but each of its characters may take four bytes here.
            held += len(read.datum) + sys.getsizeof(read.object_id)
            if held >= MOST_HELD:
                yield piece
                piece, held = [], 0
        if piece:
            yield piece

    def _read(self, message: Message) -> Alert | Rejected:
        try:
            return read_alert(self._deserialize(message.value))
        except AlertError as error:
            return Rejected(message, error.reason, error.detail)

    def _enrich(self, pairs: Sequence[tuple[Message, Alert]]) -> list[Enriched]:
        if not pairs:
            return []
        alerts = [alert for _, alert in pairs]
        stamps = [lay(alert, self._grid) for alert in alerts]
        outputs = self._embed(network_inputs(alerts, stamps))
        values = [head(outputs["embedding"]) for head in self._heads]
        answers = self._answers(alerts, stamps, outputs, values)
        return [Enriched(*pair, answer) for pair, answer in zip(pairs, answers, strict=True)]


def network_inputs(alerts: Sequence[Alert], stamps: Sequence[Stamps]) -> dict[str, NDArray[Any]]:
    """Arrays the graph takes, for n alerts seen in one band each.

    Parameters
    ----------
    alerts : sequence of Alert
    stamps : sequence of Stamps
        The alerts' stamps on the common grid.

    Returns
    -------
    dict of str to ndarray
        As `broker.contract.INPUTS` states them, with a band axis of length 1.
    """
    return {
        "stamps": np.stack([laid.image for laid in stamps])[:, None],
        "mask": np.stack([laid.mask for laid in stamps])[:, None],
        "noise": np.stack([laid.noise for laid in stamps])[:, None],
        "survey": np.array([SURVEYS.index(alert.survey) for alert in alerts], dtype=np.int64),
        "band": np.array([[_band_index(alert.band)] for alert in alerts], dtype=np.int64),
        "photometry": np.stack([alert.photometry for alert in alerts]),
    }


def _band_index(band: str | None) -> int:
    return BANDS.index(band) if band in BANDS else -1
