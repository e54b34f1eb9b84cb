"""What is late is passed on without the network where that is chosen: flagged, in its place, nothing lost."""

import time
from collections.abc import Callable

import pytest
from confluent_kafka import Producer

from broker.testing.packets import lsst_packet

from .conftest import Cluster
from .test_consumer_on_kafka import decoded

pytestmark = pytest.mark.kafka

LATE, FRESH = 12, 8


@pytest.fixture
def topic(cluster: Cluster) -> str:
    """Alerts of ten minutes ago, and of now behind them."""
    topic = cluster.make(partitions=1)
    producer = Producer({"bootstrap.servers": cluster.servers, "enable.idempotence": True})
    now = int(time.time() * 1000)
    for n in range(LATE + FRESH):
        packet = lsst_packet(alert_id=1 + n, object_id=1)
        producer.produce(topic, packet, timestamp=now - 600_000 if n < LATE else now)
    assert producer.flush(30) == 0
    return topic


@pytest.mark.parametrize(
    ("policy", "shed"),
    [("keep-order", range(1)), ("newest-first", range(LATE, LATE + 1)), ("sample", range(1, LATE))],
)
def test_late_alerts_are_shed_as_chosen(
    cluster: Cluster,
    topic: str,
    run: Callable[..., tuple[int, str, str]],
    kafka: str,
    untrained_model: object,
    policy: str,
    shed: range,
) -> None:
    settings = {"BROKER_CONSUMER__OVERLOAD__POLICY": policy, "BROKER_CONSUMER__OVERLOAD__SHARE": "0.5"}
    at = ("--topic", topic, "--bootstrap-servers", kafka, "--group-id", f"group-{topic}")
    code, output, log = run(
        "broker-consumer", *at, "--model", str(untrained_model), "--exit-at-end", **settings
    )
    assert code == 0, log
    found = [decoded(message) for message in cluster.read(f"{topic}.enriched")]
    assert [record["enrichment"]["alert_id"] for record in found] == list(range(1, 1 + LATE + FRESH)), (
        "one key keeps its order"
    )
    passed = [record["enrichment"] for record in found if "shed" in record["enrichment"]["flags"]]
    assert len(passed) in shed
    assert all(one["embedding"] is None for one in passed)
    assert not any("shed" in record["enrichment"]["flags"] for record in found[LATE:])
    assert f"({len(passed)} partial)" in output or f"of these {len(passed)} partial" in output
