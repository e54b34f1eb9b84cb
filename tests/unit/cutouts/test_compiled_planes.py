"""The compiled helper reads a Rubin stamp as its readable twin does, or leaves it to that."""

import random
from importlib import import_module

import numpy as np
import oracle
import pytest
from fits_files import extension, hdu, image_cards

from broker import native
from broker.alert import Survey
from broker.cutouts import Cutout, read_cutout
from broker.errors import CutoutError
from broker.testing.broken import broken_lsst_stamps
from broker.testing.stamps import Stamp, lsst_fits

pytestmark = pytest.mark.skipif(native.planes is None, reason="the compiled helper was not built")

PLACE = [
    *("CRPIX1  = 2.5", "CRPIX2  = 1.25 / pixel", "CDELT1  = 1.0", "CDELT2  = 1.0"),
    *("PC1_1   = -5.1E-05", "PC1_2   = 0.0", "PC2_1   = 1E-06", "PC2_2   = +.5E-4"),
]
PSF = np.array([[0.0, 0.1, 0.0], [0.1, 0.6, 0.1], [0.0, 0.1, 0.0]])


def of_cards(primary=(), uncertainty=(), *, psf=True) -> bytes:
    """Make a stamp of cards; those of the parameters stand behind the usual ones."""
    width = extension("PSFIMAGE", width=3, height=3, bitpix=-64)
    return (
        hdu(*image_cards(), *PLACE, *primary)
        + hdu(*extension("UNCERT  "), *uncertainty)
        + (hdu(*width, data=PSF.astype(">f8").tobytes()) if psf else b"")
    )


def simulated(shape=(30, 30)) -> bytes:
    rng = np.random.default_rng(1)
    pixels, variance = rng.normal(0.0, 50.0, shape), rng.uniform(2000.0, 3000.0, shape)
    pixels[3, 4] = np.nan
    return lsst_fits(Stamp(pixels, variance, PSF), ra=52.0, dec=-28.1, rotation=33.0)


def read(content: bytes, *, psf: bool, helped: bool) -> Cutout | str:
    with pytest.MonkeyPatch.context() as patch:
        if not helped:
            patch.setattr(native, "planes", None)
        try:
            return read_cutout(content, survey=Survey.LSST, psf=psf)
        except CutoutError as error:
            return str(error)


def assert_alike(content: bytes, *, psf: bool = True) -> None:
    compiled, readable = (read(content, psf=psf, helped=helped) for helped in (True, False))
    if isinstance(compiled, str) or isinstance(readable, str):
        assert compiled == readable
        return
    for name in ("image", "variance"):
        ours, theirs = getattr(compiled, name), getattr(readable, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
            assert ours.tobytes() == theirs.tobytes()
            assert ours.flags.writeable
    width = readable.psf_fwhm
    assert compiled.psf_fwhm == (None if width is None else pytest.approx(width, rel=1e-12))
    for name in ("centre", "pixel_scale", "north_angle", "parity"):
        assert getattr(compiled, name) == getattr(readable, name)


def test_each_function_of_the_helper_can_be_left_aside():
    module = import_module("broker._native")
    assert {name for name in dir(module) if not name.startswith("_")} == set(native.FUNCTIONS)
    assert all(callable(getattr(native, name)) for name in native.FUNCTIONS)


def test_what_is_in_use_is_said(monkeypatch):
    assert native.in_use().startswith("compiled helper; ")
    monkeypatch.setattr(native, "walk", None)
    monkeypatch.setattr(native, "isal_zlib", None)
    assert native.in_use() == "Python alone: no helper was built, or it was left aside; zlib"


def test_every_real_stamp(lsst_paths):
    for path in lsst_paths:
        for content in oracle.stamp_bytes(oracle.decode(path)):
            for psf in (True, False):
                assert native.planes(content, psf) is not None
                assert_alike(content, psf=psf)


@pytest.mark.parametrize("content", [simulated(), simulated((102, 31)), of_cards()])
@pytest.mark.parametrize("psf", [True, False])
def test_usual_stamps_are_read(content, psf):
    assert native.planes(content, psf) is not None
    assert native.planes(memoryview(content), psf) is not None
    assert_alike(content, psf=psf)


@pytest.mark.parametrize("seed", range(4))
def test_stamps_with_bytes_changed(seed):
    rng, content = random.Random(seed), simulated((6, 7))
    headers = [2880 * block + at for block in (0, 2, 4) for at in range(24 * 80)]
    for position in headers:
        broken = bytearray(content)
        broken[position] = (
            rng.choice(b" \t\0/'=.-+0123459EDTn\xff") if rng.random() < 0.8 else rng.randrange(256)
        )
        assert_alike(bytes(broken), psf=seed % 2 == 0)


def test_stamps_cut_short():
    content = simulated((6, 7))
    for length in [*range(0, len(content), 61), len(content) - 1, len(content) - 2880 + 9 * 8]:
        assert_alike(content[:length])


CARDS = """
NAXIS3  = 2|NAXIS3  = x|NAXIS1  = 4|BSCALE  = 2.0|BSCALE  = 1.0|BZERO   = 0.0|BZERO   = 1|CD1_1   = 1.0|CD2_2   = x
CRPIX1  = 9.0|CRPIX1  =|PC1_1   = 0.0|CDELT1  = 1D0|EXTNAME = 'X'|EXTNAME = 'UNCERT'|EXTNAME = ''|EXTNAME = UNCERT
EXTNAME = 'A LONG NAME OF AN EXTENSION'|PCOUNT  = 0|PCOUNT  = 8|PCOUNT  = -1|GCOUNT  = 2|GCOUNT  = +1|SIMPLE  = F
END     x|HISTORY = x|COMMENT a||CDELT1    1.0|NAXIS   = 2.0|PC1_1\t  = 1.0|CRVAL1  = nan|ROTPA   = 1e5|\x7f
"""


@pytest.mark.parametrize("card", CARDS.strip("\n").replace("\n", "|").split("|"))
def test_cards_that_may_come(card):
    assert_alike(of_cards([card]))
    assert_alike(of_cards([], [card]))


@pytest.mark.parametrize(
    "value", ["1e-5", "1E999", "-1E-400", "1.", ".5", "-.5E+3", ".", "E5", "1E", "- 1", "1 2", "1/2"]
)
def test_values_of_a_card(value):
    usual = hdu(*image_cards(), *PLACE[1:], f"CRPIX1  = {value}") + hdu(*extension("UNCERT"))
    assert_alike(usual, psf=False)


@pytest.mark.parametrize("bitpix", [-64, 16, 8, -32])
def test_other_pixels(bitpix):
    data = np.arange(12, dtype=">f8").tobytes()
    for first, second in ((bitpix, -32), (-32, bitpix)):
        planes = hdu(*image_cards(bitpix=first), *PLACE, data=data) + hdu(
            *extension("UNCERT", bitpix=second), data=data
        )
        assert_alike(planes, psf=False)


@pytest.mark.parametrize(
    "psf",
    [
        np.zeros((5, 5)),
        np.full((5, 5), np.nan),
        -np.ones((5, 5)),
        np.full((3, 3), 1e300),
        PSF,
        np.full((6, 6), 0.3),
    ],
)
def test_widths_of_a_psf(psf):
    rng = np.random.default_rng(1)
    assert_alike(lsst_fits(Stamp(rng.normal(size=(5, 5)), np.ones((5, 5)), psf), ra=1.0, dec=2.0))


def test_hdus_in_another_order_or_missing():
    plain, uncertainty = hdu(*image_cards(), *PLACE), hdu(*extension("UNCERT"))
    width = hdu(*extension("PSFIMAGE", width=3, height=3, bitpix=-64), data=PSF.astype(">f8").tobytes())
    for content in (plain, plain + width, plain + width + uncertainty, uncertainty + plain, plain + plain):
        assert_alike(content)
        assert_alike(content, psf=False)


def test_broken_stamps():
    for stamp in broken_lsst_stamps():
        assert_alike(stamp.content)
