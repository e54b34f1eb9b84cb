"""A real Kafka, topics on it, and the programs as processes."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import authority
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

from . import kafka_server, registry_server, secured_server

RUN_SECONDS = 120


def needing(lacking: str | None = None) -> None:
    """Skip where Kafka, or what else is lacking, cannot run; fail there in CI."""
    lacking = lacking or kafka_server.missing()
    if lacking is not None:
        if os.environ.get("CI"):
            pytest.fail(f"the integration tests must run in CI: {lacking}")
        pytest.skip(lacking)


@pytest.fixture(scope="session")
def server() -> Iterator[kafka_server.KafkaServer]:
    """An Apache Kafka."""
    needing()
    with kafka_server.KafkaServer() as server:
        yield server


@pytest.fixture(scope="session")
def kafka(server: kafka_server.KafkaServer) -> str:
    """Bootstrap servers of its plain listener."""
    return server.bootstrap_servers


@pytest.fixture(scope="session")
def secured() -> Iterator[secured_server.SecuredServer]:
    """One that asks who we are."""
    needing(authority.missing())
    with secured_server.SecuredServer() as server:
        yield server


@pytest.fixture(scope="session")
def registry() -> Iterator[registry_server.RegistryServer]:
    """A schema registry; skips where it cannot run, and fails there in CI."""
    lacking = registry_server.missing()
    if lacking is not None:
        if os.environ.get("CI"):
            pytest.fail(f"the integration tests must run in CI: {lacking}")
        pytest.skip(lacking)
    with registry_server.RegistryServer() as registry:
        yield registry


@dataclass
class Cluster:
    """What a test asks of Kafka, by a client that is not ours."""

    servers: str
    replicas: int = 1

    def make(self, partitions: int = 2, *, outputs: bool = True, **settings: str) -> str:
        """Make a topic of the test's own, and the topics its results go to."""
        topic = f"alerts-{uuid.uuid4().hex[:8]}"
        names = [topic, f"{topic}.enriched", f"{topic}.dead-letter"] if outputs else [topic]
        admin = AdminClient({"bootstrap.servers": self.servers})
        config = {"max.message.bytes": "10485760", **settings}
        made = admin.create_topics(
            [NewTopic(name, partitions, self.replicas, config=config) for name in names]
        )
        for future in made.values():
            future.result(timeout=30)
        return topic

    def make_named(self, name: str, partitions: int, **settings: str) -> None:
        """Make one topic of a given name."""
        admin = AdminClient({"bootstrap.servers": self.servers})
        config = {"max.message.bytes": "10485760", **settings}
        admin.create_topics([NewTopic(name, partitions, self.replicas, config=config)])[name].result(
            timeout=30
        )

    def set(self, topic: str, name: str, value: str) -> None:
        """Change one setting of a topic."""
        admin = AdminClient({"bootstrap.servers": self.servers})
        change = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[change])
        admin.incremental_alter_configs([resource])[resource].result(timeout=30)

    def publish(self, topic: str, values: Sequence[bytes | None], **properties: object) -> None:
        """Publish values in turn over the partitions, in one transaction if the properties name one."""
        # Idempotent: a topic that was just made may refuse the first requests, which are then sent again out of order.
        settings = {
            "bootstrap.servers": self.servers,
            "message.max.bytes": 10_485_760,
            "enable.idempotence": True,
        }
        producer = Producer(settings | properties)
        if "transactional.id" in properties:
            producer.init_transactions(30)
            producer.begin_transaction()
        partitions = len(producer.list_topics(topic, timeout=10).topics[topic].partitions)
        for number, value in enumerate(values):
            headers = [("number", str(number).encode())]
            producer.produce(topic, value, partition=number % partitions, headers=headers)
            producer.poll(0)
        if "transactional.id" in properties:
            producer.commit_transaction(30)
        assert producer.flush(60) == 0

    def read(self, topic: str) -> list[KafkaMessage]:
        """Read everything on a topic."""
        settings = {"bootstrap.servers": self.servers, "group.id": "test", "enable.auto.commit": False}
        consumer = Consumer({**settings, "fetch.message.max.bytes": 10_485_760, "enable.partition.eof": True})
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        found, open_partitions = [], len(partitions)
        while open_partitions:
            message = consumer.poll(10)
            assert message is not None, "Kafka fell silent"
            if message.error() is None:
                found.append(message)
            else:
                open_partitions -= 1
        consumer.close()
        return found

    def groups(self) -> list[str]:
        """Names of the groups there are."""
        admin = AdminClient({"bootstrap.servers": self.servers})
        return [group.group_id for group in admin.list_consumer_groups().result(timeout=30).valid]

    def committed(self, topic: str, group: str) -> int:
        """Sum of a group's committed offsets."""
        return sum(self.positions(topic, group).values())

    def positions(self, topic: str, group: str) -> dict[int, int]:
        """A group's committed offset in each partition; 0 where there is none."""
        for patience in (
            10,
            10,
            30,
        ):  # one that was asked while its members were killed was seen not to answer
            consumer = Consumer({"bootstrap.servers": self.servers, "group.id": group})
            try:
                numbers = consumer.list_topics(topic, timeout=patience).topics[topic].partitions
                places = [TopicPartition(topic, number) for number in numbers]
                offsets = consumer.committed(places, timeout=patience)
            except KafkaException as error:
                failed = error
            else:
                return {partition.partition: max(0, partition.offset) for partition in offsets}
            finally:
                consumer.close()
        raise failed


@pytest.fixture(scope="session")
def cluster(kafka: str) -> Cluster:
    return Cluster(kafka)


@pytest.fixture(scope="session")
def record() -> Callable[[str, Any], None]:
    """Keep what the scenes of chaos found, for the document: in the file that `make chaos` names."""
    found: dict[str, Any] = {}
    report = os.environ.get("NIGHTJAR_CHAOS_REPORT")

    def keep(name: str, value: Any) -> None:
        found[name] = value
        if report:
            Path(report).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    return keep


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start one of the programs; what still runs after the test is killed."""
    running: list[subprocess.Popen[str]] = []

    def begin(program: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        module = "broker.cli." + program.removeprefix("broker-").replace("-", "_")
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment, "COLUMNS": "200", "PYTHONFAULTHANDLER": "1"},
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.send_signal(
                signal.SIGABRT
            )  # it tells where it stands, which is shown where the test failed
        try:
            sys.stderr.write(process.communicate(timeout=20)[1][-6000:])
        except (subprocess.TimeoutExpired, ValueError):
            process.kill()
            process.wait()


@pytest.fixture
def run(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., tuple[int, str, str]]:
    """Run one of the programs to its end: exit code, output, log."""

    def finish(program: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
        process = start(program, *arguments, **environment)
        try:
            output, log = process.communicate(timeout=RUN_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # it tells where it stands
            pytest.fail(f"{program} did not end in {RUN_SECONDS} s\n{process.communicate()[1][-6000:]}")
        return process.returncode, output, log

    return finish


@pytest.fixture
def consume(
    run: Callable[..., tuple[int, str, str]], kafka: str, untrained_model: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run the consumer over a topic to its end."""

    def over(topic: str, *arguments: str) -> tuple[int, str, str]:
        source = ("--topic", topic, "--bootstrap-servers", kafka, "--group-id", f"group-{topic}")
        return run("broker-consumer", *source, "--model", str(untrained_model), "--exit-at-end", *arguments)

    return over


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait until something holds."""

    def wait(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not asked(holds):
            assert time.monotonic() < deadline, "did not come to hold within 60 s"
            time.sleep(0.2)

    def asked(holds: Callable[[], bool]) -> bool:
        try:
            return holds()
        except KafkaException:  # a coordinator that has just begun has no answer yet
            return False

    return wait


TERM, INT = signal.SIGTERM, signal.SIGINT
