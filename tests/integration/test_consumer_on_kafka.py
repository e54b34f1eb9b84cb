"""``broker-consumer`` as a process, on a real Apache Kafka."""

import io
import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import fastavro
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

import schemas
from broker.settings.membership import Classic
from broker.testing.broken import broken_lsst_stamps, broken_messages, broken_ztf_stamps
from broker.testing.packets import example_stamps, lsst_packet, ztf_packet

from .conftest import INT, TERM, Cluster

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

Run = Callable[..., tuple[int, str, str]]


def headers(message) -> dict[str, str]:
    return {name: value.decode() for name, value in message.headers()}


def datum_of(packet: bytes) -> bytes:
    """Datum of a packet, found by fastavro alone."""
    if packet[:1] == b"\0":
        return packet[5:]
    (block,) = fastavro.block_reader(io.BytesIO(packet))
    return block.bytes_.getvalue()


def decoded(message) -> dict:
    """Decode by the header and the bundled schemas, with fastavro and nothing else."""
    value, schema = message.value(), schemas.by_fingerprint(headers(message)["schema-fingerprint"])
    source = io.BytesIO(value[5:])
    record = fastavro.schemaless_reader(source, fastavro.parse_schema(schema), None)
    assert not source.read(), "bytes are left after the record"
    return record


def mixed(count: int) -> list[bytes]:
    """Generated packets of both surveys and several schemas."""
    rubin = [lsst_packet(schema_id=sid, alert_id=n + 1) for n, sid in enumerate((701, 704, 900, 1000, 1101))]
    zwicky = [ztf_packet(alert_id=n + 1) for n in range(3)]
    packets = rubin + zwicky
    return [packets[n % len(packets)] for n in range(count)]


def check_enriched(cluster: Cluster, topic: str, packets: Sequence[bytes]) -> None:
    """Each packet came out once, whole, and ends with the datum that went in."""
    found = cluster.read(f"{topic}.enriched")
    assert len(found) == len(packets)
    partitions = len({m.partition() for m in cluster.read(topic)})
    seen = set()
    for message in found:
        about = headers(message)
        place = int(about["source-partition"]), int(about["source-offset"])
        seen.add(place)
        packet = packets[place[1] * partitions + place[0]]
        assert message.value().endswith(datum_of(packet))
        record = decoded(message)
        assert str(record["enrichment"]["alert_id"]) == about["alert-id"]
        assert message.key().decode() == f"{about['survey']}:{about['object-id']}"
        assert about["source-topic"] == topic
    assert len(seen) == len(packets)


def test_generated_packets_of_both_surveys_come_out_whole(cluster: Cluster, consume: Run) -> None:
    topic, packets = cluster.make(), mixed(24)
    cluster.publish(topic, packets)
    code, output, log = consume(topic)
    assert code == 0, log
    assert re.match(r"consumed 24: enriched 24 .*rejected 0, \d+ alerts/s\n", output)
    check_enriched(cluster, topic, packets)
    assert cluster.committed(topic, f"group-{topic}") == 24


def test_every_real_packet_comes_out_enriched_or_partial(
    cluster: Cluster, consume: Run, lsst_paths: list[Path], ztf_paths: list[Path]
) -> None:
    paths = sorted(lsst_paths + ztf_paths, key=lambda path: path.name)
    packets = [path.read_bytes() for path in paths]
    topic = cluster.make(partitions=3)
    cluster.publish(topic, packets)
    code, output, log = consume(topic)
    assert code == 0, log
    assert output.startswith(f"consumed {len(packets)}: enriched {len(packets)} "), output
    assert cluster.read(f"{topic}.dead-letter") == []
    check_enriched(cluster, topic, packets)


def test_broken_messages_become_dead_letters_and_the_consumer_goes_on(cluster: Cluster, consume: Run) -> None:
    topic, broken = cluster.make(partitions=1), broken_messages()
    values: list[bytes | None] = []
    for bad in broken:
        values += [bad.value, lsst_packet()]
    cluster.publish(topic, values)
    code, output, log = consume(topic)
    assert code == 0, log
    assert len(cluster.read(f"{topic}.enriched")) == len(broken)
    letters = cluster.read(f"{topic}.dead-letter")
    found = {int(headers(letter)["source-offset"]): letter for letter in letters}
    assert sorted(found) == list(range(0, 2 * len(broken), 2))
    for offset, letter in found.items():
        bad, record = broken[offset // 2], decoded(letter)
        assert (bad.label, record["reason"]) == (bad.label, bad.reason)
        assert headers(letter)["reason"] == bad.reason
        assert record["value"] == bad.value
        assert (record["topic"], record["partition"], record["offset"]) == (topic, 0, offset)
        assert record["headers"] == [{"name": "number", "value": str(offset).encode()}]
    reasons = Counter(bad.reason.value for bad in broken)
    assert all(f"{reason} {count}" in output for reason, count in reasons.items())


def test_broken_stamps_become_partials(cluster: Cluster, consume: Run) -> None:
    rubin, zwicky = example_stamps(), example_stamps(ztf=True)
    packets = [lsst_packet([bad.content, *rubin[1:]]) for bad in broken_lsst_stamps()]
    packets += [ztf_packet([zwicky[0], zwicky[1], bad.content]) for bad in broken_ztf_stamps()]
    packets.append(lsst_packet([rubin[0], None, rubin[2]]))
    topic = cluster.make(partitions=1)
    cluster.publish(topic, packets)
    code, output, log = consume(topic)
    assert code == 0, log
    flags = [headers(message)["flags"].split(",") for message in cluster.read(f"{topic}.enriched")]
    wanted = (
        ["cutout_unreadable:science"] * 3 + ["cutout_unreadable:difference"] * 3 + ["cutout_null:template"]
    )
    assert all(flag in found for flag, found in zip(wanted, flags, strict=True))
    assert f"(of these {len(packets)} partial)" in output
    check_enriched(cluster, topic, packets)


def test_without_validation_whole_packets_come_out_the_same(cluster: Cluster, consume: Run) -> None:
    topic, packets = cluster.make(), mixed(8)
    cluster.publish(topic, packets)
    assert consume(topic, "--validate", "off")[0] == 0
    check_enriched(cluster, topic, packets)


def test_a_second_run_goes_on_where_the_first_ended(cluster: Cluster, consume: Run) -> None:
    topic = cluster.make()
    cluster.publish(topic, mixed(4))
    assert consume(topic)[1].startswith("consumed 4:")
    assert consume(topic)[1].startswith("consumed 0:")
    cluster.publish(topic, mixed(2))
    assert consume(topic)[1].startswith("consumed 2:")


class TestExitAtEnd:
    """It ends where every assigned partition had its end at start."""

    def test_an_empty_topic(self, cluster: Cluster, consume: Run) -> None:
        code, output, _ = consume(cluster.make())
        assert (code, output) == (0, "consumed 0: enriched 0 (of these 0 partial), rejected 0\n")

    def test_one_partition_of_many_has_messages(self, cluster: Cluster, consume: Run) -> None:
        topic = cluster.make(partitions=5)
        cluster.publish(topic, mixed(1))
        assert consume(topic)[1].startswith("consumed 1:")

    def test_transaction_markers_at_the_end(self, cluster: Cluster, consume: Run) -> None:
        topic = cluster.make()
        for _ in range(2):
            cluster.publish(topic, mixed(2), **{"transactional.id": topic})
        assert consume(topic)[1].startswith("consumed 4:")
        assert consume(topic)[1].startswith("consumed 0:")

    def test_a_consumer_without_partitions(self, cluster: Cluster, start, kafka, untrained_model) -> None:
        topic = cluster.make(partitions=1)
        cluster.publish(topic, mixed(3))
        common = (
            "--topic",
            topic,
            "--bootstrap-servers",
            kafka,
            "--group-id",
            topic,
            "--model",
            str(untrained_model),
        )
        holder = start("broker-consumer", *common)
        deadline = time.monotonic() + 60
        while cluster.committed(topic, topic) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        began = time.monotonic()
        idle = start("broker-consumer", *common, "--exit-at-end")
        output, log = idle.communicate(timeout=60)
        assert (idle.returncode, output[:11]) == (0, "consumed 0:"), log
        # Not before a group that takes its time would have handed it some.
        assert time.monotonic() - began > Classic().settle_seconds
        holder.send_signal(TERM)
        output, log = holder.communicate(timeout=60)
        assert (holder.returncode, output[:11]) == (0, "consumed 3:"), log


@pytest.mark.parametrize("signal", [TERM, INT])
def test_a_signal_drains_and_commits(
    cluster: Cluster, start, kafka: str, untrained_model: Path, eventually, signal: int
) -> None:
    topic, group = cluster.make(), "drained"
    packets = mixed(3000)
    cluster.publish(topic, packets)
    process: subprocess.Popen[str] = start(
        "broker-consumer",
        *(
            "--topic",
            topic,
            "--bootstrap-servers",
            kafka,
            "--group-id",
            group,
            "--model",
            str(untrained_model),
        ),
        BROKER_CONSUMER__BATCH_SIZE="50",
    )
    eventually(lambda: cluster.committed(topic, group) > 0)
    process.send_signal(signal)
    output, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    consumed = int(re.match(r"consumed (\d+):", output)[1])
    assert 0 < consumed < len(packets)
    assert cluster.committed(topic, group) == consumed == len(cluster.read(f"{topic}.enriched"))


def test_start_time_applies_only_where_nothing_is_committed(cluster: Cluster, consume: Run) -> None:
    topic = cluster.make(partitions=1)
    cluster.publish(topic, mixed(3))
    time.sleep(0.05)
    middle = time.time()
    time.sleep(0.05)
    cluster.publish(topic, mixed(2))
    since = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(middle)) + f".{int(middle % 1 * 1000):03d}Z"
    assert consume(topic, "--start", since)[1].startswith("consumed 2:")
    assert consume(topic, "--start", "2000-01-01")[1].startswith("consumed 0:")


def test_latest_leaves_out_what_is_there(cluster: Cluster, consume: Run) -> None:
    topic = cluster.make()
    cluster.publish(topic, mixed(3))
    assert consume(topic, "--start", "latest")[1].startswith("consumed 0:")


def test_what_retention_has_left_is_read_whatever_start_says(cluster: Cluster, consume: Run) -> None:
    topic = cluster.make(partitions=1)
    cluster.publish(topic, mixed(2))
    assert consume(topic)[1].startswith("consumed 2:")
    cluster.publish(topic, mixed(4))
    admin = AdminClient({"bootstrap.servers": cluster.servers})
    (removed,) = admin.delete_records([TopicPartition(topic, 0, 4)]).values()
    removed.result(timeout=30)
    code, output, log = consume(topic, "--start", "latest")
    assert (code, output[:11]) == (0, "consumed 2:"), log


def test_a_pattern_with_a_prefix(cluster: Cluster, run: Run, kafka: str, untrained_model: Path) -> None:
    one, two = cluster.make(outputs=True), cluster.make(outputs=False)
    cluster.publish(one, mixed(2))
    cluster.publish(two, mixed(3))
    pattern, model = f"({one}|{two}).*", str(untrained_model)
    code, output, log = run(
        "broker-consumer",
        *("--topic-pattern", pattern, "--output-prefix", one, "--bootstrap-servers", kafka),
        *("--group-id", one, "--model", model, "--exit-at-end"),
    )
    assert (code, output[:11]) == (0, "consumed 5:"), log
    assert {headers(m)["source-topic"] for m in cluster.read(f"{one}.enriched")} == {one, two}


def test_two_clusters(cluster: Cluster, consume: Run) -> None:
    from broker.kafka import EmbeddedKafka  # noqa: PLC0415 -- this test alone

    topic = cluster.make(outputs=False)
    cluster.publish(topic, mixed(8))
    with EmbeddedKafka() as other:
        elsewhere = Cluster(other.bootstrap_servers)
        code, output, log = consume(topic, "--sink-bootstrap-servers", other.bootstrap_servers)
        assert (code, output[:11]) == (0, "consumed 8:"), log
        assert len(elsewhere.read(f"{topic}.enriched")) == 8


class TestRefusals:
    """One line that says what was found, what was wanted, what to do; then an exit code."""

    def test_a_missing_topic(self, cluster: Cluster, consume: Run) -> None:
        topic = cluster.make()
        began = time.monotonic()
        code, output, log = consume(f"{topic}x")
        assert (code, output) == (2, "")
        assert f"topic {topic}x does not exist (there are {topic}" in log.splitlines()[-1]
        assert time.monotonic() - began < 20

    def test_no_broker(self, run: Run, untrained_model: Path) -> None:
        arguments = (
            "--topic",
            "alerts",
            "--bootstrap-servers",
            "127.0.0.1:1",
            "--model",
            str(untrained_model),
        )
        code, _, log = run("broker-consumer", *arguments, BROKER_CONSUMER__CONNECT_SECONDS="2")
        assert code == 1
        assert "no Kafka broker answered at 127.0.0.1:1 within 2 s" in log.splitlines()[-1]

    def test_a_missing_output_topic(self, cluster: Cluster, consume: Run) -> None:
        topic = cluster.make(outputs=False)
        cluster.publish(topic, mixed(1))
        code, output, log = consume(topic)
        assert (code, output) == (2, "")
        last = log.splitlines()[-1]
        assert f"topic {topic}.enriched, to write to, does not exist" in last
        assert f"({topic}.enriched, {topic}.dead-letter are needed)" in last
        assert cluster.committed(topic, f"group-{topic}") == 0

    def test_a_setting(self, run: Run) -> None:
        code, _, log = run("broker-consumer", "--topic", "a", "--topic", "b")
        assert code == 2
        wanted = "several topics, or a pattern, need a stated output_prefix: give --output-prefix NAME"
        assert log == f"broker-consumer: {wanted}\n"

    def test_a_model(self, run: Run, tmp_path: Path) -> None:
        model = tmp_path / "broken.onnx"
        model.write_bytes(b"not a model")
        code, _, log = run("broker-consumer", "--topic", "a", "--model", str(model))
        assert code == 2
        assert "is not a readable ONNX model" in log.splitlines()[-1]


def test_replay_and_subscribe_around_the_consumer(
    cluster: Cluster, consume: Run, run: Run, kafka: str, tmp_path: Path
) -> None:
    topic = cluster.make()
    for number, packet in enumerate([*mixed(8), b"Obj\x01broken"]):
        (tmp_path / f"{number}.avro").write_bytes(packet)
    at = ("--bootstrap-servers", kafka)
    code, output, log = run("broker-replay", str(tmp_path), "--topic", topic, *at)
    assert (code, output) == (0, f"published 9 alerts of 9 files on {topic}\n"), log
    assert consume(topic)[1].startswith("consumed 9: enriched 8 ")
    reading = ("--topic", f"{topic}.enriched", "--exit-at-end", *at)
    code, output, _ = run("broker-subscribe", *reading, "--format", "jsonl")
    enrichments = [json.loads(line)["enrichment"] for line in output.splitlines()]
    assert (code, len(enrichments)) == (0, 8)
    assert {len(one["embedding"]) for one in enrichments} == {64}
    code, output, _ = run("broker-subscribe", *reading, "--survey", "ztf")
    assert (code, output.count("ZTF24aaaaaaa")) == (0, 3)
    code, output, _ = run("broker-subscribe", *reading, "--group-id", f"readers-{topic}", "--limit", "3")
    assert (code, cluster.committed(f"{topic}.enriched", f"readers-{topic}")) == (0, 3)
    code, output, _ = run("broker-subscribe", "--topic", f"{topic}.dead-letter", "--exit-at-end", *at)
    assert (code, output.count("container_invalid")) == (0, 1)


def test_consumers_that_come_and_go_lose_nothing(
    cluster: Cluster, start, kafka: str, untrained_model: Path, eventually
) -> None:
    topic, group = cluster.make(partitions=4), "come-and-go"
    packets = mixed(2000)
    cluster.publish(topic, packets)
    common = ("--topic", topic, "--bootstrap-servers", kafka, "--group-id", group)
    begin = [*common, "--model", str(untrained_model)]
    small = {"BROKER_CONSUMER__BATCH_SIZE": "20"}
    first = start("broker-consumer", *begin, **small)
    eventually(lambda: cluster.committed(topic, group) > 0)
    second = start("broker-consumer", *begin, **small)
    eventually(lambda: "assigned alerts" in read_so_far(second))
    first.send_signal(TERM)
    first.communicate(timeout=60)
    third = start("broker-consumer", *begin, "--exit-at-end", **small)
    _, log = third.communicate(timeout=100)
    assert third.returncode == 0, log
    eventually(lambda: cluster.committed(topic, group) == len(packets))
    second.send_signal(TERM)
    second.communicate(timeout=60)
    places = {
        (headers(message)["source-partition"], headers(message)["source-offset"])
        for message in cluster.read(f"{topic}.enriched")
    }
    assert len(places) == len(packets)


def read_so_far(process: subprocess.Popen[str]) -> str:
    """One line of a process's log."""
    return process.stderr.readline()
