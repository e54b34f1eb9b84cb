"""What wraps a datum on the wire: a Confluent frame or an Avro object container."""

import struct
from enum import Enum

from broker.errors import AlertError, FrameError, Reason

FRAME_MAGIC = b"\x00"
CONTAINER_MAGIC = b"Obj\x01"
FRAME_SIZE = 5
"""Bytes before the datum: the magic byte and the schema id, a big-endian int32 (Confluent's wire format)."""

_FRAME = struct.Struct(">bi")


class Wrapping(Enum):
    """How a datum is wrapped."""

    FRAME = "frame"
    CONTAINER = "container"


def recognise(value: bytes | None) -> Wrapping:
    """Tell how a message's value is wrapped, from its first bytes.

    Parameters
    ----------
    value : bytes or None

    Raises
    ------
    AlertError
        With reason ``null_value`` if there is no value (a tombstone).
    FrameError
        If it is neither; an empty value too.
    """
    if value is None:
        raise AlertError("the message has no value (a tombstone)", Reason.NULL_VALUE)
    if value[:1] == FRAME_MAGIC:
        return Wrapping.FRAME
    if value[:4] == CONTAINER_MAGIC:
        return Wrapping.CONTAINER
    found = f"it begins with {bytes(value[:4]).hex(' ')}" if value else "it is empty"
    raise FrameError(
        f"the value is neither a Confluent frame (00, schema id) nor an Avro container (4f 62 6a 01): {found}"
    )


def unwrap_frame(value: bytes) -> tuple[int, memoryview]:
    """Take a Confluent frame apart.

    Parameters
    ----------
    value : bytes

    Returns
    -------
    schema_id : int
    datum : memoryview
        What follows the frame, not copied.

    Raises
    ------
    FrameError
        If the magic byte is another or the value ends inside the frame.
    """
    if len(value) < FRAME_SIZE:
        raise FrameError(f"a Confluent frame takes {FRAME_SIZE} bytes, the value has {len(value)}")
    magic, schema_id = _FRAME.unpack_from(value)
    if magic != 0:
        raise FrameError(f"the magic byte of a Confluent frame is 0, found {magic & 0xFF}")
    return schema_id, memoryview(value)[FRAME_SIZE:]


def frame(schema_id: int) -> bytes:
    """Make the frame that precedes a datum of a schema."""
    return _FRAME.pack(0, schema_id)
