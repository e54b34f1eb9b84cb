"""Galaxies of each class: disks, bulges, arms, bars, knots of young stars, mergers."""

import galsim
import numpy as np

from broker.alert import Survey
from encoder.simulate.chance import happens
from encoder.simulate.colours import FloatArray, galaxy_magnitudes, magnitude_to_njy
from encoder.simulate.components import Component, PointSource
from encoder.simulate.populations import I_BAND, Galaxy
from encoder.simulate.profiles import Orientation, inclined, sersic, spiral

BLUE_KNOTS = 3.0
"""Spectral type of young stars: the bluest template."""

Parts = tuple[list[Component], list[PointSource], Orientation]


def galaxy_parts(label: str, galaxy: Galaxy, survey: Survey, rng: np.random.Generator) -> Parts:
    """Draw what a galaxy of a class is made of, its nucleus at the origin and before dust."""
    return {"merger": _merger, "edge_on": _edge_on}.get(label, disk_and_bulge)(galaxy, survey, rng)


def share_light(galaxy: Galaxy, share: float, spectral_type: float) -> tuple[FloatArray, FloatArray]:
    """Fluxes of a part with a share of the i-band light and its own spectrum, and of the rest."""
    if share <= 0:
        return np.zeros(6), galaxy.fluxes
    colours = galaxy_magnitudes(spectral_type, min(galaxy.redshift, 3.15))
    part = share * galaxy.fluxes[I_BAND] * magnitude_to_njy(colours) / magnitude_to_njy(colours[I_BAND])
    # A part cannot outshine the whole in any band.
    part = np.minimum(part, 0.97 * galaxy.fluxes)
    return part, galaxy.fluxes - part


def disk_and_bulge(
    galaxy: Galaxy,
    survey: Survey,
    rng: np.random.Generator,
    *,
    arms: bool | None = None,
    flattening: tuple[float, float] = (0.42, 1.0),
) -> Parts:
    """Draw a galaxy of a disk, a bulge or both: arms, a bar and knots where it is resolved.

    Parameters
    ----------
    galaxy : Galaxy
    survey : Survey
    rng : numpy.random.Generator
    arms : bool, optional
        Whether the disk has arms; without them it has no knots either. None: as it happens.
    flattening : tuple of float
        Range of the disk's axis ratio.
    """
    early = galaxy.bulge_fraction > 0.6  # noqa: PLR2004
    ratio = float(rng.uniform(0.55, 1.0) if early else rng.uniform(*flattening))
    orientation = Orientation(ratio, float(rng.uniform(0, np.pi)))
    size = galaxy.half_light_radius
    bulge, disk = share_light(galaxy, galaxy.bulge_fraction, 0.3 * galaxy.spectral_type)
    parts: list[Component] = []
    knots: list[PointSource] = []
    bars: list[galsim.GSObject] = []
    if not early and arms is not False and size > (0.55 if survey is Survey.LSST else 1.5):
        knots, disk = _knots(galaxy, disk, orientation, rng)
        if happens(0.3, rng):  # barred share in the optical (Masters et al. 2011)
            bar = Orientation(0.3, orientation.angle + float(rng.uniform(-0.6, 0.6)))
            bars = [0.18 * bar.place(sersic(0.7), 0.35 * size)]
    profile = orientation.place(_disk_profile(size, survey, rng, arms) if not early else sersic(1.0), size)
    whole = galsim.Sum([0.82 * profile, *bars]) if bars else profile
    parts.append(Component(whole, disk, 0.0, 0.0))
    if bulge.any():
        index = float(rng.choice((2.5, 3.0, 4.0))) if early else float(rng.choice((1.5, 2.5)))
        rounder = Orientation(ratio if early else (ratio + 1) / 2, orientation.angle)
        parts.append(Component(rounder.place(sersic(index), size if early else 0.25 * size), bulge, 0.0, 0.0))
    return parts, knots, orientation


def _disk_profile(
    size: float, survey: Survey, rng: np.random.Generator, arms: bool | None
) -> galsim.GSObject:
    resolved = size > (0.8 if survey is Survey.LSST else 2.2)
    if arms is None:
        arms = resolved and not happens(0.35, rng)
    if not arms:
        return sersic(1.0)
    return spiral(
        int(rng.choice((2, 2, 2, 3, 4))),
        int(rng.choice((14, 18, 22, 28))),
        int(rng.choice((5, 8, 11))),
        int(rng.choice((-1, 1))),
    )


def _edge_on(galaxy: Galaxy, survey: Survey, rng: np.random.Generator) -> Parts:
    del survey
    angle = float(rng.uniform(0, np.pi))
    bulge, disk = share_light(galaxy, 0.6 * galaxy.bulge_fraction, 0.3 * galaxy.spectral_type)
    size = 1.2 * galaxy.half_light_radius
    profile = inclined(int(rng.choice((80, 83, 86, 90))), int(rng.choice((8, 11, 15)))).dilate(size)
    parts = [Component(profile.rotate(angle * galsim.radians), disk, 0.0, 0.0)]
    if bulge.any():
        flat = Orientation(0.7, angle).place(sersic(1.5), 0.22 * size)
        parts.append(Component(flat, bulge, 0.0, 0.0))
    return parts, [], Orientation(0.15, angle)


def _merger(galaxy: Galaxy, survey: Survey, rng: np.random.Generator) -> Parts:
    """Two disturbed galaxies at one redshift, their common envelope, a bridge and knots of young stars."""
    del survey
    share = float(rng.uniform(0.25, 0.5))
    size = galaxy.half_light_radius
    separation = size if galaxy.separation is None else galaxy.separation
    angle = float(rng.uniform(0, 2 * np.pi))
    axis = separation * np.array([np.cos(angle), np.sin(angle)])
    knots, light = _knots(galaxy, galaxy.fluxes, Orientation(0.7, angle), rng)
    # Positions count from the brighter nucleus: the alert's host.
    envelope = Orientation(0.45, angle).place(sersic(1.0), 1.5 * size)
    profiles = [0.25 * envelope.shift(*(share * axis))]
    for part, place in ((1 - share, 0.0 * axis), (share, axis)):
        own = Orientation(float(rng.uniform(0.35, 0.9)), float(rng.uniform(0, np.pi)))
        nucleus = own.place(sersic(float(rng.choice((1.0, 1.5, 2.5)))), 0.6 * size * np.sqrt(part))
        tail = Orientation(0.3, angle + float(rng.uniform(0.8, 2.3)))
        shift = place + 0.8 * size * np.array(tail.on_sky(1.0, 0.0)) * rng.choice((-1, 1))
        profiles.append(0.75 * 0.82 * part * nucleus.shift(*place))
        profiles.append(0.75 * 0.18 * part * tail.place(sersic(0.7), 0.8 * size).shift(*shift))
    return [Component(galsim.Sum(profiles), light, 0.0, 0.0)], knots, Orientation(0.8, angle)


def _knots(
    galaxy: Galaxy, disk: FloatArray, orientation: Orientation, rng: np.random.Generator
) -> tuple[list[PointSource], FloatArray]:
    """Star-forming regions with a share of the disk's light, and what is left of it."""
    share = float(rng.uniform(0.02, 0.12))
    young = galaxy_magnitudes(BLUE_KNOTS, min(galaxy.redshift, 3.15))
    light = np.minimum(
        share * disk[I_BAND] * magnitude_to_njy(young) / magnitude_to_njy(young[I_BAND]), 0.5 * disk
    )
    weights = rng.dirichlet(np.ones(int(rng.integers(3, 10))))
    places = [
        orientation.on_sky(galaxy.half_light_radius * rng.uniform(0.4, 2.0), rng.uniform(0, 2 * np.pi))
        for _ in weights
    ]
    return [PointSource(light * w, x, y) for w, (x, y) in zip(weights, places, strict=True)], disk - light
