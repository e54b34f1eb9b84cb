"""A network that is slower than Kafka has patience: the group keeps its member, and nothing comes twice."""

import subprocess
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from broker.contract import COMMON_GRID, METADATA_KEY, ModelContract, check_inputs
from broker.inference import Model
from broker.pipeline import MOST_MESSAGES
from broker.weights import weights_digest

from .chaos import long_form
from .conftest import Cluster
from .test_delivery import EXACTLY, LEAST, account, packets

onnx = pytest.importorskip("onnx", reason="making a model slow needs onnx")

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600), long_form]

POLL_SECONDS = 6
"""``max.poll.interval.ms`` in seconds: the shortest a Kafka as it comes lets a session be, and it may not be below."""

ALERTS = 120

SIDE = 1024
"""Of the matrix that a stamp is multiplied with again and again."""


def slowed(source: Path, target: Path, products: int) -> Path:
    """Copy a model whose embedding waits for many products of matrices, and is what it was."""
    graph = onnx.load(source)
    body, node = graph.graph, onnx.helper.make_node
    for one in body.node:
        one.output[:] = ["quick" if name == "embedding" else name for name in one.output]
        one.input[:] = ["quick" if name == "embedding" else name for name in one.input]
    constants = {
        "slow.shape": np.array([-1, 3, SIDE], np.int64),
        "slow.matrix": np.eye(SIDE, dtype=np.float32),
        "slow.nothing": np.zeros(1, np.float32),
        "slow.axes": np.array([1, 2], np.int64),
    }
    body.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())
    steps = [f"slow.{n}" for n in range(products + 1)]
    body.node.extend(
        [
            node("Reshape", ["stamps", "slow.shape"], [steps[0]]),
            *(node("MatMul", [one, "slow.matrix"], [after]) for one, after in pairwise(steps)),
            node("ReduceSum", [steps[-1], "slow.axes"], ["slow.sum"], keepdims=0),
            node("Mul", ["slow.sum", "slow.nothing"], ["slow.zero"]),
            node("Unsqueeze", ["slow.zero", "slow.one"], ["slow.column"]),
            node("Add", ["quick", "slow.column"], ["embedding"]),
        ]
    )
    body.initializer.append(onnx.numpy_helper.from_array(np.array([1], np.int64), "slow.one"))
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    contract = ModelContract.model_validate_json(metadata[METADATA_KEY])
    digest = weights_digest(graph.SerializeToString())
    onnx.helper.set_model_props(graph, contract.model_copy(update={"weights_digest": digest}).to_metadata())
    onnx.save(graph, target)
    return target


def seconds_of_a_piece(path: Path) -> float:
    """How long the network takes for as many alerts as it takes at once."""
    model = Model.load(path, threads=1)
    inputs = {
        name: np.concatenate([array] * (MOST_MESSAGES // 2))
        for name, array in check_inputs(COMMON_GRID).items()
    }
    began = time.monotonic()
    model(inputs)
    return time.monotonic() - began


@pytest.fixture(scope="module")
def slow_model(untrained_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that needs longer for a piece than a group waits for its members, on this machine."""
    path = tmp_path_factory.mktemp("slow") / "model.onnx"
    products = 50
    while (found := seconds_of_a_piece(slowed(untrained_model, path, products))) < 1.3 * POLL_SECONDS:
        products = int(products * max(1.5, 1.6 * POLL_SECONDS / found))
    return path


@pytest.mark.parametrize("delivery", [EXACTLY, LEAST])
def test_a_network_slower_than_the_group_waits_is_neither_put_out_nor_repeats(
    cluster: Cluster,
    start: Callable[..., subprocess.Popen[str]],
    kafka: str,
    slow_model: Path,
    delivery: tuple[str, str],
) -> None:
    topic, values = cluster.make(), packets(ALERTS)
    cluster.publish(topic, values)
    process = start(
        "broker-consumer",
        *("--topic", topic, "--bootstrap-servers", kafka, "--group-id", f"group-{topic}"),
        *("--model", str(slow_model), "--exit-at-end", *delivery),
        BROKER_MODEL_THREADS="1",
        BROKER_KAFKA__EXTRA=f'{{"max.poll.interval.ms": {1000 * POLL_SECONDS}}}',
        BROKER_KAFKA__MEMBERSHIP__SESSION_SECONDS=str(POLL_SECONDS),
        BROKER_KAFKA__MEMBERSHIP__HEARTBEAT_SECONDS="1",
    )
    output, log = process.communicate(timeout=200)
    assert process.returncode == 0, log
    assert f"consumed {ALERTS}" in output
    assert "lost" not in log
    assert "max.poll.interval" not in log
    ledger = account(cluster, topic, values)
    assert (ledger.lost, ledger.invented, ledger.repeats, ledger.out_of_order) == (set(), set(), 0, 0)
    assert cluster.committed(topic, f"group-{topic}") == ALERTS
