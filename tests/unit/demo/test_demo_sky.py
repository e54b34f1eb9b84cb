"""The demonstration's sky: light is neither lost nor made, and noise is as stated."""

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.alert import Survey
from broker.cutouts import effective_fwhm, read_cutout
from broker.demo import optics
from broker.demo.exposure import ARTEFACTS, Conditions, expose
from broker.demo.optics import Canvas, Ellipse, Seeing
from broker.demo.sky import KINDS, RARITIES, Scene, draw_scene, flux, galaxy_spectrum

WIDE = Canvas(side=101, pixel_scale=0.2, x=50.0, y=50.0)
CENTRE = Ellipse(0.0, 0.0, 0.7, 0.5)

PROFILES = {
    "exponential": lambda: optics.exponential(WIDE, CENTRE, 1.0),
    "edge_on": lambda: optics.edge_on(WIDE, CENTRE, 1.0, 0.3),
    "ring": lambda: optics.ring(WIDE, CENTRE, 2.0, 0.3),
    "arc": lambda: optics.arc(WIDE, Ellipse(0.0, 0.0), 2.0, 0.3, 0.4),
    "de_vaucouleurs": lambda: optics.de_vaucouleurs(WIDE, CENTRE, 0.4),
}


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_have_unit_flux(name):
    # A de Vaucouleurs profile has a tenth of its light beyond the page and within its softened cusp.
    tolerance = 0.12 if name == "de_vaucouleurs" else 0.02
    assert PROFILES[name]().sum() == pytest.approx(1.0, abs=tolerance)


@given(fwhm=st.floats(0.6, 1.6), x=st.floats(-2, 2), y=st.floats(-2, 2))
@settings(deadline=None, max_examples=25)
def test_a_point_source_has_unit_flux_its_place_and_its_width(fwhm, x, y):
    image = Seeing(fwhm).point(WIDE, x, y)

    rows, columns = np.indices(image.shape)
    assert image.sum() == pytest.approx(1.0, abs=0.02)
    assert (image * columns).sum() / image.sum() == pytest.approx(50 + x / 0.2, abs=0.15)
    assert (image * rows).sum() / image.sum() == pytest.approx(50 + y / 0.2, abs=0.15)
    core = Seeing(fwhm).plane(41, 0.2)
    # The effective area of a Moffat of index 3.5 is that of a Gaussian 1.23 times as wide.
    assert effective_fwhm(core) * 0.2 == pytest.approx(1.23 * fwhm, rel=0.05)


def test_blurring_keeps_the_flux_and_the_place():
    fine = optics.exponential(WIDE, Ellipse(1.0, -0.6), 0.5)
    blurred = Seeing(0.9).blur(WIDE, fine)

    assert blurred.sum() == pytest.approx(WIDE.bin(fine).sum(), rel=0.02)
    row, column = np.unravel_index(blurred.argmax(), blurred.shape)
    assert (column, row) == (55, 47)


@pytest.mark.parametrize("survey", Survey)
@pytest.mark.parametrize("kind", [*KINDS, *RARITIES])
def test_every_kind_can_be_drawn_for_both_surveys(kind, survey):
    rng = np.random.default_rng(4)
    conditions = Conditions.draw(survey, rng)
    scene = draw_scene(kind, survey, conditions.canvas, rng)

    assert scene.kind == kind
    assert all(np.isfinite(layer.image).all() and (layer.fluxes >= 0).all() for layer in scene.layers)
    has_host = kind not in {"transient", "bogus"}
    assert scene.host_fluxes.any() == has_host
    assert (scene.redshift is not None) == (has_host and kind != "star")


@pytest.mark.parametrize("survey", Survey)
def test_an_empty_exposure_has_the_noise_that_was_drawn(survey):
    rng = np.random.default_rng(1)
    conditions = Conditions.draw(survey, rng)
    exposure = expose(Scene("transient"), conditions, 0.0, None, rng)

    science, template, difference = (stamp.pixels - np.median(stamp.pixels) for stamp in exposure.stamps)
    assert np.std(science) == pytest.approx(conditions.science_noise, rel=0.1)
    assert np.std(template) == pytest.approx(conditions.template_noise, rel=0.1)
    both = np.hypot(conditions.science_noise, conditions.template_noise)
    assert np.std(difference) == pytest.approx(both, rel=0.1)
    if survey is Survey.LSST:
        np.testing.assert_allclose(exposure.stamps[2].variance, both**2)
    else:
        assert np.median(exposure.stamps[0].pixels) == pytest.approx(conditions.sky, rel=0.05)


@pytest.mark.parametrize("survey", Survey)
def test_new_light_is_measured_with_the_signal_to_noise_asked_for(survey):
    rng = np.random.default_rng(2)
    conditions = Conditions.draw(survey, rng)
    found = []
    for _ in range(20):
        exposure = expose(Scene("transient"), conditions, 30.0, None, rng)
        found.append(exposure.psf_flux / exposure.psf_flux_error)

    assert np.mean(found) == pytest.approx(30.0, abs=1.5)
    assert np.std(found) == pytest.approx(1.0, abs=0.6)


def test_template_fluxes_are_forced_at_the_position_in_every_band():
    rng = np.random.default_rng(3)
    conditions = Conditions.draw(Survey.LSST, rng)
    scene = draw_scene("star", Survey.LSST, conditions.canvas, rng)
    scene = Scene("star", None, (), scene.points[:1], scene.host_fluxes)
    exposure = expose(scene, conditions, 10.0, None, rng)

    np.testing.assert_allclose(exposure.template_fluxes, scene.host_fluxes, rtol=0.05, atol=500)


@pytest.mark.parametrize("artefact", ARTEFACTS)
def test_artefacts_are_in_science_and_difference_and_not_in_the_template(artefact):
    quiet, loud = (np.random.default_rng(5) for _ in range(2))
    conditions = Conditions.draw(Survey.ZTF, quiet)
    Conditions.draw(Survey.ZTF, loud)
    with_it = expose(Scene("bogus"), conditions, 0.0, artefact, loud)

    levels = [
        np.abs(stamp.pixels - np.median(stamp.pixels)).max() / noise
        for stamp, noise in zip(
            with_it.stamps,
            (conditions.science_noise, conditions.template_noise, conditions.science_noise),
            strict=True,
        )
    ]
    assert min(levels[0], levels[2]) > 7
    assert levels[1] < 6


def test_redder_galaxies_are_farther():
    near, far = galaxy_spectrum("early", 0.1), galaxy_spectrum("early", 0.5)

    assert far[1] / far[3] < near[1] / near[3]
    assert flux(31.4) == pytest.approx(1.0)


def test_noise_sky_and_seeing_are_those_of_real_ztf_alerts(ztf_paths):
    real = []
    for path in ztf_paths[::20]:
        with path.open("rb") as file:
            (alert,) = fastavro.reader(file)
        science = read_cutout(alert["cutoutScience"]["stampData"], survey=Survey.ZTF).image
        low, level = np.nanpercentile(science, (16, 50))
        real.append((level - low, level, alert["candidate"]["fwhm"]))
    rng = np.random.default_rng(6)
    drawn = [Conditions.draw(Survey.ZTF, rng) for _ in range(200)]
    ours = [(c.science_noise, c.sky, c.science.fwhm / c.canvas.pixel_scale) for c in drawn]

    low, high = np.nanpercentile(real, (2, 98), axis=0)
    medians = np.median(ours, axis=0)
    assert (low < medians).all()
    assert (medians < high).all()
    assert medians == pytest.approx(np.nanmedian(real, axis=0), rel=0.35)
