"""A commit whose answer was lost, on a real Kafka: the group's offsets tell what came of it."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from broker.alert import Message, Record
from broker.errors import Unavailable
from broker.kafka import KafkaSource, KafkaTransactions, transactions
from broker.settings import ConsumerSettings, Plaintext, SinkSettings, SourceSettings, Topics

from . import toxiproxy
from .conftest import Cluster, needing
from .ledger import read_all
from .toxiproxy import ProxiedServer, Proxy, Toxiproxy

pytestmark = pytest.mark.kafka

PATIENCE_SECONDS = 3.0
"""How long the answer to a commit is waited for here."""


def say_nothing(_why: str) -> None:
    """Wait."""


@pytest.fixture
def topic(cluster: Cluster) -> str:
    topic = cluster.make(1)
    cluster.publish(topic, [b"one", b"two"])
    return topic


@contextlib.contextmanager
def source_of(topic: str, servers: str) -> Iterator[KafkaSource]:
    settings = SourceSettings(bootstrap_servers=servers, group_id=f"group-{topic}")
    source = KafkaSource(
        settings, ConsumerSettings(exit_at_end=True), Topics((topic,), None), threading.Event()
    )
    yield source
    source.close()


@contextlib.contextmanager
def sink_of(source: KafkaSource, servers: str) -> Iterator[KafkaTransactions]:
    sink = KafkaTransactions(
        servers,
        Plaintext(),
        SinkSettings(),
        connect_seconds=30,
        stop=threading.Event(),
        on_wait=say_nothing,
        group=source,
    )
    yield sink
    sink.close()


@pytest.fixture
def source(topic: str, kafka: str) -> Iterator[KafkaSource]:
    with source_of(topic, kafka) as source:
        yield source


@pytest.fixture
def sink(source: KafkaSource, kafka: str) -> Iterator[KafkaTransactions]:
    with sink_of(source, kafka) as sink:
        yield sink


def batch_of(source: KafkaSource) -> list[Message]:
    batch: list[Message] = []
    while len(batch) < 2:
        batch += source.poll(10, 0.2)
    return batch


def lose_the_answer(sink: KafkaTransactions, batch: list[Message]) -> None:
    """Be where a commit leaves a producer that got no answer: another takes its place, in doubt."""
    sink._doubtful = batch
    sink._renew()


def test_what_was_committed_is_not_written_again(
    cluster: Cluster, topic: str, kafka: str, source: KafkaSource, sink: KafkaTransactions
) -> None:
    batch = batch_of(source)
    records = [Record(f"{topic}.enriched", message.value or b"") for message in batch]
    sink.transact(records, batch)
    lose_the_answer(sink, batch)
    sink.transact(records, batch)
    assert [message.value() for message in read_all(kafka, f"{topic}.enriched")] == [b"one", b"two"]
    assert cluster.committed(topic, f"group-{topic}") == 2


def test_what_was_not_committed_is_written(
    cluster: Cluster, topic: str, kafka: str, source: KafkaSource, sink: KafkaTransactions
) -> None:
    batch = batch_of(source)
    records = [Record(f"{topic}.enriched", message.value or b"") for message in batch]
    lose_the_answer(sink, batch)
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
        patch.setattr(sink, "_send_offsets", lambda _: sink._call("sending offsets", free.wait))
        with pytest.raises(Unavailable, match="no answer from librdkafka"):
            sink.transact([], batch)
    assert sink._producer is not first
    sink.transact([Record(f"{topic}.enriched", message.value or b"") for message in batch], batch)
    free.set()
    assert [message.value() for message in read_all(kafka, f"{topic}.enriched")] == [b"one", b"two"]


def test_what_a_failed_transaction_wrote_to_is_given_up_by_the_next_producer(
    cluster: Cluster,
    topic: str,
    kafka: str,
    source: KafkaSource,
    sink: KafkaTransactions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the coordinator forgot there would else be committed with what comes."""
    batch = batch_of(source)
    records = [Record(f"{topic}.enriched", message.value or b"") for message in batch]

    def lost(_batch: object) -> None:
        raise Unavailable("the coordinator went away")

    with monkeypatch.context() as patch:
        patch.setattr(sink, "_send_offsets", lost)
        with pytest.raises(Unavailable):
            sink.transact(records, batch)
    sink.transact(records, batch)
    everything = [message.value() for message in read_all(kafka, f"{topic}.enriched", committed=False)]
    assert everything == [b"one", b"two", b"one", b"one", b"two"], (
        "the third is given up where the first two were"
    )
    assert [message.value() for message in read_all(kafka, f"{topic}.enriched")] == [b"one", b"two"]
    assert cluster.committed(topic, f"group-{topic}") == 2


@pytest.fixture(scope="module")
def proxied() -> Iterator[tuple[ProxiedServer, Proxy]]:
    if lacking := toxiproxy.missing():
        pytest.skip(lacking)
    needing()
    with ProxiedServer() as server, Toxiproxy() as toxic:
        yield server, toxic.before(server.behind, server.proxied)


def losing(proxy: Proxy, stream: str, call: Callable[..., None]) -> Callable[..., None]:
    """Have nothing come through in one direction while a commit is under way, and its connection end then."""

    def instead(doing: str, what: Callable[[], Any], *seconds: float) -> None:
        if doing != "committing a transaction":
            call(doing, what, *seconds)
            return
        with proxy.with_toxic("timeout", (stream,), timeout=0):
            try:
                call(doing, what, PATIENCE_SECONDS)
            finally:
                proxy.cut()

    return instead


@pytest.mark.parametrize(("lost", "done"), [("downstream", 2), ("upstream", 0)], ids=["answer", "request"])
def test_a_commit_of_which_nothing_is_heard_is_neither_lost_nor_made_twice(
    proxied: tuple[ProxiedServer, Proxy], monkeypatch: pytest.MonkeyPatch, lost: str, done: int
) -> None:
    """The network swallows the answer to the commit, or the commit itself: to the sink it is the same."""
    server, proxy = proxied
    cluster, direct = Cluster(server.bootstrap_servers), server.bootstrap_servers
    topic = cluster.make(1)
    cluster.publish(topic, [b"one", b"two"])
    with source_of(topic, direct) as source, sink_of(source, server.proxied) as sink:
        batch = batch_of(source)
        records = [Record(f"{topic}.enriched", message.value or b"") for message in batch]
        with monkeypatch.context() as patch:
            patch.setattr(sink, "_call", losing(proxy, lost, sink._call))
            with pytest.raises(Unavailable, match="committing a transaction"):
                sink.transact(records, batch)
        assert cluster.committed(topic, f"group-{topic}") == done
        proxy.mend()
        sink.transact(records, batch)
    assert [message.value() for message in read_all(direct, f"{topic}.enriched")] == [b"one", b"two"]
    written = read_all(direct, f"{topic}.enriched", committed=False)
    assert len(written) == (2 if done else 5), "what was committed is not even written again"
    assert cluster.committed(topic, f"group-{topic}") == 2
