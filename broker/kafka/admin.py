"""Topics from the operator's side: what there is, and making what is missing."""

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._metadata import TopicMetadata
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from broker.errors import KafkaError
from broker.kafka.connection import Listener, await_broker, client, connection, is_embedded, look
from broker.kafka.faults import as_ours
from broker.kafka.topic_plan import TopicPlan, TopicState
from broker.settings import Extra, Security

REQUEST_SECONDS = 20.0
LOOK_SECONDS = 0.2

Answer = TypeVar("Answer")


class TopicAdmin:
    """Asks a cluster about its topics, and makes new ones.

    Parameters
    ----------
    bootstrap_servers : str
    security : Security
    extra : dict
        Properties of librdkafka by which the cluster is reached.
    connect_seconds : float
        How long to look for a broker.
    stop : threading.Event
        Breaks off that search.

    Raises
    ------
    KafkaError
        When no broker answers in time.
    ConfigurationError
        When the cluster refuses us, or librdkafka a setting.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        security: Security,
        extra: Extra,
        *,
        connect_seconds: float,
        stop: threading.Event,
    ) -> None:
        self._listener = Listener("topics")
        self._servers = bootstrap_servers
        self._seconds = connect_seconds
        self._stop = stop
        # Kept as long as this: its futures are answered by a thread that ends with it.
        self._admin = client(
            AdminClient, {**extra, **connection(bootstrap_servers, security)}, self._listener
        )
        self._metadata()

    def _metadata(self) -> dict[str, TopicMetadata]:
        metadata = await_broker(self._admin, self._listener, self._servers, self._seconds, self._stop)
        if metadata is None:
            raise KafkaError("stopped before the cluster had said which topics there are")
        self.brokers = len(metadata.brokers)
        return metadata.topics

    def names(self) -> frozenset[str]:
        """Names of all topics."""
        return frozenset(self._metadata())

    def states(self, names: Sequence[str]) -> dict[str, TopicState]:
        """Describe topics; those that are not there have no entry.

        Raises
        ------
        KafkaError, ConfigurationError
            When the cluster does not answer, or does not tell us.
        """
        there = self._metadata()
        return {name: self._state(name, there[name]) for name in names if name in there}

    def _state(self, name: str, topic: TopicMetadata) -> TopicState:
        return TopicState(
            name,
            len(topic.partitions),
            min((len(each.replicas) for each in topic.partitions.values()), default=0),
            {setting: str(entry.value) for setting, entry in self._settings(name).items()},
        )

    def _settings(self, name: str) -> Mapping[str, Any]:
        """Ask for a topic's settings; any broker may be asked, one that has yet to hear of a new topic too."""
        resource = ConfigResource(ResourceType.TOPIC, name)
        doing = f"asking for the settings of topic {name}"
        deadline = time.monotonic() + REQUEST_SECONDS
        while True:
            (future,) = self._admin.describe_configs([resource], request_timeout=REQUEST_SECONDS).values()
            is_late = time.monotonic() >= deadline
            settings: Mapping[str, Any] | None = _answer(
                future, doing, *(() if is_late else (Fault.UNKNOWN_TOPIC_OR_PART,))
            )
            if settings is not None:
                return settings
            time.sleep(LOOK_SECONDS)

    @property
    def is_embedded(self) -> bool:
        """Whether topics make themselves here, and are never made by asking for it."""
        metadata = look(self._admin)
        return metadata is not None and is_embedded(metadata)

    def create(self, plans: Sequence[TopicPlan]) -> None:
        """Make topics, and wait until they are there; one that somebody else made meanwhile is as good.

        Raises
        ------
        KafkaError, ConfigurationError
            When the cluster refuses one, or does not come to know them.
        """
        made = self._admin.create_topics(
            [
                NewTopic(each.name, each.partitions or 1, each.replication, config=dict(each.settings))
                for each in plans
            ],
            request_timeout=REQUEST_SECONDS,
            operation_timeout=REQUEST_SECONDS,
        )
        for name, future in made.items():
            _answer(future, f"making topic {name}", Fault.TOPIC_ALREADY_EXISTS)
        self._await({each.name for each in plans})

    def _await(self, names: set[str]) -> None:
        deadline = time.monotonic() + REQUEST_SECONDS
        while (metadata := look(self._admin)) is None or not names <= metadata.topics.keys():
            if time.monotonic() >= deadline:
                raise KafkaError(
                    f"topics {', '.join(sorted(names))} were made but are not there after {REQUEST_SECONDS:g} s: "
                    "look again in a while"
                )
            time.sleep(LOOK_SECONDS)


def _answer(future: "Future[Answer]", doing: str, *passing: int) -> Answer | Any:
    try:
        return future.result(timeout=2 * REQUEST_SECONDS)
    except KafkaException as error:
        if error.args[0].code() in passing:
            return None
        raise as_ours(error.args[0], doing) from error
    except TimeoutError as error:
        raise KafkaError(f"{doing}: no answer within {2 * REQUEST_SECONDS:g} s: is Kafka well?") from error
