"""The demonstration's stream: never more under way than the embedded Kafka keeps, and all counted."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.alert import Message, Record, Survey
from broker.demo import stream
from broker.demo.alerts import SimulatedAlert
from broker.demo.stream import IN_FLIGHT_BYTES, Stream, Tally
from broker.errors import NightjarError


def simulated(number: int, size: int = 10, *, readable: bool = True) -> SimulatedAlert:
    return SimulatedAlert("disk", Survey.LSST, number if readable else None, bytes(size), readable)


def result(number: int, *, dead: bool = False, offset: int | None = None) -> Message:
    headers = {
        "alert-id": str(number),
        "source-partition": "0",
        "source-offset": str(offset or number),
        "reason": "x",
    }
    return Message(
        value=b"",
        topic="alerts.dead-letter" if dead else "alerts.enriched",
        partition=0,
        offset=number,
        headers=tuple((name, text.encode()) for name, text in headers.items()),
    )


@dataclass
class SlowConsumer:
    """Both ends of a consumer that takes a few alerts at a time and notes the most bytes that waited."""

    pace: int
    waiting: list[Record] = field(default_factory=list)
    done: int = 0
    most_bytes: int = 0
    deaf: bool = False

    def write(self, records: Sequence[Record]) -> None:
        self.waiting += records
        self.most_bytes = max(self.most_bytes, sum(len(record.value) for record in self.waiting))

    def poll(self, _limit: int, _linger_seconds: float) -> list[Message]:
        if self.deaf:
            return []
        taken, self.waiting = self.waiting[: self.pace], self.waiting[self.pace :]
        first, self.done = self.done, self.done + len(taken)
        return [result(number) for number in range(first, self.done)]

    def committed(self) -> int:
        return self.done


def stream_through(consumer: SlowConsumer, stop: threading.Event | None = None) -> Stream:
    return Stream(
        topic="alerts",
        sink=consumer,
        results=consumer,
        committed=consumer.committed,
        programs=(),
        told=lambda _tally: None,
        stop=stop or threading.Event(),
    )


@given(sizes=st.lists(st.integers(1, 900_000), min_size=1, max_size=60), pace=st.integers(1, 30))
@settings(deadline=None, max_examples=60)
def test_no_more_is_under_way_than_the_embedded_kafka_keeps(sizes, pace):
    consumer = SlowConsumer(pace)
    tally = stream_through(consumer).run(simulated(i, size) for i, size in enumerate(sizes))

    assert consumer.most_bytes <= IN_FLIGHT_BYTES
    assert tally.faults() == []
    assert len(tally.enriched) == tally.committed == len(sizes)


def test_an_alert_larger_than_the_limit_goes_alone():
    consumer = SlowConsumer(pace=5)
    tally = stream_through(consumer).run([simulated(0), simulated(1, IN_FLIGHT_BYTES + 1), simulated(2)])

    assert tally.faults() == []


def test_a_stream_that_does_not_move_is_an_error(monkeypatch):
    monkeypatch.setattr(stream, "STALL_SECONDS", 0.01)

    with pytest.raises(NightjarError, match="nothing came out"):
        stream_through(SlowConsumer(pace=1, deaf=True)).run([simulated(0)])


def test_it_ends_when_told_to():
    stop = threading.Event()
    stop.set()

    tally = stream_through(SlowConsumer(pace=1, deaf=True), stop).run([simulated(0)])

    assert tally.enriched == {}


@pytest.mark.parametrize(
    ("results", "committed", "fault"),
    [
        ([result(0), result(1, dead=True)], 2, None),
        ([result(0)], 2, "2 went in, 1 came out enriched and 0 dead"),
        ([result(0), result(1, dead=True)], 1, "1 are committed"),
        ([result(0), result(0), result(1, dead=True)], 2, "0 came out both enriched and dead, 1 twice"),
        ([result(0), result(0, dead=True)], 2, "1 came out both enriched and dead"),
        ([result(0, dead=True), result(1)], 2, "1 readable alerts did not come out enriched, 1 others did"),
    ],
    ids=["all is well", "lost", "not committed", "twice", "both", "the wrong one"],
)
def test_what_does_not_add_up_is_said(results, committed, fault):
    tally = Tally(published=[simulated(0), simulated(1, readable=False)], committed=committed)
    for message in results:
        tally.take(message)

    assert (tally.faults() == []) if fault is None else any(fault in said for said in tally.faults())
