"""Mutations of FITS files: cards, headers, chains of HDUs, pixels."""

import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from broker.alert import Survey

from ..anatomy import anatomy
from ..seeds import Seed
from .kinds import Mutation, Random, pick, pick_role

CARD, BLOCK = 80, 2880
KEYS = (
    *("SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "PCOUNT", "GCOUNT", "EXTNAME"),
    *(
        "BSCALE",
        "BZERO",
        "CRPIX1",
        "CRPIX2",
        "CDELT1",
        "CDELT2",
        "PC1_1",
        "PC1_2",
        "PC2_1",
        "PC2_2",
        "CD1_1",
        "END",
    ),
)
VALUES = (
    *("-1", "0", "1", "2", "3", "8", "-32", "-64", "64", "999", "1000", "4096", "4097", "1000000000"),
    *(
        "999999999999999999",
        "-999999999999999999",
        "9" * 60,
        "NaN",
        "inf",
        "1E400",
        "1D-400",
        "-0.0",
        "1e-300",
    ),
    *(
        "1E300",
        "T",
        "'UNCERT  '",
        "'IMAGE   '",
        "'unclosed",
        "",
        "/ comment",
        "2 / two",
        "0x20",
        "\xff\xff",
        "\0",
    ),
)
PIXELS = (
    *(float("nan"), float("inf"), float("-inf"), 0.0, -1.0, 1e-45, 1e-40, 1e30, -1e30, 9.9e29),
    *(3.4e38, -3.4e38, 1e19, 1.0),
)

Change = Callable[[bytes, Random], bytes]


def card(fits: bytes, random: Random) -> bytes:
    """Another value in a card, or a card more in another's place."""
    key, value = pick(KEYS, random), pick(VALUES, random)
    new = f"{key:<8}= {value:>20}".encode("latin-1")[:CARD].ljust(CARD)
    places = [at for at in _cards(fits) if fits[at : at + 8].rstrip() == key.encode()]
    at = pick(places or list(_cards(fits)), random)
    return fits[:at] + new + fits[at + CARD :]


def card_lost(fits: bytes, random: Random) -> bytes:
    """Blanks in the place of a card; of END too."""
    at = pick(list(_cards(fits)), random)
    return fits[:at] + b" " * CARD + fits[at + CARD :]


def card_garbled(fits: bytes, random: Random) -> bytes:
    """Random bytes in a card."""
    at = pick(list(_cards(fits)), random) + int(random.integers(CARD))
    noise = random.bytes(int(random.integers(1, 30)))
    return fits[:at] + noise + fits[at + len(noise) :]


def end_lost(fits: bytes, random: Random) -> bytes:
    """A header without an end."""
    ends = [at for at in _cards(fits) if fits[at : at + 8].rstrip() == b"END"]
    at = pick(ends, random) if ends else 0
    return fits[:at] + b"COMMENT " + fits[at + 8 :]


def cut(fits: bytes, random: Random) -> bytes:
    """Cut at a block or anywhere."""
    at = int(random.integers(len(fits) + 1))
    return fits[: at // BLOCK * BLOCK if random.random() < 0.5 else at]


def many_axes(fits: bytes, random: Random) -> bytes:
    """An HDU behind the first with hundreds of huge axes: numbers of thousands of digits."""
    count = int(random.integers(3, 999))
    value = pick((1, 2, 10**17, 10**18 - 1), random)
    cards = [*_start("XTENSION", -32, count), *(_text(f"NAXIS{i + 1}", value) for i in range(count))]
    return _first_hdu(fits) + _header(cards) + fits


def many_hdus(fits: bytes, random: Random) -> bytes:
    """HDUs without data, few or many, with headers short or as long as is read."""
    filler = [
        _text(f"CRPIX{int(random.integers(1, 3))}", int(random.integers(1_000_000))) for _ in range(1100)
    ]
    long_one = _header([*_start("XTENSION", -32, 0), *filler[: pick((0, 30, 1100), random)]])
    return _first_hdu(fits) + long_one * int(random.integers(1, 30))


def odd_shape(_fits: bytes, random: Random) -> bytes:
    """A sound image of another shape and type."""
    width, height = (int(pick((1, 2, 3, 30, 63, 64, 500, 4096), random)) for _ in range(2))
    height = min(height, 500_000 // width) or 1
    kind, bitpix = pick(((">f4", -32), (">f8", -64)), random)
    pixels = random.normal(0.0, 10.0, (height, width)).astype(kind)
    cards = [_text("SIMPLE", "T"), _text("BITPIX", bitpix), _text("NAXIS", 2)]
    cards += [_text("NAXIS1", width), _text("NAXIS2", height), _text("CRPIX1", width), _text("CRPIX2", 1)]
    return _header(cards) + _padded(pixels.tobytes())


def pixels(fits: bytes, random: Random) -> bytes:
    """Values that are no measurements, in one pixel, in some or in all, of the pixels or the variance."""
    value, share = pick(PIXELS, random), pick((0.0, 0.1, 0.6, 1.0), random)
    start = len(_first_header(fits)) if random.random() < 0.7 else _uncert(fits)
    count = max(1, (len(fits) - start) // 8)
    image = np.frombuffer(fits[start : start + 4 * count], ">f4").copy()
    where = random.random(len(image)) < share
    if len(image):
        where[int(random.integers(len(image)))] = True
    image[where] = value
    return fits[:start] + image.tobytes() + fits[start + 4 * len(image) :]


def garbled(fits: bytes, random: Random) -> bytes:
    """Random bits flipped anywhere in the file."""
    changed = bytearray(fits)
    for _ in range(random.integers(1, 40)):
        changed[int(random.integers(len(changed)))] ^= 1 << int(random.integers(8))
    return bytes(changed)


def _cards(fits: bytes) -> range:
    """Where the cards of the first header lie, and one time in a few those of the next."""
    return range(0, min(len(fits), 3 * BLOCK) - CARD + 1, CARD) if len(fits) >= CARD else range(1)


def _first_header(fits: bytes) -> bytes:
    for end in range(BLOCK, len(fits) + 1, BLOCK):
        if any(fits[at : at + 8].rstrip() == b"END" for at in range(end - BLOCK, end, CARD)):
            return fits[:end]
    return fits


def _first_hdu(fits: bytes) -> bytes:
    """The file up to its first extension."""
    at = fits.find(b"XTENSION")
    return fits if at < 0 else fits[:at]


def _uncert(fits: bytes) -> int:
    at = fits.find(b"XTENSION")
    return len(_first_header(fits)) if at < 0 else min(len(fits), at + BLOCK)


def _start(kind: str, bitpix: int, axes: int) -> list[bytes]:
    return [_text(kind, "'IMAGE   '"), _text("BITPIX", bitpix), _text("NAXIS", axes)]


def _text(key: str, value: float | str) -> bytes:
    return f"{key:<8}= {value:>20}".encode().ljust(CARD)


def _header(cards: list[bytes]) -> bytes:
    plain = b"".join((*cards, b"END".ljust(CARD)))
    return plain + b" " * (-len(plain) % BLOCK)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def _in_packet(change: Change) -> Mutation:
    """Make the change of a FITS file one of a packet: of one stamp, or of all three alike."""

    def mutation(seed: Seed, random: Random, _others: Sequence[Seed]) -> bytes:
        parts = anatomy(seed.value)
        role = pick_role(parts, random)
        if role is None:
            return seed.value
        value = parts.with_stamp(role, _changed(parts.stamp(role), parts.survey, change, random))
        if random.random() < 0.2:
            for other in anatomy(value).stamps:
                now = anatomy(value)
                value = now.with_stamp(other, now.stamp(role))
        return value

    return mutation


def _changed(stamp: bytes, survey: Survey, change: Change, random: Random) -> bytes:
    if survey is Survey.LSST:
        return change(stamp, random)
    return gzip.compress(change(zlib.decompress(stamp, 31), random), 1, mtime=0)


FITS: Mapping[str, Mutation] = {
    f"fits_{change.__name__}": _in_packet(change)
    for change in (
        card,
        card_lost,
        card_garbled,
        end_lost,
        cut,
        many_axes,
        many_hdus,
        odd_shape,
        pixels,
        garbled,
    )
}
