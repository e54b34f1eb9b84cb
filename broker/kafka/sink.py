"""Records to Kafka: a write returns when every record is acknowledged, or raises."""

# ruff: noqa: SLF001 -- the names of librdkafka's own codes begin with an underscore

import threading
import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException, Producer
from confluent_kafka import Message as KafkaMessage

from broker.alert import Record
from broker.errors import ConfigurationError, KafkaError, SettingsError
from broker.kafka.connection import (
    MAX_MESSAGE_BYTES,
    METADATA_SECONDS,
    Listener,
    await_broker,
    client,
    connection,
)
from broker.kafka.faults import REFUSALS, as_ours
from broker.settings import Security, SinkSettings

QUEUE_KBYTES = 262_144
"""Size of the producer's queue; one of 32 MB was measured slower than this one."""

SLICE_SECONDS = 0.2
"""Longest wait inside librdkafka, so that signal handlers get their turn."""


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

    Raises
    ------
    KafkaError
        When no broker answers in time.
    ConfigurationError
        When the cluster refuses us, or librdkafka a setting.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        security: Security,
        settings: SinkSettings,
        *,
        connect_seconds: float,
        stop: threading.Event,
    ) -> None:
        self._listener = Listener("sink")
        self._failures: list[tuple[str, Fault]] = []
        self._waiting = 0
        self._stop = stop
        self._producer = client(
            Producer, _properties(bootstrap_servers, security, settings), self._listener, security
        )
        await_broker(self._producer, self._listener, bootstrap_servers, connect_seconds, stop)

    def require(self, topics: Sequence[str], seconds: float) -> None:
        """See that topics are there to write to; a cluster that makes topics by itself makes them now.

        Raises
        ------
        SettingsError
            When one is still missing after `seconds`.
        ConfigurationError
            When we may not write to it.
        """
        deadline = time.monotonic() + seconds
        for topic in topics:
            while (fault := self._fault_of(topic)) is not None and not self._stop.is_set():
                if fault.code() in REFUSALS:
                    raise as_ours(fault, f"looking for topic {topic}")
                if time.monotonic() >= deadline:
                    raise SettingsError(
                        f"topic {topic}, to write to, does not exist, and this cluster does not make topics by "
                        f"itself ({', '.join(topics)} are needed): create it, or correct --output-prefix"
                    )
                self._stop.wait(SLICE_SECONDS)

    def _fault_of(self, topic: str) -> Fault | None:
        fault: Fault | None
        try:
            fault = self._producer.list_topics(topic, METADATA_SECONDS).topics[topic].error
        except KafkaException as error:
            fault = error.args[0]
        return fault

    def write(self, records: Sequence[Record]) -> None:
        """Publish records and wait until each is acknowledged.

        Raises
        ------
        KafkaError
            When any of them was not: nothing may be committed then.
        ConfigurationError
            When the cluster refuses us.
        """
        self._failures = []
        self._waiting = 0
        for record in records:
            self._produce(record)
        while self._waiting:
            self._producer.flush(SLICE_SECONDS)
            self._listener.check()
        if self._failures:
            raise self._refusal(len(records))

    def _produce(self, record: Record) -> None:
        while True:
            try:
                self._producer.produce(
                    record.topic,
                    value=record.value,
                    key=record.key,
                    headers=list(record.headers),
                    on_delivery=self._delivered,
                    timestamp=record.timestamp_ms or 0,  # 0 is now, to librdkafka
                )
            except BufferError:  # the queue is full: wait for acknowledgements, then offer it again
                self._producer.poll(SLICE_SECONDS)
                self._listener.check()
            except KafkaException as error:
                self._failures.append((record.topic, error.args[0]))
                return
            else:
                self._waiting += 1
                return

    def _delivered(self, fault: Fault | None, message: KafkaMessage) -> None:
        self._waiting -= 1
        if fault is not None:
            self._failures.append((str(message.topic()), fault))

    def _refusal(self, total: int) -> KafkaError | ConfigurationError:
        topic, fault = self._failures[0]
        what = (
            f"{len(self._failures)} of {total} records were not written, the first to {topic}: {fault.str()}"
        )
        if fault.code() in REFUSALS:
            return ConfigurationError(f"{what}: {REFUSALS[fault.code()]}")
        if fault.code() == Fault.MSG_SIZE_TOO_LARGE:
            what += f": raise max.message.bytes of the topic (we send up to {MAX_MESSAGE_BYTES})"
        if fault.code() in {Fault.UNKNOWN_TOPIC_OR_PART, Fault._UNKNOWN_TOPIC}:
            what += ": create the topic; this cluster does not make topics by itself"
        return KafkaError(what)

    def close(self) -> None:
        """Drop the connection; `write` has left nothing behind."""
        self._producer.flush(SLICE_SECONDS)


def _properties(bootstrap_servers: str, security: Security, settings: SinkSettings) -> dict[str, Any]:
    return {
        "queue.buffering.max.kbytes": QUEUE_KBYTES,
        "queue.buffering.max.messages": 100_000,
        # How long a missing topic may still be on its way; the default of 30 s delays the error for nothing.
        "topic.metadata.propagation.max.ms": 5000,
        "message.timeout.ms": int(settings.delivery_seconds * 1000),
        **settings.extra,
        **connection(bootstrap_servers, security),
        "acks": "all",
        "enable.idempotence": True,
        # The Java clients' choice: a key lands in the same partition whoever writes it.
        "partitioner": "murmur2_random",
        "compression.type": settings.compression,
        "message.max.bytes": MAX_MESSAGE_BYTES,
    }
