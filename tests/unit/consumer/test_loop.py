"""The loop, turned by doubles: what is written before what is committed."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pytest

from broker.alert import (
    RECORD_OVERHEAD,
    Alert,
    Enriched,
    Enrichment,
    Message,
    ModelIdentity,
    Outcome,
    Parcel,
    Record,
    Rejected,
    Seen,
    Survey,
)
from broker.consumer import Consumer, Summary
from broker.delivery import AtLeastOnce
from broker.errors import KafkaError, Reason
from broker.metrics import Metrics
from broker.patience import Patience
from broker.probes import Health
from broker.testing.memory import MemorySink, MemorySource

NOW = 1_772_337_600.0
"""2026-03-01T04:00:00Z, MJD 61100.1666."""


def message(offset: int, value: bytes | None = b"alert", partition: int = 0) -> Message:
    return Message(value, "alerts", partition, offset, timestamp_ms=int((NOW - 5) * 1000))


def enriched(source: Message, *flags: str) -> Enriched:
    alert = Alert(
        survey=Survey.LSST,
        form="lsst.v9_0",
        alert_id=source.offset,
        object_id="1",
        ra=10.0,
        dec=-5.0,
        mjd=61100.0 + (4 * 3600 - 40) / 86400,
        band="r",
        datum=b"",
        cutouts=(None, None, None),
        photometry=np.full(6, np.nan, np.float32),
    )
    enrichment = Enrichment(
        model=ModelIdentity("double", "1", "0" * 64),
        embedding=None,
        morphology_classes=("disc", "star"),
        morphology=None,
        redshift=None,
        anomaly=None,
        seen=Seen(32, 0.2, "r", None, np.zeros(3, np.float32)),
        flags=flags,
    )
    return Enriched(source, alert, enrichment)


def double(messages: Iterable[Message]) -> Iterator[Outcome]:
    """A pipeline that reads what a value says of itself."""
    for one in messages:
        if one.value is None:
            yield Rejected(one, Reason.NULL_VALUE, "no value")
        elif one.value == b"partial":
            yield enriched(one, "cutout_null:template", "solar_system")
        else:
            yield enriched(one, "solar_system")


def pack(outcome: Outcome) -> Parcel:
    suffix = "dead-letter" if isinstance(outcome, Rejected) else "enriched"
    return Parcel(outcome, (Record(f"alerts.{suffix}", str(outcome.message.offset).encode()),))


@pytest.fixture
def consumer_of() -> Callable[..., Consumer]:
    def make(source: MemorySource, sink: MemorySink, **changed: object) -> Consumer:
        parts: dict[str, object] = {
            "pipeline": double,
            "pack": pack,
            "metrics": Metrics(clock=lambda: NOW),
            "health": Health(60.0),
            "stop": threading.Event(),
            "batch_size": 2,
            "exit_at_end": True,
        }
        parts |= changed
        patience = Patience(source, parts["health"], parts["metrics"], parts["stop"])  # type: ignore[arg-type]
        delivery = AtLeastOnce(source, lambda parcel: parcel, parts["metrics"], patience, sink)  # type: ignore[arg-type]
        return Consumer(source=source, delivery=delivery, **parts)  # type: ignore[arg-type]

    return make


def test_every_message_becomes_one_record_in_order(consumer_of: Callable[..., Consumer]) -> None:
    source, sink = MemorySource([message(n) for n in range(5)]), MemorySink()
    consumer_of(source, sink).run()
    assert [r.value for r in sink.records] == [b"0", b"1", b"2", b"3", b"4"]
    assert source.committed == {("alerts", 0): 5}


def test_outcomes_go_to_their_topics_and_are_counted(consumer_of: Callable[..., Consumer]) -> None:
    source = MemorySource([message(0), message(1, None), message(2, b"partial")])
    sink = MemorySink()
    summary = consumer_of(source, sink).run()
    assert [r.topic for r in sink.records] == ["alerts.enriched", "alerts.dead-letter", "alerts.enriched"]
    assert (summary.consumed, summary.enriched, summary.partial) == (3, 2, 1)
    assert summary.rejected == {"null_value": 1}


def test_a_failed_write_ends_before_the_commit(consumer_of: Callable[..., Consumer]) -> None:
    source, sink = MemorySource([message(n) for n in range(5)]), MemorySink(capacity=3)
    with pytest.raises(KafkaError, match="1 of 2 records were not written"):
        consumer_of(source, sink).run()
    assert source.committed == {("alerts", 0): 2}


def test_after_a_failed_write_the_batch_comes_again(consumer_of: Callable[..., Consumer]) -> None:
    source, sink = MemorySource([message(n) for n in range(5)]), MemorySink(capacity=3)
    with pytest.raises(KafkaError):
        consumer_of(source, sink).run()
    again = MemorySource(source.messages, committed=source.committed)
    sink.capacity = None
    consumer_of(again, sink).run()
    assert [r.value for r in sink.records] == [b"0", b"1", b"2", b"2", b"3", b"4"]


def test_a_failed_write_is_not_counted(consumer_of: Callable[..., Consumer]) -> None:
    metrics = Metrics(clock=lambda: NOW)
    with pytest.raises(KafkaError):
        consumer_of(MemorySource([message(0)]), MemorySink(capacity=0), metrics=metrics).run()
    assert b"nightjar_alerts_consumed_total 0.0" in metrics.render()


def test_an_error_of_ours_ends_before_write_and_commit(consumer_of: Callable[..., Consumer]) -> None:
    def broken(messages: Sequence[Message]) -> list[Outcome]:
        raise ZeroDivisionError

    source, sink = MemorySource([message(0)]), MemorySink()
    with pytest.raises(ZeroDivisionError):
        consumer_of(source, sink, pipeline=broken).run()
    assert (sink.records, source.committed) == ([], {})


def test_a_stop_finishes_the_batch_in_hand(consumer_of: Callable[..., Consumer]) -> None:
    stop = threading.Event()

    def stopping(messages: Iterable[Message]) -> Iterator[Outcome]:
        for outcome in double(messages):
            stop.set()
            while pulses:  # until the loop has seen it, and dropped what waits
                pulses.pop()
                time.sleep(0.1)
            yield outcome

    pulses = [None]
    source, sink = MemorySource([message(n) for n in range(5)]), MemorySink()
    summary = consumer_of(source, sink, pipeline=stopping, stop=stop, exit_at_end=False).run()
    assert summary.consumed == len(sink.records) == 1
    assert source.committed == {("alerts", 0): 1}


def never_dry(source: MemorySource, count: int, begun: list[int]) -> Callable[..., Iterator[Outcome]]:
    """A pipeline that goes on when the loop has read on: what comes meanwhile belongs to the same stream."""

    def run(messages: Iterable[Message]) -> Iterator[Outcome]:
        begun.append(source._taken)
        for outcome in double(messages):
            deadline = time.monotonic() + 10
            while source._taken <= min(outcome.message.offset + 1, count - 1):
                assert time.monotonic() < deadline, "nothing is read on"
                time.sleep(0.001)
            yield outcome

    return run


def test_the_pipeline_is_begun_once_while_more_comes(consumer_of: Callable[..., Consumer]) -> None:
    begun: list[int] = []
    source, sink = MemorySource([message(n) for n in range(40)]), MemorySink()
    consumer_of(source, sink, pipeline=never_dry(source, 40, begun)).run()
    assert len(sink.records) == 40
    assert len(begun) == 1


def test_a_part_is_no_longer_than_a_batch_while_more_comes(consumer_of: Callable[..., Consumer]) -> None:
    parts: list[int] = []

    class Counting(MemorySink):
        def write(self, records: Sequence[Record]) -> None:
            parts.append(len(records))
            super().write(records)

    source, sink = MemorySource([message(n) for n in range(40)]), Counting()
    consumer_of(source, sink, pipeline=never_dry(source, 40, []), batch_size=8).run()
    assert parts == [8] * 5


def test_nothing_to_read_ends_at_the_end(consumer_of: Callable[..., Consumer]) -> None:
    assert str(consumer_of(MemorySource([]), MemorySink()).run()) == (
        "consumed 0: enriched 0 (of these 0 partial), rejected 0"
    )


def test_the_summary_is_one_line_with_reasons_and_rate() -> None:
    summary = Summary(busy_seconds=2.0)
    summary.add(double([message(0), message(1, None), message(2, b"partial"), message(3)]))
    assert str(summary) == (
        "consumed 4: enriched 3 (of these 1 partial), rejected 1 (null_value 1), 2 alerts/s"
    )


def test_waiting_with_nothing_in_hand_is_not_counted_as_work(consumer_of: Callable[..., Consumer]) -> None:
    class Pausing(MemorySource):
        def poll(self, limit: int, linger_seconds: float) -> list[Message]:
            time.sleep(0.2 if linger_seconds else 0.0)
            return super().poll(min(limit, 1) if linger_seconds else 0, linger_seconds)

    def slow(messages: Iterable[Message]) -> Iterable[Outcome]:
        time.sleep(0.05)
        return double(list(messages))

    began = time.monotonic()
    summary = consumer_of(Pausing([message(n) for n in range(5)]), MemorySink(), pipeline=slow).run()
    assert summary.consumed == 5
    # One pause before each of the messages; what the machine takes besides may count as it likes.
    assert 5 * 0.05 <= summary.busy_seconds <= time.monotonic() - began - 5 * 0.2


def test_a_turn_is_a_sign_of_life(consumer_of: Callable[..., Consumer]) -> None:
    health = Health(60.0)
    consumer_of(MemorySource([message(0), message(1, partition=3)]), MemorySink(), health=health).run()
    assert health.partitions == 2


def test_a_batch_is_delivered_in_parts_of_so_many_bytes(consumer_of: Callable[..., Consumer]) -> None:
    source = MemorySource([message(n) for n in range(7)])
    sizes = iter((50, 50, 10, 10, 150, 10, 10))

    def sized(outcome: Outcome) -> Parcel:
        return Parcel(outcome, (Record("alerts.enriched", bytes(next(sizes))),))

    done: list[int] = []

    class Parts(MemorySink):
        def write(self, records: Sequence[Record]) -> None:
            # A part is begun when the one before is committed.
            assert source.committed.get(("alerts", 0), 0) == sum(done)
            done.append(len(records))

    consumer_of(source, Parts(), pack=sized, batch_size=256, part_bytes=100 + 2 * RECORD_OVERHEAD).run()
    assert done == [2, 3, 2]
    assert source.committed == {("alerts", 0): 7}


def test_a_part_that_fails_leaves_those_before_it_committed(consumer_of: Callable[..., Consumer]) -> None:
    source, sink = MemorySource([message(n) for n in range(5)]), MemorySink(capacity=3)
    with pytest.raises(KafkaError):
        consumer_of(source, sink, batch_size=256, part_bytes=1).run()
    assert source.committed == {("alerts", 0): 3}


def test_alerts_are_processed_while_those_before_them_are_delivered(
    consumer_of: Callable[..., Consumer],
) -> None:
    made: list[int] = []

    def making(messages: Iterable[Message]) -> Iterator[Outcome]:
        for outcome in double(messages):
            made.append(outcome.message.offset)
            yield outcome

    class Waiting(MemorySink):
        def write(self, records: Sequence[Record]) -> None:
            super().write(records)
            deadline = time.monotonic() + 10
            while len(made) < min(8, len(self.records) + 2):
                assert time.monotonic() < deadline, "nothing is made before this is committed"
                time.sleep(0.001)

    source, sink = MemorySource([message(n) for n in range(8)]), Waiting()
    consumer_of(source, sink, pipeline=making).run()
    assert [r.value for r in sink.records] == [b"%d" % n for n in range(8)]


def test_what_waits_and_what_is_made_is_bounded(consumer_of: Callable[..., Consumer]) -> None:
    source = MemorySource([message(n) for n in range(40)])
    held: list[int] = []

    class Counting(MemorySink):
        def write(self, records: Sequence[Record]) -> None:
            time.sleep(0.01)
            super().write(records)
            held.append(source._taken - len(self.records))

    consumer_of(source, Counting(), part_bytes=1).run()
    # Two that wait, two of a piece, of which one is made and one finished: a part has one message here.
    assert max(held) <= 2 + 2 + 1


def test_a_network_that_does_not_come_back_is_no_sign_of_life(consumer_of: Callable[..., Consumer]) -> None:
    now, words = 0.0, 0
    go_on = threading.Event()
    health = Health(60.0, clock=lambda: now)

    class Member(MemorySource):
        def keep_alive(self) -> None:
            nonlocal now, words
            words += 1
            now += 100.0
            if words == 2:
                assert not health.alive()[0]
                go_on.set()

    def stuck(messages: Sequence[Message]) -> list[Outcome]:
        assert go_on.wait(20)
        return double(messages)

    source = Member([message(n) for n in range(8)])
    consumer_of(source, MemorySink(), pipeline=stuck, health=health).run()
    assert words >= 2, "the group hears of us all the while"
    assert source.committed == {("alerts", 0): 8}


def test_a_stop_drops_what_waits(consumer_of: Callable[..., Consumer]) -> None:
    stop = threading.Event()

    class Stopping(MemorySink):
        def write(self, records: Sequence[Record]) -> None:
            stop.set()
            super().write(records)

    source, sink = MemorySource([message(n) for n in range(100)]), Stopping()
    summary = consumer_of(source, sink, stop=stop, exit_at_end=False).run()
    assert 2 <= summary.consumed == len(sink.records) <= 6
    assert source.committed == {("alerts", 0): summary.consumed}


def test_more_than_there_is_room_for_is_no_room(consumer_of: Callable[..., Consumer]) -> None:
    class Generous(MemorySource):
        def poll(self, limit: int, linger_seconds: float) -> Sequence[Message]:
            assert limit > 0
            return super().poll(limit + 1, linger_seconds)

    source, sink = Generous([message(n) for n in range(20)]), MemorySink()
    consumer_of(source, sink).run()
    assert len(sink.records) == 20
