"""Alerts in, results out: publishes no faster than the consumer commits, and reads results all the while.

The embedded Kafka keeps about 5 MB of each partition and drops what is older without an error. So at no time
is more under way, over all partitions together, than `IN_FLIGHT_BYTES`: neither alerts that are not committed
nor results that are not read. (Results are a little larger than their alerts.)
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from broker.alert import Message, Record
from broker.consumer import Source
from broker.delivery import Sink
from broker.demo.alerts import SimulatedAlert
from broker.demo.processes import Program
from broker.errors import NightjarError
from broker.topics import DEAD_LETTER_SUFFIX, ENRICHED_SUFFIX

IN_FLIGHT_BYTES = 3_000_000

STALL_SECONDS = 30.0
"""With nothing committed and nothing read for so long, something is wrong."""

READ_LIMIT = 500
READ_SECONDS = 0.05


@dataclass
class Tally:
    """What went in and what came out.

    Attributes
    ----------
    published : list of SimulatedAlert
    enriched, dead : dict of (str, str) to Message
        Results by partition and offset of their source.
    committed : int
        Messages that the consumer has committed.
    repeated : int
        Results that came more than once.
    """

    published: list[SimulatedAlert] = field(default_factory=list)
    enriched: dict[tuple[str, str], Message] = field(default_factory=dict)
    dead: dict[tuple[str, str], Message] = field(default_factory=dict)
    committed: int = 0
    repeated: int = 0

    @property
    def done(self) -> int:
        """Messages whose result is read and whose offset is committed."""
        return min(self.committed, len(self.enriched) + len(self.dead))

    @property
    def reasons(self) -> Counter[str]:
        """Dead letters by reason."""
        return Counter(header(message, "reason") for message in self.dead.values())

    def take(self, message: Message) -> None:
        """Count one result."""
        into = self.dead if message.topic.endswith(DEAD_LETTER_SUFFIX) else self.enriched
        place = (header(message, "source-partition"), header(message, "source-offset"))
        self.repeated += place in into
        into[place] = message

    def faults(self) -> list[str]:
        """Say what does not add up; nothing when in = enriched + dead, one by one."""
        n_in, n_enriched, n_dead = len(self.published), len(self.enriched), len(self.dead)
        faults = []
        if n_in != n_enriched + n_dead:
            faults.append(f"{n_in} went in, {n_enriched} came out enriched and {n_dead} dead")
        if self.committed != n_in:
            faults.append(f"{n_in} went in, {self.committed} are committed")
        both = self.enriched.keys() & self.dead.keys()
        if both or self.repeated:
            faults.append(f"{len(both)} came out both enriched and dead, {self.repeated} twice")
        wanted = sorted(a.alert_id for a in self.published if a.readable and a.alert_id is not None)
        found = sorted(int(header(message, "alert-id")) for message in self.enriched.values())
        if wanted != found:
            lost, extra = len(set(wanted) - set(found)), len(set(found) - set(wanted))
            faults.append(f"{lost} readable alerts did not come out enriched, {extra} others did")
        return faults


def header(message: Message, name: str) -> str:
    """Text of a header; empty where there is none."""
    return next((value.decode() for key, value in message.headers if key == name and value), "")


@dataclass
class Stream:
    """The demonstration's ends of the stream.

    Attributes
    ----------
    topic : str
    sink, results : Sink, Source
        Where alerts go, and where results come from.
    committed : callable
        Number of alerts that the consumer has committed.
    programs : sequence of Program
        Those on the way: when one has ended, nothing more will come.
    told : callable
        Gets the tally whenever it has changed.
    stop : threading.Event
    """

    topic: str
    sink: Sink
    results: Source
    committed: Callable[[], int]
    programs: Sequence[Program]
    told: Callable[[Tally], None]
    stop: threading.Event
    tally: Tally = field(default_factory=Tally)
    _largest: int = 0
    _moved_at: float = field(default_factory=time.monotonic)

    def run(self, alerts: Iterable[SimulatedAlert]) -> Tally:
        """Publish all and wait until all is committed and read, or until told to stop.

        Raises
        ------
        NightjarError
            When a program has ended or nothing moves any more.
        """
        waiting: list[SimulatedAlert] = []
        for alert in alerts:
            waiting.append(alert)
            if self._room_for(waiting):
                continue
            self._publish(waiting[:-1])
            waiting = [alert]
            self._turn_until(partial(self._room_for, [alert]))
            if self.stop.is_set():
                return self.tally
        self._publish(waiting)
        self._turn_until(lambda: self.tally.done >= len(self.tally.published))
        return self.tally

    def _room_for(self, waiting: list[SimulatedAlert]) -> bool:
        """Whether these could go out now: what is under way may be the largest there are."""
        largest = max([self._largest, *(len(alert.value or b"") for alert in waiting)])
        under_way = len(self.tally.published) - self.tally.done + len(waiting)
        return under_way * largest <= IN_FLIGHT_BYTES or under_way == 1

    def _publish(self, alerts: list[SimulatedAlert]) -> None:
        now = str(int(time.time() * 1000)).encode()
        # As Rubin sends them: without a key, with the producer's clock in a header.
        headers = (("producer_timestamp", now),)
        self.sink.write([Record(self.topic, a.value, headers=headers) for a in alerts])
        self._largest = max([self._largest, *(len(alert.value or b"") for alert in alerts)])
        self.tally.published += alerts
        self._moved_at = time.monotonic()
        self.told(self.tally)

    def _turn_until(self, satisfied: Callable[[], bool]) -> None:
        for turn in count():
            if self.stop.is_set() or (turn and satisfied()):
                return
            for program in self.programs:
                program.check()
            before = self.tally.done
            for message in self.results.poll(READ_LIMIT, READ_SECONDS):
                self.tally.take(message)
            self.tally.committed = self.committed()
            if self.tally.done != before:
                self._moved_at = time.monotonic()
            elif time.monotonic() - self._moved_at > STALL_SECONDS:
                raise NightjarError(
                    f"nothing came out for {STALL_SECONDS:g} s: {len(self.tally.published)} went in, "
                    f"{self.tally.done} are committed and read"
                )
            self.told(self.tally)


def result_topics(topic: str) -> tuple[str, str]:
    """Names of the two topics that the consumer writes."""
    return topic + ENRICHED_SUFFIX, topic + DEAD_LETTER_SUFFIX
