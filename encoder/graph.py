"""The exported graph laid out as ONNX Runtime computes it fastest: the same numbers by fewer passes.

A group norm comes out of torch's exporter as ``Reshape, InstanceNormalization, Reshape, Mul, Add``, and a ``Relu``
most often follows: three passes over the activations after the norm itself, in a layout that the convolutions do
not use. ONNX Runtime fuses a convolution's bias and its ReLU into its one pass, in the blocked layout (NCHWc) of
its neighbours. So scale and shift of the norm become a depthwise convolution of one pixel: the same products and
sums, each once.
"""

from collections.abc import Iterator

import onnx
from onnx import helper

CHANNEL_AXES = 3
"""Axes of a norm's scale as it is exported, (channels, 1, 1)."""


def scale_by_convolution(graph: onnx.ModelProto) -> int:
    """Put a depthwise convolution in the place of each norm's scale and shift, in place.

    The weights keep their names and bytes, only their shapes become those of a convolution's: the digest of the
    file's weights stays what it was.

    Parameters
    ----------
    graph : onnx.ModelProto

    Returns
    -------
    int
        How many there were.
    """
    body = graph.graph
    found = list(_scales(body))
    weights = {tensor.name: tensor for tensor in body.initializer}
    for scale, shift in found:
        channels = weights[scale.input[1]].dims[0]
        _shape(weights[scale.input[1]], channels, 1, 1, 1)
        _shape(weights[shift.input[1]], channels)
        inputs = (scale.input[0], scale.input[1], shift.input[1])
        one = helper.make_node("Conv", inputs, shift.output, scale.name, group=channels, kernel_shape=[1, 1])
        scale.CopyFrom(one)
    for _, shift in found:
        body.node.remove(shift)
    return len(found)


def _scales(body: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, onnx.NodeProto]]:
    """Scale and shift of each group norm: by weights of a channel each, after what the norm was reshaped for."""
    makers = {name: node for node in body.node for name in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in body.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    per_channel = {tensor.name for tensor in body.initializer if _is_per_channel(tensor)}
    for scale in body.node:
        if (
            scale.op_type != "Mul"
            or scale.input[1] not in per_channel
            or not _is_normed(scale.input[0], makers)
        ):
            continue
        after = users.get(scale.output[0], [])
        if len(after) == 1 and after[0].op_type == "Add" and after[0].input[1] in per_channel:
            yield scale, after[0]


def _is_normed(name: str, makers: dict[str, onnx.NodeProto]) -> bool:
    """Whether a value is what an instance norm over groups gave, back in its shape."""
    reshape = makers.get(name)
    if reshape is None or reshape.op_type != "Reshape":
        return False
    norm = makers.get(reshape.input[0])
    return norm is not None and norm.op_type == "InstanceNormalization"


def _is_per_channel(tensor: onnx.TensorProto) -> bool:
    return len(tensor.dims) == CHANNEL_AXES and list(tensor.dims[1:]) == [1, 1]


def _shape(tensor: onnx.TensorProto, *dims: int) -> None:
    tensor.dims[:] = dims
