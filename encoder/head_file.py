"""A linear head as an ONNX file."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from broker.heads import HeadContract
from encoder.head_fit import METRIC, Linear, Measured

OPSET, IR = 17, 9
"""Old enough for every ONNX Runtime the broker takes."""


def write_head(
    path: Path,
    linear: Linear,
    measured: Measured,
    *,
    name: str,
    encoder_digest: str,
    n_labels: int,
    n_objects: int,
) -> HeadContract:
    """Write a head: input ``embedding`` (n, size) float32, output ``values`` (n, n_labels) float32.

    The same head gives the same bytes: no date is in it.
    """
    weight, bias = linear.weight.astype(np.float32), linear.bias.astype(np.float32)
    contract = HeadContract(
        name=name,
        kind=linear.kind,
        labels=linear.labels,
        encoder_digest=encoder_digest,
        weights_digest=hashlib.sha256(weight.tobytes() + bias.tobytes()).hexdigest(),
        embedding_size=len(weight),
        n_labels=n_labels,
        n_objects=n_objects,
        metric=METRIC[linear.kind],
        score=measured.score,
        low=measured.low,
        high=measured.high,
    )
    classes = linear.kind == "classification"
    nodes = [helper.make_node("Gemm", ["embedding", "weight", "bias"], ["linear" if classes else "values"])]
    if classes:
        nodes.append(helper.make_node("Softmax", ["linear"], ["values"], axis=1))
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", len(weight)])],
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["n", len(bias)])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    helper.set_model_props(model, contract.to_metadata())
    onnx.checker.check_model(model)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(model.SerializeToString(deterministic=True))
    partial.replace(path)
    return contract
