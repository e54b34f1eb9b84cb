"""What the documents tell people to type, typed: README, examples and the code on the wire's page."""

import csv
import os
import re
import shlex
import subprocess
import sysconfig
import uuid
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

import schemas
from broker.testing.packets import lsst_packet, ztf_packet

PROJECT = Path(__file__).resolve().parents[2]
PROGRAMS = sysconfig.get_path("scripts")
ALERTS = 40
FIRST_ID = 170032915988086000

BY_OTHER_TESTS = {"make demo", "make test"}
"""`test_demo` runs the first; the second is what runs this."""


def readme_commands() -> list[str]:
    """Lines of the README's shell blocks, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    lines = (line.partition("  #")[0].strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line]


def publish(cluster, topic: str, outputs: str) -> None:
    """Publish alerts of many objects to a topic that is made together with its outputs."""
    names = [topic, f"{outputs}.enriched", f"{outputs}.dead-letter"]
    admin = AdminClient({"bootstrap.servers": cluster.servers})
    config = {"max.message.bytes": "10485760"}
    for future in admin.create_topics([NewTopic(name, 1, 1, config=config) for name in names]).values():
        future.result(timeout=30)
    packets = [alert(number) for number in range(ALERTS)]
    cluster.publish(topic, [*packets, ztf_packet(), b"no alert"])


def alert(number: int) -> bytes:
    """Make the packet of one of the labelled alerts."""
    return lsst_packet(alert_id=FIRST_ID + number, object_id=FIRST_ID + 500 + number)


@pytest.fixture(scope="module")
def here(tmp_path_factory, cluster) -> Path:
    """Make a folder like the README's, with labels, and a Kafka with the topic it names."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("examples", "requirements"):
        (folder / name).symlink_to(PROJECT / name)
    (folder / "packets").mkdir()
    for number in range(ALERTS):
        (folder / "packets" / f"{number}.avro").write_bytes(alert(number))
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("alert_id", "label"))
        rows.writerows((FIRST_ID + number, "odd" if number % 2 else "even") for number in range(ALERTS))
    publish(cluster, "alerts", "alerts")
    return folder


def typed(command: str, folder: Path, servers: str) -> subprocess.CompletedProcess[str]:
    """Run a command as it stands in the README, on this Kafka and in this environment."""
    command = command.replace("HOST:PORT", servers).replace(".venv/bin/", f"{shlex.quote(PROGRAMS)}/")
    return subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def ending(command: str) -> str:
    """Add the one option that lets a service end."""
    services = ("broker-consumer", "broker-subscribe")
    if any(name in command for name in services) and "--exit-at-end" not in command:
        return f"{command} --exit-at-end"
    return command


def consumer_command() -> str:
    """What the README tells an operator to leave running."""
    (command,) = [
        line
        for line in readme_commands()
        if "broker-consumer" in line and "--check" not in line and "--head" not in line
    ]
    return command


def place(command: str) -> int:
    """Bring commands into their order: a subscriber has something to see only behind the consumer."""
    before = (
        command.startswith(".venv/bin/broker-topics"),
        command.endswith("--check"),
        command == consumer_command(),
    )
    return before.index(True) if any(before) else len(before)


def predictions(folder: Path) -> list[dict[str, str]]:
    """Read what the head said."""
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_readme_s_commands_work(here, cluster):
    commands = [command for command in readme_commands() if command not in BY_OTHER_TESTS]
    commands.sort(key=place)
    said = {}
    for command in commands:
        done = typed(ending(command), here, cluster.servers)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        said[command] = done.stdout + done.stderr
    assert f"consumed {ALERTS + 2}: enriched {ALERTS + 1}" in said[consumer_command()]
    assert "none to be mended: the consumer can start" in said[f"{consumer_command()} --check"]
    fitted = next(text for command, text in said.items() if "fit-head" in command)
    assert f"{ALERTS} labels with their alert; 0 labels without an alert" in fitted
    assert (here / "my_head.png").exists()
    answers = predictions(here)
    assert len(answers) == ALERTS
    assert len(pq.read_table(here / "features.parquet")) == ALERTS
    assert all(float(row["p_even"]) + float(row["p_odd"]) == pytest.approx(1, abs=2e-4) for row in answers)
    assert len(said) >= 6


def example(here: Path, cluster, topic: str, threshold: str = "0") -> subprocess.CompletedProcess[str]:
    """Run the subscriber's example."""
    script = ".venv/bin/python examples/subscribe.py"
    return typed(f"{script} {cluster.servers} {topic} {threshold}", here, cluster.servers)


def test_the_subscriber_s_example_shows_alerts_it_chose_by_their_headers(here, cluster):
    typed(ending(consumer_command()), here, cluster.servers)
    # Not the first run where the README's commands went before: each sees the same.
    done = example(here, cluster, "alerts.enriched")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("lsst:") == ALERTS
    assert "interesting 0." in done.stdout
    assert f"{ALERTS + 1} of {ALERTS + 1} alerts are interesting to 0.0 or more" in done.stderr


@pytest.mark.parametrize(
    ("topic", "threshold", "why"),
    [
        ("alerts", "0", "topic alerts holds alerts as their survey sends them"),
        ("alerts.dead-letter", "0", "topic alerts.dead-letter holds dead letters"),
        ("alerts.enriched", "", "usage: python examples/subscribe.py"),
        ("alerts.enriched", "high", "usage: python examples/subscribe.py"),
    ],
)
def test_the_subscriber_s_example_says_what_it_was_wrongly_given(here, cluster, topic, threshold, why):
    typed(ending(consumer_command()), here, cluster.servers)
    done = example(here, cluster, topic, threshold)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(why)


def test_all_of_it_can_be_tried_on_one_machine(here):
    text = (PROJECT / "docs" / "operating.md").read_text()
    (script,) = re.findall(r"```sh\n(broker-embedded-kafka.*?)```", text, re.DOTALL)
    done = typed(f"set -e; PATH={shlex.quote(PROGRAMS)}:$PATH\n{script}", here, "")
    assert done.returncode == 0, done.stderr
    assert f"consumed {ALERTS}: enriched {ALERTS}" in done.stdout
    assert f"{ALERTS} records" in done.stderr


def test_the_operator_s_example_is_a_configuration_that_runs(here, cluster):
    publish(cluster, "lsst-alerts-v11", "nightjar.lsst")
    group = f"example-{uuid.uuid4().hex[:6]}"
    command = (
        f".venv/bin/broker-consumer --config examples/consumer.yaml --bootstrap-servers HOST:PORT "
        f"--group-id {group} --exit-at-end"
    )
    done = typed(command, here, cluster.servers)
    assert done.returncode == 0, done.stderr
    assert len(cluster.read("nightjar.lsst.enriched")) == ALERTS + 1
    assert len(cluster.read("nightjar.lsst.dead-letter")) == 1


def test_the_code_on_the_wire_s_page_decodes_a_message():
    text = (PROJECT / "docs" / "wire.md").read_text()
    derived, code = sorted(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    *statements, shown = code.strip().splitlines()
    names = {"value": schemas.sample("enriched_alert.v1.lsst.v11_1")}
    exec("\n".join(statements), names)
    anomaly, ra = eval(shown, names)
    assert 0 <= anomaly <= 1
    assert ra == pytest.approx(51.909375)
    mark = schemas.entry(schemas.enriched_name("lsst.v11_1")).fingerprint
    names = {
        "schemas": schemas,
        "survey_schema": schemas.input_form("lsst.v11_1"),
        "header_schema_fingerprint": mark,
    }
    exec(derived, names)
    assert names["schema"] == schemas.load(schemas.enriched_name("lsst.v11_1"))
