"""Who is in the simulated sky: colours, redshifts, sizes."""

import numpy as np
import pytest

pytest.importorskip("galsim")

from broker.alert import BANDS, Survey
from encoder.extinction import EXTINCTION
from encoder.simulate.colours import (
    galaxy_magnitudes,
    magnitude_to_njy,
    redden,
    star_colours,
)
from encoder.simulate.populations import (
    GALAXIES,
    HOST_MAGNITUDES,
    Z_GRID,
    draw_galaxy,
    host_magnitude,
    redshift_and_type,
)
from encoder.simulate.scenes import draw_scene

pytestmark = pytest.mark.train

G, R, I_BAND, Y = (BANDS.index(b) for b in "griy")


def colour(spectral_type, redshift, blue, red):
    magnitudes = galaxy_magnitudes(spectral_type, redshift)
    return magnitudes[blue] - magnitudes[red]


def test_a_magnitude_of_31_4_is_one_njy():
    assert magnitude_to_njy(31.4) == pytest.approx(1.0)


def test_ellipticals_have_the_published_colours_at_rest():
    # Fukugita, Shimasaku & Ichikawa 1995 (PASP 107, 945), table 3: g'-r' = 0.77, r'-i' = 0.39 for E.
    assert colour(0, 0.0, G, R) == pytest.approx(0.77, abs=0.08)
    assert colour(0, 0.0, R, I_BAND) == pytest.approx(0.39, abs=0.08)


def test_ellipticals_redden_while_the_break_crosses_g_and_then_r():
    g_minus_r = [colour(0, z, G, R) for z in (0.0, 0.1, 0.2, 0.3, 0.38)]
    r_minus_i = [colour(0, z, R, I_BAND) for z in (0.4, 0.5, 0.6, 0.7)]
    assert np.all(np.diff(g_minus_r) > 0.1)
    assert np.all(np.diff(r_minus_i) > 0.05)


@pytest.mark.parametrize("redshift", [0.1, 0.5, 1.0])
def test_types_run_from_red_to_blue(redshift):
    assert np.all(np.diff([colour(t, redshift, G, I_BAND) for t in (0, 1, 2, 3)]) < 0)


def test_colours_change_evenly_between_the_templates():
    middle = galaxy_magnitudes(0.5, 0.3)
    assert middle == pytest.approx((galaxy_magnitudes(0, 0.3) + galaxy_magnitudes(1, 0.3)) / 2)


@pytest.mark.parametrize("survey", Survey)
def test_dust_takes_the_coefficient_of_each_band_of_the_survey(survey):
    dimmed = -2.5 * np.log10(redden(np.ones(6), 0.2, survey))
    assert dimmed == pytest.approx(0.2 * np.array(EXTINCTION[survey]))


def test_stars_redden_along_the_locus():
    blue, red = star_colours(0.1), star_colours(1.2)
    assert np.all(blue[:Y] - blue[1:] < red[:Y] - red[1:])
    # The turn of the locus: M dwarfs share one g-r (Covey et al. 2007).
    assert red[G] - red[R] == pytest.approx(1.4, abs=0.05)


def test_fainter_galaxies_are_farther_bluer_and_smaller():
    rng = np.random.default_rng(1)
    drawn = {m: [draw_galaxy("disk", m, I_BAND, rng) for _ in range(200)] for m in (18.0, 21.0, 24.0)}
    redshift = [np.median([g.redshift for g in drawn[m]]) for m in drawn]
    size = [np.median([g.half_light_radius for g in drawn[m]]) for m in drawn]
    spectral_type = [np.mean([g.spectral_type for g in drawn[m]]) for m in drawn]
    assert redshift[0] < redshift[1] < redshift[2]
    assert size[0] > size[1] > size[2]
    assert spectral_type[0] < spectral_type[2]


@pytest.mark.parametrize(
    ("magnitude", "low", "high"),
    # Median redshifts of i-selected surveys: zCOSMOS 0.6 at i < 22.5 (Lilly et al. 2009), COSMOS2015 0.8
    # to 0.9 at i = 23.5 (Laigle et al. 2016), both within a tenth.
    [(19.5, 0.20, 0.35), (22.0, 0.50, 0.70), (23.5, 0.70, 0.95)],
)
def test_median_redshifts_are_those_of_magnitude_limited_surveys(magnitude, low, high):
    numbers = redshift_and_type(magnitude, I_BAND).sum(axis=0)
    median = np.interp(0.5, np.cumsum(numbers) / numbers.sum(), Z_GRID)
    assert low < median < high


@pytest.mark.parametrize("survey", Survey)
def test_hosts_keep_to_their_range(survey):
    rng = np.random.default_rng(2)
    low, high = HOST_MAGNITUDES[survey]
    drawn = [host_magnitude(survey, rng) for _ in range(300)]
    assert low <= min(drawn)
    assert max(drawn) <= high


@pytest.mark.parametrize("label", GALAXIES)
@pytest.mark.parametrize("survey", Survey)
def test_the_parts_of_a_host_sum_to_its_light(label, survey):
    rng = np.random.default_rng(3)
    for _ in range(10):
        scene = draw_scene(label, survey, rng)
        near = np.hypot(*scene.host_offset) + 30.0
        parts = [c for c in scene.extended if np.hypot(c.x, c.y) < near]
        light = sum(c.fluxes for c in parts) + sum(p.fluxes for p in scene.points)
        assert np.all(light >= 0.999 * scene.host_fluxes)
        assert all(c.profile.flux == pytest.approx(1.0, rel=1e-3) for c in scene.extended)


def test_hostless_alerts_have_no_host_and_stars_stand_at_the_position():
    rng = np.random.default_rng(4)
    hostless, star = draw_scene("transient", Survey.LSST, rng), draw_scene("star", Survey.LSST, rng)
    assert not hostless.host_fluxes.any()
    assert all(np.hypot(p.x, p.y) > 2 for p in hostless.points)
    assert (star.points[0].x, star.points[0].y) == (0.0, 0.0)
    assert np.isnan(star.redshift)
