"""How records and the end of their batch become one fact.

Both ways give every message an outcome on the wire before its offset is committed. At least once writes first and
commits then: what fails between comes again. Exactly once does both in one transaction, which a reader of committed
records sees whole or not at all.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from broker.alert import Message, Parcel, Record
from broker.backoff import delays
from broker.errors import TooLarge, TooSlow, Unavailable
from broker.metrics import Metrics

logger = logging.getLogger("broker.delivery")


class Source(Protocol):
    """What a delivery asks of the source."""

    def holds(self, message: Message) -> bool:
        """Whether the message's partition is ours, without a break since it was taken."""

    def commit(self, batch: Sequence[Message]) -> None:
        """Note for good that `batch` is done, in partitions still held."""


class Sink(Protocol):
    """Where records go."""

    def write(self, records: Sequence[Record]) -> None:
        """Publish records; returns when every one is acknowledged, else raises."""


class TransactionalSink(Sink, Protocol):
    """Where records go together with the offsets of what they answer."""

    def transact(self, records: Sequence[Record], batch: Sequence[Message]) -> None:
        """Publish records and commit the offsets after `batch`, both or neither."""


class Patience(Protocol):
    """What is done while waiting."""

    def wait(self, seconds: float, why: str) -> None:
        """Wait, keeping the group's membership and telling whoever asks; raises when told to stop."""

    def turn(self, why: str) -> None:
        """Take one turn of waiting; raises when told to stop."""

    def over(self) -> None:
        """Note that what was waited for has come."""


@dataclass(frozen=True)
class _Delivery:
    """What both ways need.

    Attributes
    ----------
    source : Source
    smaller : callable
        Parcel in place of one that is too large for its topic.
    metrics : Metrics
    patience : Patience
    """

    source: Source
    smaller: Callable[[Parcel], Parcel]
    metrics: Metrics
    patience: Patience

    def _ours(self, parcels: Sequence[Parcel]) -> list[Parcel]:
        """Leave out what is others' by now."""
        ours = [parcel for parcel in parcels if self.source.holds(parcel.message)]
        if len(ours) < len(parcels):
            logger.info(
                "%d alerts in hand are left to others, who hold their partitions now and read them again",
                len(parcels) - len(ours),
            )
        return ours


@dataclass(frozen=True)
class AtLeastOnce(_Delivery):
    """First every acknowledgement, then the offsets: what fails in between comes again, nothing is lost.

    Attributes
    ----------
    sink : Sink
        And those of `_Delivery`.
    """

    sink: Sink

    def deliver(self, parcels: Sequence[Parcel]) -> list[Parcel]:
        """Write, wait for every acknowledgement, commit; give what was delivered.

        What of it went to others before is left to them. What goes to them while it is written is not committed: it
        comes again there.
        """
        ours = self._ours(parcels)
        with self.metrics.timed("write"):
            delivered = self._write(ours)
        with self.metrics.timed("commit"):
            self.source.commit([parcel.message for parcel in ours if self.source.holds(parcel.message)])
        return delivered

    def _write(self, parcels: list[Parcel]) -> list[Parcel]:
        # Where each record stands: its parcel, and its place in that parcel.
        waiting = [(i, j) for i, parcel in enumerate(parcels) for j in range(len(parcel.records))]
        pauses = delays()
        while waiting:
            try:
                self.sink.write([parcels[i].records[j] for i, j in waiting])
            except Unavailable as error:
                waiting = [waiting[n] for n in error.unwritten] if error.unwritten else waiting
                self.metrics.retried("write")
                self.patience.wait(next(pauses), str(error))
            except TooLarge as error:
                waiting = self._shrink(parcels, [waiting[n] for n in error.refused])
            else:
                break
        self.patience.over()
        return parcels

    def _shrink(self, parcels: list[Parcel], refused: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Put smaller parcels in the place of those refused, which are tried alone: their neighbours may be why."""
        again: list[tuple[int, int]] = []
        shrunk: set[int] = set()
        for i, j in refused:
            if i in shrunk:  # its other records went with the first
                continue
            try:
                self.sink.write([parcels[i].records[j]])
            except TooLarge:
                parcels[i] = self.smaller(parcels[i])
                shrunk.add(i)
                again += [(i, k) for k in range(len(parcels[i].records))]
            except Unavailable as error:
                again.append((i, j))
                self.patience.turn(str(error))
        return again


@dataclass
class Portion:
    """How many parcels go into one transaction: all, or what a slow cluster takes in the time of one.

    Attributes
    ----------
    most : int
    """

    most: int = sys.maxsize

    def too_much(self, parcels: int) -> None:
        """Note that so many were."""
        self.most = max(1, parcels // 2)

    def taken(self, parcels: int) -> None:
        """Note that so many were taken: more may be."""
        if parcels >= self.most:
            self.most = min(2 * self.most, sys.maxsize)


@dataclass(frozen=True)
class ExactlyOnce(_Delivery):
    """Records and offsets in one transaction.

    Attributes
    ----------
    sink : TransactionalSink
        And those of `_Delivery`.
    """

    sink: TransactionalSink
    _portion: Portion = field(default_factory=Portion)

    def deliver(self, parcels: Sequence[Parcel]) -> list[Parcel]:
        """Publish and commit; give what was delivered, which leaves out partitions that went to others meanwhile."""
        with self.metrics.timed("write"):
            delivered = self._in_portions(parcels)
        self.patience.over()
        return delivered

    def _in_portions(self, parcels: Sequence[Parcel]) -> list[Parcel]:
        delivered: list[Parcel] = []
        left = parcels
        while left:
            portion, left = left[: self._portion.most], left[self._portion.most :]
            delivered += self._transact(portion)
        return delivered

    def _transact(self, parcels: Sequence[Parcel]) -> list[Parcel]:
        pauses = delays()
        while ours := self._ours(parcels):
            records = [record for parcel in ours for record in parcel.records]
            try:
                self.sink.transact(records, [parcel.message for parcel in ours])
            except Unavailable as error:
                self.metrics.retried("transaction")
                self.patience.wait(next(pauses), str(error))
                if isinstance(error, TooSlow) and len(ours) > 1:
                    self._portion.too_much(len(ours))
                    return self._in_portions(ours)
            except TooLarge:
                return self._apart(ours)
            else:
                self._portion.taken(len(ours))
                return ours
        return []

    def _apart(self, parcels: list[Parcel]) -> list[Parcel]:
        """Halve a batch until what is too large stands alone, and goes out as a dead letter in its place."""
        if len(parcels) == 1:
            return self._transact([self.smaller(parcels[0])])
        middle = len(parcels) // 2
        return self._transact(parcels[:middle]) + self._transact(parcels[middle:])
