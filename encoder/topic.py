"""Alerts of a Kafka topic as if they were files: all there is at start, nothing committed."""

import threading
from collections.abc import Iterator
from pathlib import Path

from broker.kafka.reader import KafkaReader
from broker.packet_files import Packet
from broker.settings import ConsumerSettings, SourceSettings, checked, load
from broker.topics import Topics

BATCH, LINGER_SECONDS = 256, 0.5

NO_GROUP = "nightjar-encoder"
"""Kafka asks for a group's name even of readers without one; nothing is ever stored under it."""


def topic_packets(topic: str, servers: str | None = None, config: Path | None = None) -> Iterator[Packet]:
    """Read a topic from its beginning to the end it has now.

    Parameters
    ----------
    topic : str
    servers : str, optional
        ``host:port``, in place of that of ``config``.
    config : Path, optional
        YAML as ``broker-consumer`` takes it: cluster and security of its section ``kafka``.

    Raises
    ------
    SettingsError
        What is given cannot work, or the topic is not there.
    """
    settings = load({"topics": [topic], "topic_pattern": ""}, config)
    kafka = checked(
        SourceSettings,
        {
            "bootstrap_servers": servers or settings.kafka.bootstrap_servers,
            "security": settings.kafka.security,
            "group_id": NO_GROUP,
            "extra": settings.kafka.extra,
        },
    )
    patience = settings.consumer.model_dump(include={"connect_seconds", "topic_seconds"})
    limits = checked(ConsumerSettings, {**patience, "start": "earliest", "exit_at_end": True})
    source = KafkaReader(kafka, limits, Topics((topic,)), threading.Event())
    try:
        while True:
            for message in source.poll(BATCH, LINGER_SECONDS):
                where = f"{message.topic}[{message.partition}] offset {message.offset}"
                yield Packet(where, message.value or b"")
            if source.at_end:
                return
    finally:
        source.close()
