"""A Kafka that asks who we are is begun again and again while consumers are connected by TLS and SASL.

What a client sees of that is more than a lost connection: whoever reaches a listener that goes down, or a balancer
whose broker is away, is cut off in the middle of a handshake.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import authority
import pytest

from . import toxiproxy
from .chaos import DELIVERIES, FULL, Hurt, Record, Stage, alerts, long_form
from .conftest import Cluster, needing
from .kafka_server import PASSWORD, USER, free_ports
from .secured_server import SecuredServer
from .toxiproxy import Toxiproxy

pytestmark = [pytest.mark.kafka, long_form]

COUNT = alerts(10_000)
RESTARTS = 5 if FULL else 2
AWAY_SECONDS = 4.0


class Balanced(Hurt, SecuredServer):
    """A Kafka that can be killed, one of whose listeners stands behind a proxy that stays when it goes.

    Attributes
    ----------
    proxied : str
        Where clients of the listener ``PLAIN`` are sent.
    """

    def __init__(self) -> None:
        super().__init__()
        self.proxied = f"127.0.0.1:{free_ports(1)[0]}"

    def _properties(self) -> dict[str, object]:
        properties = super()._properties()
        told = str(properties["advertised.listeners"]).replace(self.servers["PLAIN"], self.proxied)
        return {**properties, "advertised.listeners": told}


@pytest.fixture(scope="module")
def balanced() -> Iterator[Balanced]:
    needing(authority.missing())
    if lacking := toxiproxy.missing():
        pytest.skip(lacking)
    with Balanced() as server, Toxiproxy() as toxic:
        toxic.before(server.servers["PLAIN"], server.proxied)
        yield server


@pytest.fixture(params=DELIVERIES)
def stage(
    request: pytest.FixtureRequest, balanced: Balanced, untrained_model: Path, tmp_path: Path
) -> Iterator[Stage]:
    stage = Stage(Cluster(balanced.bootstrap_servers), untrained_model, request.param, tmp_path, count=COUNT)
    yield stage
    stage.close()


@pytest.mark.parametrize("way", ["directly", "behind a balancer"])
def test_a_secured_broker_that_is_killed(stage: Stage, balanced: Balanced, record: Record, way: str) -> None:
    """Two consumers go on as the same processes, and end well."""
    stage.servers = balanced.servers["SCRAM"] if way == "directly" else balanced.proxied
    security = {
        "PROTOCOL": "scram" if way == "directly" else "plain",
        "USERNAME": USER,
        "PASSWORD": PASSWORD,
        "CA_FILE": str(balanced.ca_file),
    }
    stage.settings |= {f"BROKER_KAFKA__SECURITY__{name}": value for name, value in security.items()}
    stage.set()
    running = [stage.consumer(), stage.consumer()]
    for number in range(RESTARTS):
        stage.progress((number + 0.5) / (RESTARTS + 1))
        balanced.kill()
        time.sleep(AWAY_SECONDS)
        balanced.revive()
        assert [process.poll() for process in running] == [None, None], stage.logs()
    stage.finish()
    stage.check(f"secured broker killed {RESTARTS} times, {way}", record)
    assert [process.returncode for process in stage.running] == [0, 0], stage.logs()
