"""Stamps as the surveys write them: pixels in, FITS files out.

Written byte by byte, because a demo or a test writes thousands of them and astropy takes
half a millisecond for each; `tests/unit/packets` reads them back with astropy.
"""

import gzip
from dataclasses import dataclass
from math import cos, radians, sin
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Card: TypeAlias = tuple[str, bool | int | float | str]

CARD_LENGTH = 80
BLOCK_LENGTH = 2880
"""FITS standard 4.0, sections 3.1 and 3.2."""

RUBIN_PIXEL_SCALE = 0.2
"""Arcseconds per pixel of LSSTCam."""

GZIP_LEVEL = 1
"""The cheapest: a stamp of noise is a third smaller at any level."""

ZTF_SIMPLE_CARD = b"SIMPLE  =  T".ljust(CARD_LENGTH)
"""Not where the standard wants it, but it is what stands in published ZTF stamps."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """One stamp before it is written.

    Attributes
    ----------
    pixels : ndarray, shape (h, w)
        nJy for Rubin, DN for ZTF (with the sky in science and template).
    variance : ndarray, shape (h, w), or None
        nJy squared; Rubin only, None writes no UNCERT plane.
    psf : ndarray, shape (k, k), or None
        Of unit sum; Rubin only, None writes no PSFIMAGE plane.
    centre : tuple of float or None
        0-based (x, y) of the alert in the stamp; None is its middle. ZTF stamps do not tell theirs.
    """

    pixels: NDArray[np.floating]
    variance: NDArray[np.floating] | None = None
    psf: NDArray[np.floating] | None = None
    centre: tuple[float, float] | None = None

    @property
    def alert_centre(self) -> tuple[float, float]:
        """0-based (x, y) of the alert."""
        height, width = self.pixels.shape
        return self.centre or ((width - 1) / 2, (height - 1) / 2)


def lsst_fits(
    stamp: Stamp,
    *,
    ra: float,
    dec: float,
    corner: tuple[int, int] = (2036, 1999),
    rotation: float | None = 0.0,
) -> bytes:
    """Write a stamp as Rubin does: PRIMARY in nJy with a WCS, UNCERT and PSFIMAGE, not compressed.

    Parameters
    ----------
    stamp : Stamp
    ra, dec : float
        Degrees; CRVAL, while CRPIX holds the alert's subpixel position.
    corner : tuple of int
        CUTMINX and CUTMINY; the alert's place on the detector is corner + CRPIX.
    rotation : float or None
        Degrees from north to the detector's +y, for PC and ROTPA; None writes no ROTPA, as before schema 10.

    Returns
    -------
    bytes
    """
    planes = [_hdu(_primary_cards(stamp, ra, dec, corner, rotation), stamp.pixels, ">f4")]
    if stamp.variance is not None:
        utype: Card = ("UTYPE", "VarianceUncertainty")
        planes.append(_hdu(_extension_cards(stamp.variance, -32, utype, "UNCERT"), stamp.variance, ">f4"))
    if stamp.psf is not None:
        planes.append(_hdu(_extension_cards(stamp.psf, -64, None, "PSFIMAGE"), stamp.psf, ">f8"))
    return b"".join(planes)


def ztf_fits(stamp: Stamp) -> bytes:
    """Write a stamp as ZTF does: one float32 plane in DN, gzipped.

    Parameters
    ----------
    stamp : Stamp
        Its variance, PSF and centre are not written: the survey's stamps carry none.

    Returns
    -------
    bytes
    """
    cards: list[Card] = [*_image_cards(stamp.pixels, -32), ("BUNIT", "DN")]
    header = _header(cards, first=ZTF_SIMPLE_CARD)
    plain = header + _padded(np.ascontiguousarray(stamp.pixels, ">f4").tobytes(), b"\0")
    return gzip.compress(plain, GZIP_LEVEL, mtime=0)


def _image_cards(plane: NDArray[np.floating], bitpix: int) -> list[Card]:
    height, width = plane.shape
    return [("BITPIX", bitpix), ("NAXIS", 2), ("NAXIS1", width), ("NAXIS2", height)]


def _primary_cards(
    stamp: Stamp, ra: float, dec: float, corner: tuple[int, int], rotation: float | None
) -> list[Card]:
    x, y = stamp.alert_centre
    return [
        ("SIMPLE", True),
        *_image_cards(stamp.pixels, -32),
        ("EXTEND", True),
        ("CUTMINX", corner[0]),
        ("CUTMINY", corner[1]),
        *([] if rotation is None else [("ROTPA", float(rotation))]),
        ("BUNIT", "nJy"),
        ("WCSAXES", 2),
        ("CRPIX1", x + 1.0),
        ("CRPIX2", y + 1.0),
        *_rotation_cards(rotation or 0.0),
        ("CDELT1", 1.0),
        ("CDELT2", 1.0),
        ("CRVAL1", float(ra)),
        ("CRVAL2", float(dec)),
        ("LATPOLE", 90.0),
        ("MJDREF", 0.0),
    ]


def _rotation_cards(rotation: float) -> list[Card]:
    step = RUBIN_PIXEL_SCALE / 3600.0
    along, across = step * cos(radians(rotation)), step * sin(radians(rotation))
    return [("PC1_1", -along), ("PC1_2", across), ("PC2_1", across), ("PC2_2", along)]


def _extension_cards(plane: NDArray[np.floating], bitpix: int, extra: Card | None, name: str) -> list[Card]:
    return [
        ("XTENSION", "IMAGE"),
        *_image_cards(plane, bitpix),
        ("PCOUNT", 0),
        ("GCOUNT", 1),
        *([] if extra is None else [extra]),
        ("EXTNAME", name),
    ]


def _hdu(cards: list[Card], plane: NDArray[np.floating], dtype: str) -> bytes:
    return _header(cards) + _padded(np.ascontiguousarray(plane, dtype).tobytes(), b"\0")


def _header(cards: list[Card], first: bytes = b"") -> bytes:
    return _padded(first + b"".join(_card(*card) for card in cards) + b"END", b" ")


def _card(keyword: str, value: bool | float | str) -> bytes:
    if isinstance(value, str):
        text = f"{keyword:<8}= '{value:<8}'"
    elif isinstance(value, bool):
        text = f"{keyword:<8}= {'T' if value else 'F':>20}"
    elif isinstance(value, int):
        text = f"{keyword:<8}= {value:>20}"
    else:
        text = f"{keyword:<8}= {value:20.12E}"
    return text.ljust(CARD_LENGTH).encode("ascii")


def _padded(content: bytes, filler: bytes) -> bytes:
    return content + filler * (-len(content) % BLOCK_LENGTH)
