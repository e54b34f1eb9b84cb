"""The source on an embedded Kafka: groups, starts, ends and commits."""

import threading
from collections.abc import Callable, Sequence

import pytest
from confluent_kafka import Message as KafkaMessage
from confluent_kafka import TopicPartition

from broker.alert import Message
from broker.errors import KafkaError, SettingsError
from broker.kafka import EmbeddedKafka, KafkaReader, KafkaSource
from broker.settings import ConsumerSettings, SourceSettings, Topics

SourceOf = Callable[..., KafkaSource]
Taken = Callable[[KafkaSource], list[Message]]
Publish = Callable[..., None]

FIVE = ("one", "two", "three", "four", "five")


def values(messages: list[Message]) -> set[str]:
    return {message.value.decode() for message in messages if message.value is not None}


def test_reads_every_partition_to_the_end(
    source_of: SourceOf, taken: Taken, publish: Publish, topic: str
) -> None:
    publish(topic, *FIVE)
    source = source_of(topic)
    messages = taken(source)
    assert values(messages) == set(FIVE)
    assert {message.topic for message in messages} == {topic}
    assert {message.key for message in messages} == {text.encode() for text in FIVE}
    assert all(message.timestamp_ms for message in messages)
    assert source.assigned == 2
    assert source.lag == 0


def test_an_empty_topic_is_at_its_end(source_of: SourceOf, taken: Taken, topic: str) -> None:
    assert taken(source_of(topic)) == []


def test_what_comes_after_the_start_is_not_waited_for(
    source_of: SourceOf, taken: Taken, publish: Publish, topic: str
) -> None:
    publish(topic, "before")
    source = source_of(topic)
    publish(topic, "after")
    assert "before" in values(taken(source))


def test_a_committed_batch_does_not_come_again(
    source_of: SourceOf, taken: Taken, publish: Publish, topic: str
) -> None:
    publish(topic, *FIVE)
    first = source_of(topic)
    while not first.at_end:
        first.commit(first.poll(100, 0.05))
    first.close()
    publish(topic, "six")
    assert values(taken(source_of(topic))) == {"six"}


def test_an_uncommitted_batch_comes_again(
    source_of: SourceOf, taken: Taken, publish: Publish, topic: str
) -> None:
    publish(topic, *FIVE)
    first = source_of(topic)
    taken(first)
    first.close()
    assert values(taken(source_of(topic))) == set(FIVE)


def test_a_member_without_partitions_is_at_its_end(
    source_of: SourceOf, taken: Taken, publish: Publish, topic: str
) -> None:
    publish(topic, *FIVE)
    sources = [source_of(topic) for _ in range(3)]
    polling = threading.Event()
    messages: list[Message] = []

    def turn(source: KafkaSource) -> None:
        while not polling.is_set():
            messages.extend(source.poll(10, 0.02))

    threads = [threading.Thread(target=turn, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    wait = threading.Event()

    def shared_and_ended() -> bool:
        # On a busy machine the mock's short session runs out now and then, and the group begins again.
        shared = sorted(source.assigned or 0 for source in sources) == [0, 1, 1]
        return shared and all(source.at_end for source in sources)

    for _ in range(600):
        if ended := shared_and_ended():
            break
        wait.wait(0.05)
    polling.set()
    for thread in threads:
        thread.join()
    assert ended
    assert values(messages) == set(FIVE)


def test_latest_leaves_out_what_is_there(
    source_of: SourceOf, taken: Taken, publish: Publish, topic: str
) -> None:
    publish(topic, *FIVE)
    assert taken(source_of(topic, start="latest")) == []


def test_a_reader_takes_all_without_a_group(
    source_of: SourceOf, taken: Taken, publish: Publish, topic: str
) -> None:
    publish(topic, *FIVE)
    for _ in range(2):
        reader = source_of(topic, kind=KafkaReader)
        messages = taken(reader)
        reader.commit(messages)
        reader.close()
        assert values(messages) == set(FIVE)


def test_a_pattern_takes_whole_names_and_never_our_outputs(
    source_of: SourceOf, taken: Taken, publish: Publish, embedded: EmbeddedKafka
) -> None:
    for name in ("ztf_1_p1", "ztf_2_p1", "ztf_2_p2", "not_ztf_3_p1", "ztf_p1.enriched"):
        embedded.create_topic(name, 1)
        publish(name, name)
    source = source_of(pattern=r"ztf_\d+_p1|ztf.*enriched", group="pattern")
    assert values(taken(source)) == {"ztf_1_p1", "ztf_2_p1"}


def test_a_pattern_finds_topics_made_later(
    source_of: SourceOf, publish: Publish, embedded: EmbeddedKafka
) -> None:
    embedded.create_topic("night_1", 1)
    source = source_of(pattern=r"night_\d", group="nights", discovery_seconds=1.0)
    embedded.create_topic("night_2", 1)
    publish("night_2", "found")
    messages: list[Message] = []
    for _ in range(200):
        messages += source.poll(10, 0.05)
        if messages:
            break
    assert values(messages) == {"found"}


def test_a_topic_made_later_is_read_from_its_beginning_even_where_reading_starts_at_the_latest(
    source_of: SourceOf, publish: Publish, embedded: EmbeddedKafka
) -> None:
    embedded.create_topic("evening_1", 1)
    publish("evening_1", "old")
    source = source_of(pattern=r"evening_\d", group="evenings", discovery_seconds=1.0, start="latest")
    for _ in range(20):
        assert source.poll(10, 0.05) == []
    embedded.create_topic("evening_2", 1)
    publish("evening_2", "first", "second")
    messages: list[Message] = []
    for _ in range(200):
        messages += source.poll(10, 0.05)
        if len(messages) == 2:
            break
    assert values(messages) == {"first", "second"}


def test_where_latest_was_is_kept_from_before_the_first_alert(
    source_of: SourceOf, taken: Taken, topic: str, publish: Publish
) -> None:
    publish(topic, "old")
    first = source_of(topic, group="keeper", start="latest", exit_at_end=False)
    for _ in range(40):
        first.poll(10, 0.05)
    first.close()
    publish(topic, "between")
    assert values(taken(source_of(topic, group="keeper", start="latest"))) == {"between"}


def test_a_pattern_without_a_topic_ends_at_once(source_of: SourceOf, taken: Taken) -> None:
    assert taken(source_of(pattern="nothing_.*")) == []


def test_a_missing_topic_is_refused_and_those_close_to_it_named(source_of: SourceOf, topic: str) -> None:
    with pytest.raises(SettingsError, match=f"topic {topic}s does not exist.*there are {topic}"):
        source_of(f"{topic}s")


def test_no_broker_is_told_with_its_address() -> None:
    kafka = SourceSettings(bootstrap_servers="127.0.0.1:1", group_id="nobody")
    limits = ConsumerSettings(connect_seconds=0.5)
    with pytest.raises(KafkaError, match=r"no Kafka broker answered at 127\.0\.0\.1:1 within 0.5 s"):
        KafkaSource(kafka, limits, Topics(("alerts",)), threading.Event())


def test_a_stop_breaks_off_the_search_for_a_broker() -> None:
    stop = threading.Event()
    stop.set()
    kafka = SourceSettings(bootstrap_servers="127.0.0.1:1", group_id="nobody")
    source = KafkaSource(kafka, ConsumerSettings(), Topics(("alerts",)), stop)
    assert source.at_end
    source.close()


def test_a_property_librdkafka_does_not_know_is_refused() -> None:
    kafka = SourceSettings(extra={"no.such.property": "1"})
    with pytest.raises(SettingsError, match=r"No such configuration property"):
        KafkaSource(kafka, ConsumerSettings(), Topics(("alerts",)), threading.Event())


class Interrupted:
    """What a source gathers with, and what happens to its partitions between two steps."""

    def __init__(self, source: KafkaSource, happens: Callable[[], None]) -> None:
        self._consume = source._gather._consume
        self._happens: Callable[[], None] | None = happens
        source._gather._consume = self

    def __call__(self, limit: int, seconds: float) -> Sequence[KafkaMessage]:
        messages = self._consume(min(limit, 2), seconds)
        if messages and self._happens is not None:
            self._happens, happens = None, self._happens
            happens()
        return messages


@pytest.fixture
def read(source_of: SourceOf, publish: Publish, topic: str) -> tuple[KafkaSource, list[TopicPartition]]:
    """A source of five messages, and all of its partitions."""
    publish(topic, *FIVE)
    return source_of(topic), [TopicPartition(topic, number) for number in range(2)]


def leave(source: KafkaSource, partitions: list[TopicPartition]) -> None:
    source._on_revoke(source._consumer, partitions)
    source._consumer.incremental_unassign(partitions)


def first_batch(source: KafkaSource) -> list[Message]:
    while not (batch := source.poll(100, 0.2)):
        pass
    return batch


def test_what_was_taken_of_a_partition_that_leaves_in_the_same_poll_is_others(
    read: tuple[KafkaSource, list[TopicPartition]],
) -> None:
    source, everything = read
    Interrupted(source, lambda: leave(source, everything))
    while source.assigned != 0:
        assert source.poll(100, 0.2) == []


def test_what_leaves_and_comes_back_in_the_same_poll_is_read_again_from_what_is_committed(
    read: tuple[KafkaSource, list[TopicPartition]],
) -> None:
    source, everything = read

    def leave_and_come_back() -> None:
        leave(source, everything)
        source._on_assign(source._consumer, everything)

    Interrupted(source, leave_and_come_back)
    found: list[str] = []
    while len(found) < len(FIVE):
        found += [message.value.decode() for message in first_batch(source) if message.value]
    assert sorted(found) == sorted(FIVE)
