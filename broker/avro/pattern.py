"""Regular expressions that match the usual encodings of Avro values.

Where no value's length depends on another's content, Avro's binary encoding is a regular
language, so the regular expression engine of the standard library can check a record of a
hundred fields in one call: about 20 ns a field, where Python code takes 60 ns and more.
The patterns match a subset of what is legal (strings are ASCII of at most `LONGEST_STRING`
bytes with the shortest length, union indices take one byte), never anything that is not:
what they do not match is left to `broker.avro.exact`, which decides.

Quantifiers are possessive and alternatives exclude each other by their first bytes, so a
match never backtracks into another reading of the same bytes.
"""

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker.avro.exact import MORE, instant_is_legal
from broker.avro.types import Enumeration, Fixed, Primitive, Record, Type, Union

LONGEST_STRING = 127
"""Longest string a pattern matches, in bytes; ZTF's archive paths have 94."""

MOST_BRANCHES = 64
"""Of a union whose index takes one byte."""

_NULL = Primitive("null")

_VARINT_LONG = rb"[\x80-\xff]{0,8}+(?:[\x00-\x7f]|[\x80-\xff][\x00\x01])"
_VARINT_INT = rb"[\x80-\xff]{0,3}+(?:[\x00-\x7f]|[\x80-\xff][\x00-\x0f])"
_FLOAT = struct.Struct("<f")
_DOUBLE = struct.Struct("<d")

Decode = Callable[[bytes], Any]


def _length(count: int) -> bytes:
    """Zigzag varint of a length up to `LONGEST_STRING`: one byte up to 63, else two."""
    doubled = 2 * count
    return bytes([doubled]) if doubled < MORE else bytes([doubled & 0x7F | MORE, doubled >> 7])


def _string_pattern() -> bytes:
    lengths = (b"%b[\\x00-\\x7f]{%d}" % (re.escape(_length(n)), n) for n in range(1, LONGEST_STRING + 1))
    return b"(?:" + b"|".join((rb"\x00", *lengths)) + b")"


_PRIMITIVE_PATTERNS = {
    "null": b"",
    "boolean": rb"[\x00\x01]",
    "int": _VARINT_INT,
    "long": _VARINT_LONG,
    "float": b"." * 4,
    "double": b"." * 8,
    "string": _string_pattern(),
}


def _decode_varint(raw: bytes) -> int:
    value = 0
    for byte in reversed(raw):
        value = (value << 7) | (byte & 0x7F)
    return (value >> 1) ^ -(value & 1)


def _decode_float(raw: bytes) -> float:
    value: float = _FLOAT.unpack(raw)[0]
    return value


def _decode_double(raw: bytes) -> float:
    value: float = _DOUBLE.unpack(raw)[0]
    return value


_DECODERS: dict[str, Decode] = {
    "boolean": lambda raw: raw == b"\x01",
    "int": _decode_varint,
    "long": _decode_varint,
    "float": _decode_float,
    "double": _decode_double,
    "string": lambda raw: raw[1 if raw[0] < MORE else 2 :].decode("ascii"),
}


@dataclass(frozen=True, slots=True)
class Leaf:
    """A captured leaf.

    Attributes
    ----------
    path : str
    decode : callable
        Value of what was captured.
    logical : str or None
        A timestamp's unit: its range is no matter for a pattern and is checked after the match.
    """

    path: str
    decode: Decode
    logical: str | None = None

    def is_legal(self, raw: bytes) -> bool:
        """Tell whether a captured timestamp lies in its range."""
        return self.logical is None or instant_is_legal(self.logical, self.decode(raw))


def is_regular(node: Type) -> bool:
    """Tell whether a type has a pattern: no array, map, enum or bytes in it, unions only with null."""
    match node:
        case Primitive(kind=kind):
            return kind in _PRIMITIVE_PATTERNS
        case Record(fields=fields):
            return all(is_regular(kind) for _, kind in fields)
        case Union(branches=branches):
            # With two branches that hold values, one leaf would have two groups. An index takes one byte.
            return (
                len(branches) <= MOST_BRANCHES
                and sum(branch != _NULL for branch in branches) <= 1
                and all(map(is_regular, branches))
            )
        case _:
            return isinstance(node, Fixed)


@dataclass(slots=True)
class _Writer:
    wanted: frozenset[str]
    leaves: list[Leaf] = field(default_factory=list)

    def write(self, node: Type, path: str) -> bytes:
        match node:
            case Record(fields=fields):
                return b"".join(self.write(kind, f"{path}.{name}" if path else name) for name, kind in fields)
            case Union(branches=branches):
                return self._union(branches, path)
            case Primitive(kind=kind, logical=logical):
                return self._primitive(kind, logical, path)
            case Fixed(size=size):
                return self._captured(b".{%d}" % size, path, Leaf(path, bytes))
            case Enumeration() | _:
                raise TypeError(f"{path}: {node!r} has no pattern")

    def _union(self, branches: Sequence[Type], path: str) -> bytes:
        patterns = (re.escape(bytes([2 * i])) + self.write(branch, path) for i, branch in enumerate(branches))
        return b"(?:" + b"|".join(patterns) + b")"

    def _primitive(self, kind: str, logical: str | None, path: str) -> bytes:
        pattern = _PRIMITIVE_PATTERNS[kind]
        if kind == "null":
            return pattern
        leaf = Leaf(path, _DECODERS[kind], logical)
        return self._captured(pattern, path, leaf)

    def _captured(self, pattern: bytes, path: str, leaf: Leaf) -> bytes:
        if path not in self.wanted and leaf.logical is None:
            return pattern
        self.leaves.append(leaf)
        return b"(" + pattern + b")"


class Pattern:
    """A compiled pattern for values that follow each other.

    Parameters
    ----------
    fields : sequence of (str, Type)
        Path and type of each value; each type `is_regular`.
    wanted : frozenset of str
        Paths of the leaves to capture.

    Attributes
    ----------
    match : callable
        ``match(data, at)`` gives a match or None.
    leaves : tuple of Leaf
        What each group of the match is.
    kept : tuple of (int, Leaf)
        Those of the groups that are wanted; the others are timestamps to be checked.
    """

    def __init__(self, fields: Sequence[tuple[str, Type]], wanted: frozenset[str]) -> None:
        writer = _Writer(wanted)
        text = b"".join(writer.write(node, path) for path, node in fields)
        self.match = re.compile(text, re.DOTALL).match
        self.leaves = tuple(writer.leaves)
        self.kept = tuple((i, leaf) for i, leaf in enumerate(self.leaves) if leaf.path in wanted)
        self._timed = tuple((i, leaf) for i, leaf in enumerate(self.leaves) if leaf.logical is not None)

    def is_legal(self, groups: Sequence[bytes | None]) -> bool:
        """Tell whether every timestamp among the groups of a match lies in its range."""
        for i, leaf in self._timed:
            raw = groups[i]
            if raw is not None and not leaf.is_legal(raw):
                return False
        return True
