"""A strict reader of Avro data, one value after the other: exact, general, and not fast.

It decides what is legal. `broker.avro.walker` takes a faster way through what is usual and
comes here for the rest, so every error that names a field and a byte is made here.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any

from broker.avro.types import Array, Enumeration, Fixed, Map, Primitive, Record, Type, Union, least_size
from broker.errors import DatumError

Leaves = dict[str, Any]

_FLOAT = struct.Struct("<f")
_DOUBLE = struct.Struct("<d")
MORE = 0x80
"""High bit of a byte of a varint: more bytes follow."""

_INT_BYTES, _LONG_BYTES = 5, 10
"""Longest encodings of an int and of a long."""

TIMESTAMP_RANGE = {
    "timestamp-micros": (-62_135_596_800_000_000, 253_402_300_799_999_999),
    "timestamp-millis": (-62_135_596_800_000, 253_402_300_799_999),
}
"""Years 1 to 9999 about the Unix epoch: what the calendars of most languages, Python's included, can hold.
A datum with another instant is legal Avro, yet a subscriber could not decode it."""


class ExactReader:
    """Reads values of a datum and keeps those leaves that are wanted.

    Parameters
    ----------
    wanted : frozenset of str
        Dotted paths of leaves, with ``[]`` for the items of an array.
    """

    def __init__(self, wanted: frozenset[str]) -> None:
        self._wanted = wanted

    def read(self, node: Type, data: memoryview, at: int, path: str, leaves: Leaves) -> int:
        """Read one value.

        Parameters
        ----------
        node : Type
        data : memoryview
        at : int
            Where the value begins.
        path : str
            Dotted path of the value.
        leaves : dict
            Takes the wanted leaves.

        Returns
        -------
        int
            Where the value ends.

        Raises
        ------
        DatumError
            If the bytes break the type; it names the path and the byte.
        """
        match node:
            case Record(fields=fields):
                for name, kind in fields:
                    at = self.read(kind, data, at, f"{path}.{name}" if path else name, leaves)
                return at
            case Union(branches=branches):
                index, after = read_index(len(branches), data, at, path)
                return self.read(branches[index], data, after, path, leaves)
            case Array(items=items):
                return self._array(items, data, at, path, leaves)
            case Map(values=values):
                return self._map(values, data, at, path)
            case _:
                value, after = _LEAF[type(node)](node, data, at, path)
                if path in self._wanted:
                    leaves[path] = value
                return after

    def _array(self, items: Type, data: memoryview, at: int, path: str, leaves: Leaves) -> int:
        inside = f"{path}[]"
        below = [wanted for wanted in self._wanted if wanted.startswith(inside)]
        for block in blocks(data, at, path, least_size(items)):
            at = block.at
            for _ in range(block.count):
                item: Leaves = dict.fromkeys(below)
                at = self.read(items, data, at, inside, item)
                for name, value in item.items():
                    leaves[name].append(value)
            block.ended(at)
        return block.after

    def _map(self, values: Type, data: memoryview, at: int, path: str) -> int:
        for block in blocks(data, at, path, 1 + least_size(values)):
            at = block.at
            for _ in range(block.count):
                key, at = _string(None, data, at, f"{path} (key)")
                at = self.read(values, data, at, f"{path}{{{key}}}", {})
            block.ended(at)
        return block.after


class Block:
    """A block of an array or a map.

    Attributes
    ----------
    at, count : int
        Where its first item begins and how many there are.
    after : int
        Where the array ends, known once this is the last block.
    """

    __slots__ = ("_path", "_stated_end", "after", "at", "count")

    def __init__(self, at: int, count: int, stated_end: int | None, path: str) -> None:
        self.at = at
        self.after = at
        self.count = count
        self._stated_end = stated_end
        self._path = path

    def ended(self, at: int) -> None:
        """Take note of where the items ended, which must be where the block said."""
        if self._stated_end is not None and at != self._stated_end:
            raise _broken(
                self._path, self.at, f"a block said it ends at byte {self._stated_end}, it ends at {at}"
            )
        self.after = at


def blocks(data: memoryview, at: int, path: str, least: int) -> Iterator[Block]:
    """Go through the blocks of an array or a map, the empty one that ends it included.

    The caller reads the items of each block and tells it by `Block.ended` before it asks for the next.

    Parameters
    ----------
    data : memoryview
    at : int
    path : str
    least : int
        Fewest bytes an item takes: a count that the remaining bytes cannot hold is refused before
        anything is made of it.

    Raises
    ------
    DatumError
    """
    while True:
        count, after = read_varint(data, at, path, _LONG_BYTES)
        stated_end = None
        if count < 0:  # legal: the size of the block in bytes follows
            size, after = read_varint(data, after, path, _LONG_BYTES)
            if not 0 <= size <= len(data) - after:
                raise _broken(path, at, f"a block said it has {size} bytes, {len(data) - after} remain")
            count, stated_end = -count, after + size
        if count * least > len(data) - after:
            raise _broken(
                path, at, f"found {count} items of {least} bytes or more, {len(data) - after} bytes remain"
            )
        block = Block(after, count, stated_end, path)
        yield block
        if count == 0:
            return
        at = block.after


def read_varint(data: memoryview, at: int, path: str, most: int) -> tuple[int, int]:
    """Read a zigzag varint of at most `most` bytes (5 for an int, 10 for a long) and its range."""
    raw, shift, size = 0, 0, len(data)
    if at < size and (byte := data[at]) < MORE:
        return (byte >> 1) ^ -(byte & 1), at + 1
    for after in range(at, min(at + most, size)):
        byte = data[after]
        raw |= (byte & 0x7F) << shift
        if byte < MORE:
            if raw >> (32 if most == _INT_BYTES else 64):
                raise _broken(path, at, "found a number beyond the range of its type")
            return (raw >> 1) ^ -(raw & 1), after + 1
        shift += 7
    if at + most > size:
        raise _broken(path, at, "the datum ends inside a number")
    raise _broken(path, at, f"found a number of more than {most} bytes")


def read_index(branches: int, data: memoryview, at: int, path: str) -> tuple[int, int]:
    """Read the index of one of a union's branches."""
    index, after = read_varint(data, at, path, _LONG_BYTES)
    if not 0 <= index < branches:
        raise _broken(path, at, f"found union index {index}, wanted 0 to {branches - 1}")
    return index, after


def read_sized(data: memoryview, at: int, path: str) -> tuple[memoryview, int]:
    """Read bytes that follow their length; they are a view, not a copy."""
    size, after = read_varint(data, at, path, _LONG_BYTES)
    return _take(data, after, size, path), after + size


def _broken(path: str, at: int, what: str) -> DatumError:
    return DatumError(f"{path or 'datum'} at byte {at}: {what}")


def _take(data: memoryview, at: int, size: int, path: str) -> memoryview:
    if size < 0:
        raise _broken(path, at, f"found length {size}, wanted 0 or more")
    if size > len(data) - at:
        raise _broken(path, at, f"{size} bytes wanted, {len(data) - at} remain")
    return data[at : at + size]


def _bytes(_node: Any, data: memoryview, at: int, path: str) -> tuple[memoryview, int]:
    return read_sized(data, at, path)


def _string(_node: Any, data: memoryview, at: int, path: str) -> tuple[str, int]:
    raw, after = read_sized(data, at, path)
    try:
        return str(raw, "utf-8"), after
    except UnicodeDecodeError as error:
        raise _broken(path, at, f"a string is not UTF-8: {error.reason}") from None


def _null(_node: Any, _data: memoryview, at: int, _path: str) -> tuple[None, int]:
    return None, at


def _boolean(_node: Any, data: memoryview, at: int, path: str) -> tuple[bool, int]:
    byte = _take(data, at, 1, path)[0]
    if byte > 1:
        raise _broken(path, at, f"found boolean {byte}, wanted 0 or 1")
    return byte == 1, at + 1


def _int(_node: Any, data: memoryview, at: int, path: str) -> tuple[int, int]:
    return read_varint(data, at, path, _INT_BYTES)


def _long(node: Primitive, data: memoryview, at: int, path: str) -> tuple[int, int]:
    value, after = read_varint(data, at, path, _LONG_BYTES)
    if node.logical is not None and not instant_is_legal(node.logical, value):
        raise _broken(path, at, f"{node.logical} {value} lies outside years 1 to 9999")
    return value, after


def instant_is_legal(logical: str, value: int) -> bool:
    """Tell whether a timestamp lies inside `TIMESTAMP_RANGE`."""
    earliest, latest = TIMESTAMP_RANGE[logical]
    return earliest <= value <= latest


def _float(_node: Any, data: memoryview, at: int, path: str) -> tuple[float, int]:
    return _FLOAT.unpack(_take(data, at, 4, path))[0], at + 4


def _double(_node: Any, data: memoryview, at: int, path: str) -> tuple[float, int]:
    return _DOUBLE.unpack(_take(data, at, 8, path))[0], at + 8


_PRIMITIVE: dict[str, Callable[[Any, memoryview, int, str], tuple[Any, int]]] = {
    "null": _null,
    "boolean": _boolean,
    "int": _int,
    "long": _long,
    "float": _float,
    "double": _double,
    "bytes": _bytes,
    "string": _string,
}


def _primitive(node: Primitive, data: memoryview, at: int, path: str) -> tuple[Any, int]:
    return _PRIMITIVE[node.kind](node, data, at, path)


def _fixed(node: Fixed, data: memoryview, at: int, path: str) -> tuple[memoryview, int]:
    return _take(data, at, node.size, path), at + node.size


def _enumeration(node: Enumeration, data: memoryview, at: int, path: str) -> tuple[str, int]:
    index, after = read_varint(data, at, path, _INT_BYTES)
    if not 0 <= index < len(node.symbols):
        raise _broken(path, at, f"found enum index {index}, wanted 0 to {len(node.symbols) - 1}")
    return node.symbols[index], after


_LEAF: dict[type, Callable[[Any, memoryview, int, str], tuple[Any, int]]] = {
    Primitive: _primitive,
    Fixed: _fixed,
    Enumeration: _enumeration,
}
