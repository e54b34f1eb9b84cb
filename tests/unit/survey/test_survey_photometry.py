"""Light of the host per band, from lists of any content."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.alert import BANDS
from broker.photometry import PLAUSIBLE_FLUX, PS1_RADIUS, forced_template_flux, ps1_source_flux

MAYBE = st.none() | st.floats(width=32)


def test_template_fluxes_are_averaged_per_band():
    fluxes = forced_template_flux(["g", "r", "g", "y"], [1.0, 5.0, 3.0, -2.0])
    np.testing.assert_array_equal(fluxes, np.float32([np.nan, 2.0, 5.0, np.nan, np.nan, -2.0]))


def test_what_is_not_measured_does_not_count():
    fluxes = forced_template_flux(["g", "g", "g", "w", None, "r"], [1.0, None, math.inf, 4.0, 5.0, math.nan])
    np.testing.assert_array_equal(fluxes, np.float32([np.nan, 1.0, np.nan, np.nan, np.nan, np.nan]))


@given(st.lists(st.tuples(st.none() | st.sampled_from([*BANDS, "w", ""]), MAYBE), max_size=30))
def test_any_history_gives_a_mean_within_its_range_or_nothing(entries):
    fluxes = forced_template_flux([band for band, _ in entries], [flux for _, flux in entries])
    for band, mean in zip(BANDS, fluxes.tolist(), strict=True):
        known = [
            flux for name, flux in entries if name == band and flux is not None and abs(flux) < PLAUSIBLE_FLUX
        ]
        if not known:
            assert math.isnan(mean)
        else:
            assert min(known) - 1e-6 * abs(min(known)) <= mean <= max(known) + 1e-6 * abs(max(known))


def test_the_ps1_source_at_the_position_gives_its_fluxes():
    fluxes = ps1_source_flux([20.0, -999.0, None, 31.4], 0.5)
    np.testing.assert_allclose(fluxes, [np.nan, 36307.8, np.nan, np.nan, 1.0, np.nan], rtol=1e-4)


@pytest.mark.parametrize("distance", [None, math.nan, -999.0, math.nextafter(PS1_RADIUS, 3), 60.0])
def test_a_source_that_is_far_or_unknown_gives_nothing(distance):
    assert np.isnan(ps1_source_flux([20.0, 20.0, 20.0, 20.0], distance)).all()


@given(st.lists(MAYBE, min_size=4, max_size=4), MAYBE)
def test_any_ps1_columns_give_positive_fluxes_or_nothing(magnitudes, distance):
    fluxes = ps1_source_flux(magnitudes, distance)
    assert (np.isnan(fluxes) | ((fluxes > 0) & np.isfinite(fluxes))).all()
