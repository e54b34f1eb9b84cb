"""Where things lie in a packet, so that mutations hit what matters and not only pixels."""

from dataclasses import dataclass, replace
from functools import lru_cache

from broker.alert import ROLES, Survey
from broker.avro.container import ContainerReader, Header
from broker.avro.deserializer import STAMPS
from broker.avro.encoding import long
from broker.avro.exact import blocks, read_varint
from broker.avro.frame import FRAME_SIZE, frame
from broker.avro.pattern import Pattern
from broker.avro.store import SchemaStore, survey_of
from broker.avro.types import Array, Fixed, Map, Primitive, Record, Type, Union, least_size, resolve

_CONTAINERS = ContainerReader()

ITEMS_NOTED = 2
"""Of an array: the others hold the same kinds of fields, and a thousand of them would fill the memory."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A value of a datum.

    Attributes
    ----------
    kind : str
        ``union``, ``count``, or a primitive type.
    start, end : int
        Its bytes; of strings and bytes the length is included.
    path : str
    """

    kind: str
    start: int
    end: int
    path: str


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A packet taken apart.

    Attributes
    ----------
    survey : Survey
    form : str
    datum : bytes
    spots : tuple of Spot
    schema_id : int or None
        Of its frame.
    header : Header or None
        Of its container.
    sync : bytes
        The container's.
    """

    survey: Survey
    form: str
    datum: bytes
    spots: tuple[Spot, ...]
    schema_id: int | None
    header: Header | None
    sync: bytes = b""

    def wrap(self, datum: bytes) -> bytes:
        """Put another datum into the packet's own wrapping."""
        if self.schema_id is not None:
            return frame(self.schema_id) + datum
        assert self.header is not None
        return b"".join((self.header.raw, self.sync, long(1), long(len(datum)), datum, self.sync))

    def of_kind(self, *kinds: str) -> tuple[Spot, ...]:
        """Values of these kinds."""
        return tuple(spot for spot in self.spots if spot.kind in kinds)

    @property
    def stamps(self) -> dict[str, Spot]:
        """Where the stamps lie that are not null, by role."""
        paths = {STAMPS[self.survey].format(role.capitalize()): role for role in ROLES}
        return {paths[spot.path]: spot for spot in self.spots if spot.kind == "bytes" and spot.path in paths}

    def stamp(self, role: str) -> bytes:
        """Bytes of a stamp."""
        spot = self.stamps[role]
        _, start = read_varint(memoryview(self.datum), spot.start, spot.path, 10)
        return self.datum[start : spot.end]

    def with_stamp(self, role: str, content: bytes) -> bytes:
        """Write the packet anew with another stamp."""
        return self.wrap(self.put(self.stamps[role], long(len(content)) + content))

    def put(self, spot: Spot, raw: bytes) -> bytes:
        """Write the datum anew with other bytes in a place."""
        return self.datum[: spot.start] + raw + self.datum[spot.end :]


@lru_cache(maxsize=128)
def anatomy(value: bytes) -> Anatomy:
    """Take a sound packet apart.

    Parameters
    ----------
    value : bytes
    """
    store = SchemaStore()
    if value[:1] == b"\0":
        schema_id = int.from_bytes(value[1:FRAME_SIZE], "big")
        form, datum = store.by_id(schema_id), value[FRAME_SIZE:]
        return Anatomy(survey_of(form), form, datum, _spots(form, datum), schema_id, None)
    header, inflated = _CONTAINERS.record(value)
    form, datum = store.by_fingerprint(header.fingerprint), bytes(inflated)
    if header.codec != "null":
        # Mutated data are wrapped without compression: it would hide them from the walk.
        header = replace(header, raw=header.raw.replace(_codec(header), _codec(header, "null")))
    sync = value[-16:]
    return Anatomy(survey_of(form), form, datum, _spots(form, datum), None, header, sync)


def _codec(header: Header, name: str | None = None) -> bytes:
    text = (name or header.codec).encode()
    key = b"avro.codec"
    return long(len(key)) + key + long(len(text)) + text


@lru_cache(maxsize=32)
def tree(form: str) -> Type:
    """Types of a form."""
    return resolve(SchemaStore().form(form).schema)


def _spots(form: str, datum: bytes) -> tuple[Spot, ...]:
    found: list[Spot] = []
    _walk(tree(form), memoryview(datum), 0, "", found)
    return tuple(found)


def _walk(node: Type, data: memoryview, at: int, path: str, found: list[Spot]) -> int:
    match node:
        case Record(fields=fields):
            for name, kind in fields:
                at = _walk(kind, data, at, f"{path}.{name}" if path else name, found)
            return at
        case Union(branches=branches):
            index, after = read_varint(data, at, path, 10)
            found.append(Spot("union", at, after, path))
            return _walk(branches[index], data, after, path, found)
        case Array(items=items):
            return _walk_items(items, data, at, path, found)
        case Fixed(size=size):
            return at + size
        case Map():
            raise NotImplementedError("no survey's schema has a map")
        case Primitive(kind=kind):
            end = _end(kind, data, at, path)
            if kind != "null":
                found.append(Spot(kind, at, end, path))
            return end
        case _:
            _, end = read_varint(data, at, path, 5)
            found.append(Spot("int", at, end, path))
            return end


def _walk_items(items: Type, data: memoryview, at: int, path: str, found: list[Spot]) -> int:
    for block in blocks(data, at, path, least_size(items)):
        found.append(Spot("count", at, block.at, path))
        at = block.at
        match_at = _item(items).match
        for item in range(block.count):
            match = match_at(data, at) if item >= ITEMS_NOTED else None
            noted = found if item < ITEMS_NOTED else []
            at = match.end() if match else _walk(items, data, at, f"{path}[]", noted)
        block.ended(at)
    return block.after


@lru_cache(maxsize=32)
def _item(items: Type) -> Pattern:
    return Pattern([("", items)], frozenset())


def _end(kind: str, data: memoryview, at: int, path: str) -> int:
    fixed = {"null": 0, "boolean": 1, "float": 4, "double": 8}
    if kind in fixed:
        return at + fixed[kind]
    number, after = read_varint(data, at, path, 10)
    return after + number if kind in {"string", "bytes"} else after
