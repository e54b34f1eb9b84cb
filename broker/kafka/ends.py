"""The clusters a consumer works with, and what it must be allowed to do on each."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._metadata import ClusterMetadata

from broker.kafka.connection import Listener, await_broker, client, connection, of_connection
from broker.kafka.transactional_ids import FRESH_PREFIX
from broker.settings import Extra, Sasl, Security, Settings, Topics

TRANSACTIONAL_ID = "transactional id"
ANY_FRESH = f"{FRESH_PREFIX}*"
"""What messages call the ids that a consumer takes anew at each start; an ACL for them is PREFIXED."""


@dataclass(frozen=True)
class Right:
    """One thing to be allowed.

    Attributes
    ----------
    operation : "READ" or "WRITE"
    kind : "topic", "group" or "transactional id"
    name : str
    """

    operation: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.operation} on {self.kind} {self.name}"


@dataclass(frozen=True)
class End:
    """One cluster.

    Attributes
    ----------
    role : str
        What messages call it: source, sink, or both.
    servers : str
    security : Security
    extra : dict
        Properties for librdkafka.
    inputs : Topics or None
        Topics to read here.
    group_id : str or None
        Group to read them in.
    outputs : tuple of str
        Topics to write here.
    transactional_id : str or None
        Under which they are written in transactions, if they are.
    """

    role: str
    servers: str
    security: Security
    extra: Extra
    inputs: Topics | None
    group_id: str | None
    outputs: tuple[str, ...]
    transactional_id: str | None = None

    @property
    def properties(self) -> dict[str, Any]:
        """What librdkafka is told to reach it.

        Raises
        ------
        SettingsError
            When the file of a secret cannot be read.
        """
        return of_connection(self.extra) | connection(self.servers, self.security)

    @property
    def we(self) -> str:
        """Who we are there, as far as we know."""
        return self.security.username if isinstance(self.security, Sasl) else "this client"

    def connect(self, seconds: float, stop: threading.Event) -> tuple[AdminClient, ClusterMetadata | None]:
        """Reach it, without joining anything.

        Returns
        -------
        AdminClient
        ClusterMetadata or None
            None when `stop` was set meanwhile.

        Raises
        ------
        KafkaError
            When no broker answers in time.
        ConfigurationError
            When the cluster refuses us.
        """
        listener = Listener(self.role)
        admin = client(AdminClient, self.properties, listener)
        return admin, await_broker(admin, listener, self.servers, seconds, stop)

    def read_here(self, existing: Iterable[str]) -> list[str]:
        """Topics to read: those named, and those of the pattern that there are."""
        if self.inputs is None:
            return []
        return sorted({*self.inputs.names, *filter(self.inputs.holds, existing)})

    def rights(self, existing: Iterable[str]) -> list[Right]:
        """Give what we must be allowed to do."""
        group = [Right("READ", "group", self.group_id)] if self.group_id else []
        read = [Right("READ", "topic", topic) for topic in self.read_here(existing)]
        write = [Right("WRITE", "topic", topic) for topic in self.outputs]
        transact = [Right("WRITE", TRANSACTIONAL_ID, self.transactional_id)] if self.transactional_id else []
        return group + read + write + transact


def ends(settings: Settings) -> Sequence[End]:
    """Give the cluster that is read and the one that is written, or the one that is both."""
    kafka, sink = settings.kafka, settings.sink
    exactly = settings.consumer.delivery == "exactly-once"
    written = settings.outputs, (sink.transactional_id or ANY_FRESH) if exactly else None
    here = kafka.bootstrap_servers, kafka.security, kafka.extra, settings.wanted, kafka.group_id
    if sink.bootstrap_servers is None:
        return [End("source and sink", *here, *written)]
    return [
        End("source", *here, ()),
        End("sink", *settings.sink_connection, sink.extra, None, None, *written),
    ]
