"""Groups of settings: the two clusters, the loop, the probes."""

from datetime import UTC, datetime
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, field_validator, model_validator

from broker.settings.security import Plaintext, Section, Security

OWNED_BY_CONNECTION = frozenset({"bootstrap.servers", "client.id", "error_cb", "logger", "stats_cb"})
OWNED_BY_SOURCE = OWNED_BY_CONNECTION | {
    "group.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "auto.offset.reset",
    "partition.assignment.strategy",
    "isolation.level",
    "on_commit",
}
OWNED_BY_SINK = OWNED_BY_CONNECTION | {
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "partitioner",
    "transactional.id",
    "compression.type",
    "compression.codec",
    "message.max.bytes",
    "on_delivery",
}
SECRETS = frozenset(
    {
        "sasl.password",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.keystore.password",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.config",
    }
)
"""Properties that would put a secret among ordinary settings."""

Extra: TypeAlias = dict[str, str | int | float | bool]


def _refuse(extra: Extra, owned: frozenset[str]) -> Extra:
    if secret := sorted(SECRETS & extra.keys()):
        raise ValueError(
            f"{secret[0]} is a secret: give it by the section 'security', from environment or file"
        )
    if taken := sorted(owned & extra.keys()):
        raise ValueError(f"{taken[0]} is set by the broker itself, its guarantees rest on it: leave it out")
    return extra


class SourceSettings(Section):
    """The Kafka cluster alerts are read from.

    Attributes
    ----------
    bootstrap_servers : str
        ``host:port``, several with commas between.
    group_id : str
    security : Plaintext, Tls, MutualTls, Scram or Plain
    extra : dict
        Passed through to librdkafka's consumer as it is.
    """

    bootstrap_servers: str = Field(default="localhost:9092", min_length=1)
    group_id: str = Field(default="nightjar", min_length=1)
    security: Security = Plaintext()
    extra: Extra = Field(default={})

    @field_validator("extra")
    @classmethod
    def _not_ours(cls, extra: Extra) -> Extra:
        return _refuse(extra, OWNED_BY_SOURCE)


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
        How long a record may wait for its acknowledgement before the consumer stops.
    extra : dict
        Passed through to librdkafka's producer as it is; that of the source is not.
    """

    bootstrap_servers: str | None = Field(default=None, min_length=1)
    security: Security | None = None
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"
    delivery_seconds: float = Field(default=120.0, gt=0.0)
    extra: Extra = Field(default={})

    @field_validator("extra")
    @classmethod
    def _not_ours(cls, extra: Extra) -> Extra:
        return _refuse(extra, OWNED_BY_SINK)

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


class ConsumerSettings(Section):
    """How the loop turns.

    Attributes
    ----------
    start : "earliest", "latest" or datetime
        Where reading begins in partitions for which the group has committed nothing.
    exit_at_end : bool
        End when every assigned partition has reached the end it had at start.
    batch_size : int
        Most messages taken in one turn.
    linger_seconds : float
        Longest wait for a batch to fill: the price a lone alert pays.
    connect_seconds : float
        How long to look for a broker at start before giving up with exit code 1.
    topic_seconds : float
        How long to look for a missing topic at start before exit code 2.
    discovery_seconds : float
        Time between two looks for new topics that match ``topic_pattern``.
    """

    start: Start = "earliest"
    exit_at_end: bool = False
    batch_size: int = Field(default=256, ge=1, le=10_000)
    linger_seconds: float = Field(default=0.2, gt=0.0, le=10.0)
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
    """

    host: str = "127.0.0.1"
    port: int | None = Field(default=None, ge=0, le=65535)
    turn_seconds: float = Field(default=150.0, gt=0.0)
