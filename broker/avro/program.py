"""A schema as the program of the compiled walk (`broker/compiled`): a run of numbers for each type."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.avro.types import Array, Enumeration, Fixed, Map, Primitive, Record, Type, Union, least_size

KINDS = {
    name: number
    for number, name in enumerate(
        (
            "null",
            "boolean",
            "int",
            "long",
            "timestamp-micros",
            "timestamp-millis",
            "float",
            "double",
            "bytes",
            "string",
            "fixed",
            "enum",
            "record",
            "union",
            "array",
        )
    )
}
"""In the order of the helper's own list."""

UNWANTED = -1

MOST_LISTED = 16
"""Wanted paths within one array, at most; more are read in Python."""


@dataclass(frozen=True, slots=True)
class Program:
    """What the helper is given of a schema.

    Attributes
    ----------
    code : bytes
    paths : tuple of str
        Wanted paths by their slots: those of single values, then those of the items of arrays.
    listed : int
        How many are of single values.
    """

    code: bytes
    paths: tuple[str, ...]
    listed: int


def write_program(fields: Sequence[tuple[str, Type]], wanted: Sequence[str]) -> Program | None:
    """Write the program of a record; None where it has what the helper does not read, such as a map."""
    single = [path for path in wanted if "[]" not in path]
    listed = [path for path in wanted if "[]" in path]
    paths = (*single, *listed)
    writer = _Writer({path: slot for slot, path in enumerate(paths)})
    try:
        code = writer.several("record", [(node, name) for name, node in fields])
    except _Unread:
        return None
    return Program(array("i", code).tobytes(), paths, len(single))


class _Unread(Exception):
    """A type is not read by the helper."""


class _Writer:
    def __init__(self, slots: Mapping[str, int]) -> None:
        self._slots = slots

    def write(self, node: Type, path: str) -> list[int]:
        match node:
            case Primitive(kind=kind, logical=logical):
                return [KINDS[logical or kind], UNWANTED if kind == "null" else self._slot(path)]
            case Fixed(size=size) if path not in self._slots:
                return [KINDS["fixed"], UNWANTED, size]
            case Enumeration(symbols=symbols) if path not in self._slots:
                return [KINDS["enum"], UNWANTED, len(symbols)]
            case Record(fields=fields):
                return self.several("record", [(kind, f"{path}.{name}") for name, kind in fields])
            case Union(branches=branches):
                return self.several("union", [(branch, path) for branch in branches])
            case Array(items=items):
                return self._array(items, f"{path}[]")
            case Map() | _:
                raise _Unread

    def _slot(self, path: str) -> int:
        return self._slots.get(path, UNWANTED)

    def several(self, kind: str, inside: Sequence[tuple[Type, str]]) -> list[int]:
        """Write types one behind the other, and where each begins, counted from here."""
        parts = [self.write(node, path) for node, path in inside]
        place = 3 + len(parts)
        places = []
        for part in parts:
            places.append(place)
            place += len(part)
        return [KINDS[kind], UNWANTED, len(parts), *places, *(number for part in parts for number in part)]

    def _array(self, items: Type, inside: str) -> list[int]:
        below = [slot for path, slot in self._slots.items() if path.startswith(inside)]
        if len(below) > MOST_LISTED:
            raise _Unread
        return [KINDS["array"], UNWANTED, least_size(items), len(below), *below, *self.write(items, inside)]
