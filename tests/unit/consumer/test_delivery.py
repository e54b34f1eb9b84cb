"""Both deliveries against a Kafka that fails on purpose: what is tried again, left out, or made smaller."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from broker.alert import Message, Parcel, Record, Rejected
from broker.backoff import delays
from broker.delivery import AtLeastOnce, ExactlyOnce
from broker.errors import Interrupted, KafkaError, Reason, TooLarge, TooSlow, Unavailable
from broker.metrics import Metrics
from broker.patience import Patience
from broker.probes import Health


def parcel(offset: int, *values: bytes, partition: int = 0) -> Parcel:
    message = Message(b"", "alerts", partition, offset)
    records = tuple(Record("alerts.enriched", value) for value in values or (b"%d" % offset,))
    return Parcel(Rejected(message, Reason.DATUM_INVALID, ""), records)


def smaller(one: Parcel) -> Parcel:
    return replace(one, records=(Record("alerts.dead-letter", b"letter of %d" % one.message.offset),))


@dataclass
class Group:
    """A source that loses partitions when told to."""

    lost: set[int] = field(default_factory=set)
    committed: dict[int, int] = field(default_factory=dict)

    def holds(self, message: Message) -> bool:
        return message.partition not in self.lost

    def commit(self, batch: Sequence[Message]) -> None:
        for message in batch:
            self.committed[message.partition] = message.offset + 1


@dataclass
class Waits:
    """Patience without time; what happens meanwhile may be told."""

    group: Group
    lose: set[int] = field(default_factory=set)
    waited: int = 0

    def wait(self, seconds: float, why: str) -> None:  # noqa: ARG002 -- no time passes
        self.waited += 1
        self.group.lost |= self.lose

    def turn(self, why: str) -> None:
        pass

    def over(self) -> None:
        pass


@dataclass
class Broken:
    """A sink whose writes fail in turn, and which takes nothing that begins with a large one's mark."""

    faults: list[KafkaError] = field(default_factory=list)
    written: list[bytes] = field(default_factory=list)
    transactions: list[list[bytes]] = field(default_factory=list)

    def write(self, records: Sequence[Record]) -> None:
        if self.faults:
            fault = self.faults.pop(0)
            left = set(getattr(fault, "unwritten", ()))
            self.written += [r.value or b"" for n, r in enumerate(records) if left and n not in left]
            raise fault
        large = [n for n, record in enumerate(records) if (record.value or b"").startswith(b"LARGE")]
        self.written += [r.value or b"" for n, r in enumerate(records) if n not in large]
        if large:
            raise TooLarge("too large", large)

    def transact(self, records: Sequence[Record], batch: Sequence[Message]) -> None:  # noqa: ARG002
        if self.faults:
            raise self.faults.pop(0)
        if large := [n for n, record in enumerate(records) if (record.value or b"").startswith(b"LARGE")]:
            raise TooLarge("too large", large)
        self.transactions.append([record.value or b"" for record in records])


@pytest.fixture
def group() -> Group:
    return Group()


class TestAtLeastOnce:
    def deliver(
        self, group: Group, sink: Broken, parcels: list[Parcel], lose: set[int] | None = None
    ) -> list[Parcel]:
        patience = Waits(group, lose or set())
        return AtLeastOnce(group, smaller, Metrics(), patience, sink).deliver(parcels)

    def test_only_what_was_not_acknowledged_is_written_again(self, group: Group) -> None:
        sink = Broken([Unavailable("down", [1, 2])])
        self.deliver(group, sink, [parcel(n) for n in range(4)])
        assert sink.written == [b"0", b"3", b"1", b"2"]
        assert group.committed == {0: 4}

    def test_what_its_topic_does_not_take_becomes_smaller_in_its_parcel(self, group: Group) -> None:
        sink = Broken()
        done = self.deliver(group, sink, [parcel(0), parcel(1, b"LARGE", b"lite"), parcel(2)])
        assert sink.written == [b"0", b"lite", b"2", b"letter of 1"]
        assert [one.records[0].topic for one in done] == [
            "alerts.enriched",
            "alerts.dead-letter",
            "alerts.enriched",
        ]

    def test_a_parcel_of_which_all_is_too_large_becomes_smaller_once(self, group: Group) -> None:
        sink = Broken()
        self.deliver(group, sink, [parcel(0, b"LARGE", b"LARGE lite"), parcel(1)])
        assert sink.written == [b"1", b"letter of 0"]

    def test_a_partition_that_was_lost_meanwhile_is_not_committed(self, group: Group) -> None:
        sink = Broken([Unavailable("down")])
        self.deliver(group, sink, [parcel(0), parcel(7, partition=1)], lose={1})
        assert sink.written == [b"0", b"7"]
        assert group.committed == {0: 1}

    def test_what_went_to_others_before_is_left_to_them(self, group: Group) -> None:
        sink = Broken()
        group.lost.add(1)
        done = self.deliver(group, sink, [parcel(0), parcel(7, partition=1)])
        assert sink.written == [b"0"]
        assert [one.message.offset for one in done] == [0]
        assert group.committed == {0: 1}

    def test_any_other_fault_ends_before_the_commit(self, group: Group) -> None:
        with pytest.raises(KafkaError, match="no idea"):
            self.deliver(group, Broken([KafkaError("no idea")]), [parcel(0)])
        assert group.committed == {}


class TestExactlyOnce:
    def test_what_takes_longer_than_a_transaction_lasts_goes_in_smaller_ones_until_they_are_taken(
        self, group: Group
    ) -> None:
        sink = Broken([TooSlow("slow"), TooSlow("slow")])
        delivery = ExactlyOnce(group, smaller, Metrics(), Waits(group), sink)
        assert len(delivery.deliver([parcel(n) for n in range(8)])) == 8
        assert sink.transactions == [[b"0", b"1"], [b"2", b"3"], [b"4", b"5", b"6", b"7"]]
        sink.transactions.clear()
        delivery.deliver([parcel(n) for n in range(8, 24)])
        assert [len(one) for one in sink.transactions] == [8, 8], "no smaller than the cluster takes"

    def deliver(
        self, group: Group, sink: Broken, parcels: list[Parcel], lose: set[int] | None = None
    ) -> list[Parcel]:
        patience = Waits(group, lose or set())
        return ExactlyOnce(group, smaller, Metrics(), patience, sink).deliver(parcels)

    def test_a_transaction_that_was_given_up_is_begun_again_whole(self, group: Group) -> None:
        sink = Broken([Unavailable("down"), Unavailable("still")])
        self.deliver(group, sink, [parcel(0), parcel(1)])
        assert sink.transactions == [[b"0", b"1"]]

    def test_what_went_to_others_meanwhile_is_left_out(self, group: Group) -> None:
        sink = Broken([Unavailable("down")])
        done = self.deliver(group, sink, [parcel(0), parcel(7, partition=1)], lose={1})
        assert sink.transactions == [[b"0"]]
        assert [one.message.offset for one in done] == [0]

    def test_nothing_is_written_where_everything_went(self, group: Group) -> None:
        sink = Broken([Unavailable("down")])
        assert self.deliver(group, sink, [parcel(0)], lose={0}) == []
        assert sink.transactions == []

    def test_a_batch_is_halved_until_what_is_too_large_stands_alone_and_order_is_kept(
        self, group: Group
    ) -> None:
        sink = Broken()
        self.deliver(group, sink, [parcel(n, b"LARGE" if n == 2 else b"%d" % n) for n in range(5)])
        assert [value for one in sink.transactions for value in one] == [
            b"0",
            b"1",
            b"letter of 2",
            b"3",
            b"4",
        ]


def test_waits_double_to_a_limit_and_are_shortened_by_chance() -> None:
    longest, shortest = delays(1.0, 4.0, lambda: 1.0), delays(1.0, 4.0, lambda: 0.0)
    assert [next(longest) for _ in range(4)] == [1.0, 2.0, 4.0, 4.0]
    assert [next(shortest) for _ in range(4)] == [0.5, 1.0, 2.0, 2.0]


class Member:
    """Counts words to the group."""

    assigned = 3

    def __init__(self) -> None:
        self.kept = 0

    def keep_alive(self) -> None:
        self.kept += 1


def test_who_waits_stays_a_member_alive_and_unready() -> None:
    now = [100.0]
    member, health, stop = Member(), Health(20.0, 30.0, clock=lambda: now[0]), threading.Event()
    health.model_warm = True
    patience = Patience(member, health, Metrics(), stop, 10.0, clock=lambda: now[0])
    for _ in range(40):
        patience.turn("down")
        now[0] += 1.0
    assert member.kept == 39
    assert health.alive()[0]
    assert health.ready() == (False, "model warm, 3 partitions assigned, Kafka has not answered for 39 s")
    patience.over()
    assert health.ready()[0]
    stop.set()
    patience.turn("down")
    now[0] += 11.0
    with pytest.raises(Interrupted, match="is not committed and comes again"):
        patience.turn("down")
