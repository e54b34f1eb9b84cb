"""The loop: poll, process, write, commit.

Nothing is committed before every record of the batch is acknowledged, and an error on the way ends
the loop before the commit: the batch comes again. The loop is synchronous: partitions change hands
only inside a poll, when every earlier batch is delivered.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from broker.alert import Message, Outcome, Record, Rejected
from broker.flags import is_partial
from broker.metrics import Metrics
from broker.probes import Health

LAG_SECONDS = 5.0
"""Time between two looks at the lag."""

REPORT_SECONDS = 60.0
"""Time between two lines of progress."""

logger = logging.getLogger("broker.consumer")


class Source(Protocol):
    """Where alerts come from."""

    def poll(self, limit: int, linger_seconds: float) -> Sequence[Message]:
        """Take at most `limit` messages, waiting at most `linger_seconds`."""

    def commit(self, batch: Sequence[Message]) -> None:
        """Note for good that `batch` is done, in partitions still held."""

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

    def deliver(self, records: Sequence[Record], batch: Sequence[Message]) -> None:
        """Publish the records of a batch and note that it is done; else raise, and the batch comes again."""


class Sink(Protocol):
    """Where records go."""

    def write(self, records: Sequence[Record]) -> None:
        """Publish records; returns when every one is acknowledged, else raises."""

    def close(self) -> None:
        """Leave."""


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
        Messages to outcomes, one for one.
    record : callable
        Outcome to record.
    batch_size, linger_seconds : int, float
        Of one poll.
    exit_at_end : bool
    stop : threading.Event
        Set from outside, as by a signal handler; the batch in hand is finished first.
    """

    source: Source
    delivery: Delivery
    pipeline: Callable[[Sequence[Message]], Sequence[Outcome]]
    record: Callable[[Outcome], Record]
    metrics: Metrics
    health: Health
    stop: threading.Event
    batch_size: int = 256
    linger_seconds: float = 0.2
    exit_at_end: bool = False
    summary: Summary = field(default_factory=Summary)

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
        held = self.source.assigned or 0
        self.health.turned(held)
        self.metrics.assigned(held)
        if batch:
            self.metrics.stage("poll", time.monotonic() - began)
        return batch

    def _turn(self, batch: Sequence[Message]) -> None:
        with self.metrics.timed("process"):
            outcomes = self.pipeline(batch)
            records = [self.record(outcome) for outcome in outcomes]
        self.delivery.deliver(records, batch)
        self.metrics.published(outcomes)
        self.summary.add(outcomes)


@dataclass(frozen=True)
class AtLeastOnce:
    """First every acknowledgement, then the offsets: what fails in between comes again, nothing is lost.

    Attributes
    ----------
    source : Source
    sink : Sink
    metrics : Metrics
    """

    source: Source
    sink: Sink
    metrics: Metrics

    def deliver(self, records: Sequence[Record], batch: Sequence[Message]) -> None:
        """Write, wait for every acknowledgement, commit."""
        with self.metrics.timed("write"):
            self.sink.write(records)
        with self.metrics.timed("commit"):
            self.source.commit(batch)


class Timer:
    """Says when a time has passed again.

    Parameters
    ----------
    seconds : float
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether the time has passed since this last was so."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True
