"""Rare hosts, kept out of training for the test of anomalies: arcs, rings, double nuclei, tidal tails.

Each begins as an ordinary galaxy of the population and is given what makes it rare.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import galsim
import numpy as np

from broker.alert import Survey
from encoder.simulate.chance import happens
from encoder.simulate.colours import Z_GRID, FloatArray, galaxy_magnitudes, magnitude_to_njy
from encoder.simulate.components import Component
from encoder.simulate.galaxies import BLUE_KNOTS, Parts, disk_and_bulge, share_light
from encoder.simulate.lensing import Source, einstein_radius, lensed_profile
from encoder.simulate.optics import GSPARAMS
from encoder.simulate.populations import I_BAND, Galaxy, distances, draw_galaxy, early_m_star
from encoder.simulate.profiles import Orientation, sersic

DISPERSION, FABER_JACKSON_SCATTER = 225.0, 0.08
"""km/s of an M* elliptical and dex about sigma ~ L^(1/4) (Choi, Park & Vogeley 2007, ApJ 658, 884)."""

ARC_LIGHT = (0.15, 0.8)
"""Light of the images over the lens's, in i; the images are bluer. Fainter arcs are not found."""

ARC_OFFSET, RING_OFFSET = (0.25, 0.9), (0.0, 0.08)
"""Of the source from the axis in theta_E: an arc and a counter-image, or a ring."""

RING_RADIUS, RING_LIGHT = (1.3, 2.4), (0.35, 0.65)
"""Of collisional rings, in half-light radii, and the share of i-band light in the ring (Appleton &
Struck-Marcell 1996, Fundam. Cosmic Phys. 16, 111)."""

NUCLEI_DISTANCE, NUCLEI_LIGHT = (0.5, 1.1), (0.25, 0.5)
"""Of double nuclei, in half-light radii of their common body, and their share of its light."""

TAIL_LENGTH, TAIL_LIGHT = (3.0, 6.0), (0.12, 0.3)
"""Of tidal tails, in half-light radii from the nucleus, and the share of light in them: up to a third in
mergers of disks (Hibbard & van Gorkom 1996, AJ 111, 655)."""


def draw_anomaly(label: str, magnitude: float, band: int, rng: np.random.Generator) -> Galaxy:
    """Draw the galaxy that is rare, of an apparent magnitude in a band; its separation is what must be seen."""
    if label == "lens_arc" or (label == "ring" and happens(0.5, rng)):
        return _lens(draw_galaxy("bulge", magnitude, band, rng), rng)
    if label == "double_nucleus" and happens(0.5, rng):
        galaxy = draw_galaxy("bulge", magnitude, band, rng)
    else:
        galaxy = draw_galaxy("disk", magnitude, band, rng)
    reach = {"ring": RING_RADIUS, "double_nucleus": NUCLEI_DISTANCE, "tidal_tail": TAIL_LENGTH}[label]
    separation = galaxy.half_light_radius * float(rng.uniform(*reach))
    return replace(galaxy, separation=separation)


def _lens(galaxy: Galaxy, rng: np.random.Generator) -> Galaxy:
    """Give an elliptical the Einstein radius of its luminosity, and a galaxy behind it."""
    source_redshift = min(galaxy.redshift + float(rng.uniform(0.5, 2.0)), 3.15)
    luminosity = 10 ** (-0.4 * (_absolute_b(galaxy) - early_m_star(galaxy.redshift)))
    dispersion = DISPERSION * luminosity**0.25 * 10 ** rng.normal(0, FABER_JACKSON_SCATTER)
    radius = einstein_radius(dispersion, _comoving(galaxy.redshift), _comoving(source_redshift))
    return replace(galaxy, separation=radius, source_redshift=source_redshift)


def _absolute_b(galaxy: Galaxy) -> float:
    colours = galaxy_magnitudes(galaxy.spectral_type, min(galaxy.redshift, float(Z_GRID[-1])))
    modulus = float(np.interp(galaxy.redshift, Z_GRID, distances()[0]))
    return float(galaxy.magnitudes[I_BAND] - colours[I_BAND]) - modulus


def _comoving(redshift: float) -> float:
    """Distance in Mpc."""
    modulus = float(np.interp(redshift, Z_GRID, distances()[0]))
    return float(10 ** ((modulus - 25) / 5) / (1 + redshift))


def anomaly_parts(label: str, galaxy: Galaxy, survey: Survey, rng: np.random.Generator) -> Parts:
    """Draw what a rare galaxy is made of, its nucleus at the origin and before dust."""
    if galaxy.source_redshift is not None:
        offset = ARC_OFFSET if label == "lens_arc" else RING_OFFSET
        return _with_images(galaxy, survey, float(rng.uniform(*offset)), rng)
    drawn: dict[str, Callable[[Galaxy, Survey, np.random.Generator], Parts]] = {
        "ring": _ring_galaxy,
        "double_nucleus": _double_nucleus,
        "tidal_tail": _tidal_tail,
    }
    return drawn[label](galaxy, survey, rng)


def _extent(galaxy: Galaxy) -> float:
    return galaxy.half_light_radius if galaxy.separation is None else galaxy.separation


def _with_images(galaxy: Galaxy, survey: Survey, offset: float, rng: np.random.Generator) -> Parts:
    """Add the images of a lensed star-forming galaxy to an elliptical's light."""
    parts, knots, orientation = disk_and_bulge(galaxy, survey, rng)
    radius = max(_extent(galaxy), 0.05)
    source = Source(
        offset=offset,
        half_light_radius=float(np.clip(rng.uniform(0.1, 0.35) / radius, 0.04, 0.4)),
        axis_ratio=float(rng.uniform(0.5, 1.0)),
        angle=float(rng.uniform(0, np.pi)),
    )
    profile = lensed_profile(source, radius, float(rng.uniform(0, 2 * np.pi)))
    colours = galaxy_magnitudes(float(rng.uniform(2.5, 3.4)), galaxy.source_redshift or 0.0)
    share = float(np.exp(rng.uniform(*np.log(ARC_LIGHT))))
    light = magnitude_to_njy(colours) / magnitude_to_njy(colours[I_BAND]) * share * galaxy.fluxes[I_BAND]
    return [*parts, Component(profile, light, 0.0, 0.0)], knots, orientation


def _ring_galaxy(galaxy: Galaxy, survey: Survey, rng: np.random.Generator) -> Parts:
    """Young stars in a ring about a nucleus and a faint disk."""
    del survey
    orientation = Orientation(float(rng.uniform(0.55, 1.0)), float(rng.uniform(0, np.pi)))
    ring, rest = share_light(galaxy, float(rng.uniform(*RING_LIGHT)), BLUE_KNOTS)
    profile = ring_profile(int(rng.choice((10, 14, 18))), int(rng.integers(2, 6)), int(rng.integers(0, 5)))
    nucleus = Orientation((orientation.axis_ratio + 1) / 2, orientation.angle).place(
        sersic(2.5), 0.35 * galaxy.half_light_radius
    )
    body = 0.7 * nucleus + 0.3 * orientation.place(sersic(1.0), galaxy.half_light_radius)
    parts = [
        Component(orientation.place(profile, _extent(galaxy)), ring, 0.0, 0.0),
        Component(body, rest, 0.0, 0.0),
    ]
    return parts, [], orientation


def _double_nucleus(galaxy: Galaxy, survey: Survey, rng: np.random.Generator) -> Parts:
    """Two compact nuclei in one body; positions count from the brighter one."""
    del survey
    size, distance = galaxy.half_light_radius, _extent(galaxy)
    orientation = Orientation(float(rng.uniform(0.6, 1.0)), float(rng.uniform(0, np.pi)))
    angle = float(rng.uniform(0, 2 * np.pi))
    fainter = float(rng.uniform(0.25, 0.5))
    light = float(rng.uniform(*NUCLEI_LIGHT))
    second = distance * np.array([np.cos(angle), np.sin(angle)])
    body = orientation.place(sersic(1.0 if galaxy.spectral_type > 1 else 2.5), size).shift(*(second / 2))
    compact = sersic(1.5).dilate(0.1 * size)
    whole = galsim.Sum(
        [
            (1 - light) * body,
            light * (1 - fainter) * compact,
            light * fainter * compact.shift(*second),
        ]
    )
    return [Component(whole, galaxy.fluxes, 0.0, 0.0)], [], orientation


def _tidal_tail(galaxy: Galaxy, survey: Survey, rng: np.random.Generator) -> Parts:
    """One or two curved tails of a disk, as blue as its outskirts."""
    size = galaxy.half_light_radius
    light = float(rng.uniform(*TAIL_LIGHT))
    tails, body = share_light(galaxy, light, min(galaxy.spectral_type + 0.3, 3.3))
    parts, knots, orientation = disk_and_bulge(_with_fluxes(galaxy, body), survey, rng)
    curve = Tail(_extent(galaxy) / size, float(rng.choice((-1, 1))) * float(rng.uniform(0.4, 1.3)))
    first = curve.profile().dilate(size)
    angle = float(rng.uniform(0, 2 * np.pi))
    share = float(rng.uniform(0.55, 0.75)) if happens(0.6, rng) else 1.0
    profile = share * first.rotate(angle * galsim.radians)
    if share < 1:
        opposite = angle + np.pi + float(rng.normal(0, 0.4))
        profile = profile + (1 - share) * first.rotate(opposite * galsim.radians)
    return [*parts, Component(profile, tails, 0.0, 0.0)], knots, orientation


def _with_fluxes(galaxy: Galaxy, fluxes: FloatArray) -> Galaxy:
    return replace(galaxy, magnitudes=galaxy.magnitudes - 2.5 * np.log10(fluxes / galaxy.fluxes))


@lru_cache(maxsize=64)
def ring_profile(width_hundredths: int, clumps: int, contrast_tenths: int) -> galsim.GSObject:
    """Ring of unit radius and flux, seen face-on: a Gaussian across, brighter in clumps along it."""
    side, step = 64, 0.05
    y, x = (np.indices((side, side)) - (side - 1) / 2) * step
    across = (np.hypot(x, y) - 1.0) / (width_hundredths / 100)
    along = 1 + contrast_tenths / 10 * np.cos(clumps * np.arctan2(y, x))
    return _image(np.exp(-0.5 * across**2) * along, step)


@dataclass(frozen=True, slots=True)
class Tail:
    """A tail that begins on the right of a galaxy of unit half-light radius and fades outwards.

    Attributes
    ----------
    length : float
        Distance of its end from the nucleus.
    bend : float
        Radians about the nucleus between its ends.
    """

    length: float
    bend: float

    def profile(self) -> galsim.GSObject:
        """Light of unit flux."""
        along = np.linspace(0, 1, 24)
        radius = 0.9 + (self.length - 0.9) * along
        azimuth = self.bend * along**0.8
        width = 0.18 + 0.22 * along
        # Fainter outwards; a wider part is fainter at the same light.
        weight = np.exp(-1.4 * along) / width**2
        step = 0.12
        side = 2 * int(np.ceil((self.length + 1.0) / step))
        y, x = (np.indices((side, side)) - (side - 1) / 2) * step
        light = np.zeros((side, side))
        for r, a, s, w in zip(radius, azimuth, width, weight, strict=True):
            light += w * np.exp(-0.5 * ((x - r * np.cos(a)) ** 2 + (y - r * np.sin(a)) ** 2) / s**2)
        return _image(light, step)


def _image(light: FloatArray, step: float) -> galsim.GSObject:
    return galsim.InterpolatedImage(
        galsim.Image(light, scale=step),
        x_interpolant="linear",
        normalization="flux",
        flux=1.0,
        gsparams=GSPARAMS,
    )
