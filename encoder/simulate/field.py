"""Stars, and the galaxies and stars around an alert that have nothing to do with it."""

import numpy as np

from broker.alert import Survey
from encoder.simulate.chance import happens
from encoder.simulate.colours import FloatArray, magnitude_to_njy, redden, star_colours
from encoder.simulate.components import Component, PointSource
from encoder.simulate.populations import REFERENCE_BAND, draw_galaxy
from encoder.simulate.profiles import Orientation, sersic

FIELD_HALF_SIDE = {Survey.LSST: 7.0, Survey.ZTF: 33.0}
"""Arcsec; neighbours are strewn over a square of this half side."""

LSST_FIELD_GALAXIES = 0.011
"""Per square arcsec to i = 25 (40 per square arcmin; LSST Science Book, section 3.7)."""


def star_fluxes(magnitude: float, survey: Survey, ebv: float, rng: np.random.Generator) -> FloatArray:
    """Draw the fluxes (6,) of a star of a magnitude in the survey's reference band, behind dust."""
    # Disk and halo dwarfs: a blue peak at the turnoff and a red one of M dwarfs.
    blue = happens(0.55, rng)
    colour = float(np.clip(rng.normal(0.15, 0.08) if blue else rng.normal(0.9, 0.4), -0.1, 2.0))
    magnitudes = star_colours(colour)
    return redden(magnitude_to_njy(magnitudes - magnitudes[REFERENCE_BAND[survey]] + magnitude), ebv, survey)


def draw_field(
    survey: Survey, ebv: float, clear: float, rng: np.random.Generator
) -> tuple[tuple[Component, ...], tuple[PointSource, ...]]:
    """Neighbours, none within `clear` of the alert (arcsec for Rubin; 2.5 times as far for ZTF)."""
    half = FIELD_HALF_SIDE[survey]
    if survey is Survey.LSST:
        n_galaxies, n_stars = rng.poisson(LSST_FIELD_GALAXIES * 4 * half**2 * 0.6), rng.poisson(0.25)
        faint, bright, slope = 25.0, 19.0, 0.34
    else:
        n_galaxies = rng.poisson(0.5)
        n_stars = min(rng.poisson(rng.lognormal(np.log(14), 1.0)), 150)
        faint, bright, slope, clear = 21.8, 13.0, 0.25, 2.5 * clear
    galaxies = [
        _field_galaxy(_counts(bright + 2, faint, slope, rng), survey, ebv, _place(half, clear, rng), rng)
        for _ in range(n_galaxies)
    ]
    stars = tuple(
        PointSource(
            star_fluxes(_counts(bright, faint, 0.22, rng), survey, ebv, rng), *_place(half, clear, rng)
        )
        for _ in range(n_stars)
    )
    return tuple(galaxies), stars


def _counts(bright: float, faint: float, slope: float, rng: np.random.Generator) -> float:
    return float(np.log10(rng.uniform(10 ** (slope * bright), 10 ** (slope * faint))) / slope)


def _place(half: float, clear: float, rng: np.random.Generator) -> tuple[float, float]:
    while True:
        x, y = rng.uniform(-half, half, 2)
        if np.hypot(x, y) > clear:
            return float(x), float(y)


def _field_galaxy(
    magnitude: float, survey: Survey, ebv: float, place: tuple[float, float], rng: np.random.Generator
) -> Component:
    galaxy = draw_galaxy("disk", magnitude, REFERENCE_BAND[survey], rng)
    orientation = Orientation(float(rng.uniform(0.3, 1.0)), float(rng.uniform(0, np.pi)))
    profile = orientation.place(sersic(1.0), galaxy.half_light_radius)
    return Component(profile, redden(galaxy.fluxes, ebv, survey), *place)
