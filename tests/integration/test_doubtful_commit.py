"""A commit whose answer was lost, on a real Kafka: the group's offsets tell what came of it."""

import threading
from collections.abc import Iterator

import pytest

from broker.alert import Message, Record
from broker.errors import Unavailable
from broker.kafka import KafkaSource, KafkaTransactions, transactions
from broker.settings import ConsumerSettings, Plaintext, SinkSettings, SourceSettings, Topics

from .conftest import Cluster
from .ledger import read_all


def say_nothing(_why: str) -> None:
    """Wait."""


@pytest.fixture
def topic(cluster: Cluster) -> str:
    topic = cluster.make(1)
    cluster.publish(topic, [b"one", b"two"])
    return topic


@pytest.fixture
def source(topic: str, kafka: str) -> Iterator[KafkaSource]:
    settings = SourceSettings(bootstrap_servers=kafka, group_id=f"group-{topic}")
    source = KafkaSource(
        settings, ConsumerSettings(exit_at_end=True), Topics((topic,), None), threading.Event()
    )
    yield source
    source.close()


@pytest.fixture
def sink(source: KafkaSource, kafka: str) -> Iterator[KafkaTransactions]:
    sink = KafkaTransactions(
        kafka,
        Plaintext(),
        SinkSettings(),
        connect_seconds=30,
        stop=threading.Event(),
        on_wait=say_nothing,
        group=source,
    )
    yield sink
    sink.close()


def batch_of(source: KafkaSource) -> list[Message]:
    batch: list[Message] = []
    while len(batch) < 2:
        batch += source.poll(10, 0.2)
    return batch


def lose_the_answer(sink: KafkaTransactions) -> None:
    """Be where a commit leaves a producer that got no answer: another takes its place, in doubt."""
    sink._in_doubt = True
    sink._renew()


def test_what_was_committed_is_not_written_again(
    cluster: Cluster, topic: str, kafka: str, source: KafkaSource, sink: KafkaTransactions
) -> None:
    batch = batch_of(source)
    records = [Record(f"{topic}.enriched", message.value or b"") for message in batch]
    sink.transact(records, batch)
    lose_the_answer(sink)
    sink.transact(records, batch)
    assert [message.value() for message in read_all(kafka, f"{topic}.enriched")] == [b"one", b"two"]
    assert cluster.committed(topic, f"group-{topic}") == 2


def test_what_was_not_committed_is_written(
    cluster: Cluster, topic: str, kafka: str, source: KafkaSource, sink: KafkaTransactions
) -> None:
    batch = batch_of(source)
    records = [Record(f"{topic}.enriched", message.value or b"") for message in batch]
    lose_the_answer(sink)
    sink.transact(records, batch)
    assert [message.value() for message in read_all(kafka, f"{topic}.enriched")] == [b"one", b"two"]
    assert cluster.committed(topic, f"group-{topic}") == 2


def test_a_call_that_does_not_come_back_costs_the_producer_and_not_the_batch(
    topic: str,
    kafka: str,
    source: KafkaSource,
    sink: KafkaTransactions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = batch_of(source)
    free = threading.Event()
    first = sink._producer
    with monkeypatch.context() as patch:
        patch.setattr(transactions, "STUCK_SECONDS", 0.3)
        with pytest.raises(Unavailable, match="no answer from librdkafka"):
            sink._call("sending offsets", free.wait)
    assert sink._producer is not first
    sink.transact([Record(f"{topic}.enriched", message.value or b"") for message in batch], batch)
    free.set()
    assert [message.value() for message in read_all(kafka, f"{topic}.enriched")] == [b"one", b"two"]
