"""What the readers are held against: fastavro, and an encoder that uses every freedom Avro leaves."""

import io
import struct
from datetime import UTC, datetime
from random import Random
from typing import Any

import fastavro
import numpy as np

from broker.avro.encoding import long
from broker.avro.types import Array, Enumeration, Fixed, Map, Primitive, Record, Type, Union

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def decode_whole(parsed: Any, datum: bytes) -> dict[str, Any]:
    """Decode with fastavro; the datum must end where the record does."""
    source = io.BytesIO(datum)
    record = fastavro.schemaless_reader(source, parsed, None)
    assert source.tell() == len(datum)
    return record


def leaf(record: Any, path: str) -> Any:
    """Take a leaf out of a decoded record, as `compile_walker` names it."""
    head, in_array, rest = path.partition("[].")
    if in_array:
        return [leaf(item, rest) for item in leaf(record, head) or []]
    for name in path.split("."):
        record = None if record is None else record[name]
    return record


def same(ours: Any, theirs: Any) -> bool:
    """Tell whether leaves agree: to the bit for floats, NaN included."""
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(theirs, datetime):
        elapsed = theirs - EPOCH
        return ours == (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds
    if isinstance(theirs, float):
        return struct.pack("<d", ours) == struct.pack("<d", theirs) or (np.isnan(ours) and np.isnan(theirs))
    return type(ours) in (type(theirs), memoryview) and ours == theirs


def leaves_of(node: Type, path: str = "") -> list[str]:
    """Paths of every leaf that is below no second array and no map."""
    match node:
        case Record(fields=fields):
            return [p for name, kind in fields for p in leaves_of(kind, f"{path}.{name}" if path else name)]
        case Union(branches=branches):
            return list(dict.fromkeys(p for branch in branches for p in leaves_of(branch, path)))
        case Array(items=Record() as items) if "[]" not in path:
            return leaves_of(items, f"{path}[]")
        case Array() | Map() | Primitive(kind="null"):
            return []
        case _:
            return [path]


def encode(node: Type, random: Random) -> bytes:  # noqa: PLR0911
    """Encode some legal value: blocks split and with sizes, numbers from their whole range, any UTF-8."""
    match node:
        case Record(fields=fields):
            return b"".join(encode(kind, random) for _, kind in fields)
        case Union(branches=branches):
            index = random.randrange(len(branches))
            return long(index) + encode(branches[index], random)
        case Array(items=items):
            return _blocks([encode(items, random) for _ in range(random.choice((0, 0, 1, 3)))], random)
        case Map(values=values):
            entries = [
                _sized(f"k{i}".encode()) + encode(values, random) for i in range(random.choice((0, 2)))
            ]
            return _blocks(entries, random)
        case Fixed(size=size):
            return random.randbytes(size)
        case Enumeration(symbols=symbols):
            return long(random.randrange(len(symbols)))
        case Primitive(kind=kind, logical=logical):
            return _primitive(kind, logical, random)


def _primitive(kind: str, logical: str | None, random: Random) -> bytes:  # noqa: PLR0911
    match kind:
        case "null":
            return b""
        case "boolean":
            return bytes([random.randrange(2)])
        case "int":
            return long(random.choice((0, -1, 2**31 - 1, -(2**31), random.getrandbits(20))))
        case "long" if logical:
            return long(random.randrange(-(10**15), 10**15))
        case "long":
            return long(random.choice((0, -1, 2**63 - 1, -(2**63), random.getrandbits(61))))
        case "float":
            return random.randbytes(4)
        case "double":
            return random.randbytes(8)
        case "string":
            return _sized(random.choice(("", "g", "a b" * 40, "n" * 300, "ü∂", "\0")).encode())
        case _:
            return _sized(random.randbytes(random.choice((0, 1, 70, 9000))))


def _sized(raw: bytes) -> bytes:
    return long(len(raw)) + raw


def _blocks(items: list[bytes], random: Random) -> bytes:
    out = b""
    while items:
        take = random.randint(1, len(items))
        block, items = b"".join(items[:take]), items[take:]
        out += long(-take) + long(len(block)) + block if random.random() < 0.5 else long(take) + block
    return out + b"\0"
