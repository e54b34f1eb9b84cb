"""``broker-redrive`` as a process, on a real Apache Kafka: nothing lost, nothing twice."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from broker.alert import Message, Rejected
from broker.errors import Reason
from broker.kafka.source import as_message
from broker.records import RecordBuilder
from broker.testing.broken import broken_messages

from .conftest import Cluster

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

Run = Callable[..., tuple[int, str, str]]
PROJECT = Path(__file__).resolve().parents[2]
BROKEN = broken_messages()
WITH_VALUE = [bad for bad in BROKEN if bad.value is not None]
OLD_MS = 1_600_000_000_000
"""A time far before any retention."""


@pytest.fixture
def redrive(run: Run, kafka: str) -> Run:
    """Run the program over the letters of a topic."""

    def call(topic: str, *arguments: str) -> tuple[int, str, str]:
        return run(
            "broker-redrive", "--bootstrap-servers", kafka, "--topic", f"{topic}.dead-letter", *arguments
        )

    return call


@pytest.fixture
def broken(cluster: Cluster) -> str:
    """Make a topic with every kind of broken message, old ones, and the topics that belong to it."""
    topic = made(cluster, partitions=2)
    producer = Producer({"bootstrap.servers": cluster.servers, "message.max.bytes": 10_485_760})
    for number, bad in enumerate(BROKEN):
        headers = [("number", b"%d" % number), ("odd", None), ("odd", b"\xff")]
        producer.produce(topic, bad.value, b"\xfe%d" % number, headers=headers, timestamp=OLD_MS + number)
    assert producer.flush(60) == 0
    return topic


@pytest.fixture
def letters(cluster: Cluster, broken: str) -> str:
    """Make that topic, and reject its messages as the consumer does."""
    write(
        cluster,
        *(letter_of(as_message(one), broken, BROKEN[number_of(one)].reason) for one in cluster.read(broken)),
    )
    return broken


def number_of(message) -> int:
    return int(dict(message.headers())["number"])


def check(cluster: Cluster, topic: str, count: int = 1) -> list[int]:
    """Every redriven message is the source's own, with five headers behind; their numbers."""
    source = {number_of(message): message for message in cluster.read(topic)}
    numbers = []
    for message in cluster.read(f"{topic}.redrive"):
        first = source[number_of(message)]
        assert (message.value(), message.key()) == (first.value(), first.key())
        assert message.headers() == [
            *first.headers(),
            ("redrive-count", b"%d" % count),
            ("source-topic", topic.encode()),
            ("source-partition", b"%d" % first.partition()),
            ("source-offset", b"%d" % first.offset()),
            ("source-timestamp", b"%d" % first.timestamp()[1]),
        ]
        numbers.append(number_of(message))
    return sorted(numbers)


def test_what_the_consumer_rejects_is_redriven_byte_for_byte_and_once(
    cluster: Cluster, broken: str, consume: Run, redrive: Run
) -> None:
    topic = broken
    assert f"rejected {len(BROKEN)}" in consume(topic)[1]
    wanted = [number for number, bad in enumerate(BROKEN) if bad.value is not None]
    code, output, log = redrive(topic)
    assert (code, log) == (0, "")
    assert output.splitlines()[-1] == f"redriven {len(wanted)} of {len(BROKEN)} letters to {topic}.redrive"
    assert check(cluster, topic) == wanted
    code, output, _ = redrive(topic)
    assert (code, output.splitlines()[-1]) == (0, f"redriven 0 of {len(BROKEN)} letters to {topic}.redrive")
    assert check(cluster, topic) == wanted


def test_a_run_by_reason_passes_over_the_others_for_no_longer_than_itself(
    cluster: Cluster, letters: str, redrive: Run
) -> None:
    topic = letters
    framed = [n for n, bad in enumerate(BROKEN) if bad.reason is Reason.FRAME_INVALID]
    code, output, log = redrive(topic, "--reason", "frame_invalid", "--limit", "2")
    assert (code, log) == (0, f"passed over by the choice: {len(BROKEN) - len(framed)}\n")
    assert output.splitlines()[-1].startswith(f"redriven 2 of {len(framed)} letters")
    assert set(check(cluster, topic)) < set(framed)
    redrive(topic, "--reason", "frame_invalid")
    assert check(cluster, topic) == framed
    redrive(topic, "--tombstones")
    assert check(cluster, topic) == list(range(len(BROKEN)))


@pytest.mark.parametrize(
    ("choice", "is_meant"),
    [
        (["--since", "2020-01-01"], True),
        (["--since", "2120-01-01"], False),
        (["--until", "2020-01-01"], False),
        (["--rejected-by", "99.0"], False),
    ],
)
def test_a_dry_run_prints_the_table_and_writes_nothing(
    cluster: Cluster, redrive: Run, one_letter: str, choice: list[str], *, is_meant: bool
) -> None:
    code, output, _ = redrive(one_letter, "--dry-run", *choice)
    assert code == 0
    count = 1 if is_meant else 0
    letters = "letter" if is_meant else "letters"
    last = f"to redrive: {count} of {count} {letters}; nothing was published (--dry-run)"
    assert output.splitlines()[-1] == last
    if is_meant:
        assert re.match(r"reason +rejected by +schema +letters +to redrive\n", output)
        assert re.search(r"^schema_unknown +\S+ +id 4242 +1 +1$", output, re.MULTILINE)
    assert cluster.read(f"{one_letter}.redrive") == []


@pytest.fixture(scope="module")
def one_letter(cluster: Cluster) -> str:
    """A topic with one letter, and what belongs to it."""
    topic = made(cluster)
    write(cluster, letter_of(Message(b"\0\0\0\x10\x92x", topic, 0, 0, None, (), OLD_MS), topic))
    return topic


def made(cluster: Cluster, partitions: int = 1) -> str:
    topic = cluster.make(partitions)
    admin = AdminClient({"bootstrap.servers": cluster.servers})
    own_time = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "10485760"}
    for future in admin.create_topics([NewTopic(f"{topic}.redrive", 1, 1, config=own_time)]).values():
        future.result(timeout=30)
    return topic


def letter_of(message: Message, prefix: str, reason: Reason = Reason.SCHEMA_UNKNOWN):
    build = RecordBuilder(lambda _topic: prefix, "0.1.0")
    (record,) = build(Rejected(message, reason, "cannot be read")).records
    return record


def write(cluster: Cluster, *records) -> None:
    producer = Producer({"bootstrap.servers": cluster.servers, "message.max.bytes": 10_485_760})
    for record in records:
        producer.produce(record.topic, record.value, record.key, headers=list(record.headers))
    assert producer.flush(60) == 0


def test_the_limit_stops_a_message_that_comes_back_each_time(cluster: Cluster, redrive: Run) -> None:
    topic = made(cluster)
    write(cluster, letter_of(Message(b"\0\0\0\x10\x92x", topic, 0, 0, None, (("a", b"b"),), OLD_MS), topic))
    for count in (1, 2):
        code, output, _ = redrive(topic, "--limit-redrives", "2")
        assert f"redriven 1 of {count} letter" in output
        *_, last = cluster.read(f"{topic}.redrive")
        headers = dict(last.headers())
        assert (headers["redrive-count"], headers["source-topic"]) == (b"%d" % count, topic.encode())
        assert len(last.headers()) == 6
        # What the consumer does with it while its schema stays unknown.
        place = f"{topic}.redrive", 0, last.offset(), None, tuple(last.headers()), OLD_MS
        write(cluster, letter_of(Message(last.value(), *place), topic))
    code, output, _ = redrive(topic, "--limit-redrives", "2")
    assert (code, output.splitlines()[-1]) == (0, f"redriven 0 of 3 letters to {topic}.redrive")
    assert output.splitlines()[0].split("  ")[-1].strip() == "at the limit"
    assert re.search(r"id 4242 +3 +0 +2 +1$", output, re.MULTILINE)
    assert len(cluster.read(f"{topic}.redrive")) == 2


def test_what_is_no_letter_is_said_and_the_others_are_redriven(cluster: Cluster, redrive: Run) -> None:
    topic = made(cluster)
    cluster.publish(f"{topic}.dead-letter", [b"no letter"])
    write(cluster, letter_of(Message(b"x", topic, 0, 0), topic))
    code, output, log = redrive(topic)
    assert code == 1
    assert output.splitlines()[-1] == f"redriven 1 of 1 letter to {topic}.redrive"
    assert f"{topic}.dead-letter[0] offset 0 is not a dead letter of this broker" in log


def test_without_the_redrive_topic_it_says_how_to_make_it(cluster: Cluster, redrive: Run) -> None:
    topic = cluster.make(partitions=1)
    write(cluster, letter_of(Message(b"x", topic, 0, 0), topic))
    code, output, log = redrive(topic)
    assert (code, output) == (2, "")
    assert (
        f"does not exist: make it by broker-topics --prefix {topic} --bootstrap-servers {cluster.servers} --create"
        in log
    )
    assert redrive(topic, "--dry-run")[0] == 0


def test_an_export_has_the_packets_and_why(
    cluster: Cluster, letters: str, redrive: Run, tmp_path: Path
) -> None:
    topic = letters
    folder = tmp_path / "letters"
    code, output, log = redrive(topic, "--export", str(folder))
    assert (code, log) == (0, "")
    assert output.splitlines()[-1] == f"exported {len(BROKEN)} letters to {folder}"
    assert len(list(folder.iterdir())) == len(BROKEN) + len(WITH_VALUE)
    source = {(m.partition(), m.offset()): m for m in cluster.read(topic)}
    for sidecar in folder.glob("*.json"):
        said = json.loads(sidecar.read_text())
        message = source[said["source"]["partition"], said["source"]["offset"]]
        bad = BROKEN[number_of(message)]
        assert said["reason"] == bad.reason
        packet = sidecar.with_suffix(".avro")
        assert (packet.read_bytes() if packet.exists() else None) == bad.value
    assert cluster.read(f"{topic}.redrive") == []
    assert redrive(topic, "--export", str(folder))[0] == 0
    next(folder.glob("*.avro")).write_bytes(b"another")
    code, _, log = redrive(topic, "--export", str(folder))
    assert code == 2
    assert "holds something else (7 bytes" in log


def page_commands() -> list[str]:
    """Lines of the page's shell blocks, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", (PROJECT / "docs" / "dead-letters.md").read_text(), re.DOTALL)
    lines = (line.partition("  #")[0].strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line]


def test_the_page_s_commands_work(cluster: Cluster, letters: str, run: Run, tmp_path: Path) -> None:
    topic = letters
    said = {}
    for command in page_commands():
        typed = command.replace("alerts", topic).replace("HOST:PORT", cluster.servers)
        typed = re.sub(
            r"\.venv/bin/broker-(\w+)",
            lambda found: f"{shlex.quote(sys.executable)} -m broker.cli.{found[1]}",
            typed,
        )
        end = " --exit-at-end" if "broker-subscribe" in command else ""
        done = subprocess.run(
            f"PYTHONPATH={shlex.quote(str(PROJECT))} {typed}{end}",
            shell=True,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        said[command] = done.stdout
    programs = {re.search(r"broker-\w+", command)[0] for command in said}
    assert programs == {"broker-topics", "broker-subscribe", "broker-redrive"}
    assert sum("redriven " in text and "redriven 0" not in text for text in said.values()) >= 2
    assert any(path.suffix == ".json" for path in (tmp_path / "letters").iterdir())
