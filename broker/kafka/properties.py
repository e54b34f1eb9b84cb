"""What librdkafka is told of its two kinds of client; `broker-consumer --check` tries the same."""

from typing import Any

from broker.kafka.connection import MAX_MESSAGE_BYTES, connection
from broker.settings import Security, SinkSettings, SourceSettings

QUEUE_KBYTES = 262_144
"""Size of the producer's queue; one of 32 MB was measured slower than this one."""

FULL_QUEUE_MS = 10
"""Time until a partition is fetched again whose messages fill the consumer's queue. Its 64 MiB, 570 Rubin alerts, last
for less than librdkafka's second, then nothing comes: 930 alerts/s at most, 1,609 with this (docs/performance.md)."""

FOR_EVER = 0
"""``message.timeout.ms`` of a sink that someone waits with: librdkafka goes on trying, in order."""


def of_consumer(kafka: SourceSettings) -> dict[str, Any]:
    """Give the properties of a member of a group.

    Raises
    ------
    SettingsError
        When the password's file cannot be read.
    """
    return {
        "fetch.message.max.bytes": MAX_MESSAGE_BYTES,
        "fetch.max.bytes": 5 * MAX_MESSAGE_BYTES,
        "queued.max.messages.kbytes": 65_536,
        "fetch.queue.backoff.ms": FULL_QUEUE_MS,
        **kafka.extra,
        **connection(kafka.bootstrap_servers, kafka.security),
        **kafka.membership.properties(),
        "group.id": kafka.group_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        # Of offsets that retention has overtaken: what is left of the alerts is read, whatever `start` says.
        "auto.offset.reset": "earliest",
    }


def of_producer(servers: str, security: Security, sink: SinkSettings, *, patient: bool) -> dict[str, Any]:
    """Give the properties of an idempotent producer.

    Parameters
    ----------
    servers : str
    security : Security
    sink : SinkSettings
    patient : bool
        Whether a record waits for ever; else for `SinkSettings.delivery_seconds`.

    Raises
    ------
    SettingsError
        When the password's file cannot be read.
    """
    return {
        "queue.buffering.max.kbytes": QUEUE_KBYTES,
        "queue.buffering.max.messages": 100_000,
        # How long a missing topic may still be on its way; the default of 30 s delays the error for nothing.
        "topic.metadata.propagation.max.ms": 5000,
        "message.timeout.ms": FOR_EVER if patient else int(sink.delivery_seconds * 1000),
        **sink.extra,
        "acks": "all",
        "enable.idempotence": True,
        # The Java clients' choice: a key lands in the same partition whoever writes it.
        "partitioner": "murmur2_random",
        "compression.type": sink.compression,
        "message.max.bytes": MAX_MESSAGE_BYTES,
        **connection(servers, security),
    }
