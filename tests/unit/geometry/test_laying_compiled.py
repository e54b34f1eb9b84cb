"""Alerts laid by the compiled helper, held against its readable twins, to the bit where sums have one order."""

import gzip
from functools import partial

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_laying_alerts import RNG, alert_of, lsst_stamp, ztf_stamp

from broker import geometry, native
from broker.alert import Alert, Survey
from broker.contract import COMMON_GRID
from broker.cutouts import Cutout
from broker.geometry import lay, lay_cutouts, sky_and_noise
from broker.photometry import unknown
from broker.testing.stamps import Stamp, lsst_fits

pytestmark = pytest.mark.skipif(native.alert is None, reason="the helper was not built: no compiler")

PSF = np.outer(np.hanning(9), np.hanning(9))
rubin = partial(lsst_stamp, psf=PSF)
USUAL = {
    Survey.LSST: [rubin(), lsst_stamp(RNG.normal(0, 5, (31, 52))), lsst_stamp()],
    Survey.ZTF: [ztf_stamp(), ztf_stamp(), ztf_stamp(RNG.normal(0, 8, (63, 63)))],
}


def assert_laid_alike(alert: Alert) -> bool:
    """The one call gives what stamp by stamp gives and what Python alone gives; whether it did not leave it to them."""
    usual, twin = geometry._lay_usual(alert, COMMON_GRID), geometry._lay_any(alert, COMMON_GRID)
    with pytest.MonkeyPatch.context() as patch:
        for name in (*native.FUNCTIONS, "isal_zlib"):
            patch.setattr(native, name, None)
        pure = lay(alert, COMMON_GRID)
    assert (twin.flags, twin.psf_fwhm is None) == (pure.flags, pure.psf_fwhm is None)
    np.testing.assert_array_equal(twin.mask, pure.mask)
    np.testing.assert_array_equal(twin.valid_fraction, pure.valid_fraction)
    np.testing.assert_allclose(twin.noise, pure.noise, rtol=1e-5)
    scale = np.abs(pure.image).max(initial=1.0)
    np.testing.assert_allclose(twin.image, pure.image, rtol=1e-4, atol=1e-5 * scale)
    if usual is None:
        return False
    for name in ("image", "mask", "noise", "valid_fraction"):
        ours, theirs = getattr(usual, name), getattr(twin, name)
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_array_equal(ours, theirs)
    assert (usual.psf_fwhm, usual.flags) == (twin.psf_fwhm, twin.flags)
    return True


def test_usual_alerts_are_laid_by_one_call(monkeypatch):
    for survey, cutouts in USUAL.items():
        for photometry in (unknown(), np.ones(6, np.float32)):
            for offset in (0.0, 500.0):
                host = [*cutouts[:1], lsst_stamp() if survey is Survey.LSST else ztf_stamp(), cutouts[2]]
                alert = alert_of(host if offset else cutouts, survey, (1000.25, 2000.75), photometry)
                assert assert_laid_alike(alert)
    monkeypatch.setattr(native, "alert", None)
    assert geometry._lay_usual(alert, COMMON_GRID) is None


def test_every_real_alert_is_laid_alike(lsst_paths, ztf_paths):
    by_one_call = [
        assert_laid_alike(alert_of(oracle.stamp_bytes(oracle.decode(path)))) for path in lsst_paths[::3]
    ]
    for path in ztf_paths[::5]:
        record = oracle.decode(path)
        position = (record["candidate"]["xpos"] - 1, record["candidate"]["ypos"] - 1)
        by_one_call.append(assert_laid_alike(alert_of(oracle.stamp_bytes(record), Survey.ZTF, position)))
    assert np.mean(by_one_call) > 0.99


USUALLY_LAID = {
    "hole",
    "variance of zeros",
    "bare",
    "centre at the edge",
    "variance with holes",
    "larger",
    "holes",
    "negative",
    "ties",
}


def unusual_stamps() -> dict[str, tuple[Survey, bytes | None]]:
    pixels = RNG.normal(50, 5, (40, 40))
    hole, bare, flat = pixels.copy(), pixels.copy(), np.full((63, 63), 7.0)
    hole[3, 4], bare[:, 0] = np.nan, np.inf
    ztf_hole = RNG.normal(200, 8, (63, 63))
    ztf_hole[30:34, 30:34] = np.nan
    doubled = rubin().replace(b"CDELT1  =   1.000000000000E+00", b"CDELT1  =   9.000000000000E+00")
    return {
        "null": (Survey.LSST, None),
        "hole": (Survey.LSST, rubin(hole)),
        "bare": (Survey.LSST, rubin(bare)),
        "no variance": (Survey.LSST, lsst_fits(Stamp(pixels, psf=PSF), ra=1.0, dec=2.0)),
        "variance of zeros": (Survey.LSST, rubin(pixels, np.zeros((40, 40)))),
        "variance with holes": (Survey.LSST, rubin(pixels, np.where(pixels > 50, np.nan, 4.0))),
        "centre outside": (Survey.LSST, rubin(centre=(60.0, 3.0))),
        "centre at the edge": (Survey.LSST, rubin(centre=(-0.5, 39.5))),
        "scale": (Survey.LSST, doubled),
        "one pixel": (Survey.LSST, rubin(np.ones((1, 1)))),
        "broken": (Survey.LSST, rubin()[:4000]),
        "cut at an edge": (Survey.ZTF, ztf_stamp(RNG.normal(200, 8, (63, 40)))),
        "larger": (Survey.ZTF, ztf_stamp(RNG.normal(200, 8, (65, 70)))),
        "flat": (Survey.ZTF, ztf_stamp(flat)),
        "holes": (Survey.ZTF, ztf_stamp(ztf_hole)),
        "negative": (Survey.ZTF, ztf_stamp(RNG.normal(-3, 8, (63, 63)))),
        "ties": (Survey.ZTF, ztf_stamp(RNG.integers(-2, 3, (63, 63)) * 1.0)),
        "rounds to nothing": (Survey.ZTF, ztf_stamp(RNG.integers(-1, 2, (63, 63)) * 1.4e-45)),
        "broken gzip": (Survey.ZTF, ztf_stamp()[:-9]),
    }


@pytest.mark.parametrize("name", unusual_stamps())
@pytest.mark.parametrize("role", range(3))
def test_an_alert_with_an_unusual_stamp_is_laid_alike(name, role):
    survey, stamp = unusual_stamps()[name]
    cutouts = [*USUAL[survey]]
    cutouts[role] = stamp
    assert assert_laid_alike(alert_of(cutouts, survey, (1000.25, 2000.75))) == (name in USUALLY_LAID)
    for position in ((5.0, 3.0), None):
        assert_laid_alike(alert_of(cutouts, survey, position))


@given(
    st.sampled_from(Survey),
    st.integers(0, 2),
    st.integers(0, 2**32 - 1),
    st.floats(0, 3000),
    st.floats(0, 3000),
)
def test_alerts_with_changed_bytes_are_laid_alike(survey, role, seed, x, y):
    rng = np.random.default_rng(seed)
    content = USUAL[survey][role]
    broken = bytearray(gzip.decompress(content) if survey is Survey.ZTF else content)
    for position in rng.integers(0, min(len(broken), rng.choice([2880, len(broken)])), 2):
        broken[position] = rng.choice([rng.integers(256), *b" 0=/"])
    cutouts = [*USUAL[survey]]
    cutouts[role] = gzip.compress(broken, 1, mtime=0) if survey is Survey.ZTF else bytes(broken)
    assert_laid_alike(alert_of(cutouts, survey, (x, y)))


def test_the_helper_refuses_planes_that_do_not_fit():
    planes = np.zeros((3, 32, 32), np.float32)
    for cutouts, size, noise in (
        (USUAL[Survey.LSST][:2], 32, 3),
        (USUAL[Survey.LSST], 31, 3),
        (USUAL[Survey.LSST], 32, 2),
    ):
        with pytest.raises(ValueError, match="three cutouts"):
            native.alert(
                *(tuple(cutouts), None, 0.2, 0.1, 0.4, 0.267, 0.67, size, 3, planes, planes.copy()),
                np.zeros(noise, np.float32),
            )
    with pytest.raises(TypeError):
        native.alert(
            (None, b"", b""),
            None,
            0.2,
            0.1,
            0.4,
            0.267,
            0.67,
            32,
            3,
            planes,
            planes.copy(),
            np.zeros(3, "f4"),
        )


@given(
    st.sampled_from(Survey),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.floats(-0.5, 69.5), st.floats(-0.5, 69.5)),
    st.floats(0.11, 0.39),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["whole", "holes", "edge", "nothing", "one"]),
)
def test_the_helper_lays_stamps_as_numpy_does(survey, shape, middle, scale, seed, kind):
    rng = np.random.default_rng(seed)
    image = rng.normal(100.0, 20.0, shape).astype(np.float32)
    if kind == "holes":
        image[rng.uniform(size=shape) < 0.3] = np.nan
    elif kind == "edge":
        image[: shape[0] // 2] = np.inf
    elif kind == "nothing":
        image[:] = np.nan
    elif kind == "one":
        image[:] = 7.0
    variance = None if survey is Survey.ZTF else rng.uniform(-1.0, 30.0, shape).astype(np.float32)
    cutout = Cutout(image, variance, centre=middle, pixel_scale=scale)
    alert = alert_of([None] * 3, survey, position=middle)
    compiled = lay_cutouts(alert, [cutout, None, cutout], COMMON_GRID)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "stamp", None)
        readable = lay_cutouts(alert, [cutout, None, cutout], COMMON_GRID)
    np.testing.assert_array_equal(compiled.mask, readable.mask)
    np.testing.assert_allclose(compiled.image, readable.image, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(compiled.noise, readable.noise, rtol=1e-5)
    assert compiled.flags == readable.flags


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1e-40, 1.0, 300.0, 1e20]),
    st.sampled_from(["normal", "ties", "negative", "zeros", "holes"]),
)
def test_sky_and_noise_are_those_of_numpy(shape, seed, scale, kind):
    rng = np.random.default_rng(seed)
    image = (rng.normal(0.0, 1.0, shape) * scale).astype(np.float32)
    if kind == "ties":
        image = rng.integers(-2, 3, shape).astype(np.float32)
    elif kind == "negative":
        image = -np.abs(image)
    elif kind == "zeros":
        image = np.where(rng.uniform(size=shape) < 0.5, np.float32(-0.0), np.float32(0.0))
    elif kind == "holes":
        image[rng.uniform(size=shape) < 0.3] = rng.choice([np.nan, np.inf, 1e30, -1e30])
    valid = np.abs(image) < geometry.LARGEST_PIXEL
    expected = sky_and_noise(image, valid, None, survey=Survey.ZTF, role="science")
    grid = np.zeros((32, 32), np.float32)
    sky, noise, invalid, _ = native.stamp(image, None, *shape, 1.0, 1.0, 0.7, 32, 1, grid, grid.copy())
    assert (sky, noise, invalid) == (*expected, valid.size - np.count_nonzero(valid))
