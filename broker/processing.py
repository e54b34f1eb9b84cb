"""Alerts become parcels in a thread of its own, while those before them are delivered and those after them are read.

What is held is bounded whatever comes: so many messages wait, one piece of them is at the network, and their parcels
stand in parts, each of which is closed when its records reach a number of bytes: one that is made, one that waits, and
one that is being delivered.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from broker.alert import Message, Outcome, Parcel
from broker.metrics import Metrics
from broker.pipeline import MOST_MESSAGES

LEAVE_SECONDS = 1.0
"""How long a thread that is told to end may take; one that is inside the network is left to its end."""


class Processing:
    """A thread that turns messages into parts of parcels, in their order.

    Parameters
    ----------
    pipeline : callable
        Messages to outcomes, one for one, made as they are taken.
    pack : callable
        Outcome to its records.
    metrics : Metrics
    most_waiting : int
        Messages that wait, and parcels of a part, at most.
    most_bytes : int
        Bytes of messages that wait after which no more are taken, and of records that close a part; the last of
        each may exceed it.
    """

    def __init__(
        self,
        pipeline: Callable[[Iterable[Message]], Iterable[Outcome]],
        pack: Callable[[Outcome], Parcel],
        metrics: Metrics,
        *,
        most_waiting: int,
        most_bytes: int,
    ) -> None:
        self._pipeline = pipeline
        self._pack = pack
        self._metrics = metrics
        self._most_waiting, self._most_bytes = most_waiting, most_bytes
        self._waiting: deque[Message] = deque()
        self._waiting_bytes = 0
        self._finished: list[Parcel] | None = None
        self._busy = self._closed = False
        self._error: BaseException | None = None
        self._outcomes = self._seen = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="processing", daemon=True)
        self._thread.start()

    @property
    def room(self) -> int:
        """Messages that may be offered now."""
        with self._changed:
            is_full = self._waiting_bytes >= self._most_bytes
            return 0 if is_full else self._most_waiting - len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing is in hand, neither waiting, nor at work, nor finished."""
        with self._changed:
            return not (self._waiting or self._busy or self._finished or self._error)

    @property
    def moved(self) -> bool:
        """Whether there is nothing to do, or an outcome has been made since this was asked last."""
        before, self._seen = self._seen, self._outcomes
        return self.idle or before != self._seen

    def offer(self, messages: Sequence[Message]) -> None:
        """Add to what waits."""
        with self._changed:
            self._waiting += messages
            self._waiting_bytes += sum(len(message.value or b"") for message in messages)
            self._changed.notify_all()

    def drop_waiting(self) -> None:
        """Begin with nothing more: it was not committed, so it comes again."""
        with self._changed:
            self._waiting.clear()
            self._waiting_bytes = 0

    def part(self, seconds: float) -> list[Parcel]:
        """Take the next part, waiting for it so long at most; empty where there is none.

        Whatever has ended the thread is raised here.
        """
        with self._changed:
            if not self._finished and self._error is None:
                self._changed.wait(seconds)
            if self._finished:
                part, self._finished = self._finished, None
                self._changed.notify_all()
                return part
            if self._error is not None:
                raise self._error
            return []

    def close(self) -> None:
        """End the thread; what it has in hand is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(LEAVE_SECONDS)

    def _run(self) -> None:
        try:
            while self._begin():
                # What comes first waits for little, and what comes in masses is delivered in masses.
                parcels, most = self._parcels(), min(MOST_MESSAGES, self._most_waiting)
                # No name is given to a part: it must be gone before the next is made.
                while self._hand_over(self._part(parcels, most)):
                    most = min(2 * most, self._most_waiting)
                self._rest()
        except BaseException as error:  # noqa: BLE001 -- whoever takes the parts raises it
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _begin(self) -> bool:
        """Wait for something to do; False where nothing more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._busy = not self._closed
            return self._busy

    def _messages(self) -> Iterator[Message]:
        """Give what waits, and what has come meanwhile, to the moment when nothing does.

        So there is no break between one lot and the next, in which the network would wait for its next piece.
        """
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> Message | None:
        with self._changed:
            if self._closed or not self._waiting:
                return None
            message = self._waiting.popleft()
            self._waiting_bytes -= len(message.value or b"")
            return message

    def _rest(self) -> None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()

    def _hand_over(self, part: list[Parcel]) -> bool:
        """Wait until the part before is taken; False where there is none to hand over, or nobody to take it."""
        if not part:
            return False
        with self._changed:
            self._changed.wait_for(lambda: self._finished is None or self._closed)
            self._finished = part
            self._changed.notify_all()
            return not self._closed

    def _part(self, parcels: Iterator[Parcel], most: int) -> list[Parcel]:
        """Take parcels until they are so many, or their bytes reach the bound."""
        began, left = time.monotonic(), self._most_bytes
        part: list[Parcel] = []
        for parcel in islice(parcels, most):
            part.append(parcel)
            left -= parcel.size
            if left <= 0:
                break
        if part:
            self._metrics.stage("process", time.monotonic() - began)
        return part

    def _parcels(self) -> Iterator[Parcel]:
        for outcome in self._pipeline(self._messages()):
            self._outcomes += 1
            yield self._pack(outcome)
