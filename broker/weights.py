"""The digest of a model file's weights, taken from the file's bytes.

An ONNX file is a protobuf message; three of its nested fields are read here, and ``onnx`` is not needed where a model
is served. What is digested are the initializers of the graph: by what the nodes make of them, the embedding that is
computed again when a file is loaded (`broker.inference`) tells.
"""

import hashlib
from collections.abc import Iterator
from typing import Final

GRAPH: Final = 7
"""Field of ``ModelProto`` (onnx.proto3 of ONNX, as all the numbers here)."""

INITIALIZER: Final = 5
"""Field of ``GraphProto``."""

NAME: Final = 8
RAW_DATA: Final = 9
"""Fields of ``TensorProto``."""

SIZED: Final = 2
"""Wire type of fields with a length (protobuf's encoding guide)."""

_MOST_SHIFT: Final = 63
"""A varint has ten bytes of seven bits at most."""


def weights_digest(content: bytes) -> str:
    """Digest names and bytes of the initializers, in the order of their names.

    Parameters
    ----------
    content : bytes
        Of an ONNX file.

    Returns
    -------
    str
        Hex SHA-256.

    Raises
    ------
    ValueError
        If the bytes are no protobuf message, or an initializer is not kept as raw bytes.
    """
    digest = hashlib.sha256()
    for name, raw in sorted(initializers(content).items()):
        digest.update(name)
        digest.update(raw)
    return digest.hexdigest()


def head_digest(content: bytes) -> str:
    """Digest the weights of a head's file (`broker.heads`): those of its one product; raises as `weights_digest`."""
    found = initializers(content)
    return hashlib.sha256(found.get(b"weight", b"") + found.get(b"bias", b"")).hexdigest()


def initializers(content: bytes) -> dict[bytes, bytes]:
    """Give the bytes of the initializers by their names; raises as `weights_digest`."""
    # Where a nested message comes twice, protobuf joins its lists: so does ONNX Runtime, and so does this.
    graphs = _nested(memoryview(content), GRAPH)
    return dict(_tensor(field) for graph in graphs for field in _nested(graph, INITIALIZER))


def _tensor(field: memoryview) -> tuple[bytes, bytes]:
    entries = dict(_fields(field))
    name, raw = bytes(entries.get(NAME, b"")), entries.get(RAW_DATA)
    if raw is None:
        raise ValueError(f"initializer {name!r} is not kept as raw bytes")
    return name, bytes(raw)


def _nested(data: memoryview, wanted: int) -> Iterator[memoryview]:
    return (content for number, content in _fields(data) if number == wanted)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Fields with a length, in their order; numbers are stepped over."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        size, start = _extent(tag & 7, data, at)
        at = start + size
        if at > len(data):
            raise ValueError(f"a field ends at byte {at} of {len(data)}")
        if tag & 7 == SIZED:
            yield tag >> 3, data[start:at]


def _extent(wire: int, data: memoryview, at: int) -> tuple[int, int]:
    """Bytes of a field's content, and where it begins."""
    match wire:
        case 0:  # a varint
            return 0, _varint(data, at)[1]
        case 1:  # 64 bits
            return 8, at
        case 2:
            return _varint(data, at)
        case 5:  # 32 bits
            return 4, at
        case _:
            raise ValueError(f"wire type {wire} at byte {at} is none of ONNX's")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(data) and shift <= _MOST_SHIFT:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004 - the high bit says that more follow
            return number, at
    raise ValueError(f"a number does not end at byte {at} of {len(data)}")
