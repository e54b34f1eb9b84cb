"""Mutations of values of a datum: lengths, counts, union indices, numbers, texts."""

import struct
from collections.abc import Mapping, Sequence

from broker.avro.encoding import long

from ..anatomy import Anatomy, anatomy
from ..seeds import Seed
from .kinds import Mutation, Random, pick, pick_spot

EXTREMES = (0, -1, 1, 2, 3, 63, 64, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**62, 2**63 - 1, -(2**63))
BROKEN_VARINTS = (
    b"\x80" * 10 + b"\x00",
    b"\xff" * 10 + b"\x01",
    b"\xff" * 9 + b"\x02",
    b"\x80" * 64,
    b"\x82\x00",
    b"\x80\x80\x80\x00",
)
"""Longer than allowed, beyond the range, never ending, and legal though longer than need be."""

FLOATS = (
    *(float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1e-45, -1e-40, 5e-324, 3.4028235e38),
    *(-999.0, -1.0, 1e10, 1e30, 360.0, 90.0, 59000.0, 2e6),
)
DOUBLES = (*FLOATS, 1.7976931348623157e308, -1.7976931348623157e308, 2460000.5, 1e16)
TEXTS = (
    *(b"", b"\0", b"null", b"\r\n\t\x1b[2J", b"u", b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\xc0\x80"),
    *("\u202e\u2028\ufeff".encode(), "\U0001f52d".encode() * 9, b"a" * 128, b"a" * 5000, b"r\0", b"%s{0}"),
)
"""Controls, overlong and lone-surrogate encodings, and texts just beyond what is matched at once."""


def union_index(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Another index in a union."""
    return _varint(seed, random, "union")


def block_count(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Another count in a block of a history."""
    return _varint(seed, random, "count")


def length(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Another length of a text or a stamp, its bytes left alone."""
    parts = anatomy(seed.value)
    spot = pick_spot(parts, random, "string", "bytes")
    if spot is None:
        return seed.value
    near = int(random.integers(-3, 4)) + (spot.end - spot.start)
    number = long(pick((*EXTREMES, near), random))
    end = spot.start + 1
    while parts.datum[end - 1] & 0x80:
        end += 1
    return parts.wrap(parts.datum[: spot.start] + number + parts.datum[end:])


def integer(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Another int or long."""
    return _varint(seed, random, "int", "long")


def floating(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """One to five floats or doubles that are no measurements."""
    parts = anatomy(seed.value)
    datum = bytearray(parts.datum)
    for _ in range(random.integers(1, 6)):
        spot = pick_spot(parts, random, "float", "double")
        if spot is None:
            break
        double = spot.kind == "double"
        raw = struct.pack("<d", pick(DOUBLES, random)) if double else struct.pack("<f", pick(FLOATS, random))
        datum[spot.start : spot.end] = raw
    return parts.wrap(bytes(datum))


def text(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Another text, of whatever bytes."""
    parts = anatomy(seed.value)
    spot = pick_spot(parts, random, "string")
    if spot is None:
        return seed.value
    raw = pick((*TEXTS, random.bytes(12)), random)
    return parts.wrap(parts.put(spot, long(len(raw)) + raw))


def boolean(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """A boolean that is neither, or turned."""
    parts = anatomy(seed.value)
    spot = pick_spot(parts, random, "boolean")
    return seed.value if spot is None else parts.wrap(parts.put(spot, bytes([int(random.integers(4))])))


def longer_history(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Repeat an entry of a history, up to ten thousand times or a megabyte, with the count to match."""
    parts = anatomy(seed.value)
    datum = repeated_history(parts, random, int(2.0 ** random.uniform(8.0, 20.0)))
    return seed.value if datum is None else parts.wrap(datum)


def repeated_history(parts: Anatomy, random: Random, size: int) -> bytes | None:
    """Make a datum with a history of so many bytes; None where the packet has none.

    Half of them are legal and yet what nobody writes: an index of two bytes keeps each entry from the fast path.
    """
    counts = [spot for spot in parts.of_kind("count") if parts.datum[spot.start] not in (0, 1)]
    if not counts:
        return None
    spot = pick(counts, random)
    inside = [one for one in parts.spots if one.path.startswith(f"{spot.path}[]") and one.start >= spot.end]
    starts = [one.start for one in inside if (one.path, one.kind) == (inside[0].path, inside[0].kind)]
    item = parts.datum[starts[0] : starts[1] if len(starts) > 1 else inside[-1].end]
    index = next((one for one in inside if one.kind == "union"), None)
    if index is not None and random.random() < 0.5:
        at = index.start - starts[0]
        item = item[:at] + bytes([item[at] | 0x80, 0]) + item[at + 1 :]
    times = max(1, size // len(item))
    count = long(times) if random.random() < 0.5 else long(-times) + long(times * len(item))
    return parts.datum[: spot.start] + count + item * times + parts.datum[spot.start :]


def trailing(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Bytes behind the last field."""
    parts = anatomy(seed.value)
    return parts.wrap(parts.datum + random.bytes(int(random.integers(1, 40))))


def cut_datum(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """End the datum at the edge of a value, in a wrapping that is whole."""
    parts = anatomy(seed.value)
    return parts.wrap(parts.datum[: pick(parts.spots, random).end])


def drop_value(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Leave one value out, as another version of the schema would."""
    parts = anatomy(seed.value)
    return parts.wrap(parts.put(pick(parts.spots, random), b""))


def double_value(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Write one value twice."""
    parts = anatomy(seed.value)
    spot = pick(parts.spots, random)
    return parts.wrap(parts.put(spot, parts.datum[spot.start : spot.end] * 2))


def _varint(seed: Seed, random: Random, *kinds: str) -> bytes:
    parts = anatomy(seed.value)
    spot = pick_spot(parts, random, *kinds)
    if spot is None:
        return seed.value
    whole = random.random() < 0.8
    raw = long(pick(EXTREMES, random)) if whole else pick(BROKEN_VARINTS, random)
    return parts.wrap(parts.put(spot, raw))


AVRO: Mapping[str, Mutation] = {
    f"avro_{mutation.__name__}": mutation
    for mutation in (
        union_index,
        block_count,
        length,
        integer,
        floating,
        text,
        boolean,
        longer_history,
        trailing,
        cut_datum,
        drop_value,
        double_value,
    )
}
