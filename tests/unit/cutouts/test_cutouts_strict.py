"""What a stamp must be, and what becomes of one that is not."""

import gzip
import random
import zlib

import numpy as np
import pytest
from fits_files import GOOD, PIXELS, extension, hdu, image_cards, readable_or_refused
from hypothesis import given
from hypothesis import strategies as st

from broker import cutouts, native
from broker import fits_header as subject
from broker.alert import Survey
from broker.cutouts import MAX_INFLATED, MAX_SIDE, Cutout, effective_fwhm, inflate, read_cutout
from broker.errors import CutoutError
from broker.testing.broken import broken_lsst_stamps, broken_ztf_stamps


def read(content: bytes, survey: Survey = Survey.LSST) -> Cutout:
    return read_cutout(content, survey=survey)


def test_pixels_and_variance_are_read():
    cutout = read(GOOD)
    np.testing.assert_array_equal(cutout.image, PIXELS)
    np.testing.assert_array_equal(cutout.variance, PIXELS)
    assert cutout.centre is cutout.pixel_scale is cutout.psf_fwhm is None


def test_double_precision_is_read_as_single():
    doubles = PIXELS.astype(">f8") * 1e60
    cutout = read(hdu(*image_cards(bitpix=-64), data=doubles.tobytes()))
    assert cutout.image.dtype == np.float32
    assert cutout.image[0, 0] == 0.0
    assert np.isinf(cutout.image[2, 3])


def test_a_stamp_without_its_last_padding_is_whole():
    assert read(GOOD[: 2880 * 3 + 48]).variance is not None


def test_other_hdus_are_stepped_over():
    table = [
        "XTENSION= 'BINTABLE'",
        "BITPIX  = 8",
        "NAXIS   = 2",
        "NAXIS1  = 10",
        "NAXIS2  = 300",
        "PCOUNT  = 50",
        "GCOUNT  = 1",
    ]
    content = hdu(*image_cards()) + hdu(*table, data=bytes(3050)) + hdu(*extension("UNCERT"))
    np.testing.assert_array_equal(read(content).variance, PIXELS)


def test_what_lies_behind_the_last_needed_hdu_is_not_looked_at():
    assert read_cutout(GOOD + b"garbage" * 1000, survey=Survey.LSST, psf=False).variance is not None


def test_a_psf_that_cannot_be_read_leaves_the_science_pixels_alone():
    psf = [
        "XTENSION= 'IMAGE   '",
        "BITPIX  = -32",
        "NAXIS   = 0",
        "PCOUNT  = 0",
        "GCOUNT  = 1",
        "EXTNAME = 'PSFIMAGE'",
    ]
    cutout = read(hdu(*image_cards()) + hdu(*extension("UNCERT")) + hdu(*psf, data=b""))
    np.testing.assert_array_equal(cutout.image, PIXELS)
    np.testing.assert_array_equal(cutout.variance, PIXELS)
    assert cutout.psf_fwhm is None


def test_a_card_without_a_value_is_as_good_as_none():
    cutout = read(hdu(*image_cards(), "CRPIX1  =                      / undefined", "CRPIX2  = 2.0"))
    np.testing.assert_array_equal(cutout.image, PIXELS)
    assert cutout.centre is None


def test_gzip_may_have_several_members_and_zeros_behind_them():
    content = gzip.compress(GOOD[:100]) + gzip.compress(GOOD[100:]) + bytes(7)
    assert inflate(content) == gzip.decompress(content) == GOOD


def test_members_inflate_together_no_farther_than_one():
    half = gzip.compress(bytes(MAX_INFLATED // 2 + 1))
    with pytest.raises(CutoutError, match="inflates to over"):
        inflate(half + half)


def test_thousands_of_members_are_refused_before_they_cost_time():
    empty = gzip.compress(b"", mtime=0)
    whole = gzip.compress(GOOD, mtime=0)
    assert inflate(empty * 15 + whole) == GOOD
    for content in (empty * 16 + whole, empty * 50_000):
        with pytest.raises(CutoutError, match="gzip members"):
            inflate(content)


def inflated(content: bytes) -> bytes | str:
    try:
        return inflate(content)
    except CutoutError as error:
        return str(error)


@pytest.mark.skipif(native.isal_zlib is None, reason="no ISA-L here")
@pytest.mark.parametrize("seed", range(3))
def test_isal_inflates_what_zlib_does_and_leaves_it_the_rest(monkeypatch, seed):
    rng, whole = random.Random(seed), gzip.compress(GOOD + random.Random(seed).randbytes(6000), mtime=0)
    contents = [
        whole,
        whole + b"\0\0",
        whole + whole,
        gzip.compress(b"", mtime=0),
        *(whole[:n] for n in range(0, 99, 7)),
    ]
    for _ in range(2000):
        broken = bytearray(whole)
        for _ in range(rng.choice((1, 1, 3))):
            broken[rng.randrange(rng.choice((20, len(whole))))] = rng.randrange(256)
        contents.append(bytes(broken[: rng.choice((len(whole), rng.randrange(len(whole))))]))
    faster = [inflated(content) for content in contents]
    assert faster[0] == cutouts._inflated_faster(whole) == GOOD + random.Random(seed).randbytes(6000)
    monkeypatch.setattr(native, "isal_zlib", None)
    assert faster == [inflated(content) for content in contents]


def test_axes_whose_product_has_thousands_of_digits_are_refused():
    axes = [f"NAXIS{i + 1:<3}= 999999999999999999" for i in range(300)]
    with pytest.raises(CutoutError, match="NAXIS between"):
        read(GOOD + hdu("XTENSION= 'IMAGE   '", "BITPIX  = -32", "NAXIS   = 300", *axes))


def test_a_long_header_is_parsed_once_and_not_with_each_of_its_blocks(monkeypatch):
    parsed = []
    whole = subject._parse
    monkeypatch.setattr(subject, "_parse", lambda text: parsed.append(len(text)) or whole(text))
    cards = [f"HISTORY {i}" for i in range(1000)]
    read(hdu("SIMPLE  = T", *image_cards()[1:], *cards, data=bytes(120)))
    assert parsed == [28 * 2880]


def test_the_position_counts_from_zero():
    cutout = read(hdu(*image_cards(), "CRPIX1  = 2.5 / from 1", "CRPIX2  = 1.25D0"))
    assert cutout.centre == (1.5, 0.25)


@pytest.mark.parametrize(
    ("cards", "scale", "angle", "parity"),
    [
        (["CDELT1  = -5E-5", "CDELT2  = 5E-5"], 0.18, 0.0, -1),
        (["CDELT1  = 5E-5", "CDELT2  = 5E-5"], 0.18, 0.0, 1),
        (["CD1_1   = 0.0", "CD1_2   = 5E-5", "CD2_1   = 5E-5", "CD2_2   = 0.0"], 0.18, -90.0, -1),
        (["PC1_1   = 5E-5", "PC1_2   = 0", "PC2_1   = 0", "PC2_2   = -5E-5"], 0.18, 180.0, -1),
    ],
)
def test_orientation(cards, scale, angle, parity):
    cutout = read(hdu(*image_cards(), *cards))
    assert cutout.pixel_scale == pytest.approx(scale)
    assert (cutout.north_angle - angle + 180) % 360 - 180 == pytest.approx(0, abs=1e-9)
    assert cutout.parity == parity


def test_a_singular_matrix_says_nothing():
    cutout = read(hdu(*image_cards(), "CD1_1   = 1E-5", "CD1_2   = 1E-5", "CD2_1   = 1E-5", "CD2_2   = 1E-5"))
    assert cutout.pixel_scale is cutout.north_angle is cutout.parity is None


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "END"),
        (b"<html>" * 1000, "END"),
        (hdu("SIMPLE  = F", "BITPIX  = -32", "NAXIS   = 2"), "SIMPLE"),
        (hdu(*extension("UNCERT")), "SIMPLE"),
        (hdu(*image_cards(bitpix=16)), "BITPIX is 16"),
        (hdu(*image_cards(bitpix=-16)), "BITPIX is -16"),
        (hdu("SIMPLE  = T", "BITPIX  = -32", "NAXIS   = 0"), "NAXIS is 0"),
        (
            hdu("SIMPLE  = T", "BITPIX  = -32", "NAXIS   = 3", *(f"NAXIS{i}  = 2" for i in (1, 2, 3))),
            "NAXIS is 3",
        ),
        (hdu("SIMPLE  = T", "BITPIX  = -32", "NAXIS   = 2", "NAXIS1  = 4"), "NAXISn"),
        (hdu("SIMPLE  = T", "NAXIS   = 2"), "BITPIX"),
        (hdu(*image_cards(width=0)), "0 x 3"),
        (hdu(*image_cards(width=-4)), "negative"),
        (hdu(*image_cards(width=MAX_SIDE + 1)), str(MAX_SIDE + 1)),
        (hdu(*image_cards(width=3000)), "36000 bytes"),
        (hdu("SIMPLE  = T", "BITPIX  = -32", "NAXIS   = 999999999999999999"), "NAXIS"),
        (hdu("SIMPLE  = T", "BITPIX  = '-32'", "NAXIS   = 2"), "BITPIX is"),
        (hdu(*image_cards(), "BZERO   = 32768"), "BZERO"),
        (hdu(*image_cards(), "CRPIX1  = nan"), "CRPIX1"),
        (hdu(*image_cards(), "CRPIX1  = 1E999"), "CRPIX1"),
        (GOOD[:2000], "END"),
        (GOOD[:2900], "48 bytes"),
        (GOOD[: 2880 * 2 + 500], "END"),
        (hdu(*image_cards()) + hdu(*extension("UNCERT", width=3)), "shape"),
        (hdu(*image_cards()) + hdu(*extension("UNCERT", bitpix=8)), "BITPIX is 8"),
        (hdu(*image_cards()) + hdu(*extension("OTHER", width=4000)), "bytes of data"),
        (hdu(*image_cards()) + b"\0" * 2880, "END"),
    ],
)
def test_what_is_no_stamp_is_refused_and_told(content, found):
    with pytest.raises(CutoutError, match=found):
        read(content)


@pytest.mark.parametrize("stamp", broken_lsst_stamps(), ids=lambda stamp: stamp.label)
def test_broken_rubin_stamps_are_refused(stamp):
    with pytest.raises(CutoutError):
        read(stamp.content)


@pytest.mark.parametrize("stamp", broken_ztf_stamps(), ids=lambda stamp: stamp.label)
def test_broken_ztf_stamps_are_refused(stamp):
    with pytest.raises(CutoutError):
        read(stamp.content, Survey.ZTF)


def test_ztf_stamps_must_be_gzipped():
    np.testing.assert_array_equal(read(gzip.compress(GOOD), Survey.ZTF).image, PIXELS)
    with pytest.raises(CutoutError, match="not readable gzip"):
        read(GOOD, Survey.ZTF)


def test_a_bomb_is_never_inflated_beyond_the_limit():
    assert len(inflate(gzip.compress(bytes(MAX_INFLATED)))) == MAX_INFLATED
    with pytest.raises(CutoutError, match="inflates to over"):
        inflate(gzip.compress(bytes(MAX_INFLATED + 1)))


def test_a_wrong_checksum_is_noticed():
    broken = bytearray(gzip.compress(GOOD))
    broken[-6] ^= 1
    with pytest.raises(CutoutError, match="check"):
        inflate(bytes(broken))


@given(st.binary(max_size=9000))
def test_any_bytes_read_or_are_refused(content):
    readable_or_refused(content, Survey.LSST)
    readable_or_refused(content, Survey.ZTF)
    readable_or_refused(zlib.compress(content, wbits=31), Survey.ZTF)


@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=12)), max_size=6),
    st.integers(0, len(GOOD)),
)
def test_mutated_stamps_read_or_are_refused(changes, length):
    content = bytearray(GOOD)
    for position, bytes_ in changes:
        content[position : position + len(bytes_)] = bytes_
    readable_or_refused(bytes(content), Survey.LSST)
    readable_or_refused(bytes(content[:length]), Survey.LSST)


@given(
    st.sampled_from(
        ["BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT", "CRPIX1", "CD1_1", "BSCALE", "EXTNAME"]
    ),
    st.text(st.characters(codec="latin-1"), max_size=70) | st.integers().map(str) | st.floats().map(str),
    st.booleans(),
)
def test_any_value_of_a_card_reads_or_is_refused(key, value, in_extension):
    card = f"{key:8}= {value}"[:80]
    first = image_cards() if in_extension else [image_cards()[0], card, *image_cards()[1:]]
    second = (
        extension("UNCERT", card)
        if not in_extension
        else [extension("UNCERT")[0], card, *extension("UNCERT")[1:]]
    )
    readable_or_refused(hdu(*first) + hdu(*second), Survey.LSST)


def gaussian(sigma: float, size: int = 61) -> np.ndarray:
    offset = np.arange(size) - (size - 1) / 2
    return np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * sigma**2))


@given(st.floats(1.2, 6.0), st.floats(1e-3, 1e6))
def test_the_width_of_a_gaussian_psf(sigma, scale):
    assert effective_fwhm(scale * gaussian(sigma)) == pytest.approx(2.3548 * sigma, rel=1e-3)


def test_noise_in_the_wings_hardly_changes_the_width():
    noise = np.random.default_rng(1).normal(0, 1e-3, (61, 61))
    assert effective_fwhm(gaussian(2.0) + noise) == pytest.approx(2.3548 * 2.0, rel=0.05)


@pytest.mark.parametrize(
    "plane", [np.zeros((5, 5)), np.full((5, 5), np.nan), -np.ones((5, 5)), np.full((3, 3), 1e300)]
)
def test_a_useless_psf_has_no_width(plane):
    assert effective_fwhm(plane) is None
