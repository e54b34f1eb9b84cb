"""The layout of an exported graph: the same numbers, the same weights."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from broker.weights import weights_digest
from encoder.graph import scale_by_convolution

pytestmark = pytest.mark.train

CHANNELS, GROUPS = 8, 2


@pytest.fixture
def normed():
    """A convolution, a group norm as torch's exporter writes it, and a scale that belongs to no norm."""
    rng = np.random.default_rng(0)
    drawn = {
        "weight": rng.normal(size=(CHANNELS, 3, 3, 3)),
        "scale": rng.normal(size=(CHANNELS, 1, 1)),
        "shift": rng.normal(size=(CHANNELS, 1, 1)),
        "other_scale": rng.normal(size=(CHANNELS, 1, 1)),
        "other_shift": rng.normal(size=(CHANNELS, 1, 1)),
    }
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in drawn.items()]
    weights += [
        numpy_helper.from_array(np.array([0, GROUPS, -1]), "grouped"),
        numpy_helper.from_array(np.array([0, CHANNELS, 6, 6]), "whole"),
        numpy_helper.from_array(np.ones(GROUPS, np.float32), "one"),
        numpy_helper.from_array(np.zeros(GROUPS, np.float32), "zero"),
    ]
    steps = [
        ("Conv", ["pixels", "weight"], "mixed"),
        ("Reshape", ["mixed", "grouped"], "rows"),
        ("InstanceNormalization", ["rows", "one", "zero"], "normed"),
        ("Reshape", ["normed", "whole"], "back"),
        ("Mul", ["back", "scale"], "scaled"),
        ("Add", ["scaled", "shift"], "shifted"),
        ("Relu", ["shifted"], "lit"),
        ("Mul", ["lit", "other_scale"], "more"),
        ("Add", ["more", "other_shift"], "out"),
    ]
    nodes = [helper.make_node(kind, inputs, [output], output) for kind, inputs, output in steps]
    given = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 8, 8])
    taken = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", CHANNELS, 6, 6])
    graph = helper.make_graph(nodes, "normed", [given], [taken], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(1).normal(size=(4, 3, 8, 8)).astype(np.float32)
    return session.run(None, {"pixels": pixels})[0]


def test_a_norm_s_scale_becomes_a_convolution_and_no_other_does(normed):
    before, digest, kinds = run(normed), weights_digest(normed.SerializeToString()), len(normed.graph.node)
    assert scale_by_convolution(normed) == 1
    onnx.checker.check_model(normed, full_check=True)
    assert len(normed.graph.node) == kinds - 1
    assert [node.op_type for node in normed.graph.node].count("Mul") == 1
    np.testing.assert_allclose(run(normed), before, rtol=1e-5, atol=1e-6)
    assert weights_digest(normed.SerializeToString()) == digest


def test_it_is_done_once(normed):
    scale_by_convolution(normed)
    again = normed.SerializeToString()
    assert scale_by_convolution(normed) == 0
    assert normed.SerializeToString() == again
