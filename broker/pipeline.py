"""The one place that knows the order of stages: messages in, outcomes out.

Pure in the sense that matters: no Kafka, no files, no clock but that of `broker.overload`. The same messages and the
same model give the same outcomes, one for each message and in their order.

Messages go in pieces. While the network sees one, the next is read and laid on the grid, and what it said of the
one before is made into outcomes: it has processors of its own where there are several, and needs no interpreter.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from broker.alert import BANDS, SURVEYS, Alert, Enriched, Message, Outcome, Rejected
from broker.answers import Answers
from broker.avro.deserializer import Deserializer
from broker.contract import ModelContract
from broker.errors import AlertError
from broker.geometry import Stamps, lay
from broker.heads import HeadContract
from broker.overload import admit_all
from broker.survey import read_alert

MOST_MESSAGES = 64
"""Messages of a piece: as many as the network takes at once."""

MOST_HELD = 32 * 1024 * 1024
"""Bytes of alerts after which a piece is closed: room for several hundred of the largest ordinary alerts, so that only
data that inflate reach it, and two of the largest that a container may hold."""

MOST_AHEAD = MOST_HELD // 2
"""Bytes of a piece at the network up to which another is read meanwhile: what inflates further is alone."""

Read: TypeAlias = tuple[Message, Alert] | Outcome
"""An alert that the network is to see, or what became of its message without it."""

Outputs: TypeAlias = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Piece:
    """Messages that were read together.

    Attributes
    ----------
    read : list
    held : int
        Bytes of their alerts.
    """

    read: list[Read]
    held: int

    @property
    def alerts(self) -> list[Alert]:
        """Those that the network is to see."""
        return [one[1] for one in self.read if isinstance(one, tuple)]


@dataclass(frozen=True, slots=True)
class Asked:
    """A piece at the network.

    Attributes
    ----------
    piece : Piece
    stamps : list of Stamps
    outputs : Future
    """

    piece: Piece
    stamps: list[Stamps]
    outputs: "Future[Outputs]"


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
    admits : callable
        Whether the network sees the alert of a message: else it is passed on as partial, with flag ``shed``.
    """

    def __init__(
        self,
        deserialize: Deserializer,
        embed: Embedder,
        heads: Sequence[EmbeddingHead] = (),
        admits: Callable[[Message], bool] = admit_all,
    ) -> None:
        self._deserialize = deserialize
        self._admits = admits
        self._embed = embed
        self._heads = heads
        self._grid = embed.contract.grid
        self._answers = Answers(embed.contract, [head.contract for head in heads])
        self._network = ThreadPoolExecutor(1, "asking the network")

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
        """Do the same as they are taken.

        No more is held than `MOST_HELD` bytes of alerts, and `MOST_AHEAD` before them, however far they inflate.
        """
        before: Asked | None = None
        for piece in self._pieces(messages):
            asked = self._ask(piece)
            if before is not None:
                yield from self._outcomes_of(before)
                before = None
            if piece.held > MOST_AHEAD:
                yield from self._outcomes_of(asked)
            else:
                before = asked
            del asked, piece  # not held while the next is read
        if before is not None:
            yield from self._outcomes_of(before)

    def _pieces(self, messages: Iterable[Message]) -> Iterator[Piece]:
        read: list[Read] = []
        held = 0
        for message in messages:
            read.append(one := self._read(message))
            held += _held(one)
            if held >= MOST_HELD or len(read) == MOST_MESSAGES:
                yield Piece(read, held)
                read, held = [], 0
                del one, message  # not held while the next is read
        if read:
            yield Piece(read, held)

    def _read(self, message: Message) -> Read:
        try:
            alert = read_alert(self._deserialize(message.value))
        except AlertError as error:
            return Rejected(message, error.reason, error.detail)
        if self._admits(message):
            return message, alert
        return Enriched(message, alert, self._answers.unseen(alert))

    def _ask(self, piece: Piece) -> Asked:
        """Have the network begin with a piece."""
        alerts = piece.alerts
        stamps = [lay(alert, self._grid) for alert in alerts]
        if not alerts:
            return Asked(piece, [], _nothing())
        return Asked(piece, stamps, self._network.submit(self._embed, network_inputs(alerts, stamps)))

    def _outcomes_of(self, asked: Asked) -> Iterator[Outcome]:
        """Make outcomes of a piece, waiting for what the network says of it."""
        outputs, alerts = asked.outputs.result(), asked.piece.alerts
        values = [head(outputs["embedding"]) for head in self._heads] if alerts else []
        answers = iter(self._answers(alerts, asked.stamps, outputs, values) if alerts else ())
        for one in asked.piece.read:
            yield Enriched(*one, next(answers)) if isinstance(one, tuple) else one


def _held(read: Read) -> int:
    """Bytes that are held of an alert."""
    if isinstance(read, Rejected):
        return 0
    alert = read.alert if isinstance(read, Enriched) else read[1]
    # A name is in the datum too, but each of its characters may take four bytes here.
    return len(alert.datum) + sys.getsizeof(alert.object_id)


def _nothing() -> "Future[Outputs]":
    answered: Future[Outputs] = Future()
    answered.set_result({})
    return answered


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
