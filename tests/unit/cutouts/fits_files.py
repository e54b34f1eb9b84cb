"""FITS files made card by card, so that each card can be wrong."""

import time

import numpy as np

from broker.alert import Survey
from broker.cutouts import read_cutout
from broker.errors import CutoutError

PIXELS = np.arange(12, dtype=">f4").reshape(3, 4)


def hdu(*cards: str, data: bytes = PIXELS.tobytes()) -> bytes:
    header = "".join(card.ljust(80) for card in (*cards, "END")).encode("latin-1")
    return header.ljust(-(-len(header) // 2880) * 2880) + data + bytes(-len(data) % 2880)


def image_cards(
    first: str = "SIMPLE  = T", *, width: int = 4, height: int = 3, bitpix: int = -32
) -> list[str]:
    return [first, f"BITPIX  = {bitpix}", "NAXIS   = 2", f"NAXIS1  = {width}", f"NAXIS2  = {height}"]


def extension(name: str, *more: str, **kwargs: int) -> list[str]:
    return [
        *image_cards("XTENSION= 'IMAGE   '", **kwargs),
        "PCOUNT  = 0",
        "GCOUNT  = 1",
        f"EXTNAME = '{name}'",
        *more,
    ]


GOOD = hdu(*image_cards()) + hdu(*extension("UNCERT  "))


def readable_or_refused(content: bytes, survey: Survey) -> None:
    started = time.perf_counter()
    try:
        cutout = read_cutout(content, survey=survey)
    except CutoutError:
        pass
    else:
        assert cutout.image.dtype == np.float32
        assert cutout.image.ndim == 2
        assert cutout.variance is None or cutout.variance.shape == cutout.image.shape
    assert time.perf_counter() - started < 1.0
