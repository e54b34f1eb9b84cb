"""What stands around an alert's position: its host or star, and the field."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from broker.alert import Survey
from encoder.kept_out import ANOMALIES
from encoder.simulate.anomalies import anomaly_parts, draw_anomaly
from encoder.simulate.chance import happens
from encoder.simulate.colours import FloatArray, redden
from encoder.simulate.components import Component, PointSource, Scene
from encoder.simulate.field import draw_field, star_fluxes
from encoder.simulate.galaxies import galaxy_parts
from encoder.simulate.populations import (
    GALAXIES,
    REFERENCE_BAND,
    Galaxy,
    draw_galaxy,
    host_magnitude,
    star_magnitude,
)
from encoder.simulate.profiles import Orientation

MEAN_EBV = {Survey.LSST: 0.04, Survey.ZTF: 0.08}
"""Exponential means, cut at 0.5: Rubin avoids the plane, ZTF does not."""

REACH = {Survey.LSST: 2.4, Survey.ZTF: 12.0}
"""Arcsec: farther from a nucleus no host is told from the stamp, and no part of an anomaly is in it."""

HOST_DRAWS = 60
"""Attempts to find an acceptable host."""

RARE_DRAWS = 10
"""Times as many for anomalies: few ellipticals bend light by more than the seeing."""

RARE_LIGHT, RARE_PARTED = 0.3, 1.5
"""What makes an anomaly has about so much of its light, and is told beside the nucleus only so many times farther
away than two equal nuclei are told from each other."""

NUCLEAR_SHARE = 0.35
"""Of alerts on galaxies: active nuclei and tidal disruptions; the rest follow the host's light."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A host or star of which is asked whether it may stand at the alert.

    Attributes
    ----------
    fluxes : FloatArray, shape (6,)
        Total, behind dust.
    size : float
        Half-light radius in arcsec; zero for a star.
    separation : float or None
        What tells its class, arcsec (`Galaxy`); None where its size does.
    """

    fluxes: FloatArray
    size: float = 0.0
    separation: float | None = None


Accept = Callable[[Candidate], bool]


def anything(candidate: Candidate) -> bool:
    """Accept every host and star."""
    del candidate
    return True


def draw_scene(
    label: str,
    survey: Survey,
    rng: np.random.Generator,
    accept: Accept = anything,
) -> Scene:
    """Draw the static sky around an alert of one class (not ``bogus``: see `bogus_scene`).

    Parameters
    ----------
    label : str
    survey : Survey
    rng : numpy.random.Generator
    accept : callable
        Whether a host or star may stand there: they are drawn until one is accepted, or `HOST_DRAWS` times.
    """
    ebv = float(min(rng.exponential(MEAN_EBV[survey]), 0.5))
    if label in GALAXIES or label in ANOMALIES:
        galaxy = _host(label, survey, ebv, accept, rng)
        return _galaxy_scene(label, galaxy, survey, ebv, rng)
    extended, points = draw_field(survey, ebv, 3.0 if label == "transient" else 1.8, rng)
    if label == "transient":
        return Scene(label, survey, np.nan, ebv, extended, points)
    for _ in range(HOST_DRAWS):
        fluxes = star_fluxes(star_magnitude(survey, rng), survey, ebv, rng)
        if accept(Candidate(fluxes)):
            break
    star = PointSource(fluxes, 0.0, 0.0)
    return Scene(
        label, survey, np.nan, ebv, extended, (star, *points), fluxes, host_offset=(0.0, 0.0), nuclear=True
    )


def bogus_scene(survey: Survey, bright: bool, rng: np.random.Generator) -> Scene:
    """Draw what happens to stand where an artefact appears: a star, a galaxy or nothing."""
    kinds = ("star", "disk", "bulge", "transient")
    chances = (0.7, 0.15, 0.15, 0.0) if bright else (0.25, 0.15, 0.1, 0.5)
    scene = draw_scene(str(rng.choice(kinds, p=chances)), survey, rng)
    return replace(scene, label="bogus", redshift=np.nan)


def hidden(scene: Scene) -> Scene:
    """Call a galaxy's alert hostless: the host is too faint to be seen, its redshift nobody's to know."""
    return replace(scene, label="transient", redshift=np.nan)


def _host(
    label: str,
    survey: Survey,
    ebv: float,
    accept: Accept,
    rng: np.random.Generator,
) -> Galaxy:
    rare = label in ANOMALIES
    draw = draw_anomaly if rare else draw_galaxy
    for _ in range(HOST_DRAWS * RARE_DRAWS if rare else HOST_DRAWS):
        galaxy = draw(label, host_magnitude(survey, rng), REFERENCE_BAND[survey], rng)
        fluxes = redden(galaxy.fluxes, ebv, survey)
        if accept(as_candidate(label, galaxy, fluxes)) and (not rare or is_within(galaxy, REACH[survey])):
            break
    return galaxy


def as_candidate(label: str, galaxy: Galaxy, fluxes: FloatArray) -> Candidate:
    """Say what must be seen of a galaxy with such fluxes behind dust: of an anomaly, what makes it one."""
    if label not in ANOMALIES or galaxy.separation is None:
        return Candidate(fluxes, galaxy.half_light_radius, galaxy.separation)
    parted = 1.0 if label == "double_nucleus" else RARE_PARTED
    return Candidate(RARE_LIGHT * fluxes, galaxy.half_light_radius, galaxy.separation / parted)


def is_within(galaxy: Galaxy, reach: float) -> bool:
    """Whether what tells a galaxy's class is no farther than a reach in arcsec from its nucleus."""
    return galaxy.separation is None or galaxy.separation < reach


def _galaxy_scene(label: str, galaxy: Galaxy, survey: Survey, ebv: float, rng: np.random.Generator) -> Scene:
    parts = anomaly_parts if label in ANOMALIES else galaxy_parts
    extended, points, orientation = parts(label, galaxy, survey, rng)
    nuclear = happens(NUCLEAR_SHARE, rng)
    dx, dy = (0.0, 0.0) if nuclear else _offset(galaxy, orientation, REACH[survey], rng)
    fluxes = redden(galaxy.fluxes, ebv, survey)
    host = tuple(Component(c.profile, redden(c.fluxes, ebv, survey), c.x + dx, c.y + dy) for c in extended)
    knots = tuple(PointSource(redden(p.fluxes, ebv, survey), p.x + dx, p.y + dy) for p in points)
    others, stars = draw_field(survey, ebv, 1.8, rng)
    return Scene(
        label=label,
        survey=survey,
        redshift=galaxy.redshift,
        ebv=ebv,
        extended=host + others,
        points=knots + stars,
        host_fluxes=fluxes,
        host_size=galaxy.half_light_radius,
        host_offset=(dx, dy),
        nuclear=nuclear,
    )


def _offset(
    galaxy: Galaxy, orientation: Orientation, reach: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Nucleus as seen from a transient that follows an exponential disk's light."""
    for _ in range(20):
        radius = galaxy.half_light_radius / 1.678 * rng.gamma(2.0)
        x, y = orientation.on_sky(radius, rng.uniform(0, 2 * np.pi))
        if np.hypot(x, y) < min(reach, 2.5 * galaxy.half_light_radius):
            return -x, -y
    return 0.0, 0.0
