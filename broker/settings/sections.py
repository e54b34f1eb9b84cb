"""Groups of settings: the two clusters, the loop, the probes."""

from datetime import UTC, datetime
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, field_validator, model_validator

from broker.settings.extra import Extra, refuse_sinks, refuse_sources
from broker.settings.membership import Classic, Membership
from broker.settings.security import Plaintext, Section, Security

MOST_PORTS = 65_535


def refuse_ports(servers: str) -> str:
    """See that what stands behind a host's colon is a port.

    Raises
    ------
    ValueError
    """
    for server in filter(None, map(str.strip, servers.split(","))):
        _, colon, port = server.rpartition(":")
        is_port = port.isascii() and port.isdigit() and 0 < int(port) <= MOST_PORTS
        if colon and not server.endswith("]") and not is_port:
            raise ValueError(f"{server!r} is no host:port, as {port!r} is no port")
    return servers


class SourceSettings(Section):
    """The Kafka cluster alerts are read from.

    Attributes
    ----------
    bootstrap_servers : str
        ``host:port``, several with commas between.
    group_id : str
    security : Plaintext, Tls, MutualTls, Scram or Plain
    membership : Classic or Kip848
    extra : dict
        Passed through to librdkafka's consumer as it is.
    """

    bootstrap_servers: str = Field(default="localhost:9092", min_length=1)
    group_id: str = Field(default="nightjar", min_length=1)
    security: Security = Plaintext()
    membership: Membership = Classic()
    extra: Extra = Field(default={}, repr=False)

    @field_validator("bootstrap_servers")
    @classmethod
    def _of_hosts_and_ports(cls, servers: str) -> str:
        return refuse_ports(servers)

    @field_validator("membership", mode="before")
    @classmethod
    def _classic_unless_told(cls, membership: object) -> object:
        return {"protocol": "classic", **membership} if isinstance(membership, dict) else membership

    @field_validator("extra")
    @classmethod
    def _not_ours(cls, extra: Extra) -> Extra:
        return refuse_sources(extra)


class SinkSettings(Section):
    """The Kafka cluster results are written to.

    Attributes
    ----------
    bootstrap_servers : str or None
        None writes to the cluster of the source, with its security.
    security : as of the source, or None
        Of a cluster of its own; None is plaintext there.
    compression : str
        Of the batches on the wire.
    delivery_seconds : float
        How long a record of ``broker-replay`` may wait for its acknowledgement. The consumer waits for ever, and is
        not ready meanwhile.
    transactional_id : str or None
        With ``exactly-once`` delivery, for clusters that grant rights by it; each consumer needs its own. None takes a
        fresh one at each start.
    extra : dict
        Passed through to librdkafka's producer as it is; that of the source is not.
    """

    bootstrap_servers: str | None = Field(default=None, min_length=1)
    security: Security | None = None
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"
    delivery_seconds: float = Field(default=120.0, gt=0.0)
    transactional_id: str | None = Field(default=None, min_length=1)
    extra: Extra = Field(default={}, repr=False)

    @field_validator("bootstrap_servers")
    @classmethod
    def _of_hosts_and_ports(cls, servers: str | None) -> str | None:
        return None if servers is None else refuse_ports(servers)

    @field_validator("extra")
    @classmethod
    def _not_ours(cls, extra: Extra) -> Extra:
        return refuse_sinks(extra)

    @model_validator(mode="after")
    def _own_security_needs_own_servers(self) -> "SinkSettings":
        if self.security is not None and self.bootstrap_servers is None:
            raise ValueError("security without bootstrap_servers: a sink of its own needs both")
        return self


def _start(value: object) -> object:
    if not isinstance(value, str) or value in {"earliest", "latest"}:
        return value
    try:
        time = datetime.fromisoformat(value)
    except ValueError as error:
        raise ValueError(
            f"{value!r} is neither earliest, latest nor an ISO 8601 time such as 2026-03-01T04:00:00Z"
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


Start: TypeAlias = Annotated[Literal["earliest", "latest"] | datetime, BeforeValidator(_start)]
"""Where to begin where the group has no committed offset; a time without a zone is UTC."""


class Overload(Section):
    """What is done when alerts come faster than they are enriched.

    Attributes
    ----------
    policy : "keep-order", "newest-first" or "sample"
        Enrich every alert and fall behind; or pass alerts that are late on without the network, flagged ``shed``, all
        of them or all but a share.
    late_seconds : float
        Age since publication beyond which an alert is late.
    share : float
        With ``sample``: of the late ones that are enriched.
    """

    policy: Literal["keep-order", "newest-first", "sample"] = "keep-order"
    late_seconds: float = Field(default=60.0, gt=0.0)
    share: float = Field(default=0.1, gt=0.0, lt=1.0)


class ConsumerSettings(Section):
    """How the loop turns.

    Attributes
    ----------
    start : "earliest", "latest" or datetime
        Where reading begins in partitions for which the group has committed nothing.
    exit_at_end : bool
        End when every assigned partition has reached the end it had at start.
    delivery : "at-least-once" or "exactly-once"
        Whether a crash may repeat alerts in the output, or outputs and offsets stand in one transaction, which needs
        source and sink to be one cluster.
    overload : Overload
    batch_size : int
        Most messages that wait for the network while it works on others.
    batch_bytes : int
        Bytes of such messages after which no more are taken, and of records after which they are delivered, so that
        memory is bounded whatever comes.
    linger_seconds : float
        Longest wait in one go for an alert to come. None is held up by it.
    drain_seconds : float
        How long what is in hand may still wait for Kafka once told to stop.
    connect_seconds : float
        How long to look for a broker at start before giving up with exit code 1.
    topic_seconds : float
        How long to look for a missing topic at start before exit code 2.
    discovery_seconds : float
        Time between two looks for new topics that match ``topic_pattern``.
    """

    start: Start = "earliest"
    exit_at_end: bool = False
    delivery: Literal["at-least-once", "exactly-once"] = "at-least-once"
    overload: Overload = Overload()
    batch_size: int = Field(default=256, ge=1, le=10_000)
    batch_bytes: int = Field(default=33_554_432, ge=1)
    linger_seconds: float = Field(default=0.2, gt=0.0, le=10.0)
    drain_seconds: float = Field(default=10.0, gt=0.0)
    connect_seconds: float = Field(default=25.0, gt=0.0)
    topic_seconds: float = Field(default=10.0, ge=0.0)
    discovery_seconds: float = Field(default=60.0, ge=1.0)


class ProbeSettings(Section):
    """Where ``/metrics``, ``/healthz`` and ``/readyz`` are served.

    Attributes
    ----------
    host : str
        Address to bind; ``0.0.0.0`` in a container.
    port : int or None
        None serves nothing, so that consumers on one host cannot clash; 0 takes a free port and logs it.
    turn_seconds : float
        ``/healthz`` fails when the loop has not turned for longer; above the slowest sound batch.
    unready_seconds : float
        ``/readyz`` fails when Kafka has not answered for longer.
    """

    host: str = "127.0.0.1"
    port: int | None = Field(default=None, ge=0, le=65535)
    turn_seconds: float = Field(default=150.0, gt=0.0)
    unready_seconds: float = Field(default=30.0, gt=0.0)
