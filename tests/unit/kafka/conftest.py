"""An embedded Kafka, and what is short to say about it."""

import threading
from collections.abc import Callable, Iterator

import pytest

from broker.alert import Message, Record
from broker.kafka import EmbeddedKafka, KafkaSink, KafkaSource
from broker.settings import Classic, ConsumerSettings, Plaintext, SinkSettings, SourceSettings, Topics


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as kafka:
        yield kafka


@pytest.fixture
def topic(embedded: EmbeddedKafka, request: pytest.FixtureRequest) -> str:
    """A topic of two partitions of the test's own."""
    name = request.node.name.replace("[", "-").rstrip("]")
    embedded.create_topic(name, 2)
    return name


@pytest.fixture
def sink(embedded: EmbeddedKafka) -> Iterator[KafkaSink]:
    sink = KafkaSink(
        embedded.bootstrap_servers, Plaintext(), SinkSettings(), connect_seconds=10, stop=threading.Event()
    )
    yield sink
    sink.close()


@pytest.fixture
def source_of(embedded: EmbeddedKafka) -> Iterator[Callable[..., KafkaSource]]:
    """Make sources; they are closed after the test."""
    made: list[KafkaSource] = []

    def make(
        *topics: str,
        kind: type[KafkaSource] = KafkaSource,
        pattern: str | None = None,
        group: str = "",
        **limits: object,
    ) -> KafkaSource:
        # The mock waits for about a session when the members of a group change.
        session = Classic(session_seconds=1.2, heartbeat_seconds=0.1)
        servers = embedded.bootstrap_servers
        kafka = SourceSettings(
            bootstrap_servers=servers, group_id=group or f"group-{topics}", membership=session
        )
        wanted = Topics(topics, pattern)
        settings = ConsumerSettings.model_validate({"exit_at_end": True, "topic_seconds": 0.5, **limits})
        made.append(kind(kafka, settings, wanted, threading.Event()))
        return made[-1]

    yield make
    for source in made:
        source.close()


@pytest.fixture
def taken() -> Callable[[KafkaSource], list[Message]]:
    """Take everything up to the end a source had at its start."""

    def take(source: KafkaSource) -> list[Message]:
        messages: list[Message] = []
        while not source.at_end:
            messages += source.poll(100, 0.05)
        return messages

    return take


@pytest.fixture
def publish(sink: KafkaSink) -> Callable[..., None]:
    """Publish texts, each as its own key, in their order."""

    def write(topic: str, *texts: str, timestamp_ms: int | None = None) -> None:
        sink.write(
            [Record(topic, text.encode(), key=text.encode(), timestamp_ms=timestamp_ms) for text in texts]
        )

    return write
