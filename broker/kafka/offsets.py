"""Questions to a cluster about offsets: ends, commits, times."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from confluent_kafka import Consumer, TopicPartition

from broker.errors import KafkaError
from broker.kafka.faults import as_ours
from broker.kafka.terms import Place, asking, names, place_of

REQUEST_SECONDS = 10.0
"""One question to the cluster."""

PATIENCE_SECONDS = 60.0
"""One that must be answered before anything is read: three times as long as a transaction that was left may last."""

PAUSE_SECONDS = 1.0

Answer = TypeVar("Answer")

logger = logging.getLogger("broker.kafka")


def places_of(consumer: Consumer, topics: Sequence[str]) -> list[Place]:
    """List every partition there is, ours and others': they may become ours."""
    with asking("listing partitions"):
        found = [consumer.list_topics(topic, timeout=REQUEST_SECONDS) for topic in topics]
    return [
        (topic, partition)
        for topic, metadata in zip(topics, found, strict=True)
        for partition in metadata.topics[topic].partitions
    ]


def watermarks(consumer: Consumer, place: Place, *, cached: bool = False) -> tuple[int, int]:
    """First offset of a partition, and the one after its last."""
    with asking(f"asking for the end of {place[0]}[{place[1]}]"):
        return consumer.get_watermark_offsets(TopicPartition(*place), REQUEST_SECONDS, cached=cached)


def committed(consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
    """Ask what the group has committed; an offset is negative where it is nothing."""
    with asking("asking for committed offsets"):
        found: list[TopicPartition] = consumer.committed(partitions, timeout=REQUEST_SECONDS)
    for partition in found:
        if partition.error is not None:  # not the same as nothing committed
            raise as_ours(partition.error, f"asking for the committed offset of {names([partition])}")
    return found


def at_time(consumer: Consumer, partitions: list[TopicPartition], start: datetime) -> list[TopicPartition]:
    """Ask for the first offset from a time on; where there is no message yet, that is the end."""
    # Before the question: what comes between it and its answer is from then on too.
    ends = {place_of(partition): watermarks(consumer, place_of(partition))[1] for partition in partitions}
    milliseconds = int(start.timestamp() * 1000)
    asked = [TopicPartition(partition.topic, partition.partition, milliseconds) for partition in partitions]
    with asking(f"asking for offsets at {start}"):
        found: list[TopicPartition] = (
            consumer.offsets_for_times(asked, timeout=REQUEST_SECONDS) if asked else []
        )
    later = [partition for partition in found if partition.offset < 0]
    if later:
        # Kafka answers so where no message is that young; librdkafka's mock cluster always does.
        logger.warning("%s: no message from %s on; reading begins at the end", names(later), start)
    for partition in later:
        partition.offset = ends[place_of(partition)]
    return found


def patiently(question: Callable[[], Answer], stop: threading.Event) -> Answer:
    """Ask again where the cluster does not answer: a coordinator that moves, or offsets in a transaction still open.

    Raises
    ------
    KafkaError
        When it has not answered in `PATIENCE_SECONDS`, or we are told to stop.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return question()
        except KafkaError as error:
            if time.monotonic() >= deadline or stop.is_set():
                raise
            logger.warning("%s; asking again", error.cause)
            stop.wait(PAUSE_SECONDS)
