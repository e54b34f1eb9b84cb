"""Brokers of a cluster of three are killed and revived: leaders, coordinators, and more than are replicated away."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .chaos import DELIVERIES, Record, Stage, alerts, long_form, packets
from .conftest import needing
from .three_brokers import BROKERS, ThreeBrokers

pytestmark = [pytest.mark.kafka, long_form]

COUNT = alerts(10_000)
LEADERS = {
    "the leader of the outputs": "{topic}.enriched",
    "the leader of the source": "{topic}",
    "the group's coordinator": "__consumer_offsets",
    "the transactions' coordinator": "__transaction_state",
}


@pytest.fixture(scope="module")
def three() -> Iterator[ThreeBrokers]:
    needing()
    with ThreeBrokers() as three:
        yield three


@pytest.fixture(params=DELIVERIES)
def stage(
    request: pytest.FixtureRequest, three: ThreeBrokers, untrained_model: Path, tmp_path: Path
) -> Iterator[Stage]:
    stage = Stage(three.cluster, untrained_model, request.param, tmp_path, count=COUNT)
    yield stage
    stage.close()
    three.mend()


def await_replicas(three: ThreeBrokers, topic: str) -> None:
    three.until(lambda: three.in_sync(topic) == len(BROKERS), "the replicas catching up")


def test_leaders_that_are_killed(stage: Stage, three: ThreeBrokers, record: Record) -> None:
    """One broker at a time, whichever it hurts most; the others go on without it."""
    hurt = [kind for kind in LEADERS if stage.delivery == "exactly-once" or "transactions" not in kind]
    portion = packets(COUNT // (8 * len(hurt)) * 4)
    stage.set([])
    stage.consumer()
    for kind in hurt:
        before = stage.done()
        stage.send(portion)
        stage.until(lambda: stage.done() > before, "the alerts before")  # noqa: B023 - called at once
        victim = three.leader(LEADERS[kind].format(topic=stage.topic))
        three.nodes[victim].kill()
        stage.send(portion)
        stage.until(lambda: stage.done() == stage.count, f"going on without {kind}")
        three.nodes[victim].revive()
        await_replicas(three, f"{stage.topic}.enriched")
    stage.finish()
    stage.check(f"{len(hurt)} leaders killed in a cluster of three", record)
    stage.kept_going()


def test_two_of_three_brokers_down_for_a_while(stage: Stage, three: ThreeBrokers, record: Record) -> None:
    """The one that is left takes nothing: a record needs two."""
    stage.set()
    stage.consumer()
    stage.progress(0.2)
    left = three.leader(f"{stage.topic}.enriched")
    down = [number for number in BROKERS if number != left]
    for number in down:
        three.nodes[number].kill()
    three.until(lambda: three.in_sync(f"{stage.topic}.enriched") == 1, "one being left")
    stage.until(lambda: "waiting for Kafka for" in stage.told(), "the consumer saying that it waits")
    for number in down:
        three.nodes[number].revive()
    await_replicas(three, f"{stage.topic}.enriched")
    stage.finish()
    stage.check("two of three brokers down for a while", record)
    stage.kept_going()
    assert re.search("waiting for Kafka for [0-9]+ s: ", stage.told())


def test_leader_and_controller_killed_together(stage: Stage, three: ThreeBrokers, record: Record) -> None:
    """Nobody can be made leader until the controller is back."""
    stage.set()
    stage.consumer()
    stage.progress(0.3)
    victim = three.leader(f"{stage.topic}.enriched")
    controller = three.controller
    controller.kill()
    three.nodes[victim].kill()
    stage.until(lambda: "are down" in stage.told() or "failed" in stage.told(), "the consumer noticing it")
    controller.revive()
    stage.send(packets(COUNT // 40 * 4))
    stage.until(lambda: stage.done() == stage.count, "another leader")
    three.nodes[victim].revive()
    await_replicas(three, f"{stage.topic}.enriched")
    stage.finish()
    stage.check("leader and controller killed together", record)
    stage.kept_going()
