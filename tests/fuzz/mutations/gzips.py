"""Mutations of gzip streams, the wrapping of ZTF's stamps."""

import gzip
import zlib
from collections.abc import Mapping, Sequence

from ..anatomy import anatomy
from ..seeds import Seed
from .fits import Change
from .kinds import Mutation, Random, pick, pick_role

LARGEST_BOMB = 48 * 1024 * 1024
"""Bytes: twelve times what a stamp may inflate to."""


def cut(stream: bytes, random: Random) -> bytes:
    """Cut anywhere."""
    return stream[: int(random.integers(len(stream)))]


def checksum(stream: bytes, random: Random) -> bytes:
    """Another CRC or length."""
    at = len(stream) - int(random.integers(1, 9))
    return stream[:at] + bytes([stream[at] ^ 1 << int(random.integers(8))]) + stream[at + 1 :]


def header(stream: bytes, random: Random) -> bytes:
    """Another of the ten bytes of the header: method, flags, times."""
    at = int(random.integers(10))
    return stream[:at] + random.bytes(1) + stream[at + 1 :]


def flipped(stream: bytes, random: Random) -> bytes:
    """Bits flipped in the compressed data."""
    changed = bytearray(stream)
    for _ in range(random.integers(1, 5)):
        changed[int(random.integers(len(changed)))] ^= 1 << int(random.integers(8))
    return bytes(changed)


def members(stream: bytes, random: Random) -> bytes:
    """Several members, one behind the other: the file in pieces, or thousands of empty ones."""
    if random.random() < 0.5:
        return gzip.compress(b"", mtime=0) * int(random.integers(1, 30_000)) + stream
    plain = zlib.decompress(stream, 31)
    at = int(random.integers(len(plain)))
    return gzip.compress(plain[:at], 1, mtime=0) + gzip.compress(plain[at:], 1, mtime=0)


def bomb(stream: bytes, random: Random) -> bytes:
    """Few bytes that inflate to many, alone or behind the sound file."""
    zeros = gzip.compress(bytes(int(random.integers(1, LARGEST_BOMB))), 1, mtime=0)
    return pick((zeros, stream + zeros), random)


def trailing(stream: bytes, random: Random) -> bytes:
    """Zeros or noise behind the stream."""
    return stream + pick((bytes(int(random.integers(1, 4000))), random.bytes(30)), random)


def plain(stream: bytes, random: Random) -> bytes:
    """Not compressed, or in zlib's or deflate's own format."""
    content = zlib.decompress(stream, 31)
    return pick((content, zlib.compress(content), zlib.compress(content, wbits=-15)), random)


def nested(stream: bytes, _random: Random) -> bytes:
    """Compressed twice."""
    return gzip.compress(stream, 1, mtime=0)


def _in_packet(change: Change) -> Mutation:
    def mutation(seed: Seed, random: Random, others: Sequence[Seed]) -> bytes:
        parts = anatomy(seed.value)
        if parts.header is None:
            # Rubin's stamps are not compressed: any other of the packets that are.
            zipped = [other for other in others if other.value[:1] != b"\0"]
            if not zipped:
                return seed.value
            parts = anatomy(pick(zipped, random).value)
        role = pick_role(parts, random)
        if role is None:
            return seed.value
        return parts.with_stamp(role, change(parts.stamp(role), random))

    return mutation


GZIPS: Mapping[str, Mutation] = {
    f"gzip_{change.__name__}": _in_packet(change)
    for change in (cut, checksum, header, flipped, members, bomb, trailing, plain, nested)
}
