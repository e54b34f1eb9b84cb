"""Kafka's things in our own terms."""

import logging
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from broker.alert import Message
from broker.kafka.faults import as_ours

Place: TypeAlias = tuple[str, int]
"""Topic and partition."""

_HEADERS = operator.methodcaller("headers")
"""So the interpreter sees an error that comes beside an answer; a hot call of the method itself goes on with both."""

logger = logging.getLogger("broker.kafka")


@contextmanager
def asking(doing: str) -> Iterator[None]:
    """Turn what librdkafka raises into an error of our tree."""
    try:
        yield
    except KafkaException as error:
        raise as_ours(error.args[0], doing) from error


def as_message(message: KafkaMessage, tenure: int = 0) -> Message:
    """Put a Kafka message, taken in one of our times of holding its partition, in our own terms."""
    kind, timestamp = message.timestamp()
    return Message(
        value=message.value(),
        topic=str(message.topic()),
        partition=int(message.partition() or 0),
        offset=int(message.offset() or 0),
        key=message.key(),
        headers=headers_of(message),
        timestamp_ms=None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp,
        tenure=tenure,
    )


def headers_of(message: KafkaMessage) -> tuple[tuple[str, bytes | None], ...]:
    """Headers in their order; none where the name of one is no UTF-8, which Kafka does not ask for."""
    try:
        headers = _HEADERS(message) or []
    except (SystemError, UnicodeDecodeError) as error:
        message.set_headers([])  # asked once more, confluent_kafka 2.16 would bring the process down
        place = f"{message.topic()}[{message.partition()}] offset {message.offset()}"
        logger.warning(
            "%s: headers left aside, the name of one is no text: %s", place, error.__cause__ or error
        )
        return ()
    return tuple(
        (name, value.encode() if isinstance(value, str) else value)
        for name, value in (headers.items() if isinstance(headers, dict) else headers)
    )


def place_of(partition: TopicPartition) -> Place:
    """Where a partition stands."""
    return partition.topic, partition.partition


def names(partitions: list[TopicPartition]) -> str:
    """Partitions as a log shows them."""
    return ", ".join(f"{p.topic}[{p.partition}]" for p in partitions) or "no partitions"
