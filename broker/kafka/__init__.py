"""Kafka: the source, the sink and an embedded cluster; the only import of confluent_kafka."""

from broker.kafka.embedded import EmbeddedKafka
from broker.kafka.reader import KafkaReader
from broker.kafka.sink import KafkaSink
from broker.kafka.source import KafkaSource
from broker.kafka.transactions import KafkaTransactions

__all__ = ["EmbeddedKafka", "KafkaReader", "KafkaSink", "KafkaSource", "KafkaTransactions"]
