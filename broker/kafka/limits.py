"""How large a record each topic takes."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._metadata import ClusterMetadata

SIZE = "max.message.bytes"

ASKING_SECONDS = 5.0


def size_limits(
    admin: AdminClient, metadata: ClusterMetadata, topics: Sequence[str]
) -> dict[str, int | None]:
    """Ask for ``max.message.bytes`` of topics.

    Parameters
    ----------
    admin : AdminClient
    metadata : ClusterMetadata
        Of the cluster; one without a controller, as librdkafka's mock, is not asked: it would not answer.
    topics : sequence of str

    Returns
    -------
    dict of str to (int or None)
        Bytes; None where the cluster does not tell, as for want of the right to ask.
    """
    if not topics or metadata.controller_id not in metadata.brokers:
        return dict.fromkeys(topics)
    asked = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]
    answers = admin.describe_configs(asked, request_timeout=ASKING_SECONDS)
    return {resource.name: _limit(future) for resource, future in answers.items()}


def _limit(future: "Future[Any]") -> int | None:
    try:
        return int(future.result(ASKING_SECONDS + 1)[SIZE].value)
    except (KafkaException, TimeoutError):
        return None
