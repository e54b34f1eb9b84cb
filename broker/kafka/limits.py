"""How large a record each topic takes."""

from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource

from broker.kafka.connection import MAX_MESSAGE_BYTES

ASKING_SECONDS = 5.0


def size_limits(connection: Mapping[str, Any], topics: Sequence[str]) -> dict[str, int]:
    """Ask for ``max.message.bytes`` of topics.

    Parameters
    ----------
    connection : mapping
        Properties by which the cluster is reached.
    topics : sequence of str

    Returns
    -------
    dict of str to int
        Bytes, at most what we send; that too where the cluster does not tell us, as for want of the right to ask: what
        a topic then refuses is found out record by record.
    """
    admin = AdminClient(dict(connection))
    asked = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]
    answers = admin.describe_configs(asked, request_timeout=ASKING_SECONDS)
    return {resource.name: _limit(future) for resource, future in answers.items()}


def _limit(future: Any) -> int:
    try:
        found = int(future.result(ASKING_SECONDS)["max.message.bytes"].value)
    except (KafkaException, KeyError, TimeoutError):
        return MAX_MESSAGE_BYTES
    return min(found, MAX_MESSAGE_BYTES)
