"""The loop: poll, process, deliver.

Nothing is committed before every record of the batch is acknowledged (`broker.delivery`), and an error on the way ends
the loop before the commit: the batch comes again. The loop is synchronous: partitions change hands only inside a poll,
or while a batch waits for Kafka, which `Source.holds` then tells.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from broker.alert import Message, Outcome, Parcel, Rejected
from broker.flags import is_partial
from broker.metrics import Metrics
from broker.probes import Health

LAG_SECONDS = 5.0
"""Time between two looks at the lag."""

PIECE = 64
"""Messages processed before the next look at the group: as many as the network takes at once."""

STAY_SECONDS = 5.0
"""Time between two words to the group while a batch is processed."""

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
        Messages to outcomes, one for one.
    pack : callable
        Outcome to its records.
    batch_size, linger_seconds : int, float
        Of one poll.
    exit_at_end : bool
    stop : threading.Event
        Set from outside, as by a signal handler; the batch in hand is finished first.
    """

    source: Source
    delivery: Delivery
    pipeline: Callable[[Sequence[Message]], Sequence[Outcome]]
    pack: Callable[[Outcome], Parcel]
    metrics: Metrics
    health: Health
    stop: threading.Event
    batch_size: int = 256
    linger_seconds: float = 0.2
    exit_at_end: bool = False
    summary: Summary = field(default_factory=Summary)
    _silence: "Timer" = field(init=False)

    def __post_init__(self) -> None:
        self._silence = Timer(STAY_SECONDS)

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
        parcels: list[Parcel] = []
        with self.metrics.timed("process"):
            for start in range(0, len(batch), PIECE):
                parcels += map(self.pack, self.pipeline(batch[start : start + PIECE]))
                self._stay()
        outcomes = [parcel.outcome for parcel in self.delivery.deliver(parcels)]
        self.metrics.published(outcomes)
        self.summary.add(outcomes)

    def _stay(self) -> None:
        """Keep the group from taking a slow model for a dead member; a turn that is quick needs no word."""
        if self._silence.due():
            self.source.keep_alive()
            self.health.turned(self.source.assigned or 0)


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
