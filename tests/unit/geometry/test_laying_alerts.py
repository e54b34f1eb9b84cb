"""Alerts to stamps on the common grid: real ones, and what they may lack."""

import gzip
from dataclasses import replace

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import flags
from broker.alert import ROLES, Alert, Survey
from broker.contract import COMMON_GRID
from broker.cutouts import Cutout
from broker.geometry import NATIVE_SCALE, centre, lay, lay_cutouts, native_scale, sky_and_noise
from broker.photometry import unknown
from broker.testing.stamps import Stamp, lsst_fits, ztf_fits

RNG = np.random.default_rng(42)


def alert_of(cutouts, survey=Survey.LSST, position=None, photometry=None) -> Alert:
    return Alert(
        survey=survey,
        form="",
        alert_id=1,
        object_id="1",
        ra=10.0,
        dec=-20.0,
        mjd=60000.0,
        band="r",
        datum=b"",
        cutouts=tuple(cutouts),
        photometry=unknown() if photometry is None else photometry,
        position=position,
    )


def lsst_stamp(pixels=None, variance=None, **kwargs) -> bytes:
    pixels = RNG.normal(50, 5, (40, 40)) if pixels is None else pixels
    variance = np.full(pixels.shape, 25.0) if variance is None else variance
    return lsst_fits(Stamp(pixels, variance, **kwargs), ra=10.0, dec=-20.0)


def ztf_stamp(pixels=None) -> bytes:
    return ztf_fits(Stamp(RNG.normal(200, 8, (63, 63)) if pixels is None else pixels))


def test_every_real_rubin_alert_is_laid(lsst_paths):
    for path in lsst_paths:
        stamps = lay(alert_of(oracle.stamp_bytes(oracle.decode(path))), COMMON_GRID)
        assert np.isfinite(stamps.image).all()
        assert (stamps.noise > 0).all()
        assert (stamps.valid_fraction > 0.2).all()
        assert 0.4 < stamps.psf_fwhm < 2.5
        assert set(stamps.flags) <= flags.VOCABULARY
        assert not flags.is_partial(stamps.flags)


def test_every_real_ztf_alert_is_laid_and_peaks_in_the_middle(ztf_paths):
    offsets = []
    for path in ztf_paths:
        record = oracle.decode(path)
        position = (record["candidate"]["xpos"] - 1, record["candidate"]["ypos"] - 1)
        stamps = lay(alert_of(oracle.stamp_bytes(record), Survey.ZTF, position), COMMON_GRID)
        assert np.isfinite(stamps.image).all()
        assert (stamps.noise > 0).all()
        assert not flags.is_partial(stamps.flags)
        if record["candidate"]["magpsf"] < 18 and (place := centroid(stamps.image[2])) is not None:
            offsets.append(place - 15.5)
    assert len(offsets) > 100
    # A third of a grid pixel would be the error if the stamp's middle were taken instead.
    assert np.median(np.abs(offsets)) < 0.06
    np.testing.assert_allclose(np.median(offsets, axis=0), 0.0, atol=0.02)


def centroid(image: np.ndarray) -> np.ndarray | None:
    """(y, x) of the source in the middle, weighted by a Gaussian that follows it; None where it is lost."""
    pixel = np.indices(image.shape).reshape(2, -1)
    place = np.array([15.5, 15.5])
    for _ in range(30):
        weight = np.exp(-((pixel - place[:, None]) ** 2).sum(axis=0) / (2 * 1.8**2)) * image.ravel()
        if weight.sum() <= 0:
            return None
        place += 2 * ((pixel * weight).sum(axis=1) / weight.sum() - place)
        if np.abs(place - 15.5).max() > 4:
            return None
    return place


def test_real_ztf_stamps_cut_at_an_edge_hold_the_alert_where_the_detector_says(ztf_paths):
    cut = 0
    for path in ztf_paths:
        record = oracle.decode(path)
        alert = alert_of(
            oracle.stamp_bytes(record),
            Survey.ZTF,
            (record["candidate"]["xpos"] - 1, record["candidate"]["ypos"] - 1),
        )
        image = oracle.planes(alert.cutouts[2])[0][0]
        if image.shape == (63, 63):
            continue
        cut += 1
        x, y = (round(value) for value in centre(alert, Cutout(image)))
        around = image[y - 2 : y + 3, x - 2 : x + 3]
        assert around.mean() > 3 * np.nanstd(image) / 5
        assert around.max() == np.nanmax(image[y - 8 : y + 9, x - 8 : x + 9])
        assert flags.EDGE in lay(alert, COMMON_GRID).flags
    assert cut == 2


@pytest.mark.parametrize(
    ("position", "shape", "expected"),
    [
        ((1000.25, 2000.75), (63, 63), (31.25, 30.75)),
        ((12.4, 2000.0), (63, 44), (12.4, 31.0)),
        ((3060.0, 3.0), (35, 43), (31.0, 3.0)),
        (None, (63, 63), (31.0, 31.0)),
        (None, (63, 44), (21.5, 31.0)),
    ],
)
def test_the_alert_in_a_ztf_stamp(position, shape, expected):
    cutout = Cutout(np.zeros(shape, np.float32))
    assert centre(alert_of([None] * 3, Survey.ZTF, position), cutout) == pytest.approx(expected)


def test_a_rubin_stamp_states_its_own_position_and_scale():
    cutout = Cutout(np.zeros((30, 30), np.float32), centre=(14.2, 15.1), pixel_scale=0.168)
    alert = alert_of([None] * 3)
    assert centre(alert, cutout) == (14.2, 15.1)
    assert native_scale(Survey.LSST, cutout) == 0.168


@pytest.mark.parametrize(
    "cutout",
    [
        Cutout(
            np.ones((30, 30), np.float32), np.ones((30, 30), np.float32), centre=(-9.0, 14.5), pixel_scale=0.2
        ),
        Cutout(
            np.ones((30, 30), np.float32),
            np.ones((30, 30), np.float32),
            centre=(14.5, 14.5),
            pixel_scale=20.0,
        ),
        Cutout(np.ones((30, 30), np.float32), np.ones((30, 30), np.float32)),
    ],
)
def test_a_position_or_scale_that_cannot_be_is_replaced_and_flagged(cutout):
    alert = alert_of([None] * 3)
    assert centre(alert, cutout) == (14.5, 14.5)
    assert native_scale(Survey.LSST, cutout) == NATIVE_SCALE[Survey.LSST]
    assert flags.WCS_IMPLAUSIBLE in lay_cutouts(alert, [cutout] * 3, COMMON_GRID).flags


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("content", "flag"),
    [(None, flags.CUTOUT_NULL), (b"no FITS", flags.CUTOUT_UNREADABLE)],
    ids=["null", "unreadable"],
)
def test_a_stamp_that_is_not_there_leaves_zeros_and_a_flag(role, content, flag):
    index = ROLES.index(role)
    cutouts = [lsst_stamp()] * 3
    cutouts[index] = content
    stamps = lay(alert_of(cutouts), COMMON_GRID)
    assert stamps.flags == (flags.of_stamp(flag, role),)
    assert stamps.noise[index] == 0
    assert not stamps.image[index].any()
    assert not stamps.mask[index].any()
    assert (np.delete(stamps.noise, index) > 0).all()
    assert (np.delete(stamps.valid_fraction, index) > 0.8).all()


def test_no_stamp_at_all_is_still_an_answer():
    stamps = lay(alert_of([None] * 3), COMMON_GRID)
    assert not stamps.image.any()
    assert not stamps.noise.any()
    assert stamps.psf_fwhm is None
    assert len(stamps.flags) == 3


@pytest.mark.parametrize("stamp", [lsst_stamp, ztf_stamp])
def test_stamps_without_a_valid_pixel_are_treated_as_missing(stamp):
    survey = Survey.LSST if stamp is lsst_stamp else Survey.ZTF
    stamps = lay(alert_of([stamp(), stamp(np.full((63, 63), np.nan)), stamp()], survey), COMMON_GRID)
    assert set(stamps.flags) == {"nan_pixels:template", "noise_unknown:template"}
    assert stamps.noise[1] == 0
    assert not stamps.mask[1].any()


def test_a_stamp_whose_noise_cannot_be_told_is_treated_as_missing():
    flat = lsst_stamp(np.full((30, 30), 5.0), np.zeros((30, 30)))
    stamps = lay(alert_of([flat] * 3), COMMON_GRID)
    assert set(stamps.flags) == {f"noise_unknown:{role}" for role in ROLES}
    assert not stamps.noise.any()
    assert not stamps.image.any()


def test_a_useless_variance_gives_way_to_the_pixels():
    image = RNG.normal(0, 3.0, (60, 60)).astype(np.float32)
    for variance in (np.zeros_like(image), np.full_like(image, np.nan), np.full_like(image, np.inf), None):
        sky, noise = sky_and_noise(image, np.isfinite(image), variance, survey=Survey.LSST, role="science")
        assert sky == 0.0
        assert noise == pytest.approx(3.0, rel=0.1)


def test_rubin_noise_is_the_root_of_the_mean_variance_that_is_known():
    variance = np.full((30, 30), 16.0, np.float32)
    variance[:3] = np.inf
    variance[3:5] = np.nan
    image = np.zeros_like(variance)
    assert sky_and_noise(image, np.isfinite(image), variance, survey=Survey.LSST, role="science") == (
        0.0,
        4.0,
    )


@pytest.mark.parametrize(("role", "sky"), [("science", 200.0), ("template", 200.0), ("difference", 0.0)])
def test_ztf_sky_is_taken_off_science_and_template(role, sky):
    image = RNG.normal(200, 8, (63, 63)).astype(np.float32)
    image[28:34, 28:34] += 5000
    found, noise = sky_and_noise(image, np.isfinite(image), None, survey=Survey.ZTF, role=role)
    assert found == pytest.approx(sky, abs=1.0)
    assert noise == pytest.approx(8.0, rel=0.1)


def test_nan_pixels_are_masked_and_flagged_by_their_share():
    few, many = (RNG.normal(50, 5, (40, 40)) for _ in range(2))
    few[10:12, 10:12] = np.nan
    many[10:30, 10:30] = np.nan
    stamps = lay(alert_of([lsst_stamp(few), lsst_stamp(many), lsst_stamp()]), COMMON_GRID)
    assert stamps.flags == ("nan_pixels:template",)
    assert stamps.valid_fraction[1] < stamps.valid_fraction[0] < stamps.valid_fraction[2]


def test_a_rubin_stamp_padded_beyond_the_detector_is_at_an_edge():
    padded = RNG.normal(50, 5, (40, 40))
    padded[:, :1] = np.nan
    assert lay(alert_of([lsst_stamp(padded)] * 3), COMMON_GRID).flags == (flags.EDGE,)


def sky_with_source(flux: float) -> np.ndarray:
    y, x = np.mgrid[:63, :63]
    return RNG.normal(200, 8, (63, 63)) + flux * np.exp(-((x - 31) ** 2 + (y - 31) ** 2) / 2.0)


@pytest.mark.parametrize(
    ("flux", "catalogued", "flagged"), [(0, False, True), (500, False, False), (0, True, False)]
)
def test_no_host_where_neither_template_nor_catalogue_shows_one(flux, catalogued, flagged):
    photometry = np.full(6, 100.0, np.float32) if catalogued else None
    cutouts = [ztf_stamp(sky_with_source(900)), ztf_stamp(sky_with_source(flux)), ztf_stamp()]
    alert = alert_of(cutouts, Survey.ZTF, photometry=photometry)
    assert (flags.NO_HOST in lay(alert, COMMON_GRID).flags) == flagged


def test_the_width_of_the_psf_is_in_arcseconds():
    y, x = np.mgrid[-20:21, -20:21]
    psf = np.exp(-(x**2 + y**2) / (2 * 2.0**2))
    stamps = lay(alert_of([lsst_stamp(psf=psf)] * 3), COMMON_GRID)
    assert stamps.psf_fwhm == pytest.approx(2.3548 * 2.0 * 0.2, rel=1e-3)


def test_stamps_of_different_sizes_land_on_one_grid():
    science = lsst_stamp(centre=(19.2, 19.9))
    template = lsst_stamp(np.full((31, 50), 50.0), np.full((31, 50), 25.0))
    alone = [lay(alert_of([one] * 3), COMMON_GRID) for one in (science, template)]
    mixed = lay(alert_of([science, template, science]), COMMON_GRID)
    np.testing.assert_allclose(mixed.image[0], alone[0].image[0], rtol=1e-5)
    np.testing.assert_allclose(mixed.image[1], alone[1].image[1], rtol=1e-5)


@given(st.binary(min_size=4, max_size=400))
def test_any_pixels_at_all_are_laid_without_a_warning(content):
    pixels = np.resize(np.frombuffer(content[: len(content) // 4 * 4], ">f4"), (63, 63))
    cutout = Cutout(
        pixels.astype(np.float32), pixels.T.astype(np.float32), centre=(31.0, 31.0), pixel_scale=0.2
    )
    for survey in Survey:
        stamps = lay_cutouts(alert_of([None] * 3, survey), [cutout, cutout, None], COMMON_GRID)
        assert np.isfinite(stamps.image).all()
        assert np.isfinite(stamps.noise).all()
        assert ((stamps.noise > 0) == stamps.mask.any(axis=(1, 2))).all()


def test_a_broken_gzip_is_a_flag_and_never_an_error():
    good = ztf_stamp()
    bomb = gzip.compress(bytes(32 * 1024 * 1024))
    stamps = lay(alert_of([good[:-30], bomb, good], Survey.ZTF), COMMON_GRID)
    assert stamps.flags == ("cutout_unreadable:science", "cutout_unreadable:template")
    assert replace(stamps).valid_fraction[2] == 1.0
