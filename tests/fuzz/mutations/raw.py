"""Mutations that know nothing of what the bytes mean."""

from collections.abc import Mapping, Sequence

from ..seeds import Seed
from .kinds import Mutation, Random, pick

LEADING = 4000
"""Bytes in which the fields lie: half of the mutations aim there, else nearly all would hit pixels."""


def _place(value: bytes | bytearray, random: Random) -> int:
    size = max(1, len(value))
    return int(random.integers(min(size, LEADING) if random.random() < 0.5 else size))


def flip_bits(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Flip one to eight bits."""
    value = bytearray(seed.value)
    for _ in range(random.integers(1, 9)):
        value[_place(value, random)] ^= 1 << int(random.integers(8))
    return bytes(value)


def set_bytes(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Replace one to eight bytes, often by one at the edge of something."""
    value = bytearray(seed.value)
    for _ in range(random.integers(1, 9)):
        edge = pick((0x00, 0x01, 0x02, 0x7F, 0x80, 0xFF, int(random.integers(256))), random)
        value[_place(value, random)] = edge
    return bytes(value)


def truncate(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Cut anywhere."""
    return seed.value[: _place(seed.value, random)]


def splice(seed: Seed, random: Random, others: Sequence[Seed]) -> bytes:
    """Put the end of another packet behind the beginning of this one."""
    other = pick(others, random).value
    return seed.value[: _place(seed.value, random)] + other[_place(other, random) :]


def duplicate_chunk(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Write a piece twice."""
    start = _place(seed.value, random)
    end = start + int(random.integers(1, 2000))
    return seed.value[:end] + seed.value[start:]


def delete_chunk(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Leave a piece out."""
    start = _place(seed.value, random)
    return seed.value[:start] + seed.value[start + int(random.integers(1, 2000)) :]


def move_chunk(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Write a piece over another place."""
    value = bytearray(seed.value)
    start, target = _place(value, random), _place(value, random)
    piece = value[start : start + int(random.integers(1, 2000))]
    value[target : target + len(piece)] = piece
    return bytes(value)


def insert_noise(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Put random bytes between."""
    at = _place(seed.value, random)
    return seed.value[:at] + random.bytes(int(random.integers(1, 300))) + seed.value[at:]


def noise(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
    """Keep the first bytes and nothing else."""
    kept = int(random.integers(0, 12))
    return seed.value[:kept] + random.bytes(int(random.integers(0, 4000)))


RAW: Mapping[str, Mutation] = {
    mutation.__name__: mutation
    for mutation in (
        flip_bits,
        set_bytes,
        truncate,
        splice,
        duplicate_chunk,
        delete_chunk,
        move_chunk,
        insert_noise,
        noise,
    )
}
