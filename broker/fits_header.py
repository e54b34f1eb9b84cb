"""FITS headers: a strict scan of the cards that matter of one HDU (FITS standard 4.0)."""

import math
import re
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from broker.errors import CutoutError

CARD_LENGTH: Final = 80
BLOCK_LENGTH: Final = 2880
"""FITS standard 4.0, sections 3.1 and 3.2."""

MAX_HEADER_BLOCKS: Final = 32
"""1,152 cards; the longest header in known stamps has 28."""

MAX_AXES: Final = 16
"""The standard allows 999: their product would be a number of thousands of digits."""

_INTEGER_KEY: Final = re.compile(rb"BITPIX|NAXIS\d*|[PG]COUNT")
_INTEGER: Final = re.compile(rb"[+-]?\d{1,18}")
_FLOAT: Final = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([EDed][+-]?\d+)?")
_END: Final = re.compile(rb"(?s)(?:.{80})*?END\s{5}")
_MATRIX: Final = ((b"1_1", b"1_2"), (b"2_1", b"2_2"))
_FLOATS: Final = frozenset(
    {b"CRPIX1", b"CRPIX2", b"CDELT1", b"CDELT2", b"BSCALE", b"BZERO"}
    | {prefix + place for prefix in (b"PC", b"CD") for row in _MATRIX for place in row}
)


MOST_RECENT: Final = 6
"""Headers compared before one is looked for: the three stamps of an alert share their primary header, and those of
UNCERT and PSFIMAGE are the same in thousands of alerts, some sizes apart."""


@dataclass(frozen=True, slots=True)
class Header:
    """The cards that matter of one HDU.

    Attributes
    ----------
    kind : str
        ``primary``, or the value of XTENSION.
    name : str
        EXTNAME; empty where there is none.
    bitpix : int
    axes : tuple of int
        NAXIS1 first, none negative.
    pcount, gcount : int
    floats : dict of bytes to float
        CRPIXn, CDELTn, PCi_j, CDi_j, BSCALE and BZERO as far as they are there.
    orientation : tuple of (float, float, int) or None
        Pixel scale in arcsec, position angle of north in degrees, parity; None without a usable matrix.
    data_length : int
        Bytes of data without padding (FITS standard 4.0, eq. 2).
    """

    kind: str
    name: str
    bitpix: int
    axes: tuple[int, ...]
    pcount: int
    gcount: int
    floats: dict[bytes, float]
    orientation: tuple[float, float, int] | None
    data_length: int


_recent: deque[tuple[bytes, Header]] = deque(maxlen=MOST_RECENT)


def read_header(data: bytes | memoryview, offset: int) -> tuple[Header, int]:
    """Header at an offset, and where its data begin.

    Parameters
    ----------
    data : bytes or memoryview
        The file.
    offset : int

    Returns
    -------
    Header
    int
        Offset of the data.

    Raises
    ------
    CutoutError
        Where there is no END, or a card that matters breaks the standard.
    """
    for text, header in _recent:
        if bytes(data[offset : offset + len(text)]) == text:
            return header, offset + len(text)
    text = _whole_blocks(data, offset)
    header = _parse(text)
    _recent.appendleft((text, header))
    return header, offset + len(text)


def _whole_blocks(data: bytes | memoryview, offset: int) -> bytes:
    """Blocks of a header, the one with END the last."""
    for blocks in range(1, MAX_HEADER_BLOCKS + 1):
        end = offset + blocks * BLOCK_LENGTH
        if end > len(data):
            raise CutoutError(f"a FITS header at byte {offset} of {len(data)} has no END")
        # Only whole headers are parsed: else each block would be parsed again with every one behind it.
        if _END.match(data, end - BLOCK_LENGTH, end):
            return bytes(data[offset:end])
    raise CutoutError(f"a FITS header at byte {offset} has no END within {MAX_HEADER_BLOCKS} blocks")


def end_of(data: bytes | memoryview, header: Header, start: int) -> int:
    """Offset of the HDU after this one: data fill whole blocks, but the last padding may be missing.

    Parameters
    ----------
    data : bytes or memoryview
        The file.
    header : Header
    start : int
        Offset of the HDU's data.

    Returns
    -------
    int

    Raises
    ------
    CutoutError
        Where the data would lie beyond the end of the file.
    """
    length = header.data_length
    if start + length > len(data):
        raise CutoutError(f"an HDU claims {length} bytes of data at byte {start} of {len(data)}")
    return start + -(-length // BLOCK_LENGTH) * BLOCK_LENGTH


@lru_cache(maxsize=512)
def _parse(text: bytes) -> Header:
    """Header from whole blocks, the last of which holds END."""
    integers: dict[bytes, int] = {}
    floats: dict[bytes, float] = {}
    kind = name = None
    for start in range(0, len(text), CARD_LENGTH):
        key = text[start : start + 8].rstrip()
        if key == b"END":
            if text[start + 8 : start + CARD_LENGTH].strip():
                raise CutoutError("the END card of a FITS header is not blank")
            return _header(kind, name, integers, floats)
        if text[start + 8 : start + 9] != b"=":
            continue
        value = text[start + 9 : start + CARD_LENGTH]
        if start == 0:
            kind = _kind(key, value)
        # As astropy does, the first of several cards of one name counts.
        if _INTEGER_KEY.fullmatch(key):
            integers.setdefault(key, _integer(key, value))
        elif key in _FLOATS and _before_comment(value):  # a blank value is an undefined one
            floats.setdefault(key, _float(key, value))
        elif key == b"EXTNAME" and name is None:
            name = _string(value)
    raise AssertionError("an END card is there and was not met")


def _kind(key: bytes, value: bytes) -> str | None:
    if key == b"SIMPLE" and _before_comment(value) == b"T":
        return "primary"
    return _string(value) if key == b"XTENSION" else None


def _header(
    kind: str | None, name: str | None, integers: dict[bytes, int], floats: dict[bytes, float]
) -> Header:
    if kind is None:
        raise CutoutError("a FITS header begins neither with SIMPLE = T nor with XTENSION")
    missing = [key.decode() for key in (b"BITPIX", b"NAXIS") if key not in integers]
    count = integers.get(b"NAXIS", 0)
    if missing or not 0 <= count <= MAX_AXES:
        raise CutoutError(f"a FITS header lacks {missing or f'a NAXIS between 0 and {MAX_AXES}'}")
    axes = [integers.get(b"NAXIS%d" % (i + 1), -1) for i in range(count)]
    pcount, gcount = integers.get(b"PCOUNT", 0), integers.get(b"GCOUNT", 1)
    if min([*axes, pcount, gcount]) < 0:
        raise CutoutError(
            f"a FITS header has NAXISn {axes}, PCOUNT {pcount}, GCOUNT {gcount}; none may be negative"
        )
    bitpix, pixels = integers[b"BITPIX"], math.prod(axes) if axes else 0
    length = abs(bitpix) // 8 * gcount * (pcount + pixels)
    return Header(kind, name or "", bitpix, tuple(axes), pcount, gcount, floats, _orientation(floats), length)


def _orientation(floats: dict[bytes, float]) -> tuple[float, float, int] | None:
    """Pixel scale in arcsec, position angle of north in degrees, parity; None without a usable matrix."""
    if any(b"CD" + place in floats for row in _MATRIX for place in row):
        (a, b), (c, d) = [[floats.get(b"CD" + place, 0.0) for place in row] for row in _MATRIX]
    elif b"CDELT1" in floats or b"PC1_1" in floats or b"PC1_2" in floats:
        unit = ((1.0, 0.0), (0.0, 1.0))
        (a, b), (c, d) = [
            [
                floats.get(b"PC" + _MATRIX[i][j], unit[i][j]) * floats.get(b"CDELT%d" % (i + 1), 1.0)
                for j in range(2)
            ]
            for i in range(2)
        ]
    else:
        return None
    determinant = a * d - b * c
    if not 0.0 < abs(determinant) < math.inf:
        return None
    # North is where only the declination grows: the second column of the inverse, (-b, a) / determinant.
    north_x, north_y = -b / determinant, a / determinant
    parity = 1 if determinant > 0 else -1
    return 3600.0 * math.sqrt(abs(determinant)), math.degrees(math.atan2(-north_x, north_y)), parity


def _before_comment(value: bytes) -> bytes:
    return value.partition(b"/")[0].strip()


def _integer(key: bytes, value: bytes) -> int:
    text = _before_comment(value)
    if not _INTEGER.fullmatch(text):
        raise CutoutError(f"{key.decode()} is {text[:40]!r}; an integer is wanted")
    return int(text)


def _float(key: bytes, value: bytes) -> float:
    text = _before_comment(value)
    number = float(text.upper().replace(b"D", b"E")) if _FLOAT.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise CutoutError(f"{key.decode()} is {text[:40]!r}; a finite number is wanted")
    return number


def _string(value: bytes) -> str:
    return value.partition(b"'")[2].partition(b"'")[0].rstrip().decode("latin-1")
