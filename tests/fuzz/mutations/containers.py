"""Mutations of what wraps a datum: Confluent frames and Avro object containers."""

import bz2
import json
import lzma
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import schemas
from broker.avro.encoding import long
from broker.testing.datums import CONTAINER_MAGIC, SYNC_MARKER

from ..anatomy import Anatomy, anatomy
from ..seeds import Seed
from .avro import repeated_history
from .kinds import Mutation, Random, pick

IDS = (0, -1, 1, 700, 701, 704, 800, 900, 1000, 1100, 1101, 1102, 2**31 - 1, -(2**31), 1_900_021_101)
MIB = 1024 * 1024
BOMBS = (MIB, 15 * MIB, 16 * MIB, 16 * MIB + 1, 17 * MIB, 64 * MIB)
"""Bytes a bomb inflates to: 16 MiB are allowed."""

CODECS: Mapping[str, Callable[[bytes], bytes]] = {
    "deflate": lambda plain: zlib.compress(plain, 1, wbits=-15),
    "bzip2": lambda plain: bz2.compress(plain, 1),
    "xz": lambda plain: lzma.compress(plain, preset=0),
}


def frame_id(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """A frame of another id: known, unknown or negative."""
    return struct.pack(">bi", 0, pick(IDS, random)) + anatomy(seed.value).datum


def frame_twice(seed: Seed, _random: Random, _others: Sequence[Seed]) -> bytes:
    """A packet in a frame of its own."""
    return struct.pack(">bi", 0, 1101) + seed.value


def magic(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Other first bytes."""
    start = pick(
        (b"", b"\1", b"Obj\0", b"Obj\2", b"Obj", b"\xc3\x01", b"{", b"\0\0", random.bytes(4)), random
    )
    return start + seed.value[int(random.integers(0, 6)) :]


def other_wrapping(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """A datum in a container of whichever form."""
    form = pick(schemas.INPUT_FORMS, random)
    return _container({"avro.schema": _schema_text(form)}, [(1, anatomy(seed.value).datum)])


def metadata(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """A header of other entries: none, many, huge, negative counts, names that are no text."""
    parts = anatomy(seed.value)
    schema = _sized(b"avro.schema") + _sized(_schema_text(parts.form))
    entry = _sized(b"x") + _sized(b"y")
    many = int(random.integers(2, 80))
    blocks = pick(
        (
            b"",
            long(1) + schema + long(2**40),
            long(many) + schema + entry * (many - 1),
            long(-2) + long(len(schema + entry)) + schema + entry,
            long(-(2**63)) + long(3) + schema,
            long(1) + _sized(b"\xff" * int(random.integers(1, 200_000))) + _sized(b"z"),
            long(2) + schema + _sized(b"avro.codec") + _sized(random.bytes(int(random.integers(0, 70_000)))),
            long(2) + schema + _sized(b"") + _sized(b"\0" * 1_200_000),
            long(2) + _sized(b"avro.schema") + _sized(b"null") + schema,
        ),
        random,
    )
    return CONTAINER_MAGIC + blocks + long(0) + SYNC_MARKER + _block(1, parts.datum)


def sync_marker(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Markers that differ, or are cut."""
    value = _container(
        {"avro.schema": _schema_text(anatomy(seed.value).form)}, [(1, anatomy(seed.value).datum)]
    )
    marker = random.bytes(16)
    return pick((value[: -int(random.integers(1, 17))], value[:-16] + marker, value + marker), random)


def codec(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """A codec's name before data that are compressed by it, by another, or not at all; some are damaged."""
    parts = anatomy(seed.value)
    name = pick((*CODECS, "null", "snappy", "zstandard", "DEFLATE", "", "\n", "\udcff"), random)
    block = CODECS[pick(tuple(CODECS), random)](parts.datum) if random.random() < 0.4 else parts.datum
    if name in CODECS and random.random() < 0.6:
        block = CODECS[name](parts.datum)
    damaged = bytearray(block)
    if random.random() < 0.5:
        damaged[int(random.integers(len(damaged)))] ^= 1 << int(random.integers(8))
    entries = {
        "avro.schema": _schema_text(parts.form),
        "avro.codec": name.encode("utf-8", "surrogateescape"),
    }
    return _container(entries, [(1, bytes(damaged))])


def bomb(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """A block of few bytes that inflates to many."""
    parts, name = anatomy(seed.value), pick(tuple(CODECS), random)
    entries = {"avro.schema": _schema_text(parts.form), "avro.codec": name.encode()}
    if random.random() < 0.5:
        return _container(entries, [(1, _zeros(name, pick(BOMBS, random)))])
    # A history as long as fits, which the walk has to go through item by item.
    plain = repeated_history(parts, random, int(2.0 ** random.uniform(16.0, 23.9)))
    return _container(entries, [(1, CODECS[name](plain or parts.datum))])


def record_count(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Blocks of no record, of two, of another number than they say."""
    parts = anatomy(seed.value)
    counts = pick(((0,), (2,), (-1,), (2**62,), (1, 1), (0, 1, 0), (1, 0), (0,) * 2000, ()), random)
    return _container(
        {"avro.schema": _schema_text(parts.form)}, [(n, parts.datum if n else b"") for n in counts]
    )


def schema_text(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """A header whose schema is broken, strange or large."""
    parts = anatomy(seed.value)
    flipped = bytearray(_schema_text(parts.form))
    for _ in range(3):
        flipped[int(random.integers(len(flipped)))] = int(random.integers(256))
    text = pick(
        (
            bytes(flipped),
            *(json.dumps(strange).encode() for strange in _strange_schemas(parts, random)),
            *(b"", b"null", b'"\\ud800"', b"\xff\xfe\x00", b"1" * 5000, b"[" * 90_000, b'{"type":' * 30_000),
            b"[" + b"[]," * int(random.integers(1, 300_000)) + b"[]]",
        ),
        random,
    )
    return _container({"avro.schema": text}, [(1, parts.datum)])


def _strange_schemas(parts: Anatomy, random: Random) -> list[Any]:
    schema = schemas.input_form(parts.form)
    field = schema["fields"][int(random.integers(len(schema["fields"])))]
    field[pick(("type", "name", "default", "order"), random)] = pick(
        (None, 5, [], {}, "", "nowhere.Type", {"type": "array", "items": "null"}, {"type": []}, [[]]), random
    )
    fields = [{"name": "a", "type": "b"}] * int(random.integers(1, 30_000))
    spread = {
        "type": "record",
        "name": "r",
        "namespace": "n" * int(random.integers(1, 300_000)),
        "fields": fields,
    }
    return [
        schema,
        spread,
        {"type": "record", "name": {}, "fields": 3},
        {"type": "enum", "name": "e", "symbols": {"a": float("nan")}},
        {"type": "fixed", "name": "f", "size": 10**300},
        {"type": "record", "name": "r", "namespace": ["x"], "fields": [{"name": [], "type": "b"}]},
    ]


@lru_cache(maxsize=len(CODECS) * len(BOMBS))
def _zeros(codec: str, size: int) -> bytes:
    return CODECS[codec](bytes(size))


def _schema_text(form: str) -> bytes:
    return json.dumps(schemas.input_form(form)).encode()


def _container(entries: Mapping[str, bytes], blocks: Sequence[tuple[int, bytes]]) -> bytes:
    packed = b"".join(_sized(name.encode()) + _sized(content) for name, content in entries.items())
    head = CONTAINER_MAGIC + long(len(entries)) + packed + long(0) + SYNC_MARKER
    return head + b"".join(_block(count, datum) for count, datum in blocks)


def _block(count: int, content: bytes) -> bytes:
    return long(count) + _sized(content) + SYNC_MARKER


def _sized(content: bytes) -> bytes:
    return long(len(content)) + content


CONTAINERS: Mapping[str, Mutation] = {
    **{f"wrap_{mutation.__name__}": mutation for mutation in (frame_id, frame_twice, magic, other_wrapping)},
    **{
        f"container_{mutation.__name__}": mutation
        for mutation in (metadata, sync_marker, codec, bomb, record_count, schema_text)
    },
}
