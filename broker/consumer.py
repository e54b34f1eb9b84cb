"""The loop: read, hand over to be processed, deliver what is finished.

Nothing is committed before every record of a part is acknowledged (`broker.delivery`), and an error on the way ends
the loop before the commit: what was in hand comes again. Kafka is spoken to by the loop's own thread alone, so
partitions change hands only inside a poll, or while a part waits for Kafka; `Source.holds` then tells. Alerts become
parcels beside it (`broker.processing`), while the part before them is delivered.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

from broker.alert import Message, Outcome, Parcel, Rejected
from broker.flags import is_partial
from broker.metrics import Metrics
from broker.probes import Health
from broker.processing import Processing

LAG_SECONDS = 5.0
"""Time between two looks at the lag."""

STAY_SECONDS = 2.0
"""Time between two words to the group while there is no room for more: a third of the 6 s below which no Kafka takes a
session (``group.min.session.timeout.ms``) and librdkafka no ``max.poll.interval.ms``."""

LOOK_SECONDS = 0.02
"""How long a finished part is waited for before there is another look at what there is to read."""

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
        From the first message to the last acknowledgement, less the time with nothing in hand.
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
    batch_size : int
        Messages that wait while others are processed, at most.
    linger_seconds : float
        Longest wait of a poll where nothing is in hand: how soon it is seen that we are told to stop.
    part_bytes : int
        Bytes of messages that wait, and of records after which those made so far are delivered; the last of each may
        exceed it.
    exit_at_end : bool
    stop : threading.Event
        Set from outside, as by a signal handler; what is being processed is finished first.
    """

    source: Source
    delivery: Delivery
    pipeline: Callable[[Iterable[Message]], Iterable[Outcome]]
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
    _lag: "Timer" = field(init=False)
    _report: "Timer" = field(init=False)
    _began: float = 0.0

    def __post_init__(self) -> None:
        self._silence = Timer(STAY_SECONDS)
        self._lag = Timer(LAG_SECONDS)
        self._report = Timer(REPORT_SECONDS)

    def run(self) -> Summary:
        """Turn until stopped, or until the end where that is asked for.

        Raises
        ------
        KafkaError, ConfigurationError
            From source and sink, before the commit of what is in hand.
        """
        work = Processing(
            self.pipeline, self.pack, self.metrics, most_waiting=self.batch_size, most_bytes=self.part_bytes
        )
        with closing(work):
            while not self._is_done(work):
                was_idle = work.idle
                self._read(work, self.linger_seconds if was_idle else 0.0)
                if was_idle and not work.idle:  # what was waited for it is not counted
                    self._began = time.monotonic() - self.summary.busy_seconds
                if part := self._finished(work):
                    # Something to do while this is delivered.
                    self._read(work, 0.0)
                    self._deliver(part)
                self._tell(work)
        return self.summary

    def _is_done(self, work: Processing) -> bool:
        if not work.idle:
            return False
        return self.stop.is_set() or (self.exit_at_end and self.source.at_end)

    def _read(self, work: Processing, seconds: float) -> None:
        """Take what there is room for, waiting for it so long at most."""
        if self.stop.is_set():
            work.drop_waiting()
        elif (room := work.room) > 0:
            batch = self._poll(room, seconds)
            if batch:
                work.offer(batch)
            return
        if self._silence.due():
            self.source.keep_alive()

    def _poll(self, room: int, seconds: float) -> Sequence[Message]:
        began = time.monotonic()
        batch = self.source.poll(room, seconds)
        self._silence.start()
        self.health.waiting(self.source.silent_seconds)
        if batch:
            self.metrics.stage("poll", time.monotonic() - began)
        return batch

    def _finished(self, work: Processing) -> Sequence[Parcel]:
        return () if work.idle else work.part(LOOK_SECONDS)

    def _deliver(self, part: Sequence[Parcel]) -> None:
        outcomes = [parcel.outcome for parcel in self.delivery.deliver(part)]
        self.metrics.published(outcomes)
        self.summary.add(outcomes)
        self.summary.busy_seconds = time.monotonic() - self._began

    def _tell(self, work: Processing) -> None:
        """Say that we are alive, to whoever asks: a network that does not come back is not."""
        held = self.source.assigned or 0
        self.metrics.assigned(held)
        if work.moved:
            self.health.turned(held)
        if self._lag.due():
            self.metrics.lag(self.source.lag)
        if self._report.due():
            logger.info("%s", self.summary)


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
