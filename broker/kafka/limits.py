"""What a topic takes: how large a record, and whether old ones make room for new."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._metadata import ClusterMetadata

from broker.kafka.connection import is_embedded

SIZE, CLEANUP = "max.message.bytes", "cleanup.policy"

ASKING_SECONDS = 5.0


def topic_settings(
    admin: AdminClient, metadata: ClusterMetadata, topics: Sequence[str]
) -> dict[str, Mapping[str, str] | None]:
    """Ask for the settings of topics.

    Parameters
    ----------
    admin : AdminClient
    metadata : ClusterMetadata
        Of the cluster; an embedded Kafka is not asked: it would not answer.
    topics : sequence of str

    Returns
    -------
    dict of str to (mapping of str to str, or None)
        None where the cluster does not tell, as for want of the right to ask.
    """
    if not topics or is_embedded(metadata):
        return dict.fromkeys(topics)
    asked = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]
    answers = admin.describe_configs(asked, request_timeout=ASKING_SECONDS)
    return {resource.name: _settings(future) for resource, future in answers.items()}


def size_limit(settings: Mapping[str, str] | None) -> int | None:
    """Bytes of the largest record a topic takes, by its settings; None where they do not say."""
    size = (settings or {}).get(SIZE)
    return None if size is None else int(size)


def is_compacted(settings: Mapping[str, str] | None) -> bool:
    """Whether a topic keeps but the last record of each key, by its settings as far as they are told."""
    return "compact" in (settings or {}).get(CLEANUP, "")


def _settings(future: "Future[Any]") -> Mapping[str, str] | None:
    try:
        return {name: str(entry.value) for name, entry in future.result(ASKING_SECONDS + 1).items()}
    except (KafkaException, TimeoutError):
        return None
