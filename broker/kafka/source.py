"""Alerts from Kafka: offsets are committed when they are told to be, and only for partitions still held."""

# ruff: noqa: SLF001 -- the names of librdkafka's own codes begin with an underscore

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeAlias

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaException,
    TopicPartition,
)
from confluent_kafka import KafkaError as Fault
from confluent_kafka import Message as KafkaMessage

from broker.alert import Message
from broker.kafka.connection import (
    MAX_MESSAGE_BYTES,
    Listener,
    await_broker,
    client,
    connection,
    look,
)
from broker.kafka.faults import LOST_TO_OTHERS, OF_THE_MOMENT, REFUSALS, as_ours
from broker.kafka.topics import await_topics
from broker.settings import ConsumerSettings, SourceSettings, Topics

REQUEST_SECONDS = 10.0
"""One question to the cluster: committed offsets, offsets of a time, ends."""

SETTLE_SECONDS = 3.0
"""How long an assignment without partitions must last before it counts: a cooperative group first takes
partitions away from their owner and hands them over in a second round."""

logger = logging.getLogger("broker.kafka")

Place: TypeAlias = tuple[str, int]
"""Topic and partition."""


class KafkaSource:
    """A member of a consumer group.

    Parameters
    ----------
    kafka : SourceSettings
    limits : ConsumerSettings
    wanted : Topics
    stop : threading.Event
        Set from outside to break off the search for brokers and topics at start.

    Raises
    ------
    KafkaError
        When no broker answers in time.
    ConfigurationError
        When a topic is missing, or the cluster refuses us.
    """

    def __init__(
        self, kafka: SourceSettings, limits: ConsumerSettings, wanted: Topics, stop: threading.Event
    ) -> None:
        self._kafka = kafka
        self._limits = limits
        self._wanted = wanted
        self._listener = Listener("source")
        self._consumer = client(Consumer, self._properties(), self._listener, kafka.security)
        self._assigned: set[Place] | None = None
        self._joined_at = 0.0
        self._next: dict[Place, int] = {}
        self._pending: dict[Place, int] = {}
        self._ends: dict[Place, int] = {}
        self._finished: set[Place] = set()
        self._topics: list[str] = []
        self._there_at_start: frozenset[str] = frozenset()
        self._discovered_at = time.monotonic()
        self._begin(stop)

    def _properties(self) -> dict[str, Any]:
        kafka, start = self._kafka, self._limits.start
        return {
            "fetch.message.max.bytes": MAX_MESSAGE_BYTES,
            "fetch.max.bytes": 5 * MAX_MESSAGE_BYTES,
            "queued.max.messages.kbytes": 65_536,
            **kafka.extra,
            **connection(kafka.bootstrap_servers, kafka.security),
            "group.id": kafka.group_id,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            # From the first day: a running group cannot be moved from eager to cooperative without a stop.
            "partition.assignment.strategy": "cooperative-sticky",
            "isolation.level": "read_committed",
            "auto.offset.reset": start if isinstance(start, str) else "earliest",
        }

    def _begin(self, stop: threading.Event) -> None:
        """Wait for a broker and the named topics, then join the group."""
        limits, servers = self._limits, self._kafka.bootstrap_servers
        await_broker(self._consumer, self._listener, servers, limits.connect_seconds, stop)
        existing = await_topics(self._consumer, self._wanted, limits.topic_seconds, stop)
        if stop.is_set():
            return
        self._there_at_start = frozenset(existing)
        self._topics = [topic for topic in existing if self._wanted.holds(topic)]
        if limits.exit_at_end:
            self._ends = {place: self._watermarks(place)[1] for place in self._places()}
        if self._topics:
            logger.info("reading %s", ", ".join(self._topics))
            self._join()
        else:
            logger.warning("no topic matches %r yet", self._wanted.pattern)

    def _join(self) -> None:
        self._consumer.subscribe(
            self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def _discover(self) -> None:
        """Look for new topics of the pattern, such as ZTF's of the night."""
        now = time.monotonic()
        if self._wanted.pattern is None or now - self._discovered_at < self._limits.discovery_seconds:
            return
        self._discovered_at = now
        metadata = look(self._consumer)
        found = self._topics if metadata is None else sorted(filter(self._wanted.holds, metadata.topics))
        if found != self._topics:
            logger.info("now reading %s", ", ".join(found) or "nothing")
            self._topics = found
            self._join()

    def _places(self) -> list[Place]:
        """Every partition there is, ours and others': they may become ours."""
        with _asking("listing partitions"):
            found = [self._consumer.list_topics(topic, timeout=REQUEST_SECONDS) for topic in self._topics]
        return [
            (topic, partition)
            for topic, metadata in zip(self._topics, found, strict=True)
            for partition in metadata.topics[topic].partitions
        ]

    def _watermarks(self, place: Place, *, cached: bool = False) -> tuple[int, int]:
        with _asking(f"asking for the end of {place[0]}[{place[1]}]"):
            return self._consumer.get_watermark_offsets(
                TopicPartition(*place), REQUEST_SECONDS, cached=cached
            )

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._assigned is None or partitions:
            self._joined_at = time.monotonic()
        self._assigned = (self._assigned or set()) | {_place(partition) for partition in partitions}
        if partitions and self._limits.start != "earliest":
            partitions = self._placed(partitions)
        consumer.incremental_assign(partitions)
        logger.info("assigned %s", _names(partitions))

    def _placed(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Begin where the settings say where the group has committed nothing; else the committed offset stands."""
        with _asking("asking for committed offsets"):
            committed = self._consumer.committed(partitions, timeout=REQUEST_SECONDS)
        for partition in committed:
            if partition.error is not None:  # not the same as nothing committed
                raise as_ours(partition.error, f"asking for the committed offset of {_names([partition])}")
        stands = [partition for partition in committed if partition.offset >= 0]
        fresh = [partition for partition in committed if partition.offset < 0]
        if isinstance(start := self._limits.start, datetime):
            return stands + self._at_time(fresh, start)
        return stands + [self._at_end_or_new(partition) for partition in fresh]

    def _at_end_or_new(self, partition: TopicPartition) -> TopicPartition:
        """Begin at the end of a topic that was there at start, and at the beginning of one made since."""
        if partition.topic not in self._there_at_start:
            return TopicPartition(partition.topic, partition.partition, OFFSET_BEGINNING)
        _, end = self._watermarks(_place(partition))
        # Committed with the next batch, or on leaving: whoever takes over goes on from here, not from a later end.
        self._pending[_place(partition)] = end
        return TopicPartition(partition.topic, partition.partition, end)

    def _at_time(self, partitions: list[TopicPartition], start: datetime) -> list[TopicPartition]:
        milliseconds = int(start.timestamp() * 1000)
        asked = [
            TopicPartition(partition.topic, partition.partition, milliseconds) for partition in partitions
        ]
        with _asking(f"asking for offsets at {start}"):
            found = self._consumer.offsets_for_times(asked, timeout=REQUEST_SECONDS) if asked else []
        later = [partition for partition in found if partition.offset < 0]
        if later:
            # Kafka answers so where no message is that young; librdkafka's mock cluster always does.
            logger.warning("%s: no message from %s on; reading begins at the end", _names(later), start)
        return found

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # The loop holds no batch while this runs: what is pending was written, and only its commit failed.
        places = {_place(partition) for partition in partitions}
        self._commit({place: offset for place, offset in self._pending.items() if place in places})
        self._forget(places)
        logger.info("revoked %s", _names(partitions))

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget({_place(partition) for partition in partitions})
        logger.warning(
            "lost %s without notice: what was not committed comes again elsewhere", _names(partitions)
        )

    def _forget(self, places: set[Place]) -> None:
        self._assigned = (self._assigned or set()) - places
        self._joined_at = time.monotonic()
        for place in places:
            self._next.pop(place, None)
            self._pending.pop(place, None)
        self._finished -= places

    def poll(self, limit: int, linger_seconds: float) -> list[Message]:
        """Take at most `limit` messages, waiting at most `linger_seconds` for them.

        Raises
        ------
        KafkaError
            On a fault that librdkafka cannot recover from.
        ConfigurationError
            When the cluster refuses us.
        """
        self._discover()
        batch = []
        with _asking("reading"):
            messages = self._consumer.consume(limit, linger_seconds)
        for message in messages:
            fault = message.error()
            if fault is None:
                batch.append(self._take(message))
            elif fault.code() == Fault._PARTITION_EOF:
                self._finished.add((str(message.topic()), int(message.partition() or 0)))
            else:
                _judge(fault)
        self._listener.check()
        return batch

    def _take(self, message: KafkaMessage) -> Message:
        taken = as_message(message)
        self._next[taken.topic, taken.partition] = taken.offset + 1
        return taken

    def commit(self, batch: Sequence[Message]) -> None:
        """Commit the offsets after `batch`, in partitions still held, and wait for the answer.

        A commit that the group refuses is logged: the messages come again to whoever holds the partition.
        One that fails for the moment is carried by the next.

        Raises
        ------
        KafkaError
            When Kafka refuses for any other cause.
        """
        for message in batch:
            place = message.topic, message.partition
            if place in (self._assigned or ()):
                self._pending[place] = message.offset + 1
        self._commit(dict(self._pending))

    def _commit(self, offsets: dict[Place, int]) -> None:
        if not offsets:
            return
        try:
            answers = self._consumer.commit(
                offsets=[TopicPartition(*place, offset) for place, offset in offsets.items()],
                asynchronous=False,
            )
        except KafkaException as error:
            self._commit_failed(error.args[0])
            return
        for answer in answers or ():
            if answer.error is None:
                self._pending.pop(_place(answer), None)
            else:
                self._commit_failed(answer.error)

    def _commit_failed(self, fault: Fault) -> None:
        if fault.code() in LOST_TO_OTHERS | OF_THE_MOMENT or fault.retriable():
            logger.warning("commit not taken (%s): these alerts may come again", fault.str())
            return
        raise as_ours(fault, "committing offsets")

    @property
    def assigned(self) -> int | None:
        """Number of partitions held; None before the group has answered."""
        return None if self._assigned is None else len(self._assigned)

    @property
    def at_end(self) -> bool:
        """Whether every assigned partition has reached the end it had at start."""
        if not self._topics:
            return True
        if self._assigned is None:
            return False
        if not self._assigned:
            return time.monotonic() - self._joined_at >= SETTLE_SECONDS
        return all(
            place in self._finished or self._next.get(place, -1) >= self._ends.get(place, 0)
            for place in self._assigned
        )

    @property
    def lag(self) -> int:
        """Messages between our position and the ends last heard of, over the assigned partitions."""
        behind = 0
        for place, position in self._next.items():
            _, high = self._watermarks(place, cached=True)
            behind += max(0, high - position)
        return behind

    def close(self) -> None:
        """Commit what is pending and leave the group."""
        try:
            self._commit(dict(self._pending))
        finally:
            self._consumer.close()


@contextmanager
def _asking(doing: str) -> Iterator[None]:
    """Turn what librdkafka raises into an error of our tree."""
    try:
        yield
    except KafkaException as error:
        raise as_ours(error.args[0], doing) from error


def as_message(message: KafkaMessage) -> Message:
    """Put a Kafka message in our own terms."""
    kind, timestamp = message.timestamp()
    headers = message.headers() or []
    return Message(
        value=message.value(),
        topic=str(message.topic()),
        partition=int(message.partition() or 0),
        offset=int(message.offset() or 0),
        key=message.key(),
        headers=tuple(
            (name, value.encode() if isinstance(value, str) else value)
            for name, value in (headers.items() if isinstance(headers, dict) else headers)
        ),
        timestamp_ms=None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp,
    )


def _judge(fault: Fault) -> None:
    """End on a fault of the stream that trying again cannot mend; tell of the others."""
    if fault.fatal() or fault.code() in REFUSALS:
        raise as_ours(fault, "reading")
    logger.warning("reading: %s (%s); trying again", fault.str(), fault.name())


def _place(partition: TopicPartition) -> Place:
    return partition.topic, partition.partition


def _names(partitions: list[TopicPartition]) -> str:
    return ", ".join(f"{p.topic}[{p.partition}]" for p in partitions) or "no partitions"
