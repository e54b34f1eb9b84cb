"""``broker-subscribe`` and ``broker-replay`` on a Kafka that asks who they are: refused in one line, and soon."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.testing.packets import lsst_packet

from .conftest import Cluster
from .kafka_server import PASSWORD
from .secured_server import OPERATOR, SecuredServer

Answer = tuple[int, str, str]

FASTER_THAN = 15.0
"""Seconds; whoever mistypes a password must not wait for a time-out."""

SUBSCRIBE, GROUP, REPLAY = "broker-subscribe", "broker-subscribe with a group", "broker-replay"
WRONG = "wrong horse"
WHO = "check the user name, the password and the mechanism"
ASK = "ask those who run the cluster for it (an ACL that allows it)"


@pytest.fixture(scope="module")
def cluster(secured: SecuredServer) -> Cluster:
    """The same Kafka, by its plain listener."""
    return Cluster(secured.bootstrap_servers)


@pytest.fixture
def call(
    run: Callable[..., Answer], secured: SecuredServer, tmp_path: Path
) -> Callable[..., tuple[Answer, float]]:
    """Run a program as a user with a password; the answer, and how long it took."""
    packet = tmp_path / "packet"
    packet.write_bytes(lsst_packet())

    def over(program: str, topic: str, **changed: str | Path) -> tuple[Answer, float]:
        told = {"PROTOCOL": "scram", "USERNAME": OPERATOR, "PASSWORD": PASSWORD, "CA_FILE": secured.ca_file}
        environment = {f"BROKER_KAFKA__SECURITY__{name}": str(v) for name, v in {**told, **changed}.items()}
        arguments = [str(packet)] if program == REPLAY else ["--exit-at-end"]
        arguments += ["--group-id", f"group-{topic}"] if program == GROUP else []
        at = ("--topic", topic, "--bootstrap-servers", secured.servers["SCRAM"])
        began = time.monotonic()
        answer = run(program.split(maxsplit=1)[0], *at, *arguments, **environment)
        return answer, time.monotonic() - began

    return over


@pytest.mark.parametrize(
    ("program", "granted", "changed", "found", "remedy"),
    [
        (SUBSCRIBE, "", {}, f"does not grant {OPERATOR} READ on topic {{}}", ASK),
        (REPLAY, "", {}, f"does not grant {OPERATOR} WRITE on topic {{}}", ASK),
        (GROUP, "READ", {}, f"does not grant {OPERATOR} READ on group group-{{}}", "choose another group_id"),
        (SUBSCRIBE, "", {"PASSWORD": WRONG}, "Authentication failed", WHO),
        (REPLAY, "", {"PASSWORD": WRONG}, "Authentication failed", WHO),
        (SUBSCRIBE, "", {"USERNAME": "nobody"}, "Authentication failed", WHO),
        (SUBSCRIBE, "", {"CA_FILE": "other"}, "an authority not among", "as ca_file"),
        (REPLAY, "", {"CA_FILE": "other"}, "an authority not among", "as ca_file"),
    ],
)
def test_what_is_refused_is_told_in_one_line(
    cluster: Cluster,
    secured: SecuredServer,
    call: Callable[..., tuple[Answer, float]],
    program: str,
    granted: str,
    changed: dict[str, str],
    found: str,
    remedy: str,
) -> None:
    topic = cluster.make(outputs=False)
    if granted:
        secured.grant(granted, "TOPIC", topic)
    if "CA_FILE" in changed:
        changed = {"CA_FILE": str(secured.other_ca_file)}
    (code, output, log), seconds = call(program, topic, **changed)
    assert (code, output) == (2, ""), log
    assert seconds < FASTER_THAN
    line = log.splitlines()[-1]
    assert line.startswith(f"{program.split(maxsplit=1)[0]}: ")
    assert found.format(topic) in line
    assert remedy in line
    assert "Traceback" not in log
    assert not any(secret in log for secret in (PASSWORD, WRONG))


@pytest.mark.parametrize(
    ("program", "rights"),
    [
        (SUBSCRIBE, [("READ", "TOPIC", "{}")]),
        (GROUP, [("READ", "TOPIC", "{}"), ("READ", "GROUP", "group-{}")]),
        (REPLAY, [("WRITE", "TOPIC", "{}")]),
    ],
)
def test_these_rights_are_enough(
    cluster: Cluster,
    secured: SecuredServer,
    call: Callable[..., tuple[Answer, float]],
    program: str,
    rights: list[tuple[str, str, str]],
) -> None:
    topic = cluster.make(outputs=False)
    for operation, kind, name in rights:
        secured.grant(operation, kind, name.format(topic))
    cluster.publish(topic, [b"no alert"])
    time.sleep(1)  # the authorizer takes them up a little after they are acknowledged
    (code, output, log), _ = call(program, topic)
    assert code == 0, log
    assert ("published 1 alert" in output) if program == REPLAY else ("0 records, 1 not readable" in log)
