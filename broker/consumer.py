"""The loop: poll, process, deliver.

Nothing is committed before every record of the batch is acknowledged (`broker.delivery`), and an error on the way ends
the loop before the commit: the batch comes again. The loop is synchronous: partitions change hands only inside a poll,
or while a batch waits for Kafka or the network, which `Source.holds` then tells.

What is held is bounded whatever comes. A batch is bounded where it is taken, but small messages may inflate: it is
delivered in parts, each of which is closed when its records reach a number of bytes, and is to a delivery a batch.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from broker.alert import Message, Outcome, Parcel, Rejected
from broker.flags import is_partial
from broker.metrics import Metrics
from broker.probes import Health

LAG_SECONDS = 5.0
"""Time between two looks at the lag."""

MOST_MESSAGES = 64
"""Messages of a piece, between which there may be a word to the group: as many as the network takes at once."""

PIECE_SECONDS = 1.0
"""A piece takes no longer, as far as one before it tells."""

STAY_SECONDS = 2.0
"""Time between two words to the group while a batch is processed. Together with a piece it is half of the 6 s below
which no Kafka takes a session (``group.min.session.timeout.ms``) and librdkafka no ``max.poll.interval.ms``."""

PART_BYTES = 32 * 1024 * 1024
"""Bytes of a batch by default, as of `broker.settings.ConsumerSettings.batch_bytes`: an ordinary batch is one part."""

REPORT_SECONDS = 60.0
"""Time between two lines of progress."""

logger = logging.getLogger("broker.consumer")


class Source(Protocol):
    """Where alerts come from."""

    def poll(self, limit: int, linger_seconds: float) -> Sequence[Message]:
        """Take at most `limit` messages, waiting at most `linger_seconds`."""

    def keep_alive(self) -> None:
        """Stay a member of the group while a batch is in hand, and take nothing."""

    @property
    def silent_seconds(self) -> float:
        """How long nothing of the source has been reachable."""

    @property
    def assigned(self) -> int | None:
        """Number of partitions held; None before the group has answered."""

    @property
    def at_end(self) -> bool:
        """Whether every partition held has reached the end it had at start."""

    @property
    def lag(self) -> int:
        """Messages not yet taken from the partitions held."""

    def close(self) -> None:
        """Leave."""


class Delivery(Protocol):
    """How records and the end of their batch become one fact."""

    def deliver(self, parcels: Sequence[Parcel]) -> Sequence[Parcel]:
        """Publish a batch and note that it is done, else raise, and it comes again; give what was delivered."""


@dataclass
class Summary:
    """What one run did.

    Attributes
    ----------
    consumed, enriched, partial : int
        Messages with a published outcome; those enriched, of which in part.
    rejected : Counter of str
        Dead letters by reason.
    busy_seconds : float
        From the first message to the last acknowledgement.
    """

    consumed: int = 0
    enriched: int = 0
    partial: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    busy_seconds: float = 0.0

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Count a batch."""
        for outcome in outcomes:
            self.consumed += 1
            if isinstance(outcome, Rejected):
                self.rejected[outcome.reason.value] += 1
            else:
                self.enriched += 1
                self.partial += is_partial(outcome.enrichment.flags)

    def __str__(self) -> str:
        reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(self.rejected.items()))
        rate = f", {self.consumed / self.busy_seconds:.0f} alerts/s" if self.busy_seconds > 0 else ""
        return (
            f"consumed {self.consumed}: enriched {self.enriched} (of these {self.partial} partial), "
            f"rejected {self.rejected.total()}{f' ({reasons})' if reasons else ''}{rate}"
        )


@dataclass
class Consumer:
    """Turns until told to stop.

    Attributes
    ----------
    source : Source
    delivery : Delivery
    pipeline : callable
        Messages to outcomes, one for one, made as they are taken.
    pack : callable
        Outcome to its records.
    batch_size, linger_seconds : int, float
        Of one poll.
    part_bytes : int
        Bytes of records after which those made so far are delivered; the last record may exceed it.
    exit_at_end : bool
    stop : threading.Event
        Set from outside, as by a signal handler; the batch in hand is finished first.
    """

    source: Source
    delivery: Delivery
    pipeline: Callable[[Sequence[Message]], Iterable[Outcome]]
    pack: Callable[[Outcome], Parcel]
    metrics: Metrics
    health: Health
    stop: threading.Event
    batch_size: int = 256
    linger_seconds: float = 0.2
    part_bytes: int = PART_BYTES
    exit_at_end: bool = False
    summary: Summary = field(default_factory=Summary)
    _silence: "Timer" = field(init=False)
    _pace: "Pace" = field(init=False)

    def __post_init__(self) -> None:
        self._silence = Timer(STAY_SECONDS)
        self._pace = Pace(MOST_MESSAGES, PIECE_SECONDS)

    def run(self) -> Summary:
        """Turn until stopped, or until the end where that is asked for.

        Raises
        ------
        KafkaError, ConfigurationError
            From source and sink, before the commit of the batch in hand.
        """
        lag = Timer(LAG_SECONDS)
        report = Timer(REPORT_SECONDS)
        began: float | None = None
        while not self.stop.is_set():
            batch = self._poll()
            if batch:
                began = began or time.monotonic()
                self._turn(batch)
                self.summary.busy_seconds = time.monotonic() - began
            # Also after a batch: a topic that others go on writing to never falls silent.
            if self.exit_at_end and self.source.at_end:
                break
            if lag.due():
                self.metrics.lag(self.source.lag)
            if report.due():
                logger.info("%s", self.summary)
        return self.summary

    def _poll(self) -> Sequence[Message]:
        began = time.monotonic()
        batch = self.source.poll(self.batch_size, self.linger_seconds)
        self._silence.start()
        held = self.source.assigned or 0
        self.health.turned(held)
        self.health.waiting(self.source.silent_seconds)
        self.metrics.assigned(held)
        if batch:
            self.metrics.stage("poll", time.monotonic() - began)
        return batch

    def _turn(self, batch: Sequence[Message]) -> None:
        parcels = self._parcels(batch)
        # No name is given to a part: it must be gone before the next is made.
        while self._deliver(self._part(parcels)):
            pass

    def _deliver(self, part: Sequence[Parcel]) -> bool:
        if not part:
            return False
        outcomes = [parcel.outcome for parcel in self.delivery.deliver(part)]
        self.metrics.published(outcomes)
        self.summary.add(outcomes)
        return True

    def _part(self, parcels: Iterator[Parcel]) -> list[Parcel]:
        """Take parcels until their bytes reach the bound."""
        began, left = time.monotonic(), self.part_bytes
        part: list[Parcel] = []
        for parcel in parcels:
            part.append(parcel)
            left -= parcel.size
            if left <= 0:
                break
        if part:
            self.metrics.stage("process", time.monotonic() - began)
        return part

    def _parcels(self, batch: Sequence[Message]) -> Iterator[Parcel]:
        start = 0
        while start < len(batch):
            piece = batch[start : start + self._pace.messages]
            start += len(piece)
            yield from map(self.pack, self._outcomes(piece))

    def _outcomes(self, piece: Sequence[Message]) -> Iterator[Outcome]:
        """Run a piece, and set the pace by the longest that an outcome was waited for."""
        longest, since = 0.0, time.monotonic()
        for outcome in self.pipeline(piece):
            longest = max(longest, time.monotonic() - since)
            self._stay()
            yield outcome
            since = time.monotonic()
        self._pace.took(len(piece), longest)

    def _stay(self) -> None:
        """Keep the group from taking a slow model for a dead member; a turn that is quick needs no word."""
        if self._silence.due():
            self.source.keep_alive()
            self.health.turned(self.source.assigned or 0)


class Pace:
    """How many messages a piece has: as many as take a given time, found by what the pieces before took.

    Begins with one, as nothing is known of the network yet, and at most doubles from one piece to the next.

    Parameters
    ----------
    most : int
    seconds : float

    Attributes
    ----------
    messages : int
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self.messages = 1

    def took(self, messages: int, seconds: float) -> None:
        """Note how long a piece took."""
        fit = int(messages * self._seconds / max(seconds, 1e-6))
        self.messages = max(1, min(fit, 2 * self.messages, self._most))


class Timer:
    """Says when a time has passed again.

    Parameters
    ----------
    seconds : float
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def start(self) -> None:
        """Count from now."""
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether the time has passed since this last was so."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True
