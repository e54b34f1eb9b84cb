"""How far a consumer group has come, seen from outside the group."""

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaException, TopicPartition

from broker.errors import KafkaError
from broker.kafka.connection import Listener, client, connection
from broker.settings import Plaintext

REQUEST_SECONDS = 10.0


class GroupProgress:
    """Asks for the committed offsets of a group without joining it.

    Parameters
    ----------
    consumer : confluent_kafka.Consumer
        Configured with the group's id and subscribed to nothing.
    topic : str
    """

    def __init__(self, consumer: Consumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic

    def committed(self) -> int:
        """Messages the group has committed, over all partitions of a topic that begins at offset 0.

        Raises
        ------
        KafkaError
            When the cluster does not answer.
        """
        try:
            topics = self._consumer.list_topics(self._topic, timeout=REQUEST_SECONDS).topics
            partitions = [TopicPartition(self._topic, number) for number in topics[self._topic].partitions]
            offsets = self._consumer.committed(partitions, timeout=REQUEST_SECONDS)
        except KafkaException as error:
            raise KafkaError(
                f"no committed offsets of topic {self._topic}: {error.args[0].str()}: is Kafka still there?"
            ) from error
        # Where nothing is committed the offset is negative.
        return sum(max(0, partition.offset) for partition in offsets)


@contextmanager
def group_progress(bootstrap_servers: str, group_id: str, topic: str) -> Iterator[GroupProgress]:
    """Open a look at a group's progress on one topic."""
    properties = {
        **connection(bootstrap_servers, Plaintext()),
        "group.id": group_id,
        "enable.auto.commit": False,
    }
    consumer = client(Consumer, properties, Listener("progress"))
    try:
        yield GroupProgress(consumer, topic)
    finally:
        consumer.close()
