"""Alerts from Kafka: offsets are committed when they are told to be, and only for partitions still held."""

# ruff: noqa: SLF001 -- the names of librdkafka's own codes begin with an underscore

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka import KafkaError as Fault
from confluent_kafka import Message as KafkaMessage

from broker.alert import Message
from broker.errors import KafkaError, Unavailable
from broker.kafka.beginnings import placed
from broker.kafka.commits import Commits, after, listed
from broker.kafka.connection import Listener, await_broker, client, look
from broker.kafka.faults import REFUSALS, as_ours
from broker.kafka.gather import Gatherer
from broker.kafka.offsets import committed, patiently, places_of, watermarks
from broker.kafka.pauses import Pauses
from broker.kafka.properties import of_consumer
from broker.kafka.terms import Place, as_message, asking, names, place_of
from broker.kafka.topics import await_topics
from broker.kafka.watched import watched
from broker.settings import ConsumerSettings, SourceSettings, Topics

CLOSE_SECONDS = 15.0
"""How long leaving the group may take; then its session ends by time."""

logger = logging.getLogger("broker.kafka")


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
        self._consumer = client(
            Consumer, of_consumer(kafka) | {"on_commit": self._on_commit}, self._listener, kafka.security
        )
        self._commits = Commits(self._consumer.commit)
        self._assigned: set[Place] | None = None
        self._joined_at = 0.0
        self._next: dict[Place, int] = {}
        self._ends: dict[Place, int] = {}
        self._finished: set[Place] = set()
        self._tenures: dict[Place, int] = {}
        self._assignments = 0
        self._gone: set[Place] = set()
        self._aside: list[KafkaMessage] = []
        self._pauses = Pauses(self._consumer)
        self._closing = False
        self._gather = Gatherer(self._consumer.consume, limits.batch_bytes, lambda: bool(self._gone))
        self._topics: list[str] = []
        self._there_at_start: frozenset[str] = frozenset()
        self._discovered_at = time.monotonic()
        self._stop = stop
        self._begin(stop)

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
            self._ends = {
                place: watermarks(self._consumer, place)[1]
                for place in places_of(self._consumer, self._topics)
            }
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
        """Look for new topics of the pattern, such as ZTF's of the night, and for those that may be made later."""
        now = time.monotonic()
        grows = self._wanted.pattern is not None or not set(self._wanted.optional) <= set(self._topics)
        if not grows or now - self._discovered_at < self._limits.discovery_seconds:
            return
        self._discovered_at = now
        metadata = look(self._consumer)
        # One answer without a topic that was asked for by name says nothing: a broker may just have begun.
        there = set(self._wanted.names).union(() if metadata is None else metadata.topics)
        found = sorted(filter(self._wanted.holds, there))
        if metadata is not None and found and found != self._topics:
            logger.info("now reading %s", ", ".join(found) or "nothing")
            self._topics = found
            self._join()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._closing:
            return  # librdkafka takes and gives back by itself; what it is asked now it may never answer
        if self._assigned is None or partitions:
            self._joined_at = time.monotonic()
        places = {place_of(partition) for partition in partitions}
        self._assigned = self._held | places
        self._assignments += 1
        self._tenures |= dict.fromkeys(places, self._assignments)
        if partitions and self._limits.start != "earliest":
            where = (self._limits.start, self._there_at_start, self._commits.add)
            partitions = patiently(partial(placed, self._consumer, partitions, *where), self._stop)
        consumer.incremental_assign(partitions)
        self._pauses.settle(partitions)
        self._hold_back(partitions)
        more = (
            f"nothing more, {len(self._assigned)} partitions are held" if self._assigned else "no partitions"
        )
        logger.info("assigned %s", names(partitions) if partitions else more)

    def _hold_back(self, partitions: list[TopicPartition]) -> None:
        """Take nothing more in this poll of what left and came back in it: all it has given of that is the former."""
        if any(place_of(partition) in self._gone for partition in partitions):
            self._pauses.pause(self._held)

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # What is pending was written, only its commit is not through; a batch in hand is no longer ours to commit.
        places = {place_of(partition) for partition in partitions}
        self._commits.finish(places)
        self._forget(places)
        logger.info("revoked %s", names(partitions))

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget({place_of(partition) for partition in partitions})
        logger.warning(
            "lost %s without notice: what was not committed comes again elsewhere", names(partitions)
        )

    def _on_commit(self, fault: Fault | None, answers: list[TopicPartition]) -> None:
        self._commits.heard(fault, answers)

    def _forget(self, places: set[Place]) -> None:
        self._assigned = self._held - places
        self._gone |= places
        self._pauses.forget(places)
        self._aside = [one for one in self._aside if (one.topic(), one.partition()) not in places]
        self._joined_at = time.monotonic()
        for place in places:
            self._next.pop(place, None)
            self._tenures.pop(place, None)
        self._commits.drop(places)
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
        self._pauses.resume(self._held)
        self._gone.clear()
        with asking("reading"):
            aside = self._set_aside()
            messages = [*aside, *self._gather(limit - len(aside), 0.0 if aside else linger_seconds)]
        batch = list(self._sound(messages))
        self._commits.send()
        self._listener.check()
        return batch

    def _sound(self, messages: Iterable[KafkaMessage]) -> Iterable[Message]:
        """Take what is a message; the rest tells of ends and faults.

        A message of a partition that went to others later in the same poll is theirs.
        """
        for message in messages:
            fault = message.error()
            if (message.topic(), message.partition()) in self._gone:
                continue
            if fault is None:
                yield self._take(message)
            elif fault.code() == Fault._PARTITION_EOF:
                self._finished.add((str(message.topic()), int(message.partition() or 0)))
            else:
                self._judge(fault)

    def _set_aside(self) -> list[KafkaMessage]:
        aside, self._aside = self._aside, []
        return aside

    def keep_alive(self) -> None:
        """Stay a member of the group while a batch is in hand: serve it, and take nothing.

        Raises
        ------
        KafkaError, ConfigurationError
            As `poll`.
        """
        self._pauses.pause(self._held)
        with asking("staying in the group"):
            message = self._consumer.poll(0.0)
        # Of a partition that has just come, before it could be paused: for the next poll.
        if message is not None:
            self._aside.append(message)
        self._listener.check()

    def holds(self, message: Message) -> bool:
        """Whether the message's partition is ours, without a break since it was taken."""
        return self._tenures.get((message.topic, message.partition)) == message.tenure

    def offsets(self, batch: Sequence[Message]) -> list[TopicPartition]:
        """Positions after a batch, for a transaction."""
        return listed(after(batch))

    def settled(self, batch: Sequence[Message]) -> None:
        """Note that a transaction has committed the offsets after `batch`."""
        self._commits.drop(after(batch))

    def stands_after(self, batch: Sequence[Message]) -> bool:
        """Whether the cluster has the offsets after `batch` for the group's.

        Raises
        ------
        Unavailable
            When it does not say.
        """
        expected = self.offsets(batch)
        places = [TopicPartition(one.topic, one.partition) for one in expected]
        try:
            found = committed(self._consumer, places)
        except KafkaError as error:
            raise Unavailable(str(error)) from error
        return all(one.offset >= wanted.offset for one, wanted in zip(found, expected, strict=True))

    def membership(self) -> Any:
        """Metadata of our membership, for a transaction: the coordinator refuses those who are members no more."""
        return self._consumer.consumer_group_metadata()

    def _judge(self, fault: Fault) -> None:
        """End on a fault of the stream that trying again cannot mend; tell of the others."""
        if fault.fatal() or fault.code() in REFUSALS:
            raise as_ours(fault, "reading")
        self._listener(fault)

    def _take(self, message: KafkaMessage) -> Message:
        place = str(message.topic()), int(message.partition() or 0)
        taken = as_message(message, self._tenures.get(place, 0))
        self._next[place] = taken.offset + 1
        return taken

    def commit(self, batch: Sequence[Message]) -> None:
        """Have the offsets after `batch` committed, in partitions still held.

        Raises
        ------
        KafkaError, ConfigurationError
            As `Commits.send`.
        """
        self._commits.add(after(message for message in batch if self.holds(message)))
        self._commits.send()

    @property
    def _held(self) -> set[Place]:
        return self._assigned or set()

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
            return time.monotonic() - self._joined_at >= self._kafka.membership.settle_seconds
        return all(
            place in self._finished or self._next.get(place, -1) >= self._ends.get(place, 0)
            for place in self._assigned
        )

    @property
    def silent_seconds(self) -> float:
        """How long no broker of the cluster has been connected, or a commit not answered."""
        return max(self._listener.silent_seconds, self._commits.unanswered_seconds)

    @property
    def lag(self) -> int:
        """Messages between our position and the ends last heard of, over the assigned partitions."""
        behind = 0
        for place, position in self._next.items():
            _, high = watermarks(self._consumer, place, cached=True)
            behind += max(0, high - position)
        return behind

    def close(self) -> None:
        """Commit what is pending and leave the group.

        Raises
        ------
        KafkaError, ConfigurationError
            When that commit was refused, unless something else is on its way that ends the program.
        """
        self._closing = True
        try:
            self._commits.finish_all()
        finally:
            # Seen once not to come back, where partitions came and went in the same moment.
            with contextlib.suppress(TimeoutError):
                watched(self._consumer.close, CLOSE_SECONDS, lambda: None)
        if sys.exc_info()[0] is None:
            self._commits.check()
