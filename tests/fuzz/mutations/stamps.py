"""Mutations of stamps as wholes: swapped, empty, null, huge, another packet's, no FITS."""

import gzip
from collections.abc import Mapping, Sequence

from broker.avro.encoding import long

from ..anatomy import anatomy
from ..seeds import Seed
from .kinds import Mutation, Random, pick, pick_role


def swapped(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """One role's stamp in the place of another's."""
    parts = anatomy(seed.value)
    to, source = pick_role(parts, random), pick_role(parts, random)
    return seed.value if to is None or source is None else parts.with_stamp(to, parts.stamp(source))


def foreign(seed: Seed, random: Random, others: Sequence[Seed]) -> bytes:
    """A stamp of another packet, maybe of the other survey."""
    parts, other = anatomy(seed.value), anatomy(pick(others, random).value)
    to, source = pick_role(parts, random), pick_role(other, random)
    return seed.value if to is None or source is None else parts.with_stamp(to, other.stamp(source))


def strange(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """A stamp that is empty, random, text, a whole packet, or in another compression."""
    parts = anatomy(seed.value)
    role = pick_role(parts, random)
    if role is None:
        return seed.value
    own = parts.stamp(role)
    content = pick(
        (
            b"",
            b"\0",
            random.bytes(int(random.integers(1, 5000))),
            b"SIMPLE  =                    T",
            b"SIMPLE  = T" + b" " * 2869,
            seed.value[:100_000],
            gzip.compress(own, 1, mtime=0),
            own + own,
            own + bytes(int(random.integers(1, 4000))),
            own[: int(random.integers(len(own) + 1))],
        ),
        random,
    )
    return parts.with_stamp(role, content)


def huge(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """A stamp of a megabyte or more, sound at its beginning or not."""
    parts = anatomy(seed.value)
    role = pick_role(parts, random)
    if role is None:
        return seed.value
    own = parts.stamp(role)
    times = int(random.integers(1_000_000, 3_000_000)) // max(1, len(own))
    return parts.with_stamp(role, own * times if random.random() < 0.5 else own + bytes(len(own) * times))


def null(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Null in the place of one to three stamps, rightly encoded."""
    parts = anatomy(seed.value)
    datum = parts.datum
    roles = sorted(parts.stamps, key=lambda role: -parts.stamps[role].start)
    for role in roles[: int(random.integers(1, 4))]:
        stamp = parts.stamps[role]
        top = stamp.path.partition(".")[0]
        union = next(spot for spot in parts.of_kind("union") if spot.path == top)
        index = long(1) if datum[union.start] == 0 else long(0)
        datum = datum[: union.start] + index + datum[stamp.end :]
    return parts.wrap(datum)


STAMPS: Mapping[str, Mutation] = {
    f"stamp_{mutation.__name__}": mutation for mutation in (swapped, foreign, strange, huge, null)
}
