"""Messages from Kafka without a group: every partition, nothing committed, nobody disturbed."""

from collections.abc import Sequence
from datetime import datetime

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, TopicPartition
from confluent_kafka import KafkaError as Fault

from broker.alert import Message
from broker.kafka.offsets import at_time, places_of
from broker.kafka.source import KafkaSource


class KafkaReader(KafkaSource):
    """A source that takes every partition of its topics for itself, from the start it was given."""

    def _join(self) -> None:
        partitions = [
            TopicPartition(topic, partition) for topic, partition in places_of(self._consumer, self._topics)
        ]
        self._consumer.assign(self._placed(partitions))
        self._assigned = {(partition.topic, partition.partition) for partition in partitions}

    def _placed(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        start = self._limits.start
        if isinstance(start, datetime):
            return at_time(self._consumer, partitions, start)
        for partition in partitions:
            partition.offset = OFFSET_BEGINNING if start == "earliest" else OFFSET_END
        return partitions

    def _judge(self, fault: Fault) -> None:
        """Let librdkafka look in vain for the coordinator of a group that nobody joins: no right to it is needed."""
        if fault.code() != Fault.GROUP_AUTHORIZATION_FAILED:
            super()._judge(fault)

    def commit(self, batch: Sequence[Message]) -> None:
        """Keep nothing: the next reader begins where it is told."""
