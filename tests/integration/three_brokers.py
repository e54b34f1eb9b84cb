"""A Kafka of three brokers that can be killed one by one, every record on all three and acknowledged by two.

The controller is a process of its own, so that with two brokers down there is still one to say who is in sync.
"""

import contextlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from .chaos import Hurt
from .conftest import Cluster
from .kafka_server import free_ports

BROKERS = (1, 2, 3)
CONTROLLER = 9
PATIENCE_SECONDS = 120.0


class Node(Hurt):
    """One process of the cluster.

    Parameters
    ----------
    number : int
        One of `BROKERS`, or `CONTROLLER`.
    controller : str
        Address of the one that all ask.
    """

    _heap = "256m"

    def __init__(self, number: int, controller: str) -> None:
        super().__init__()
        self.number = number
        self._controller = controller
        if number == CONTROLLER:
            self.bootstrap_servers = controller

    def _properties(self) -> dict[str, object]:
        properties = super()._properties()
        if self.number == CONTROLLER:
            for name in ("advertised.listeners", "inter.broker.listener.name"):
                del properties[name]
            own = {"process.roles": "controller", "listeners": f"CONTROLLER://{self._controller}"}
        else:
            listeners = properties["advertised.listeners"]
            own = {"process.roles": "broker", "listeners": str(listeners)}
        return {
            **properties,
            **own,
            "node.id": self.number,
            "controller.quorum.voters": f"{CONTROLLER}@{self._controller}",
            "broker.heartbeat.interval.ms": 500,
            "default.replication.factor": len(BROKERS),
            "min.insync.replicas": 2,
            "offsets.topic.replication.factor": len(BROKERS),
            "transaction.state.log.replication.factor": len(BROKERS),
            "transaction.state.log.min.isr": 2,
            "share.coordinator.state.topic.replication.factor": len(BROKERS),
            "share.coordinator.state.topic.min.isr": 2,
        }


class ThreeBrokers:
    """A context in which they run.

    Attributes
    ----------
    cluster : Cluster
    nodes : dict of int to Node
    """

    def __enter__(self) -> Self:
        (port,) = free_ports(1)
        controller = f"127.0.0.1:{port}"
        self.nodes = {number: Node(number, controller) for number in (CONTROLLER, *BROKERS)}
        with contextlib.ExitStack() as stack:
            for node in self.nodes.values():
                stack.enter_context(node)
            self._stack = stack.pop_all()
        servers = ",".join(self.nodes[number].bootstrap_servers for number in BROKERS)
        self.cluster = Cluster(servers, replicas=len(BROKERS))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes.values():
            node.kill()  # one that has lost the others waits long for them before it ends by itself
        self._stack.close()

    @property
    def controller(self) -> Node:
        """Who says which broker leads what."""
        return self.nodes[CONTROLLER]

    def leader(self, topic: str) -> int:
        """Number of the broker that leads a topic's first partition; -1 where none does."""
        return self._partitions(topic)[0][0]

    def in_sync(self, topic: str) -> int:
        """How many brokers hold the whole of every partition of a topic."""
        return min(len(replicas) for _, replicas in self._partitions(topic))

    def _partitions(self, topic: str) -> list[tuple[int, set[int]]]:
        admin = AdminClient({"bootstrap.servers": self.cluster.servers})
        told = admin.list_topics(topic, timeout=10).topics[topic].partitions
        return [(told[number].leader, set(told[number].isrs)) for number in sorted(told)]

    def mend(self) -> None:
        """Bring back whoever a scene that failed has left dead."""
        for node in self.nodes.values():
            if node.ended:
                node.revive()

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for something of the cluster."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with contextlib.suppress(KafkaException):
                if holds():
                    return
            assert time.monotonic() < deadline, f"{what} took longer than {PATIENCE_SECONDS:g} s"
            time.sleep(0.25)
