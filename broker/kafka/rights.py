"""What a cluster lets us do, asked at start: a right that is missing is told before anything is read.

What cannot be asked is idempotent writing: WRITE on a topic implies it since Kafka 2.8, so that its absence from the
cluster's rights means nothing. It is found when it is used, and `broker.kafka.faults` has its remedy.
"""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._metadata import ClusterMetadata

from broker.errors import ConfigurationError, SettingsError
from broker.kafka.connection import is_embedded
from broker.kafka.ends import ANY_FRESH, TRANSACTIONAL_ID, End, Right, ends
from broker.kafka.transactional_ids import fresh, may_use
from broker.settings import Settings

REQUEST_SECONDS = 4.0
"""Longest wait for one answer."""

DENIED = {Fault.TOPIC_AUTHORIZATION_FAILED, Fault.GROUP_AUTHORIZATION_FAILED}
"""How a cluster answers whom it does not even let look."""

INSTEAD = {
    "group": "or choose another group_id",
    TRANSACTIONAL_ID: "or set sink.transactional_id to one that is granted "
    f"({ANY_FRESH}, the default, takes a PREFIXED ACL)",
}
"""What else can be done where the right to something is missing."""

logger = logging.getLogger("broker.kafka")


def require(settings: Settings, stop: threading.Event) -> None:
    """See that we may do all that the consumer will, and that it can be done.

    Raises
    ------
    ConfigurationError
        When a right is missing, the cluster refuses us altogether, or one transaction would span two clusters.
    KafkaError
        When no broker answers.
    """
    seconds = settings.consumer.connect_seconds
    clusters = [require_of(end, seconds, stop) for end in ends(settings)]
    if settings.consumer.delivery == "exactly-once" and not stop.is_set():
        fault = spanning(clusters)
        if fault is not None:
            raise fault


def spanning(clusters: Sequence[str]) -> SettingsError | None:
    """Say so where a transaction would span clusters, of which the ids are given."""
    if len(set(clusters)) < 2:  # noqa: PLR2004 -- one cluster, or none that was reached
        return None
    return SettingsError(
        f"exactly-once delivery needs source and sink to be one cluster, these are {' and '.join(clusters)}",
        "take --delivery at-least-once, or mirror the source into the sink's cluster",
    )


def require_of(end: End, seconds: float, stop: threading.Event) -> str:
    """See that we may do all that is meant to be done on one cluster, which has so many seconds to answer.

    Returns
    -------
    str
        Id of the cluster; empty where told to stop before it answered.

    Raises
    ------
    ConfigurationError, KafkaError
        As `require`.
    """
    admin, metadata = end.connect(seconds, stop)
    if metadata is None:
        return ""
    lacking = [right for right, answer in granted(end, admin, metadata).items() if answer is False]
    if lacking:
        raise ConfigurationError(f"{end.role}: {refusal(end, lacking)}")
    return str(metadata.cluster_id)


def refusal(end: End, lacking: Sequence[Right]) -> str:
    """Say which rights are missing and what to do, in one line."""
    what = ", ".join(map(str, lacking))
    kinds = {right.kind for right in lacking}
    other = "".join(f", {advice}" for kind, advice in INSTEAD.items() if kind in kinds)
    return (
        f"{end.servers} does not grant {end.we} {what}: ask those who run the cluster for it (an ACL that allows "
        f"it){other}"
    )


def granted(end: End, admin: AdminClient, metadata: ClusterMetadata) -> dict[Right, bool | None]:
    """Ask for the rights we need; None where the cluster does not tell, as of a topic that is not there."""
    wanted = end.rights(metadata.topics)
    if is_embedded(metadata):
        # It has no rights; asking it would only take time.
        return dict.fromkeys(wanted)
    asked = _ask(admin, wanted)
    allowed = {thing: _operations(thing, future) for thing, future in asked.items()}
    return {
        right: _may_transact(end, right.name)
        if right.kind == TRANSACTIONAL_ID
        else _answer(allowed[right.kind, right.name], right)
        for right in wanted
    }


def _may_transact(end: End, name: str) -> bool | None:
    return may_use(end.properties, fresh() if name == ANY_FRESH else name, REQUEST_SECONDS)


def _ask(admin: AdminClient, wanted: Sequence[Right]) -> dict[tuple[str, str], "Future[Any]"]:
    topics, groups = (
        sorted({right.name for right in wanted if right.kind == kind}) for kind in ("topic", "group")
    )
    options = {"include_authorized_operations": True, "request_timeout": REQUEST_SECONDS}
    of_topics = admin.describe_topics(TopicCollection(topics), **options) if topics else {}
    of_groups = admin.describe_consumer_groups(groups, **options) if groups else {}
    return {("topic", name): future for name, future in of_topics.items()} | {
        ("group", name): future for name, future in of_groups.items()
    }


def _operations(thing: tuple[str, str], future: "Future[Any]") -> frozenset[str] | None:
    """Give the names of the operations that are allowed; None where the cluster does not tell."""
    try:
        operations = future.result(timeout=REQUEST_SECONDS + 1).authorized_operations
    except KafkaException as error:
        if error.args[0].code() in DENIED:
            return frozenset()
        logger.debug("rights on %s %s are not told: %s", *thing, error.args[0].str())
        return None
    except TimeoutError:
        return None
    return None if operations is None else frozenset(operation.name for operation in operations)


def _answer(allowed: frozenset[str] | None, right: Right) -> bool | None:
    return None if allowed is None else bool(allowed & {right.operation, "ALL"})
