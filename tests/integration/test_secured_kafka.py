"""The programs on a Kafka that asks who they are: SASL/SCRAM over TLS, as Rubin's stream does."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.testing.packets import lsst_packet, ztf_packet

from .conftest import Cluster
from .kafka_server import PASSWORD, USER, KafkaServer

Run = Callable[..., tuple[int, str, str]]

FASTER_THAN = 15.0
"""Seconds; whoever mistypes a password must not wait for a time-out."""


@pytest.fixture
def consume(run: Run, server: KafkaServer, untrained_model: Path) -> Run:
    """Run the consumer to the end of a topic, with the right credentials where nothing else is said."""

    def call(topic: str, servers: str | None = None, **changed: str) -> tuple[int, str, str]:
        settings = {
            "PROTOCOL": "scram",
            "USERNAME": USER,
            "PASSWORD": PASSWORD,
            "CA_FILE": str(server.ca_file),
            **changed,
        }
        environment = {f"BROKER_KAFKA__SECURITY__{name}": value for name, value in settings.items() if value}
        arguments = ("--topic", topic, "--bootstrap-servers", servers or server.secure_servers)
        more = ("--group-id", f"group-{topic}", "--exit-at-end", "--model", str(untrained_model))
        return run("broker-consumer", *arguments, *more, **environment)

    return call


def test_alerts_are_enriched_over_an_encrypted_and_authenticated_connection(
    cluster: Cluster, consume: Run
) -> None:
    topic = cluster.make()
    cluster.publish(topic, [lsst_packet(), ztf_packet(), b"no alert"])
    code, output, log = consume(topic)
    assert code == 0, log
    assert "consumed 3: enriched 2" in output
    assert len(cluster.read(f"{topic}.enriched")) == 2
    assert PASSWORD not in log


def refused(answer: tuple[int, str, str], began: float) -> str:
    """Last line of a refusal that came fast."""
    code, output, log = answer
    assert (code, output) == (2, ""), log
    assert time.monotonic() - began < FASTER_THAN
    assert PASSWORD not in log
    return log.splitlines()[-1]


def test_a_wrong_password(consume: Run) -> None:
    line = refused(consume("alerts", PASSWORD="wrong horse"), time.monotonic())
    assert "Authentication failed" in line
    assert "check the user name, the password and the mechanism" in line


def test_an_unknown_certificate_authority(consume: Run) -> None:
    line = refused(consume("alerts", CA_FILE=""), time.monotonic())
    assert "certificate verify failed" in line
    assert "check the certificate authority" in line


def test_tls_to_a_plain_listener(consume: Run, server: KafkaServer) -> None:
    line = refused(consume("alerts", server.bootstrap_servers), time.monotonic())
    assert "correct the port or the security setting" in line


def test_plain_to_a_listener_that_speaks_tls(run: Run, server: KafkaServer, untrained_model: Path) -> None:
    arguments = ("--topic", "alerts", "--bootstrap-servers", server.secure_servers)
    settings = {"BROKER_CONSUMER__CONNECT_SECONDS": "3"}
    code, _, log = run("broker-consumer", *arguments, "--model", str(untrained_model), **settings)
    assert code == 1  # it may as well be a broker that is starting
    assert "one that wants TLS drops plain connections without a word" in log.splitlines()[-1]
