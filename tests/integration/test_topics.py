"""``broker-topics`` as a process, on a real Apache Kafka."""

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from broker.kafka import EmbeddedKafka

from .conftest import Cluster
from .kafka_server import KafkaServer

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

Run = Callable[..., tuple[int, str, str]]
DAY = 86_400_000


@pytest.fixture
def topics(run: Run, kafka: str) -> Run:
    """Run the program on the plain listener."""

    def call(*arguments: str) -> tuple[int, str, str]:
        return run("broker-topics", "--bootstrap-servers", kafka, *arguments)

    return call


def there(kafka: str, prefix: str) -> dict[str, tuple[int, dict[str, str]]]:
    """Topics that begin so: partitions, and the settings that are their own."""
    admin = AdminClient({"bootstrap.servers": kafka})
    metadata = admin.list_topics(timeout=10).topics
    found = {}
    for name in sorted(name for name in metadata if name.startswith(prefix)):
        (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)]).values()
        own = {key: entry.value for key, entry in future.result(10).items() if not entry.is_default}
        found[name] = len(metadata[name].partitions), own
    return found


def rows(output: str) -> dict[str, list[str]]:
    """Cells of the table by topic; two spaces stand between them."""
    lines = [line.split("  ") for line in output.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    return {line[0]: line[1:] for line in cells if len(line) > 1}


def test_what_is_missing_is_shown_and_made_only_on_request(cluster: Cluster, topics: Run) -> None:
    source = cluster.make(partitions=3, outputs=False)
    code, output, _ = topics("--prefix", source)
    assert (code, output.splitlines()[-1]) == (0, "4 topics missing: make with --create")
    assert rows(output)[source][:3] == ["yes (input)", "3", "1"]
    assert rows(output)[f"{source}.enriched"] == ["no", "3", "1", "7 d", "10485760", "delete"]
    assert list(there(cluster.servers, source)) == [source]

    code, output, log = topics("--prefix", source, "--create")
    assert (code, log) == (0, "")
    assert {cells[0] for name, cells in rows(output).items() if name.startswith(f"{source}.")} == {"created"}
    wanted = {".dead-letter": (1, 90), ".enriched": (3, 7), ".lite": (3, 14), ".redrive": (1, 90)}
    made = there(cluster.servers, source)
    for suffix, (partitions, days) in wanted.items():
        number, settings = made[source + suffix]
        assert (number, settings["retention.ms"]) == (partitions, str(days * DAY))
        assert settings["max.message.bytes"] == "10485760"
        assert settings["compression.type"] == "producer"
    assert made[f"{source}.redrive"][1]["message.timestamp.type"] == "LogAppendTime"

    code, output, log = topics("--prefix", source, "--create")
    assert (code, log) == (0, "")
    assert {cells[0] for cells in rows(output).values()} == {"exists", "yes (input)", "yes"}


def test_what_exists_is_compared_and_left_as_it_is(cluster: Cluster, topics: Run, eventually) -> None:
    source = cluster.make(partitions=2, outputs=False)
    admin = AdminClient({"bootstrap.servers": cluster.servers})
    small = NewTopic(f"{source}.enriched", 1, 1, config={"max.message.bytes": "1048588"})
    short = NewTopic(f"{source}.dead-letter", 1, 1, config={"retention.ms": str(DAY)})
    for future in admin.create_topics([small, short]).values():
        future.result(timeout=30)
    # A topic is listed a moment after it is made.
    eventually(lambda: len(there(cluster.servers, source)) == 3)
    before = there(cluster.servers, source)
    code, output, log = topics("--prefix", source, "--create")
    assert code == 2
    assert "1 (wanted 2)" in rows(output)[f"{source}.enriched"]
    assert "1048588 (wanted 10485760)" in rows(output)[f"{source}.enriched"]
    assert "1 d (wanted 90 d)" in rows(output)[f"{source}.dead-letter"]
    found = f"broker-topics: {source}.enriched: max.message.bytes is 1048588, wanted 10485760"
    assert f"{found}: records will be lost or refused: alter it" in log
    assert f"{source}.dead-letter: retention.ms is {DAY}, wanted {90 * DAY}: left as it is" in log
    after = there(cluster.servers, source)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {f"{source}.lite", f"{source}.redrive"}


def test_without_the_input_partitions_must_be_said(cluster: Cluster, topics: Run) -> None:
    prefix = f"none-{uuid.uuid4().hex[:8]}"
    code, output, log = topics("--prefix", prefix, "--create")
    assert (code, output) == (2, "")
    assert f"topic {prefix} does not exist, so nothing says how many partitions" in log
    assert there(cluster.servers, prefix) == {}
    code, output, _ = topics("--prefix", prefix, "--create", "--partitions", "4")
    assert code == 0
    assert rows(output)[prefix] == ["no", *"-----"]
    assert {name: number for name, (number, _) in there(cluster.servers, prefix).items()} == {
        f"{prefix}.enriched": 4,
        f"{prefix}.lite": 4,
        f"{prefix}.dead-letter": 1,
        f"{prefix}.redrive": 1,
    }


def test_an_input_of_another_name_gives_its_partitions(cluster: Cluster, topics: Run) -> None:
    source, prefix = cluster.make(partitions=6, outputs=False), f"out-{uuid.uuid4().hex[:8]}"
    code, _, log = topics("--prefix", prefix, "--source-topic", source, "--create")
    assert code == 0, log
    assert there(cluster.servers, prefix)[f"{prefix}.enriched"][0] == 6


def test_more_copies_than_brokers_are_refused(cluster: Cluster, topics: Run) -> None:
    source = cluster.make(outputs=False)
    code, _, log = topics("--prefix", source, "--create", "--replication", "3")
    assert code == 2
    assert "--replication 3: the cluster has 1 broker: give no more" in log
    assert list(there(cluster.servers, source)) == [source]


class MakesTopics(KafkaServer):
    """A cluster that makes a topic for whoever asks for it by its name, Kafka's own default."""

    def _properties(self) -> dict[str, object]:
        return {**super()._properties(), "auto.create.topics.enable": "true"}


def test_a_cluster_that_makes_topics_by_itself_is_not_led_to(run: Run, untrained_model: Path) -> None:
    with MakesTopics() as server:
        topic = Cluster(server.bootstrap_servers).make(outputs=False)
        servers = ("--bootstrap-servers", server.bootstrap_servers)
        consumer = ("--topic", topic, *servers, "--model", str(untrained_model), "--exit-at-end")
        code, _, log = run("broker-consumer", *consumer)
        assert code == 2
        advice = f"make it by broker-topics --prefix {topic} {' '.join(servers)} --create"
        assert advice in log.splitlines()[-1]
        assert list(there(server.bootstrap_servers, "alerts")) == [topic]
        assert run(*advice.removeprefix("make it by ").split())[0] == 0
        assert run("broker-consumer", *consumer)[0] == 0


@pytest.mark.parametrize("more", [(), ("--create",)])
def test_an_embedded_kafka_is_not_asked(run: Run, more: tuple[str, ...]) -> None:
    with EmbeddedKafka() as kafka:
        kafka.create_topic("alerts", 2)
        code, _, log = run(
            "broker-topics", "--prefix", "alerts", "--bootstrap-servers", kafka.bootstrap_servers, *more
        )
    assert (code, log.count("\n")) == (2, 1)
    assert "an embedded Kafka makes topics by itself" in log


def test_the_input_is_made_where_that_is_asked_for(cluster: Cluster, topics: Run) -> None:
    prefix = f"own-{uuid.uuid4().hex[:8]}"
    code, _, log = topics("--prefix", prefix, "--create", "--with-input", "--partitions", "3")
    assert (code, log) == (0, "")
    made = there(cluster.servers, prefix)
    assert {name.removeprefix(prefix): number for name, (number, _) in made.items()} == {
        "": 3,
        ".dead-letter": 1,
        ".enriched": 3,
        ".lite": 3,
        ".redrive": 1,
    }
    assert made[prefix][1]["max.message.bytes"] == "10485760"
    assert topics("--prefix", prefix, "--with-input")[0] == 2


def test_what_can_be_no_topic_is_refused_before_kafka_is_asked(topics: Run) -> None:
    code, _, log = topics("--prefix", "a b", "--create", "--partitions", "2")
    assert code == 2
    assert "'a b' cannot be the name of a topic" in log


@pytest.mark.parametrize("suffix", ["enriched", "dead-letter"])
def test_a_compacted_output_ends_the_consumer_before_it_reads(
    cluster: Cluster, consume: Run, suffix: str
) -> None:
    topic = cluster.make()
    cluster.set(f"{topic}.{suffix}", "cleanup.policy", "compact")
    code, output, log = consume(topic)
    assert (code, output) == (2, "")
    assert f"topic {topic}.{suffix}, to write to, is compacted" in log.splitlines()[-1]
