"""Telescope and detector of the simulation: PSF, noise, forced fluxes, subtraction."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("galsim")

from broker.alert import Survey
from broker.cutouts import effective_fwhm
from encoder.simulate.bogus import ARTEFACTS, Canvas, beside_star, column, hole
from encoder.simulate.components import PointSource, Scene
from encoder.simulate.exposures import expose
from encoder.simulate.optics import MOFFAT_BETAS, Psf
from encoder.simulate.photometry import forced_flux, known_bands, nearest_ps1_source
from encoder.simulate.scenes import draw_scene
from encoder.simulate.visits import Frame, draw_conditions

pytestmark = pytest.mark.train

EMPTY = Scene("transient", Survey.LSST, np.nan, 0.0, (), ())


def psf(fwhm=0.9, beta=3.0, pixel_scale=0.2):
    return Psf(fwhm=fwhm, beta=beta, g1=0.02, g2=-0.01, pixel_scale=pixel_scale)


def quiet(survey, seed=1, **changes):
    """A visit of a large round frame."""
    conditions = draw_conditions(survey, np.random.default_rng(seed))
    frame = Frame((63, 63), 31.2, 30.9, (1500.2, 1499.9))
    return replace(conditions, frame=frame, **changes)


@pytest.mark.parametrize("beta", MOFFAT_BETAS)
@pytest.mark.parametrize(("fwhm", "pixel_scale"), [(0.7, 0.2), (1.3, 0.2), (2.2, 1.01)])
def test_a_point_source_keeps_its_flux_and_place(beta, fwhm, pixel_scale):
    image = psf(fwhm, beta, pixel_scale).draw((101, 101), 50.3, 49.8)
    y, x = np.indices(image.shape)
    assert image.sum() == pytest.approx(1.0, abs=0.015)
    assert (image * x).sum() / image.sum() == pytest.approx(50.3, abs=0.05)
    assert (image * y).sum() / image.sum() == pytest.approx(49.8, abs=0.05)


@pytest.mark.parametrize("fwhm", [0.7, 1.0, 1.6])
def test_a_profile_is_as_wide_as_asked(fwhm):
    point = Psf(fwhm=fwhm, beta=4.5, g1=0.0, g2=0.0, pixel_scale=0.05)
    row = point.draw((201, 201), 100, 100)[100]
    above = np.flatnonzero(row > row.max() / 2)
    assert (above[-1] - above[0] + 1) * 0.05 == pytest.approx(fwhm, abs=0.08)


@pytest.mark.parametrize("beta", MOFFAT_BETAS)
@pytest.mark.parametrize("fwhm", [0.8, 1.2])
def test_the_effective_area_is_that_of_a_moffat(fwhm, beta):
    alpha = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    area = np.pi * alpha**2 * (2 * beta - 1) / (beta - 1) ** 2
    round_psf = Psf(fwhm=fwhm, beta=beta, g1=0.0, g2=0.0, pixel_scale=0.2)
    assert round_psf.noise_pixels * 0.2**2 == pytest.approx(area, rel=0.06)
    width = effective_fwhm(round_psf.kernel) * 0.2
    assert width == pytest.approx(np.sqrt(2 * np.log(2) / np.pi * area), rel=0.03)


@pytest.mark.parametrize("place", [(20.0, 20.0), (20.4, 19.8), (2.2, 3.6)])
def test_field_stars_are_the_psf_to_a_fifth_of_a_pixel(place):
    image = np.zeros((41, 41))
    psf().add_star(image, 100.0, *place)
    exact = 100.0 * psf().draw((41, 41), *place)
    assert image.sum() == pytest.approx(exact.sum(), rel=0.02)
    assert np.abs(image - exact).max() < 0.03 * exact.max()


def test_stars_beyond_the_stamp_leave_it_as_it_was():
    image = np.zeros((30, 30))
    psf().add_star(image, 100.0, -80.0, 15.0)
    assert not image.any()


def test_the_forced_flux_of_a_point_source_is_its_flux():
    point = psf().draw((30, 30), 14.7, 14.2)
    assert forced_flux(1234.0 * point, point) == pytest.approx(1234.0)


@pytest.mark.parametrize("seed", range(5))
def test_the_template_flux_of_a_star_is_its_flux_in_every_band(seed):
    fluxes = np.array([500.0, 2e3, 4e3, 5e3, 6e3, 6.5e3])
    scene = replace(EMPTY, label="star", points=(PointSource(fluxes, 0.0, 0.0),), host_fluxes=fluxes)
    exposure = expose(scene, quiet(Survey.LSST, seed), None, np.random.default_rng(seed))
    assert exposure.static_fluxes == pytest.approx(fluxes, rel=1e-6)


def test_the_template_flux_of_a_galaxy_is_less_than_its_light():
    rng = np.random.default_rng(5)
    for _ in range(5):
        scene = draw_scene("disk", Survey.LSST, rng)
        alone = replace(scene, extended=scene.extended[:1], points=())
        exposure = expose(alone, quiet(Survey.LSST), None, rng)
        assert np.all(exposure.static_fluxes < 1.05 * scene.host_fluxes)
        assert np.all(exposure.static_fluxes > 0)


@pytest.mark.parametrize("survey", Survey)
def test_noise_has_the_stated_variance(survey):
    conditions = quiet(survey)
    scene = replace(EMPTY, survey=survey)
    rng = np.random.default_rng(6)
    # An artefact that does nothing leaves noise alone.
    stamps = [expose(scene, conditions, lambda _canvas, _rng: None, rng).stamps for _ in range(12)]
    science, template, difference = np.nanstd(np.array(stamps), axis=(0, 2, 3))
    assert science == pytest.approx(conditions.science_noise, rel=0.04)
    assert template == pytest.approx(conditions.template_noise, rel=0.04)
    assert science <= difference <= np.hypot(science, template) * 1.02


def test_rubin_states_the_variance_its_pixels_have():
    conditions = quiet(Survey.LSST)
    fluxes = np.full(6, 3e5)
    scene = replace(EMPTY, points=(PointSource(fluxes, 0.0, 0.0),))
    rng = np.random.default_rng(7)
    stamps = []
    for _ in range(60):
        exposure = expose(scene, conditions, lambda _canvas, _rng: None, rng)
        stamps.append(exposure.stamps[0])
    measured = np.var(stamps, axis=0)[25:37, 25:37]
    assert np.median(measured / exposure.variance[0, 25:37, 25:37]) == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("survey", Survey)
def test_science_minus_static_sky_is_the_difference(survey):
    rng = np.random.default_rng(8)
    scene = draw_scene("bulge", survey, rng)
    conditions = quiet(survey)
    exposure = expose(scene, conditions, None, rng)
    science, _, difference = exposure.stamps
    rest = science - difference - conditions.sky
    if survey is Survey.LSST:
        # What is left of the science stamp is the host and none of the transient.
        point = conditions.science_psf.draw((63, 63), 31.2, 30.9)
        host = scene.host_fluxes[conditions.band]
        assert forced_flux(rest, point) < 1.2 * host + 10 * exposure.flux_error
    assert np.nanmedian(rest) == pytest.approx(0.0, abs=2 * conditions.science_noise)


def test_transients_are_significant():
    rng = np.random.default_rng(9)
    snr = []
    for _ in range(60):
        exposure = expose(EMPTY, quiet(Survey.LSST), None, rng)
        snr.append(exposure.flux / exposure.flux_error)
    assert np.median(snr) > 5
    assert min(snr) > 1


def test_ztf_leaves_the_sky_in_science_and_template_only():
    conditions = quiet(Survey.ZTF, sky=300.0)
    scene = replace(EMPTY, survey=Survey.ZTF)
    stamps = expose(scene, conditions, None, np.random.default_rng(10)).stamps
    assert np.nanmedian(stamps, axis=(1, 2)) == pytest.approx([300, 300, 0], abs=3)


def forced_on_the_difference(exposure, conditions):
    frame = conditions.frame
    point = conditions.science_psf.draw(frame.shape, frame.x, frame.y)
    return forced_flux(np.nan_to_num(exposure.stamps[2]), point) / conditions.unit


@pytest.mark.parametrize("artefact", [None, *(a for a, _, _ in ARTEFACTS)])
def test_ztf_differences_are_bright_at_the_alert_and_say_which_way_they_were_taken(artefact):
    directions = set()
    for seed in range(12):
        rng = np.random.default_rng([15, seed])
        scene, conditions = draw_scene("star", Survey.ZTF, rng), quiet(Survey.ZTF, seed)
        exposure = expose(scene, conditions, artefact, rng)
        directions.add(exposure.brightened)
        assert exposure.brightened == (exposure.flux >= 0)
        # A masked star or the template's end may cover a little of the PSF's wings after the measurement.
        expected = pytest.approx(abs(exposure.flux), rel=0.1, abs=exposure.flux_error)
        assert forced_on_the_difference(exposure, conditions) == expected
    if artefact is None:
        assert directions == {True, False}


def test_rubin_differences_keep_their_sign():
    signs = set()
    for seed in range(12):
        rng = np.random.default_rng([16, seed])
        scene, conditions = draw_scene("star", Survey.LSST, rng), quiet(Survey.LSST, seed)
        exposure = expose(scene, conditions, None, rng)
        signs.add(bool(exposure.flux > 0))
        expected = pytest.approx(exposure.flux, rel=0.1, abs=exposure.flux_error)
        assert forced_on_the_difference(exposure, conditions) == expected
    assert signs == {True, False}


@pytest.mark.parametrize("survey", Survey)
def test_a_star_that_has_faded_is_fainter_than_in_the_template(survey):
    faded = 0
    for seed in range(30):
        rng = np.random.default_rng([17, seed])
        fluxes = np.full(6, 3e5)
        scene = replace(
            EMPTY, survey=survey, label="star", points=(PointSource(fluxes, 0.0, 0.0),), host_fluxes=fluxes
        )
        conditions = quiet(survey, seed)
        # One PSF, so that the two stamps compare pixel by pixel.
        conditions = replace(conditions, template_psf=conditions.science_psf)
        exposure = expose(scene, conditions, None, rng)
        if exposure.flux < -10 * exposure.flux_error:
            faded += 1
            science, template, _ = exposure.stamps
            assert science[31, 31] < template[31, 31]
            assert not exposure.brightened
    assert faded > 3


@pytest.mark.parametrize("artefact", [a for a, _, _ in ARTEFACTS], ids=lambda a: a.__name__)
@pytest.mark.parametrize("survey", Survey)
def test_every_artefact_leaves_a_mark_in_the_difference(artefact, survey):
    for seed in range(6):
        rng = np.random.default_rng([11, seed])
        static = 3000.0 * psf().draw((31, 31), 15.1, 14.8)
        stamps = np.stack([static, static, np.zeros_like(static)])
        artefact(Canvas(survey, stamps, static, 5.0, 30.0, 1.9, 15.1, 14.8), rng)
        marked = ~np.isfinite(stamps[2]) | (np.abs(stamps[2]) > 5.0)
        assert marked[5:26, 5:26].any()


def spoiled(artefact, survey=Survey.ZTF):
    stamps = np.zeros((3, 31, 31))
    artefact(Canvas(survey, stamps, stamps[0].copy(), 5.0, 30.0, 1.9, 15.0, 15.0), np.random.default_rng(3))
    return stamps


def test_a_hole_is_darker_than_the_sky_and_in_no_template():
    science, template, difference = spoiled(hole)
    assert science[15, 15] == science.min() < -5.0
    assert not template.any()
    np.testing.assert_array_equal(science, difference)


def test_a_speck_beside_a_star_is_new_and_the_star_is_not():
    science, template, difference = spoiled(beside_star)
    assert template.max() > 300.0
    place = np.unravel_index(template.argmax(), template.shape)
    assert science[place] == pytest.approx(template[place], rel=0.1)
    assert np.abs(difference[12:19, 12:19]).max() > 5.0


@pytest.mark.parametrize(("survey", "axis"), [(Survey.ZTF, 0), (Survey.LSST, 1)])
def test_a_glowing_column_runs_from_end_to_end(survey, axis):
    science = spoiled(column, survey)[0]
    assert (science.max(axis=1 - axis) > 2.0).all(), "every row, or every column, is crossed"
    assert science.mean(axis=axis).argmax() == pytest.approx(15, abs=2)


@pytest.mark.parametrize("survey", Survey)
def test_frames_hold_the_alert_as_the_survey_cuts_them(survey):
    rng = np.random.default_rng(12)
    for _ in range(300):
        frame = draw_conditions(survey, rng).frame
        height, width = frame.shape
        if survey is Survey.LSST:
            assert height == width
            assert 30 <= width <= 102
            assert abs(frame.x - (width - 1) / 2) <= 0.5
        else:
            column, row = frame.detector_position
            assert frame.x == pytest.approx(column - max(0, round(column) - 31))
            assert frame.y == pytest.approx(row - max(0, round(row) - 31))
            assert width <= 63
            assert height <= 63


def test_histories_know_few_bands_some_all_some_none():
    rng = np.random.default_rng(13)
    drawn = [known_bands(3, rng) for _ in range(2000)]
    counts = np.bincount([len(d) for d in drawn], minlength=7) / len(drawn)
    assert counts[0] == pytest.approx(0.10, abs=0.03)
    assert counts[1] > 0.4
    assert counts[6] == pytest.approx(0.18, abs=0.03)
    assert all(d[0] == 3 and len(set(d)) == len(d) for d in drawn if d)


def test_ps1_lists_the_nearest_source_and_its_total_light():
    rng = np.random.default_rng(14)
    fluxes = np.full(6, 1e5)
    scene = replace(EMPTY, survey=Survey.ZTF, points=(PointSource(fluxes, 3.0, 4.0),))
    found = [nearest_ps1_source(scene, rng) for _ in range(200)]
    listed = [s for s in found if s.distance >= 0]
    assert 0.8 < len(listed) / len(found) < 0.95
    assert np.mean([s.distance for s in listed]) == pytest.approx(5.0, abs=0.1)
    known = [s.by_band["r"] for s in listed if s.by_band["r"] > 0]
    assert np.mean(known) == pytest.approx(31.4 - 12.5, abs=0.03)
