"""The programs on a Kafka that asks who they are, and lets them do only what was granted."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from broker.testing.packets import lsst_packet, ztf_packet

from .conftest import TERM, Cluster
from .kafka_server import PASSWORD, USER
from .secured_server import OPERATOR, SecuredServer

Answer = tuple[int, str, str]
Run = Callable[..., Answer]

FASTER_THAN = 15.0
"""Seconds; whoever mistypes a password must not wait for a time-out."""

WRONG = "wrong horse"
EXACTLY = ("--delivery", "exactly-once")


@pytest.fixture(scope="module")
def cluster(secured: SecuredServer) -> Cluster:
    """The same Kafka, by its plain listener."""
    return Cluster(secured.bootstrap_servers)


@pytest.fixture
def consume(run: Run, secured: SecuredServer, untrained_model: Path) -> Run:
    """Run the consumer to the end of a topic, with the right credentials where nothing else is said."""

    def call(topic: str, *arguments: str, listener: str = "SCRAM", **changed: str | Path) -> Answer:
        settings = {
            "PROTOCOL": "scram",
            "USERNAME": USER,
            "PASSWORD": PASSWORD,
            "CA_FILE": secured.ca_file,
            **changed,
        }
        environment = {
            f"BROKER_KAFKA__SECURITY__{name}": str(value) for name, value in settings.items() if value
        }
        servers = {"PLAINTEXT": secured.bootstrap_servers, **secured.servers}[listener]
        where = ("--topic", topic, "--bootstrap-servers", servers, "--group-id", f"group-{topic}")
        began = time.monotonic()
        answer = run(
            "broker-consumer",
            *(*where, "--exit-at-end", "--model", str(untrained_model), *arguments),
            **environment,
        )
        assert time.monotonic() - began < FASTER_THAN or answer[0] == 0
        assert not any(secret in text for secret in (PASSWORD, WRONG) for text in answer[1:])
        return answer

    return call


def refused(answer: Answer) -> str:
    """Last line of a refusal, which is all that is said of it."""
    code, output, log = answer
    assert (code, output) == (2, ""), log
    (line,) = [line for line in log.splitlines() if line.startswith("broker-consumer: ")]
    assert line == log.splitlines()[-1]
    return line


def certified(secured: SecuredServer, name: str = "guest") -> dict[str, str | Path]:
    """Settings of mTLS in place of a password."""
    issued = getattr(secured, name)
    return {
        "PROTOCOL": "mtls",
        "USERNAME": "",
        "PASSWORD": "",
        "CERTIFICATE_FILE": issued.certificate,
        "KEY_FILE": issued.key,
    }


def grant_all(secured: SecuredServer, topic: str, principal: str, *but: str) -> None:
    """Let somebody enrich a topic, except for what is named."""
    rights = {
        "read": ("READ", "TOPIC", topic),
        "group": ("READ", "GROUP", f"group-{topic}"),
        "enriched": ("WRITE", "TOPIC", f"{topic}.enriched"),
        "dead-letter": ("WRITE", "TOPIC", f"{topic}.dead-letter"),
        "transactions": ("WRITE", "TRANSACTIONAL_ID", f"id-{topic}"),
    }
    for name in rights.keys() - set(but):
        secured.grant(*rights[name], principal)
    time.sleep(1)  # the authorizer takes them up a little after they are acknowledged


@pytest.mark.parametrize(("listener", "protocol"), [("SCRAM", "scram"), ("PLAIN", "plain")])
def test_alerts_are_enriched_by_user_and_password_with_the_least_rights(
    cluster: Cluster, secured: SecuredServer, consume: Run, listener: str, protocol: str
) -> None:
    topic = cluster.make()
    grant_all(secured, topic, f"User:{OPERATOR}")
    cluster.publish(topic, [lsst_packet(), ztf_packet(), b"no alert"])
    code, output, log = consume(topic, listener=listener, PROTOCOL=protocol, USERNAME=OPERATOR)
    assert code == 0, log
    assert "consumed 3: enriched 2" in output
    assert len(cluster.read(f"{topic}.enriched")) == 2


@pytest.mark.parametrize("name", ["guest", "protected"])
def test_alerts_are_enriched_by_client_certificate(
    cluster: Cluster, secured: SecuredServer, consume: Run, tmp_path: Path, name: str
) -> None:
    topic = cluster.make()
    grant_all(secured, topic, f"User:CN={name}")
    cluster.publish(topic, [lsst_packet()])
    passphrase = tmp_path / "passphrase"
    passphrase.write_text(f"{PASSWORD}\n", encoding="utf-8")
    more = {"KEY_PASSWORD_FILE": passphrase} if name == "protected" else {}
    code, output, log = consume(topic, listener="MUTUAL", **certified(secured, name), **more)
    assert code == 0, log
    assert "consumed 1: enriched 1" in output


def test_alerts_are_enriched_over_tls_without_a_client_certificate(
    cluster: Cluster, secured: SecuredServer, consume: Run
) -> None:
    topic = cluster.make()
    cluster.publish(topic, [lsst_packet()])
    code, output, log = consume(topic, listener="TLS", PROTOCOL="tls", USERNAME="", PASSWORD="")
    assert code == 0, log
    assert "consumed 1: enriched 1" in output


@pytest.mark.parametrize("listener", ["SCRAM", "PLAIN"])
@pytest.mark.parametrize("changed", [{"PASSWORD": WRONG}, {"USERNAME": "nobody"}], ids=["password", "user"])
def test_a_wrong_password_and_an_unknown_user(consume: Run, listener: str, changed: dict[str, str]) -> None:
    line = refused(consume("alerts", listener=listener, **{"PROTOCOL": listener.lower(), **changed}))
    assert "Authentication failed" in line
    assert "check the user name, the password and the mechanism" in line


def test_a_mechanism_the_listener_does_not_speak(consume: Run) -> None:
    line = refused(consume("alerts", listener="PLAIN"))
    assert "Unsupported SASL mechanism" in line
    assert "check the user name, the password and the mechanism" in line


@pytest.mark.parametrize("ca_file", ["other", ""])
def test_an_unknown_certificate_authority(consume: Run, secured: SecuredServer, ca_file: str) -> None:
    line = refused(consume("alerts", CA_FILE=secured.other_ca_file if ca_file else ""))
    assert "was issued by authority, an authority not among" in line
    assert "give the authority's certificate as ca_file" in line


def test_an_expired_certificate(consume: Run, secured: SecuredServer) -> None:
    line = refused(consume("alerts", listener="EXPIRED"))
    assert f"the certificate of {secured.servers['EXPIRED']} expired on 20" in line
    assert "have it renewed" in line


def test_a_certificate_for_another_host(consume: Run, secured: SecuredServer) -> None:
    line = refused(consume("alerts", listener="MISNAMED"))
    assert f"the certificate of {secured.servers['MISNAMED']} is for kafka.example.org" in line
    assert "put that name into bootstrap_servers" in line


@pytest.mark.parametrize("name", ["expired_guest", "stranger", "none"])
def test_a_client_certificate_the_server_refuses(consume: Run, secured: SecuredServer, name: str) -> None:
    ours = {"PROTOCOL": "tls", "USERNAME": "", "PASSWORD": ""}
    line = refused(
        consume("alerts", listener="MUTUAL", **(ours if name == "none" else certified(secured, name)))
    )
    assert "the server refuses our certificate or misses one" in line
    assert "check the dates and the authority of certificate_file" in line


def test_a_key_with_another_passphrase(consume: Run, secured: SecuredServer) -> None:
    line = refused(
        consume("alerts", listener="MUTUAL", **certified(secured, "protected"), KEY_PASSWORD=WRONG)
    )
    assert "librdkafka refuses a setting" in line
    assert "ssl.key.location" in line


def test_tls_to_a_plain_listener(consume: Run) -> None:
    assert "correct the port or the security setting" in refused(consume("alerts", listener="PLAINTEXT"))


def test_plain_to_a_listener_that_speaks_tls(run: Run, secured: SecuredServer, untrained_model: Path) -> None:
    arguments = ("--topic", "alerts", "--bootstrap-servers", secured.servers["SCRAM"])
    settings = {"BROKER_CONSUMER__CONNECT_SECONDS": "3"}
    code, _, log = run("broker-consumer", *arguments, "--model", str(untrained_model), **settings)
    assert code == 1  # it may as well be a broker that is starting
    assert "one that wants TLS drops plain connections without a word" in log.splitlines()[-1]


@pytest.mark.parametrize(
    ("lacking", "named"),
    [
        ("read", "READ on topic {}"),
        ("group", "READ on group group-{}"),
        ("enriched", "WRITE on topic {}.enriched"),
        ("dead-letter", "WRITE on topic {}.dead-letter"),
    ],
)
def test_a_right_that_was_not_granted(
    cluster: Cluster, secured: SecuredServer, consume: Run, lacking: str, named: str
) -> None:
    topic = cluster.make()
    grant_all(secured, topic, f"User:{OPERATOR}", lacking)
    cluster.publish(topic, [lsst_packet()])
    line = refused(consume(topic, USERNAME=OPERATOR))
    assert f"does not grant {OPERATOR} {named.format(topic)}: ask those who run the cluster for it" in line
    assert cluster.committed(topic, f"group-{topic}") == 0


def test_a_right_to_the_lite_topic_that_was_not_granted(
    cluster: Cluster, secured: SecuredServer, consume: Run
) -> None:
    topic = cluster.make()
    cluster.make_named(f"{topic}.lite", 1)
    grant_all(secured, topic, f"User:{OPERATOR}")
    cluster.publish(topic, [lsst_packet()])
    line = refused(consume(topic, "--lite", USERNAME=OPERATOR))
    assert f"does not grant {OPERATOR} WRITE on topic {topic}.lite: ask those who run the cluster" in line
    assert cluster.committed(topic, f"group-{topic}") == 0
    code, rows = checked(consume(topic, "--lite", "--check", USERNAME=OPERATOR))
    assert code == 2
    assert rows[f"WRITE on topic {topic}.lite"][0] == f"not granted to {OPERATOR}"


@pytest.mark.parametrize("stated", [True, False])
def test_a_transactional_id_that_was_not_granted(
    cluster: Cluster, secured: SecuredServer, consume: Run, monkeypatch: pytest.MonkeyPatch, *, stated: bool
) -> None:
    topic = cluster.make()
    grant_all(secured, topic, f"User:{OPERATOR}", "transactions")
    cluster.publish(topic, [lsst_packet()])
    name = f"id-{topic}" if stated else "nightjar-*"
    if stated:
        monkeypatch.setenv("BROKER_SINK__TRANSACTIONAL_ID", name)
    line = refused(consume(topic, *EXACTLY, USERNAME=OPERATOR))
    code, rows = checked(consume(topic, "--check", *EXACTLY, USERNAME=OPERATOR))
    assert (
        f"does not grant {OPERATOR} WRITE on transactional id {name}: ask those who run the cluster" in line
    )
    assert "or set sink.transactional_id to one that is granted" in line
    assert cluster.committed(topic, f"group-{topic}") == 0
    assert f"group-{topic}" not in cluster.groups()
    assert code == 2
    assert rows[f"WRITE on transactional id {name}"][0] == f"not granted to {OPERATOR}"
    assert f"an ACL that allows {OPERATOR} to WRITE" in rows[f"WRITE on transactional id {name}"][1]


def test_a_check_puts_no_producer_of_the_transactional_id_out(
    cluster: Cluster, secured: SecuredServer, consume: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = cluster.make()
    grant_all(secured, topic, f"User:{OPERATOR}")
    monkeypatch.setenv("BROKER_SINK__TRANSACTIONAL_ID", f"id-{topic}")
    at_work = Producer({"bootstrap.servers": secured.bootstrap_servers, "transactional.id": f"id-{topic}"})
    at_work.init_transactions(10)
    at_work.begin_transaction()
    at_work.produce(topic, lsst_packet())
    at_work.flush(10)
    code, rows = checked(consume(topic, "--check", *EXACTLY, USERNAME=OPERATOR))
    assert (code, rows[f"WRITE on transactional id id-{topic}"]) == (0, ["granted", ""])
    at_work.commit_transaction(10)  # one that was put out could not
    code, output, log = consume(topic, *EXACTLY, USERNAME=OPERATOR)
    assert code == 0, log
    assert "consumed 1: enriched 1" in output


def sink(secured: SecuredServer, **changed: str | Path) -> dict[str, str]:
    """Environment of a sink of its own, beside a source that asks nothing."""
    settings = {
        "BOOTSTRAP_SERVERS": secured.servers["SCRAM"],
        "SECURITY__PROTOCOL": "scram",
        "SECURITY__USERNAME": USER,
        "SECURITY__PASSWORD": PASSWORD,
        "SECURITY__CA_FILE": secured.ca_file,
        **changed,
    }
    return {f"BROKER_SINK__{name}": str(value) for name, value in settings.items()}


def test_a_sink_has_a_security_of_its_own(
    cluster: Cluster, secured: SecuredServer, run: Run, untrained_model: Path
) -> None:
    topic = cluster.make()
    cluster.publish(topic, [lsst_packet()])
    source = ("--topic", topic, "--bootstrap-servers", secured.bootstrap_servers, "--exit-at-end")
    arguments = ("broker-consumer", *source, "--model", str(untrained_model))
    line = refused(run(*arguments, **sink(secured, SECURITY__PASSWORD=WRONG)))
    assert line.startswith("broker-consumer: sink: ")
    assert "Authentication failed" in line
    line = refused(run(*arguments, **sink(secured, SECURITY__USERNAME=OPERATOR)))
    assert (
        f"sink: {secured.servers['SCRAM']} does not grant {OPERATOR} WRITE on topic {topic}.enriched" in line
    )
    code, output, log = run(*arguments, **sink(secured))
    assert code == 0, log
    assert "consumed 1: enriched 1" in output


def checked(answer: Answer) -> tuple[int, dict[str, list[str]]]:
    """Exit code and rows of the table: what was found and what to do, by what was tried."""
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in answer[1].splitlines() if "│" in line
    ]
    return answer[0], {check: [found, remedy] for _mark, check, found, remedy in rows}


def test_a_check_of_what_is_well_joins_no_group(
    cluster: Cluster, secured: SecuredServer, consume: Run
) -> None:
    topic = cluster.make()
    grant_all(secured, topic, f"User:{OPERATOR}")
    secured.grant("DESCRIBE_CONFIGS", "TOPIC", f"{topic}.enriched")
    code, rows = checked(consume(topic, "--check", USERNAME=OPERATOR))
    assert code == 0, rows
    assert not any(remedy for _, remedy in rows.values())
    found = {check: found for check, (found, _) in rows.items()}
    assert "certificate valid until 20" in found[f"source and sink: {secured.servers['SCRAM']}"]
    assert f"as {OPERATOR} by SCRAM-SHA-512" in found["source and sink: log in"]
    assert found[f"topic {topic}"] == "2 partitions"
    assert found[f"READ on group group-{topic}"] == found[f"WRITE on topic {topic}.enriched"] == "granted"
    assert found[f"max.message.bytes of {topic}.enriched"] == "10485760"
    assert found[f"settings of {topic}.dead-letter"] == "not told"
    assert f"group-{topic}" not in cluster.groups()


def test_a_check_tells_all_that_is_missing(cluster: Cluster, secured: SecuredServer, consume: Run) -> None:
    topic = cluster.make(outputs=False)
    small = cluster.make(**{"max.message.bytes": "1000000", "cleanup.policy": "compact"})
    code, rows = checked(
        consume(topic, "--check", "--output-prefix", small, "--model", "none.onnx", USERNAME=USER)
    )
    assert code == 2
    assert rows[f"max.message.bytes of {small}.enriched"][1].startswith("raise it to 10485760")
    assert rows[f"cleanup.policy of {small}.enriched"][0] == "compact"
    assert rows[f"cleanup.policy of {small}.enriched"][1].startswith("set it to delete")
    assert "none.onnx" in rows["model"][0]
    code, rows = checked(consume(topic, "--check", USERNAME=OPERATOR))
    assert code == 2
    assert f"broker-topics --prefix {topic} " in rows[f"topic {topic}.enriched"][1]
    assert rows[f"READ on topic {topic}"][0] == f"not granted to {OPERATOR}"


@pytest.mark.parametrize(
    ("changed", "row", "found", "remedy"),
    [
        ({"PASSWORD": WRONG}, "log in", "Authentication failed", "check the user name"),
        ({"listener": "EXPIRED"}, "{}", "expired on 20", "have it renewed"),
        ({"listener": "MISNAMED"}, "{}", "is for kafka.example.org", "put that name into bootstrap_servers"),
        ({"listener": "PLAINTEXT"}, "{}", "not by TLS", "correct the port"),
    ],
    ids=["password", "expired", "host", "plain"],
)
def test_a_check_of_a_cluster_that_refuses_us(
    consume: Run, secured: SecuredServer, changed: dict[str, str], row: str, found: str, remedy: str
) -> None:
    code, rows = checked(consume("alerts", "--check", **changed))
    assert code == 2
    servers = {"PLAINTEXT": secured.bootstrap_servers, **secured.servers}[changed.get("listener", "SCRAM")]
    there = rows[f"source and sink: {row.format(servers)}"]
    assert found in there[0]
    assert remedy in there[1]


def test_librdkafka_at_its_most_talkative_tells_no_secret(
    cluster: Cluster, run: Run, secured: SecuredServer, untrained_model: Path
) -> None:
    environment = sink(secured, EXTRA='{"debug": "all"}') | {"BROKER_LOG_LEVEL": "debug"}
    arguments = ("--topic", cluster.make(), "--bootstrap-servers", secured.bootstrap_servers, "--exit-at-end")
    _, output, log = run("broker-consumer", *arguments, "--model", str(untrained_model), **environment)
    assert "sasl.password" in log
    assert PASSWORD not in output + log


def test_a_password_that_changes_while_alerts_are_read(
    cluster: Cluster,
    secured: SecuredServer,
    start: Callable[..., "subprocess.Popen[str]"],
    eventually: Callable[[Callable[[], bool]], None],
    untrained_model: Path,
    tmp_path: Path,
) -> None:
    topic, user, file = cluster.make(), "rotated", tmp_path / "password"
    grant_all(secured, topic, f"User:{user}")
    secured.set_password(user, "the old one")
    file.write_text("the old one", encoding="utf-8")
    environment = {"PROTOCOL": "scram", "USERNAME": user, "PASSWORD_FILE": file, "CA_FILE": secured.ca_file}
    cluster.publish(topic, [lsst_packet()])
    process = start(
        "broker-consumer",
        *("--topic", topic, "--bootstrap-servers", secured.servers["SCRAM"], "--group-id", f"group-{topic}"),
        *("--model", str(untrained_model)),
        **{f"BROKER_KAFKA__SECURITY__{name}": str(value) for name, value in environment.items()},
    )
    eventually(lambda: cluster.committed(topic, f"group-{topic}") == 1)
    file.write_text("the new one", encoding="utf-8")
    secured.set_password(user, "the new one")
    time.sleep(12)  # the server asks for the password again within 5 s
    cluster.publish(topic, [lsst_packet()])
    eventually(lambda: cluster.committed(topic, f"group-{topic}") == 2)
    process.send_signal(TERM)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    assert "has changed: the next connection uses it" in log
    assert "Authentication failed" in log  # else the old password was never asked for again
    assert not any(password in log for password in ("the old one", "the new one"))


@pytest.mark.parametrize(("password", "code"), [(PASSWORD, 0), (WRONG, 2)])
def test_topics_of_a_cluster_that_asks_who_we_are(
    cluster: Cluster, run: Run, secured: SecuredServer, password: str, code: int
) -> None:
    source = cluster.make(outputs=False)
    settings = {"PROTOCOL": "scram", "USERNAME": USER, "PASSWORD": password, "CA_FILE": str(secured.ca_file)}
    environment = {f"BROKER_KAFKA__SECURITY__{name}": value for name, value in settings.items()}
    began = time.monotonic()
    said = run(
        "broker-topics", "--prefix", source, "--bootstrap-servers", secured.servers["SCRAM"], **environment
    )
    assert said[0] == code, said[2]
    assert time.monotonic() - began < 15, "nobody waits for a time-out over a wrong password"
    if code:
        assert "check the user name, the password and the mechanism" in said[2].splitlines()[-1]
    else:
        assert f"{source}.redrive" in said[1]
