"""Records to Kafka: a write returns when every record is acknowledged, or raises."""

# ruff: noqa: SLF001 -- the names of librdkafka's own codes begin with an underscore

import contextlib
import functools
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException, Producer
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient

from broker.alert import Record
from broker.errors import ConfigurationError, KafkaError, SettingsError, TooLarge, TooSlow, Unavailable
from broker.kafka.connection import (
    MAX_MESSAGE_BYTES,
    METADATA_SECONDS,
    Listener,
    await_broker,
    client,
    connection,
    is_embedded,
    look,
    of_connection,
)
from broker.kafka.faults import MISSING_TOPIC, NEVER_TAKEN, OF_THE_PRODUCER, REFUSALS, TOO_LARGE, as_ours
from broker.kafka.limits import is_compacted, size_limit, topic_settings
from broker.kafka.properties import of_producer
from broker.settings import Security, SinkSettings
from broker.topics import how_to_make

PARTITION_UA = -1
"""librdkafka's: the partitioner chooses."""

SLICE_SECONDS = 0.2
"""Longest wait inside librdkafka, so that signal handlers get their turn."""

BATCH_BYTES = 4_000_000
"""Of a batch where all topics say that they take as much, less where one takes less: a fifth less processor time of
both ends than with librdkafka's own million, which stays where one does not tell (docs/performance.md)."""


logger = logging.getLogger("broker.kafka")


@dataclass
class Flight:
    """Records of one write that are on their way; reports on those of an earlier one that was given up go to it.

    Attributes
    ----------
    waiting : int
        Not yet reported on.
    failures : dict of int to KafkaError
        Fault by the number of the record.
    places : dict of (str, int) to list of int
        Numbers of the records by the partition they were meant for, acknowledged or not.
    """

    waiting: int = 0
    failures: dict[int, Fault] = field(default_factory=dict)
    places: dict[tuple[str, int], list[int]] = field(default_factory=lambda: defaultdict(list))

    def landed(self, number: int, fault: Fault | None, message: KafkaMessage) -> None:
        """Take a report, as librdkafka's ``on_delivery``."""
        self.waiting -= 1
        topic, partition = message.topic(), message.partition()
        if topic is not None and partition is not None and partition >= 0:
            self.places[topic, partition].append(number)
        if fault is not None:
            self.failures[number] = fault


class KafkaSink:
    """An idempotent producer that waits.

    Parameters
    ----------
    bootstrap_servers : str
    security : Security
    settings : SinkSettings
    connect_seconds : float
        How long to look for a broker.
    stop : threading.Event
        Breaks off that search.
    on_wait : callable, optional
        Told a few times a second what a write waits for. With it a write waits for ever, and what it is told may
        raise; without it a write ends after `SinkSettings.delivery_seconds`.

    Raises
    ------
    KafkaError
        When no broker answers in time.
    ConfigurationError
        When the cluster refuses us, or librdkafka a setting.
    """

    _all_or_none = False

    def __init__(
        self,
        bootstrap_servers: str,
        security: Security,
        settings: SinkSettings,
        *,
        connect_seconds: float,
        stop: threading.Event,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        self._listener = Listener("sink")
        self._flight = Flight()
        self._stop = stop
        self._on_wait = on_wait
        self._servers, self._security = bootstrap_servers, security
        self._settings = settings
        self._batches: dict[str, int] = {}
        self._properties: dict[str, Any] = {}
        self._producer = self._new_producer()
        await_broker(self._producer, self._listener, bootstrap_servers, connect_seconds, stop)

    def _new_producer(self) -> Producer:
        owned = self._batches | self._owned()
        self._properties = self._read_properties()
        return client(Producer, self._properties | owned, self._listener, self._security)

    def _read_properties(self) -> dict[str, Any]:
        """Read them anew each time: a password may have changed in its file, which may just be written."""
        patient = self._on_wait is not None
        try:
            return of_producer(self._servers, self._security, self._settings, patient=patient)
        except SettingsError as error:
            if not self._properties:
                raise
            logger.warning("sink: %s; going on with what was read before", error.cause)
            return self._properties

    def _owned(self) -> dict[str, Any]:
        """Give what a kind of sink adds to the properties."""
        return {}

    def require(self, topics: Sequence[str], seconds: float) -> Mapping[str, int]:
        """See that topics are there to write to.

        A cluster that makes topics by itself is not led to: it would give them partitions and limits of its own
        choice. Only an embedded Kafka is, as it makes them in no other way.

        Returns
        -------
        mapping of str to int
            Bytes of the largest record each takes.

        Raises
        ------
        SettingsError
            When one is still missing after `seconds`.
        KafkaError
            When the cluster has not said in that time that it is there.
        ConfigurationError
            When we may not write to it.
        """
        deadline = time.monotonic() + seconds
        for topic in topics:
            while (fault := self._fault_of(topic)) is not None and not self._stop.is_set():
                if fault.code() in REFUSALS:
                    raise as_ours(fault, f"looking for topic {topic}")
                if time.monotonic() >= deadline:
                    raise self._not_there(topic, fault, topics, seconds)
                self._stop.wait(SLICE_SECONDS)
        told = self._told(topics)
        self._fit_batches(told.values())
        # What one that does not tell refuses is found as it comes.
        return {topic: min(limit or MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES) for topic, limit in told.items()}

    def _told(self, topics: Sequence[str]) -> dict[str, int | None]:
        """Bytes each topic takes, as far as it tells."""
        metadata = look(self._producer)
        if metadata is None:
            return dict.fromkeys(topics)
        properties = of_connection(self._settings.extra) | connection(self._servers, self._security)
        found = topic_settings(client(AdminClient, properties, self._listener), metadata, topics)
        for topic, settings in found.items():
            if is_compacted(settings):
                raise SettingsError(
                    f"topic {topic}, to write to, is compacted: of each object only the last record would be kept",
                    "set its cleanup.policy to delete",
                )
        return {topic: size_limit(found[topic]) for topic in topics}

    def _fit_batches(self, told: Iterable[int | None]) -> None:
        """Begin again with batches that every topic takes, where all of them tell: it measures batches, not records."""
        limits = [BATCH_BYTES, *(0 if limit is None else limit for limit in told)]
        if (size := min(limits)) > 0 and "batch.size" not in self._settings.extra:
            self._batches = {"batch.size": size}
            self._renew()

    def _renew(self) -> None:
        """Put a new producer in the place of one that cannot go on."""
        with contextlib.suppress(KafkaException):  # one that was put out refuses even this
            self._producer.purge()
            self._producer.flush(SLICE_SECONDS)
        self._producer = self._new_producer()

    def _fault_of(self, topic: str) -> Fault | None:
        """Tell what is the matter with a topic; one that is asked for by its name may be made by that."""
        try:
            there = self._producer.list_topics(timeout=METADATA_SECONDS)
            if topic not in there.topics and is_embedded(there):
                there = self._producer.list_topics(topic, METADATA_SECONDS)
        except KafkaException as error:
            fault: Fault = error.args[0]
            return fault
        found = there.topics.get(topic)
        return Fault(Fault.UNKNOWN_TOPIC_OR_PART) if found is None else found.error

    def _not_there(
        self, topic: str, fault: Fault, topics: Sequence[str], seconds: float
    ) -> KafkaError | ConfigurationError:
        """Tell a topic that nobody made from one of which the cluster cannot say so at the moment."""
        if fault.code() in MISSING_TOPIC:
            return SettingsError(
                f"topic {topic}, to write to, does not exist ({', '.join(topics)} are needed)",
                f"{how_to_make(topic, self._servers)}, or correct --output-prefix",
            )
        return KafkaError(
            f"the cluster did not say within {seconds:g} s that topic {topic}, to write to, is there: {fault.str()}",
            "see that all of its brokers are up",
        )

    def write(self, records: Sequence[Record]) -> None:
        """Publish records and wait until each is acknowledged.

        Raises
        ------
        Unavailable
            When some are not, for a cause that passes.
        TooLarge
            When some are too large for their topic, and the others were written.
        KafkaError
            When any of them was not: nothing may be committed then.
        ConfigurationError
            When the cluster refuses us.
        """
        flight = self._flight = Flight()
        for number, record in enumerate(records):
            self._produce(number, record)
        while flight.waiting:
            self._wait()
        if flight.failures:
            self._hear()  # a producer that has failed for good takes nothing more, and does not say there why
            raise self._refusal(records)

    def _hear(self, seconds: float = 0.0) -> None:
        """Have acknowledgements and faults told, for so long at most."""
        try:
            self._producer.flush(seconds)
        except KafkaException as error:
            raise self._broken(error.args[0], "writing") from error
        self._listener.check()

    def _wait(self) -> None:
        self._hear(SLICE_SECONDS)
        if self._flight.waiting and self._on_wait is not None:
            self._on_wait(self._listener.last or "no acknowledgement yet")

    def _broken(self, fault: Fault, doing: str) -> KafkaError | ConfigurationError:
        """Begin anew where a producer cannot go on; what of its records was acknowledged is not known."""
        if fault.code() in OF_THE_PRODUCER:
            return as_ours(fault, doing)
        self._renew()
        return Unavailable(f"{doing}: {fault.str()}")

    def _produce(self, number: int, record: Record, partition: int = PARTITION_UA) -> None:
        while True:
            try:
                self._producer.produce(
                    record.topic,
                    value=record.value,
                    key=record.key,
                    partition=partition,
                    headers=list(record.headers),
                    on_delivery=functools.partial(self._flight.landed, number),
                    timestamp=record.timestamp_ms or 0,  # 0 is now, to librdkafka
                )
            except BufferError:  # the queue is full: wait for acknowledgements, then offer it again
                self._hear(SLICE_SECONDS)
                if self._on_wait is not None:
                    self._on_wait("the producer's queue is full")
            except KafkaException as error:
                self._flight.failures[number] = error.args[0]
                return
            else:
                self._flight.waiting += 1
                return

    def _refusal(self, records: Sequence[Record]) -> KafkaError | ConfigurationError:
        first, fault = next(iter(sorted(self._flight.failures.items())))
        topic = records[first].topic
        what = (
            f"{len(self._flight.failures)} of {len(records)} records were not written, the first to {topic}: "
            f"{fault.str()}"
        )
        codes = {one.code() for one in self._flight.failures.values()}
        if refused := codes & REFUSALS.keys():
            return ConfigurationError(f"{what}: {REFUSALS[min(refused)]}")
        if codes & MISSING_TOPIC:
            return SettingsError(what, how_to_make(topic, self._servers))
        # In a transaction one that is too large takes the others with it, under codes of their own.
        if codes <= TOO_LARGE or (self._all_or_none and codes & TOO_LARGE):
            advice = f"raise max.message.bytes of the topic (we send up to {MAX_MESSAGE_BYTES})"
            return TooLarge(f"{what}: {advice}", sorted(self._flight.failures))
        if codes & NEVER_TAKEN:
            return KafkaError(f"{what}: correct the settings of the topic, see broker-topics")
        if any(one.fatal() for one in self._flight.failures.values()) or Fault._FATAL in codes:
            self._renew()
        slow = self._all_or_none and Fault._MSG_TIMED_OUT in codes
        return (TooSlow if slow else Unavailable)(what, sorted(self._flight.failures))

    def close(self) -> None:
        """Drop the connection; `write` has left nothing behind."""
        self._producer.flush(SLICE_SECONDS)
