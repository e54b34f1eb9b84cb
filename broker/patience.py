"""Waiting for Kafka without being taken for dead: by the group, by the probes, or by whoever reads the log."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from broker.errors import Interrupted
from broker.metrics import Metrics
from broker.probes import Health

KEEP_SECONDS = 1.0
"""A wait below this is part of any write, and worth no word to the group."""

REMINDER_SECONDS = 10.0
"""What lasts is told once in this time."""

SLICE_SECONDS = 0.2
"""Longest sleep, so that a signal gets its turn."""

logger = logging.getLogger("broker.delivery")


class Member(Protocol):
    """What of a source is needed while waiting."""

    def keep_alive(self) -> None:
        """Stay a member of the group and take nothing."""

    @property
    def assigned(self) -> int | None:
        """Number of partitions held."""


@dataclass
class Patience:
    """Waits, and says so.

    Attributes
    ----------
    member : Member
    health : Health
    metrics : Metrics
    stop : threading.Event
    drain_seconds : float
        How long what is in hand may still wait once told to stop.
    clock : callable
        Monotonic seconds.
    """

    member: Member
    health: Health
    metrics: Metrics
    stop: threading.Event
    drain_seconds: float = 10.0
    clock: Callable[[], float] = time.monotonic
    _since: float | None = None
    _told: float = field(default=0.0)
    _kept: float = field(default=0.0)
    _stopped_at: float | None = None

    def turn(self, why: str) -> None:
        """Take one turn of waiting; called a few times a second.

        Raises
        ------
        Interrupted
            Told to stop, and what was waited for did not come in `drain_seconds`.
        """
        now = self.clock()
        if self._since is None:
            self._since = self._told = self._kept = now
        waited = now - self._since
        self.health.waiting(waited)
        self.metrics.waiting(waited)
        if now - self._kept >= KEEP_SECONDS:
            self._kept = now
            self.member.keep_alive()
            self.health.turned(self.member.assigned or 0)
        if now - self._told >= REMINDER_SECONDS:
            self._told = now
            logger.warning("waiting for Kafka for %.0f s: %s", waited, why)
        self._end_if_told(now, why)

    def _end_if_told(self, now: float, why: str) -> None:
        if not self.stop.is_set():
            return
        self._stopped_at = self._stopped_at or now
        if now - self._stopped_at >= self.drain_seconds:
            raise Interrupted(
                f"told to stop, and Kafka did not answer within {self.drain_seconds:g} s ({why}): "
                "what was in hand is not committed and comes again"
            )

    def wait(self, seconds: float, why: str) -> None:
        """Wait, a turn at a time."""
        end = self.clock() + seconds
        while True:
            self.turn(why)
            left = end - self.clock()
            if left <= 0:
                return
            time.sleep(min(left, SLICE_SECONDS))

    def over(self) -> None:
        """Note that what was waited for has come."""
        if self._since is None:
            return
        waited = self.clock() - self._since
        if waited >= REMINDER_SECONDS:
            logger.info("Kafka answers again, after %.0f s", waited)
        self._since = None
        self.health.waiting(0.0)
        self.metrics.waiting(0.0)
