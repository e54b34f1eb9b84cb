"""A member of the group that has a name of its own comes back to its partitions, and disturbs nobody."""

import re
import signal
import time
from pathlib import Path

import pytest

from .chaos import DELIVERIES, PARTITIONS, Stage, packets
from .conftest import Cluster

pytestmark = pytest.mark.kafka

COUNT = 80


def assigned(stage: Stage, number: int) -> set[str]:
    """Partitions that a consumer has been given."""
    lines = re.findall(r"assigned (alerts-.*)", stage.told(number))
    return {name for line in lines for name in line.split(", ")}


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_static_member_that_comes_back_keeps_its_partitions(
    cluster: Cluster, untrained_model: Path, tmp_path: Path, delivery: str
) -> None:
    """Stopped and begun again within its session: the group is not rebalanced, and what came meanwhile is done."""
    stage = Stage(cluster, untrained_model, delivery, tmp_path)
    stage.settings["BROKER_KAFKA__MEMBERSHIP__SESSION_SECONDS"] = "30"
    try:
        stage.set(packets(COUNT))
        stage.consumer(BROKER_KAFKA__MEMBERSHIP__INSTANCE_ID="stays")
        stage.until(lambda: len(assigned(stage, 0)) == PARTITIONS, "the first")
        leaver = stage.consumer(BROKER_KAFKA__MEMBERSHIP__INSTANCE_ID="leaves")
        stage.until(lambda: len(assigned(stage, 1)) == PARTITIONS // 2, "the second")
        time.sleep(1.0)  # the first has its last word on that rebalance
        before = stage.told(0)
        leaver.send_signal(signal.SIGTERM)
        leaver.wait(60)
        stage.send(packets(COUNT))
        stage.consumer(BROKER_KAFKA__MEMBERSHIP__INSTANCE_ID="leaves")
        stage.until(lambda: stage.done() == 2 * COUNT, "all of it")
        after = stage.told(0).removeprefix(before)
        assert "revoked" not in after, after
        assert "assigned" not in after, after
        assert assigned(stage, 2) == assigned(stage, 1), stage.logs()
        stage.finish()
        assert stage.check("a static member comes back", lambda *_: None).repeats == 0
    finally:
        stage.close()
