"""Which faults of a transaction pass, and which end the consumer."""

import threading
import time
from collections.abc import Sequence

import pytest
from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException, TopicPartition

from broker.alert import Message, Record
from broker.errors import ConfigurationError, KafkaError, Unavailable
from broker.kafka import KafkaTransactions, transactions
from broker.kafka.sink import Flight
from broker.kafka.watched import NAME


class Bare(KafkaTransactions):
    """One without a cluster."""

    def __init__(self) -> None:
        self._stated = None
        self._put_out_at = self._opened_at = 0.0
        self.renewed = 0

    def _renew(self) -> None:
        self.renewed += 1


@pytest.mark.parametrize(
    "code",
    [
        Fault.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        Fault.GROUP_AUTHORIZATION_FAILED,
        Fault.TOPIC_AUTHORIZATION_FAILED,
    ],
)
@pytest.mark.parametrize("how", [{"fatal": True}, {"txn_requires_abort": True}])
def test_a_right_that_is_missing_ends_it_whatever_librdkafka_makes_of_it(
    code: int, how: dict[str, bool]
) -> None:
    sink = Bare()
    error = sink._broken(Fault(code, "refused", **how), "beginning transactions")
    assert isinstance(error, ConfigurationError)
    assert "ask for" in str(error)
    assert sink.renewed == 0, "a new producer has the right no more than the old one"


@pytest.mark.parametrize("fatal", [True, False])
def test_what_passes_is_tried_again(fatal: bool) -> None:
    fault = Fault(Fault.COORDINATOR_NOT_AVAILABLE, "moved", fatal=fatal)
    assert isinstance(Bare()._broken(fault, "committing"), Unavailable)


class Group:
    """Loses partition 1 when told, and is in another generation each time it is asked."""

    def __init__(self) -> None:
        self.generation = 0
        self.lost = False

    def holds(self, message: Message) -> bool:
        return not (self.lost and message.partition == 1)

    def offsets(self, batch: Sequence[Message]) -> list[TopicPartition]:
        return [TopicPartition(m.topic, m.partition, m.offset + 1) for m in batch if self.holds(m)]

    def settled(self, batch: Sequence[Message]) -> None:
        pass

    def stands_after(self, _batch: Sequence[Message]) -> bool:
        return False

    def membership(self) -> int:
        self.generation += 1
        return self.generation


class Producer:
    """Takes transactions; the first sending of offsets has to be repeated."""

    def __init__(self, commits: int) -> None:
        self.commits = commits
        self.sent: list[tuple[int, int]] = []
        self.ends: list[str] = []

    def begin_transaction(self) -> None:
        pass

    def send_offsets_to_transaction(
        self, offsets: list[TopicPartition], membership: int, _seconds: float
    ) -> None:
        self.sent.append((len(offsets), membership))
        if len(self.sent) == 1:
            raise KafkaException(Fault(Fault._TIMED_OUT, "again", retriable=True))

    def commit_transaction(self, _seconds: float) -> None:
        self.ends.append("commit")
        if len(self.ends) < self.commits:
            raise KafkaException(Fault(Fault._TIMED_OUT, "again", retriable=True))

    def abort_transaction(self, _seconds: float) -> None:
        self.ends.append("abort")


class Healthy:
    def check(self) -> None:
        pass


class Written(Bare):
    """One whose records are written at once, and what happens meanwhile."""

    def __init__(self, group: Group, *, loses: bool, while_told: bool = False, commits: int = 1) -> None:
        super().__init__()
        self._group, self._producer, self._listener = group, Producer(commits), Healthy()  # type: ignore[assignment]
        self._begun, self._doubtful = True, ()
        self._flight, self._left_open = Flight(), {}
        self._loses, self._while_told = loses, while_told
        self._on_wait = self.told

    def told(self, _why: str) -> None:
        self._group.lost = self._group.lost or self._while_told  # type: ignore[attr-defined]

    def write(self, _records: Sequence[Record]) -> None:
        self._group.lost = self._loses  # type: ignore[attr-defined]


BATCH = [Message(b"", "alerts", partition, 5) for partition in (0, 1)]


def test_a_partition_that_leaves_while_its_records_are_written_is_not_committed() -> None:
    sink = Written(Group(), loses=True)
    with pytest.raises(Unavailable, match="went to others"):
        sink.transact([], BATCH)
    assert sink._producer.sent == []
    assert (sink._producer.ends, sink.renewed) == ([], 1)


def test_offsets_are_sent_again_as_they_were_and_in_the_name_they_were() -> None:
    sink = Written(Group(), loses=False, while_told=True)
    sink.transact([], BATCH)
    assert sink._producer.sent == [(2, 1), (2, 1)], "a later membership vouches for what it does not hold"


@pytest.mark.parametrize(("commits", "renewed"), [(1, 0), (2, 1)])
def test_a_producer_that_had_to_ask_for_its_commit_twice_makes_no_other_transaction(
    commits: int, renewed: int
) -> None:
    sink = Written(Group(), loses=False, commits=commits)
    sink.transact([], BATCH)
    assert (sink._producer.ends, sink.renewed) == (["commit"] * commits, renewed)


def test_calls_that_never_come_back_end_the_process_before_they_fill_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transactions, "STUCK_SECONDS", 0.05)
    sink, free = Written(Group(), loses=False), threading.Event()
    for _ in range(transactions.MOST_LEFT_BEHIND):
        with pytest.raises(Unavailable, match="no answer from librdkafka"):
            sink._call("waiting", free.wait)
    with pytest.raises(KafkaError, match="only a new start frees them"):
        sink._call("waiting", free.wait)
    free.set()
    while any(thread.name == NAME for thread in threading.enumerate()):
        time.sleep(0.01)


@pytest.mark.parametrize(("lasted", "ends"), [(1.0, True), (transactions.TRANSACTION_SECONDS + 1, False)])
def test_put_out_for_slowness_is_no_rivalry(lasted: float, ends: bool) -> None:
    sink = Bare()
    sink._stated = "mine"
    sink._put_out_at = time.monotonic() - 1
    sink._opened_at = time.monotonic() - lasted
    fault = Fault(Fault._FENCED, "fenced", fatal=True)
    if ends:
        with pytest.raises(ConfigurationError, match="another producer has the transactional id mine"):
            sink._broken(fault, "writing")
    else:
        assert isinstance(sink._broken(fault, "writing"), Unavailable)
