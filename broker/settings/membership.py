"""How a consumer is a member of its group: the classic protocol, or Kafka 4's own (KIP-848)."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from broker.settings.security import Section

OWNED_BY_MEMBERSHIP = frozenset(
    {
        "group.protocol",
        "group.protocol.type",
        "group.instance.id",
        "group.remote.assignor",
        "partition.assignment.strategy",
        "session.timeout.ms",
        "heartbeat.interval.ms",
    }
)
"""Properties of one protocol or the other, each of which refuses the other's: told here, not in ``extra``."""

HEARTBEATS = 3
"""A session has room for so many heartbeats at least, or one that is late ends it (Kafka's own advice)."""

CLUSTERS_HEARTBEAT_SECONDS = 5.0
"""Between two heartbeats by KIP-848, as a cluster comes (``group.consumer.heartbeat.interval.ms``)."""


class Classic(Section):
    """The protocol that every Kafka speaks; partitions change hands cooperatively.

    Attributes
    ----------
    instance_id : str or None
        Name of this member that outlives it: one that comes back within its session keeps its partitions, and no
        rebalance disturbs the others. No two consumers may share it.
    session_seconds : float
        Without a heartbeat for so long a member is taken for dead.
    heartbeat_seconds : float
    """

    protocol: Literal["classic"] = "classic"
    instance_id: str | None = Field(default=None, min_length=1, max_length=249)
    session_seconds: float = Field(default=45.0, gt=0.0)
    heartbeat_seconds: float = Field(default=3.0, gt=0.0)

    @property
    def settle_seconds(self) -> float:
        """How long an assignment without partitions must last before it counts.

        A cooperative group first takes partitions away from their owner, who hears of it by a heartbeat, and hands them
        over in a second round, of which the others hear by theirs.
        """
        return HEARTBEATS * self.heartbeat_seconds

    @model_validator(mode="after")
    def _session_has_heartbeats(self) -> "Classic":
        if self.session_seconds < HEARTBEATS * self.heartbeat_seconds:
            raise ValueError(
                f"session_seconds {self.session_seconds:g} is shorter than {HEARTBEATS} heartbeats of "
                f"{self.heartbeat_seconds:g} s: raise it, or lower heartbeat_seconds"
            )
        return self

    def properties(self) -> dict[str, Any]:
        """Give what librdkafka is told."""
        return {
            "group.protocol": "classic",
            # From the first day: a running group cannot be moved from eager to cooperative without a stop.
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": round(1000 * self.session_seconds),
            "heartbeat.interval.ms": round(1000 * self.heartbeat_seconds),
            **_instance(self.instance_id),
        }


class Kip848(Section):
    """The protocol of Kafka 4 (KIP-848): the cluster assigns; sessions and heartbeats are the cluster's settings.

    Attributes
    ----------
    instance_id : str or None
        Name of this member that outlives it: one that comes back within its session keeps its partitions, and no
        rebalance disturbs the others. No two consumers may share it.
    assignor : "uniform", "range" or None
        None leaves it to the cluster.
    """

    protocol: Literal["consumer"]
    instance_id: str | None = Field(default=None, min_length=1, max_length=249)
    assignor: Literal["uniform", "range"] | None = None

    @property
    def settle_seconds(self) -> float:
        """How long an assignment without partitions must last before it counts, as of `Classic`."""
        return HEARTBEATS * CLUSTERS_HEARTBEAT_SECONDS

    def properties(self) -> dict[str, Any]:
        """Give what librdkafka is told."""
        assignor = {} if self.assignor is None else {"group.remote.assignor": self.assignor}
        return {"group.protocol": "consumer", **assignor, **_instance(self.instance_id)}


def _instance(instance_id: str | None) -> dict[str, Any]:
    return {} if instance_id is None else {"group.instance.id": instance_id}


Membership: TypeAlias = Annotated[Classic | Kip848, Field(discriminator="protocol")]
