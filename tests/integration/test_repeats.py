"""A consumer that is killed between its outputs and its commit repeats them; a subscriber shows each once."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

import pytest

from broker.testing.packets import lsst_packet, ztf_packet

from .conftest import Cluster

pytestmark = pytest.mark.kafka

COUNT = 40

KILLED_BEFORE_THE_COMMIT = """
import os, signal
from broker.cli.consumer import main
from broker.kafka import KafkaSource
KafkaSource.commit = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main()
"""


def test_a_subscriber_shows_every_alert_once_where_a_consumer_was_killed(
    cluster: Cluster,
    consume: Callable[..., tuple[int, str, str]],
    run: Callable[..., tuple[int, str, str]],
    kafka: str,
    untrained_model: object,
) -> None:
    topic = cluster.make(partitions=1)
    cluster.publish(topic, [(lsst_packet, ztf_packet)[n % 2](alert_id=1 + n) for n in range(COUNT)])
    cluster.publish(topic, [ztf_packet(alert_id=1), b"no alert"])  # of ZTF's own 1; no repeat
    at = ("--topic", topic, "--bootstrap-servers", kafka, "--group-id", f"group-{topic}")
    command = [sys.executable, "-c", KILLED_BEFORE_THE_COMMIT, *at, "--model", str(untrained_model)]
    brief = {
        "BROKER_KAFKA__MEMBERSHIP__SESSION_SECONDS": "6",
        "BROKER_KAFKA__MEMBERSHIP__HEARTBEAT_SECONDS": "1",
    }
    killed = subprocess.run(command, timeout=120, check=False, capture_output=True, env=os.environ | brief)
    assert killed.returncode == -signal.SIGKILL
    assert cluster.committed(topic, f"group-{topic}") == 0
    assert len(cluster.read(f"{topic}.enriched")) == COUNT + 1
    assert consume(topic)[0] == 0
    cluster.publish(topic, [ztf_packet(alert_id=1)])  # sent again by its survey: another position, no repeat
    assert consume(topic)[0] == 0

    reading = (
        "broker-subscribe",
        "--topic",
        f"{topic}.enriched",
        "--bootstrap-servers",
        kafka,
        "--exit-at-end",
    )
    code, output, log = run(*reading, "--format", "jsonl")
    assert (code, log) == (0, f"{COUNT + 2} records, {COUNT + 1} repeats dropped\n")
    shown = Counter((row["survey"], row["alert_id"]) for row in map(enrichment, output.splitlines()))
    assert {pair for pair, times in shown.items() if times > 1} == {("ztf", 1)}
    code, output, log = run(*reading, "--format", "jsonl", "--keep-repeats")
    assert (code, log) == (0, f"{2 * (COUNT + 1) + 1} records\n")
    assert len(output.splitlines()) == 2 * (COUNT + 1) + 1


def enrichment(line: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(line)["enrichment"]
    return found
