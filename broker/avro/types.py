"""Avro schemas as trees of types, with every name resolved."""

from dataclasses import dataclass
from typing import Any, TypeAlias

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})

_FIXED_SIZES = {
    "null": 0,
    "boolean": 1,
    "int": 1,
    "long": 1,
    "float": 4,
    "double": 8,
    "bytes": 1,
    "string": 1,
}
LARGEST_FIXED = 2**31 - 1
"""Bytes; Avro states no bound, a program of the compiled walk has numbers of 32 bits."""

_TIMESTAMPS = {"timestamp-millis", "timestamp-micros"}


@dataclass(frozen=True, slots=True)
class Primitive:
    """A primitive type; `logical` is a timestamp's unit or None."""

    kind: str
    logical: str | None = None


@dataclass(frozen=True, slots=True)
class Fixed:
    """A fixed number of bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class Enumeration:
    """One of several symbols."""

    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Array:
    """Items of one type."""

    items: "Type"


@dataclass(frozen=True, slots=True)
class Map:
    """Values of one type by string."""

    values: "Type"


@dataclass(frozen=True, slots=True)
class Union:
    """One of several types."""

    branches: "tuple[Type, ...]"


@dataclass(frozen=True, slots=True)
class Record:
    """Named fields in their order."""

    fields: "tuple[tuple[str, Type], ...]"


Type: TypeAlias = Primitive | Fixed | Enumeration | Array | Map | Union | Record


def resolve(schema: Any) -> Type:
    """Make a tree of types out of a schema.

    Parameters
    ----------
    schema : dict, list or str
        As parsed from JSON.

    Raises
    ------
    ValueError
        If a name is unknown, the schema is recursive, a logical type is one that is not read, or
        the items of an array take no bytes (a count could then claim any number of them).
    """
    return _Resolver().resolve(schema, "")


def least_size(node: Type) -> int:
    """Fewest bytes a datum of a type takes."""
    match node:
        case Primitive(kind=kind):
            return _FIXED_SIZES[kind]
        case Fixed(size=size):
            return size
        case Union(branches=branches):
            return 1 + min(least_size(branch) for branch in branches)
        case Record(fields=fields):
            return sum(least_size(kind) for _, kind in fields)
        case _:
            return 1


class _Resolver:
    def __init__(self) -> None:
        self._named: dict[str, Type | None] = {}

    def resolve(self, schema: Any, namespace: str) -> Type:
        if isinstance(schema, str):
            return Primitive(schema) if schema in PRIMITIVES else self._named_before(schema, namespace)
        if isinstance(schema, list):
            return Union(tuple(self.resolve(branch, namespace) for branch in schema))
        return self._attributed(schema, namespace)

    def _attributed(self, schema: Any, namespace: str) -> Type:
        match schema["type"]:
            case "array":
                return Array(self._items(schema["items"], namespace))
            case "map":
                return Map(self.resolve(schema["values"], namespace))
            case "record" | "error" | "enum" | "fixed":
                return self._define(schema, namespace)
            case str(kind) if kind in PRIMITIVES:
                return Primitive(kind, _logical(schema))
            case kind:
                return self.resolve(kind, namespace)

    def _items(self, schema: Any, namespace: str) -> Type:
        items = self.resolve(schema, namespace)
        if least_size(items) == 0:
            raise ValueError(f"an array of items that take no bytes is not read: {schema!r:.80}")
        return items

    def _define(self, schema: dict[str, Any], namespace: str) -> Type:
        name = _full_name(schema["name"], schema.get("namespace", namespace))
        self._named[name] = None
        inner = name.rpartition(".")[0]
        node: Type
        if schema["type"] == "enum":
            node = Enumeration(tuple(schema["symbols"]))
        elif schema["type"] == "fixed":
            node = Fixed(_size(schema))
        else:
            node = Record(
                tuple((field["name"], self.resolve(field["type"], inner)) for field in schema["fields"])
            )
        self._named[name] = node
        return node

    def _named_before(self, name: str, namespace: str) -> Type:
        full = _full_name(name, namespace)
        if full not in self._named:
            raise ValueError(f"the schema names a type that it does not define before: {full!r}")
        node = self._named[full]
        if node is None:
            raise ValueError(f"a recursive schema is not read: {full!r} contains itself")
        return node


def _size(schema: dict[str, Any]) -> int:
    size = int(schema["size"])
    if not 0 <= size <= LARGEST_FIXED:
        raise ValueError(f"a fixed of {size} bytes is not read, only of 0 to {LARGEST_FIXED}")
    return size


def _logical(schema: dict[str, Any]) -> str | None:
    logical = schema.get("logicalType")
    if logical is None or (schema["type"] == "long" and logical in _TIMESTAMPS):
        return logical
    raise ValueError(f"logical type {logical!r} of {schema['type']!r} is not read")


def _full_name(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"
