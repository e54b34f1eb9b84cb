"""What is promised of delivery, on a real Kafka; scenes of faults are in test_chaos.py and its neighbours."""

import functools
import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from broker.kafka import EmbeddedKafka
from broker.testing.packets import lsst_packet

from . import chaos
from .conftest import Cluster
from .ledger import Ledger, decode, read_all

Run = Callable[..., tuple[int, str, str]]
EXACTLY, LEAST = ("--delivery", "exactly-once"), ("--delivery", "at-least-once")
OUTPUTS = ("enriched", "dead-letter")

NOISE_SECONDS = 3.0
"""What a busy machine may add."""

packets = functools.partial(chaos.packets, ztf_every=2, broken_every=10)

LARGE = [random.Random(n).randbytes(60_000) for n in range(3)]
"""Stamps that no compression makes small."""


def account(
    cluster: Cluster, topic: str, values: list[bytes], partitions: int = 2, *, lite: bool = False
) -> Ledger:
    """Read what came of values published in turn over partitions."""
    sent = {(topic, n % partitions, n // partitions): value for n, value in enumerate(values)}
    ledger = Ledger(set(sent))
    for suffix in (*OUTPUTS, "lite") if lite else OUTPUTS:
        ledger.read(cluster.servers, f"{topic}.{suffix}", values=sent)
    return ledger


@pytest.fixture
def consumer(
    start: Callable[..., subprocess.Popen[str]], kafka: str, untrained_model: Path
) -> Callable[..., subprocess.Popen[str]]:
    """Begin a consumer of a topic that goes on until it is told."""

    def begin(topic: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        at = ("--topic", topic, "--bootstrap-servers", kafka, "--group-id", f"group-{topic}")
        return start("broker-consumer", *at, "--model", str(untrained_model), *arguments, **environment)

    return begin


@pytest.mark.parametrize("delivery", [EXACTLY, LEAST])
def test_every_message_has_one_outcome_in_order(
    cluster: Cluster, consume: Run, delivery: tuple[str, str]
) -> None:
    topic, values = cluster.make(), packets(400)
    cluster.publish(topic, values)
    code, output, log = consume(topic, *delivery)
    assert code == 0, log
    assert "consumed 400: enriched 360" in output
    ledger = account(cluster, topic, values)
    assert (ledger.lost, ledger.invented, ledger.repeats, ledger.out_of_order, ledger.broken) == (
        set(),
        set(),
        0,
        0,
        [],
    )
    assert cluster.committed(topic, f"group-{topic}") == 400


@pytest.mark.parametrize("delivery", [EXACTLY, LEAST])
def test_killed_and_begun_again_it_loses_nothing(
    cluster: Cluster,
    consumer: Callable[..., subprocess.Popen[str]],
    consume: Run,
    eventually: Callable[[Callable[[], bool]], None],
    delivery: tuple[str, str],
) -> None:
    topic, values = cluster.make(), packets(1200)
    cluster.publish(topic, values)
    quick = {
        "BROKER_KAFKA__MEMBERSHIP__SESSION_SECONDS": "6",
        "BROKER_KAFKA__MEMBERSHIP__HEARTBEAT_SECONDS": "1",
    }
    slices = {**quick, "BROKER_CONSUMER__BATCH_SIZE": "20"}
    for round_ in range(2):
        before = cluster.committed(topic, f"group-{topic}")
        process = consumer(topic, *delivery, **slices)
        eventually(lambda: cluster.committed(topic, f"group-{topic}") > before)  # noqa: B023 - called at once
        time.sleep(0.13 * round_)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    code, _, log = consume(topic, *delivery)
    assert code == 0, log
    ledger = account(cluster, topic, values)
    assert (ledger.lost, ledger.invented, ledger.out_of_order, ledger.broken) == (set(), set(), 0, [])
    assert ledger.told_apart()
    if delivery == EXACTLY:
        assert ledger.repeats == 0


def test_an_abandoned_transaction_blocks_readers_for_ten_seconds_at_most(
    cluster: Cluster, kafka: str
) -> None:
    from broker.kafka.transactions import TRANSACTION_SECONDS  # noqa: PLC0415 - beside what it is held against

    topic = cluster.make(partitions=1, outputs=False)
    settings = {"bootstrap.servers": kafka, "transactional.id": topic}
    left = Producer({**settings, "transaction.timeout.ms": int(TRANSACTION_SECONDS * 1000)})
    left.init_transactions(30)
    left.begin_transaction()
    left.produce(topic, b"never committed")
    left.flush(10)
    began = time.monotonic()
    cluster.publish(topic, [b"after"])
    found = [
        message.value() for message in read_all(kafka, topic)
    ]  # which waits for the open transaction to end
    assert 1 < time.monotonic() - began < TRANSACTION_SECONDS + 1 + NOISE_SECONDS
    assert found == [b"after"]


def test_exactly_once_over_two_clusters_is_refused(cluster: Cluster, consume: Run) -> None:
    topic = cluster.make()
    with EmbeddedKafka() as other:
        two = (*EXACTLY, "--sink-bootstrap-servers", other.bootstrap_servers)
        code, _, log = consume(topic, *two)
        checked, table, _ = consume(topic, *two, "--check")
    assert checked == 2
    assert "needs source and sink to be one cluster" in " ".join(table.split())
    assert code == 2
    assert "exactly-once delivery needs source and sink to be one cluster" in log.splitlines()[-1]
    assert "assigned" not in log, "a group that works is not disturbed for it"


def test_the_lite_topic_has_the_same_records_without_stamps(cluster: Cluster, consume: Run) -> None:
    topic, values = cluster.make(), packets(40)
    Cluster(cluster.servers).make_named(f"{topic}.lite", 2)
    cluster.publish(topic, values)
    code, _, log = consume(topic, "--lite", *EXACTLY)
    assert code == 0, log
    whole = {m.value()[:40]: m for m in cluster.read(f"{topic}.enriched")}
    lite = {m.value()[:40]: m for m in cluster.read(f"{topic}.lite")}
    assert whole.keys() == lite.keys()
    for key, message in lite.items():
        fingerprint = dict(message.headers())["schema-fingerprint"].decode()
        small, full = decode(message.value(), fingerprint), decode(whole[key].value(), fingerprint)
        assert dict(message.headers()) == dict(whole[key].headers())
        assert message.key() == whole[key].key()
        stamps = [name for name in full["alert"] if name.startswith("cutout")]
        assert len(stamps) == 3
        assert all(small["alert"][name] is None for name in stamps)
        kept = {name: value for name, value in full["alert"].items() if name not in stamps}
        assert json.dumps(
            {n: v for n, v in small["alert"].items() if n not in stamps}, default=str
        ) == json.dumps(kept, default=str)
        assert small["enrichment"] == full["enrichment"] or "nan" in str(full["enrichment"])


@pytest.mark.parametrize("delivery", [EXACTLY, LEAST])
def test_what_its_topic_does_not_take_is_a_dead_letter_with_its_bytes(
    cluster: Cluster, consume: Run, delivery: tuple[str, str]
) -> None:
    topic = cluster.make(partitions=1, outputs=False)
    cluster.make_named(f"{topic}.enriched", 1, **{"max.message.bytes": "120000"})
    cluster.make_named(f"{topic}.dead-letter", 1)
    values = [lsst_packet(alert_id=4), lsst_packet(LARGE, alert_id=5), lsst_packet(alert_id=6)]
    assert len(values[1]) > 120000
    cluster.publish(topic, values)
    code, output, log = consume(topic, *delivery)
    assert code == 0, log
    assert "rejected 1 (message_too_large 1)" in output
    ledger = account(cluster, topic, values, partitions=1)
    assert (ledger.lost, ledger.repeats, ledger.broken) == (set(), 0, [])
    assert (ledger.reasons, ledger.without_value) == ({"message_too_large": 1}, 0)


@pytest.mark.parametrize("delivery", [EXACTLY, LEAST])
def test_what_even_the_dead_letters_do_not_take_leaves_its_place_and_digest(
    cluster: Cluster, consume: Run, delivery: tuple[str, str]
) -> None:
    topic = cluster.make(partitions=1, **{"max.message.bytes": "120000"})
    values = [b"\x07" + random.Random(1).randbytes(119_850), lsst_packet(alert_id=4)]
    for value in values:
        cluster.publish(topic, [value])  # one by one: together they are more than the topic takes at once
    code, _, log = consume(topic, *delivery)
    assert code == 0, log
    ledger = account(cluster, topic, values, partitions=1)
    assert (ledger.lost, ledger.repeats, ledger.broken) == (set(), 0, [])
    assert (ledger.count("dead-letter"), ledger.without_value) == (1, 1)


@pytest.mark.parametrize("delivery", [EXACTLY, LEAST])
def test_a_limit_that_is_lowered_midway_makes_dead_letters(
    cluster: Cluster,
    consumer: Callable[..., subprocess.Popen[str]],
    eventually: Callable[[Callable[[], bool]], None],
    delivery: tuple[str, str],
) -> None:
    topic = cluster.make(partitions=1)
    process = consumer(topic, *delivery)
    first = [lsst_packet(alert_id=1)]
    cluster.publish(topic, first)
    eventually(lambda: cluster.committed(topic, f"group-{topic}") == 1)
    cluster.set(f"{topic}.enriched", "max.message.bytes", "120000")
    others = [lsst_packet(LARGE if n % 2 else None, alert_id=n) for n in range(8)]
    cluster.publish(topic, others)
    eventually(lambda: cluster.committed(topic, f"group-{topic}") == 9)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    ledger = account(cluster, topic, first + others, partitions=1)
    assert (ledger.lost, ledger.repeats, ledger.broken) == (set(), 0, [])
    assert ledger.count("dead-letter") == 4


def test_a_redriven_message_keeps_its_first_place_and_its_count(cluster: Cluster, consume: Run) -> None:
    topic = cluster.make(partitions=1)
    cluster.make_named(f"{topic}.redrive", 1)
    producer = Producer({"bootstrap.servers": cluster.servers})
    first = {"source-topic": topic, "source-partition": "0", "source-offset": "41", "source-timestamp": "17"}
    headers = [(name, value.encode()) for name, value in {**first, "redrive-count": "2"}.items()]
    producer.produce(f"{topic}.redrive", lsst_packet(alert_id=4), headers=headers)
    producer.produce(f"{topic}.redrive", b"still no alert", headers=headers)
    assert producer.flush(10) == 0
    assert consume(topic)[0] == 0
    for suffix in OUTPUTS:
        (message,) = cluster.read(f"{topic}.{suffix}")
        found = {name: value.decode() for name, value in message.headers()}
        assert first.items() <= found.items()
        assert found["redrive-count"] == "2"


@pytest.mark.parametrize("delivery", [EXACTLY, LEAST])
def test_the_new_group_protocol_across_rebalances(
    cluster: Cluster,
    consumer: Callable[..., subprocess.Popen[str]],
    eventually: Callable[[Callable[[], bool]], None],
    delivery: tuple[str, str],
) -> None:
    topic, values = cluster.make(partitions=4), packets(1600)
    cluster.publish(topic, values)
    new = {"BROKER_KAFKA__MEMBERSHIP__PROTOCOL": "consumer", "BROKER_CONSUMER__BATCH_SIZE": "20"}
    running = [consumer(topic, *delivery, **new)]
    for _ in range(3):
        done = cluster.committed(topic, f"group-{topic}")
        running.append(consumer(topic, *delivery, **new))
        eventually(lambda: cluster.committed(topic, f"group-{topic}") > done or done == len(values))  # noqa: B023
        running.pop(0).send_signal(signal.SIGTERM)
    eventually(lambda: cluster.committed(topic, f"group-{topic}") == len(values))
    running[0].send_signal(signal.SIGTERM)
    running[0].communicate(timeout=60)
    ledger = account(cluster, topic, values, partitions=4)
    assert (ledger.lost, ledger.invented, ledger.broken, ledger.repeats) == (set(), set(), [], 0), str(ledger)
    assert ledger.out_of_order == 0, str(ledger)


def test_two_consumers_with_one_instance_id_are_told(
    cluster: Cluster,
    consumer: Callable[..., subprocess.Popen[str]],
    kafka: str,
) -> None:
    topic = cluster.make()
    static = {"BROKER_KAFKA__MEMBERSHIP__INSTANCE_ID": "one"}
    first = consumer(topic, **static)
    while "assigned" not in first.stderr.readline():
        pass
    second = consumer(topic, **static)
    _, log = first.communicate(timeout=60)
    assert first.returncode == 2
    assert "another consumer has the same kafka.membership.instance_id" in log.splitlines()[-1]
    second.send_signal(signal.SIGTERM)
    second.communicate(timeout=30)


@pytest.mark.parametrize("delivery", [EXACTLY, LEAST])
def test_every_real_packet_comes_out_whole_and_lite(
    cluster: Cluster, consume: Run, lsst_paths: list[Path], ztf_paths: list[Path], delivery: tuple[str, str]
) -> None:
    values = [path.read_bytes() for path in sorted(lsst_paths + ztf_paths, key=lambda path: path.name)]
    topic = cluster.make()
    cluster.make_named(f"{topic}.lite", 2)
    cluster.publish(topic, values)
    code, _, log = consume(topic, "--lite", *delivery)
    assert code == 0, log
    ledger = account(cluster, topic, values, lite=True)
    assert ledger.torn == set()
    assert (ledger.lost, ledger.repeats, ledger.out_of_order, ledger.broken) == (set(), 0, 0, [])
    assert ledger.count("dead-letter") == 0
    assert ledger.count("lite") == len(values)


def test_a_redriven_alert_comes_out_enriched_once(
    cluster: Cluster, consume: Run, run: Run, kafka: str
) -> None:
    topic = cluster.make(partitions=1)
    cluster.make_named(f"{topic}.redrive", 1)
    cluster.set(f"{topic}.enriched", "max.message.bytes", "50000")
    cluster.publish(topic, [lsst_packet(alert_id=4)])
    assert "message_too_large 1" in consume(topic)[1]
    cluster.set(f"{topic}.enriched", "max.message.bytes", "10485760")
    redrive = ("broker-redrive", "--topic", f"{topic}.dead-letter", "--bootstrap-servers", kafka)
    for _ in range(2):  # a second run finds nothing left to do
        assert run(*redrive)[0] == 0
        assert consume(topic)[0] == 0
    (message,) = cluster.read(f"{topic}.enriched")
    headers = dict(message.headers())
    assert (headers["source-topic"], headers["source-offset"]) == (topic.encode(), b"0")
    assert (headers["redrive-count"], headers["alert-id"]) == (b"1", b"4")


def test_redrives_of_a_cluster_that_holds_results_alone_have_a_consumer_of_theirs(
    cluster: Cluster, run: Run, kafka: str, untrained_model: Path
) -> None:
    prefix = cluster.make(partitions=1)  # nobody reads the topic of this name here
    cluster.make_named(f"{prefix}.redrive", 1)
    cluster.publish(f"{prefix}.redrive", [lsst_packet(alert_id=4)])
    cluster.publish(prefix, [lsst_packet(alert_id=5)])
    code, output, log = run(
        "broker-consumer",
        *(
            "--topic-pattern",
            "none-but-the-redrives",
            "--output-prefix",
            prefix,
            "--bootstrap-servers",
            kafka,
        ),
        *("--group-id", f"redrives-{prefix}", "--model", str(untrained_model), "--exit-at-end"),
    )
    assert (code, output[:11]) == (0, "consumed 1:"), log
    (message,) = cluster.read(f"{prefix}.enriched")
    assert dict(message.headers())["alert-id"] == b"4"


@pytest.mark.parametrize("delivery", [EXACTLY, LEAST])
def test_a_topic_that_never_takes_the_record_ends_it_before_the_commit(
    cluster: Cluster,
    consumer: Callable[..., subprocess.Popen[str]],
    eventually: Callable[[Callable[[], bool]], None],
    delivery: tuple[str, str],
) -> None:
    topic = cluster.make(partitions=1)
    cluster.publish(topic, [lsst_packet()])
    process = consumer(topic, *delivery)
    eventually(lambda: cluster.committed(topic, f"group-{topic}") == 1)
    cluster.set(f"{topic}.dead-letter", "cleanup.policy", "compact")  # at start it would be refused
    cluster.publish(topic, [b"no alert"])  # whose letter has no key, which a compacted topic wants
    _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "correct the settings of the topic" in log.splitlines()[-1]
    assert cluster.committed(topic, f"group-{topic}") == 1
