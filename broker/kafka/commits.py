"""Offsets of a group on their way to the cluster."""

import logging
import time
from collections.abc import Collection, Iterable

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka import KafkaError as Fault

from broker.alert import Message
from broker.backoff import delays
from broker.kafka.faults import LOST_TO_OTHERS, OF_THE_MOMENT, as_ours
from broker.kafka.terms import Place, place_of

logger = logging.getLogger("broker.kafka")


def after(batch: Iterable[Message]) -> dict[Place, int]:
    """Offset that follows a batch, for each partition of it."""
    return {(message.topic, message.partition): message.offset + 1 for message in batch}


def listed(offsets: dict[Place, int]) -> list[TopicPartition]:
    """Offsets as librdkafka takes them."""
    return [TopicPartition(*place, offset) for place, offset in offsets.items()]


class Commits:
    """What is still to be committed; a commit that fails for the moment is made again.

    Parameters
    ----------
    consumer : Consumer
    """

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._pending: dict[Place, int] = {}
        self._waits = delays()
        self._due = 0.0

    def add(self, offsets: dict[Place, int]) -> None:
        """Have these committed with the next."""
        self._pending |= offsets

    def drop(self, places: Collection[Place]) -> None:
        """Commit nothing there: it was done in a transaction, or is for others to do."""
        for place in places:
            self._pending.pop(place, None)

    def send(self, places: Collection[Place] | None = None) -> None:
        """Commit what is pending, there or everywhere, and wait for the answer.

        A commit that the group refuses is logged: the messages come again to whoever holds the partition.
        One that fails for the moment stays pending.

        Raises
        ------
        KafkaError, ConfigurationError
            When Kafka refuses for any other cause.
        """
        offsets = {p: at for p, at in self._pending.items() if places is None or p in places}
        if not offsets:
            return
        try:
            answers = self._consumer.commit(offsets=listed(offsets), asynchronous=False)
        except KafkaException as error:
            self._failed(error.args[0])
            return
        for answer in answers or ():
            if answer.error is None:
                self._pending.pop(place_of(answer), None)
            else:
                self._failed(answer.error)
        if not self._pending:
            self._waits = delays()

    def again(self) -> None:
        """Commit what is pending once its wait is over: no message may come whose commit would carry it."""
        if self._pending and time.monotonic() >= self._due:
            self.send()

    def _failed(self, fault: Fault) -> None:
        if fault.code() in LOST_TO_OTHERS | OF_THE_MOMENT or fault.retriable():
            logger.warning("commit not taken (%s): these alerts may come again", fault.str())
            self._due = time.monotonic() + next(self._waits)
            return
        raise as_ours(fault, "committing offsets")
