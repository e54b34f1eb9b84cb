"""What stands around an alert's position: its host or star, and the field.

Positions are in arcsec from the alert's position, x along columns and y along rows; fluxes are in nJy per
band, already behind Galactic dust.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache

import galsim
import numpy as np

from broker.alert import Survey
from encoder.simulate.chance import happens
from encoder.simulate.colours import FloatArray, galaxy_magnitudes, magnitude_to_njy, redden, star_colours
from encoder.simulate.optics import GSPARAMS
from encoder.simulate.populations import (
    GALAXIES,
    I_BAND,
    REFERENCE_BAND,
    Galaxy,
    draw_galaxy,
    host_magnitude,
    star_magnitude,
)

FIELD_HALF_SIDE = {Survey.LSST: 7.0, Survey.ZTF: 33.0}
"""Arcsec; neighbours are strewn over a square of this half side."""

LSST_FIELD_GALAXIES = 0.011
"""Per square arcsec to i = 25 (40 per square arcmin; LSST Science Book, section 3.7)."""

MEAN_EBV = {Survey.LSST: 0.04, Survey.ZTF: 0.08}
"""Exponential means, cut at 0.5: Rubin avoids the plane, ZTF does not."""

REACH = {Survey.LSST: 2.4, Survey.ZTF: 12.0}
"""Arcsec: farther from a nucleus no host is told from the stamp."""

HOST_DRAWS = 60
"""Attempts to find an acceptable host."""

BLUE_KNOTS = 3.0
NUCLEAR_SHARE = 0.35
"""Of alerts on galaxies: active nuclei and tidal disruptions; the rest follow the host's light."""


@dataclass(frozen=True, slots=True)
class Component:
    """Extended light: a profile of unit flux centred at (x, y), and its fluxes (6,)."""

    profile: galsim.GSObject
    fluxes: FloatArray
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class PointSource:
    """A star or a knot at (x, y) with fluxes (6,)."""

    fluxes: FloatArray
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Scene:
    """The static sky around one object.

    Attributes
    ----------
    label : str
    survey : Survey
    redshift : float
        Of the host; NaN without one.
    ebv : float
    extended : tuple of Component
    points : tuple of PointSource
        The object itself first, where it is a star.
    host_fluxes : FloatArray, shape (6,)
        Total light of host or star; zero without one.
    host_size : float
        Half-light radius in arcsec; zero for a star.
    host_offset : tuple of float
        Where the host's nucleus stands.
    nuclear : bool
        Whether the alert stands on it.
    """

    label: str
    survey: Survey
    redshift: float
    ebv: float
    extended: tuple[Component, ...]
    points: tuple[PointSource, ...]
    host_fluxes: FloatArray = field(default_factory=lambda: np.zeros(6))
    host_size: float = 0.0
    host_offset: tuple[float, float] = (np.nan, np.nan)
    nuclear: bool = False


@dataclass(frozen=True, slots=True)
class _Orientation:
    axis_ratio: float
    angle: float

    def place(self, profile: galsim.GSObject, half_light_radius: float) -> galsim.GSObject:
        """Scale a unit profile to a half-light radius along the major axis, flatten and turn it."""
        scaled = profile.dilate(half_light_radius * np.sqrt(self.axis_ratio))
        return scaled.shear(q=self.axis_ratio, beta=self.angle * galsim.radians)

    def on_sky(self, radius: float, azimuth: float) -> tuple[float, float]:
        """Position in the plane of the disk, projected."""
        u, v = radius * np.cos(azimuth), self.axis_ratio * radius * np.sin(azimuth)
        c, s = np.cos(self.angle), np.sin(self.angle)
        return float(c * u - s * v), float(s * u + c * v)


@lru_cache(maxsize=16)
def _sersic(index: float) -> galsim.GSObject:
    if index == 1.0:
        return galsim.Exponential(half_light_radius=1.0, gsparams=GSPARAMS)
    # As SDSS does, light ends at a few half-light radii: real galaxies have no infinite wings.
    return galsim.Sersic(n=index, half_light_radius=1.0, trunc=6.0, gsparams=GSPARAMS)


@lru_cache(maxsize=64)
def _inclined(inclination_degrees: int, thickness_hundredths: int) -> galsim.GSObject:
    return galsim.InclinedExponential(
        inclination=inclination_degrees * galsim.degrees,
        half_light_radius=1.0,
        scale_h_over_r=thickness_hundredths / 100,
        gsparams=GSPARAMS,
    )


@lru_cache(maxsize=64)
def _spiral(arms: int, pitch_degrees: int, contrast_tenths: int, handed: int) -> galsim.GSObject:
    """Exponential disk of unit half-light radius with logarithmic arms, seen face-on."""
    side, step = 72, 0.11
    y, x = (np.indices((side, side)) - (side - 1) / 2) * step
    radius = np.hypot(x, y) + 1e-3
    winding = np.log(radius) / np.tan(np.radians(pitch_degrees))
    ridge = np.cos(arms * (handed * np.arctan2(y, x) - winding))
    # Arms set in outside the bulge and are narrower than the gaps between them.
    wave = contrast_tenths / 10 * (1 - np.exp(-((radius / 0.5) ** 2))) * (np.exp(1.2 * (ridge - 1)) * 2 - 0.9)
    light = np.exp(-1.678 * radius) * np.clip(1 + wave, 0.05, None)
    return galsim.InterpolatedImage(
        galsim.Image(light.astype(np.float64), scale=step),
        x_interpolant="linear",
        normalization="flux",
        flux=1.0,
        gsparams=GSPARAMS,
    )


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
        Of a merger's nuclei, arcsec; None where there is one nucleus.
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
    if label in GALAXIES:
        galaxy = _host(label, survey, ebv, accept, rng)
        return _galaxy_scene(label, galaxy, survey, ebv, rng)
    extended, points = _field(survey, ebv, 3.0 if label == "transient" else 1.8, rng)
    if label == "transient":
        return Scene(label, survey, np.nan, ebv, extended, points)
    for _ in range(HOST_DRAWS):
        fluxes = _star_fluxes(star_magnitude(survey, rng), survey, ebv, rng)
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
    for _ in range(HOST_DRAWS):
        galaxy = draw_galaxy(label, host_magnitude(survey, rng), REFERENCE_BAND[survey], rng)
        fluxes = redden(galaxy.fluxes, ebv, survey)
        if accept(Candidate(fluxes, galaxy.half_light_radius, galaxy.separation)):
            break
    return galaxy


def _galaxy_scene(label: str, galaxy: Galaxy, survey: Survey, ebv: float, rng: np.random.Generator) -> Scene:
    build = {"merger": _merger, "edge_on": _edge_on}.get(label, _disk_and_bulge)
    extended, points, orientation = build(galaxy, survey, rng)
    nuclear = happens(NUCLEAR_SHARE, rng)
    dx, dy = (0.0, 0.0) if nuclear else _offset(galaxy, orientation, REACH[survey], rng)
    fluxes = redden(galaxy.fluxes, ebv, survey)
    host = tuple(Component(c.profile, redden(c.fluxes, ebv, survey), c.x + dx, c.y + dy) for c in extended)
    knots = tuple(PointSource(redden(p.fluxes, ebv, survey), p.x + dx, p.y + dy) for p in points)
    others, stars = _field(survey, ebv, 1.8, rng)
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
    galaxy: Galaxy, orientation: _Orientation, reach: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Nucleus as seen from a transient that follows an exponential disk's light."""
    for _ in range(20):
        radius = galaxy.half_light_radius / 1.678 * rng.gamma(2.0)
        x, y = orientation.on_sky(radius, rng.uniform(0, 2 * np.pi))
        if np.hypot(x, y) < min(reach, 2.5 * galaxy.half_light_radius):
            return -x, -y
    return 0.0, 0.0


def _split(galaxy: Galaxy, share: float, spectral_type: float) -> tuple[FloatArray, FloatArray]:
    """Fluxes of a part with a share of the i-band light and its own spectrum, and of the rest."""
    if share <= 0:
        return np.zeros(6), galaxy.fluxes
    colours = galaxy_magnitudes(spectral_type, min(galaxy.redshift, 3.15))
    part = share * galaxy.fluxes[I_BAND] * magnitude_to_njy(colours) / magnitude_to_njy(colours[I_BAND])
    # A part cannot outshine the whole in any band.
    part = np.minimum(part, 0.97 * galaxy.fluxes)
    return part, galaxy.fluxes - part


Parts = tuple[list[Component], list[PointSource], _Orientation]


def _disk_and_bulge(galaxy: Galaxy, survey: Survey, rng: np.random.Generator) -> Parts:
    early = galaxy.bulge_fraction > 0.6  # noqa: PLR2004
    ratio = float(rng.uniform(0.55, 1.0) if early else rng.uniform(0.42, 1.0))
    orientation = _Orientation(ratio, float(rng.uniform(0, np.pi)))
    size = galaxy.half_light_radius
    bulge, disk = _split(galaxy, galaxy.bulge_fraction, 0.3 * galaxy.spectral_type)
    parts: list[Component] = []
    knots: list[PointSource] = []
    bars: list[galsim.GSObject] = []
    if not early and size > (0.55 if survey is Survey.LSST else 1.5):
        knots, disk = _knots(galaxy, disk, orientation, rng)
        if happens(0.3, rng):  # barred share in the optical (Masters et al. 2011)
            bar = _Orientation(0.3, orientation.angle + float(rng.uniform(-0.6, 0.6)))
            bars = [0.18 * bar.place(_sersic(0.7), 0.35 * size)]
    profile = orientation.place(_disk_profile(size, survey, rng) if not early else _sersic(1.0), size)
    whole = galsim.Sum([0.82 * profile, *bars]) if bars else profile
    parts.append(Component(whole, disk, 0.0, 0.0))
    if bulge.any():
        index = float(rng.choice((2.5, 3.0, 4.0))) if early else float(rng.choice((1.5, 2.5)))
        rounder = _Orientation(ratio if early else (ratio + 1) / 2, orientation.angle)
        parts.append(
            Component(rounder.place(_sersic(index), size if early else 0.25 * size), bulge, 0.0, 0.0)
        )
    return parts, knots, orientation


def _disk_profile(size: float, survey: Survey, rng: np.random.Generator) -> galsim.GSObject:
    resolved = size > (0.8 if survey is Survey.LSST else 2.2)
    if not resolved or happens(0.35, rng):
        return _sersic(1.0)
    return _spiral(
        int(rng.choice((2, 2, 2, 3, 4))),
        int(rng.choice((14, 18, 22, 28))),
        int(rng.choice((5, 8, 11))),
        int(rng.choice((-1, 1))),
    )


def _edge_on(galaxy: Galaxy, survey: Survey, rng: np.random.Generator) -> Parts:
    del survey
    angle = float(rng.uniform(0, np.pi))
    bulge, disk = _split(galaxy, 0.6 * galaxy.bulge_fraction, 0.3 * galaxy.spectral_type)
    size = 1.2 * galaxy.half_light_radius
    profile = _inclined(int(rng.choice((80, 83, 86, 90))), int(rng.choice((8, 11, 15)))).dilate(size)
    parts = [Component(profile.rotate(angle * galsim.radians), disk, 0.0, 0.0)]
    if bulge.any():
        flat = _Orientation(0.7, angle).place(_sersic(1.5), 0.22 * size)
        parts.append(Component(flat, bulge, 0.0, 0.0))
    return parts, [], _Orientation(0.15, angle)


def _merger(galaxy: Galaxy, survey: Survey, rng: np.random.Generator) -> Parts:
    """Two disturbed galaxies at one redshift, their common envelope, a bridge and knots of young stars."""
    del survey
    share = float(rng.uniform(0.25, 0.5))
    size = galaxy.half_light_radius
    separation = size if galaxy.separation is None else galaxy.separation
    angle = float(rng.uniform(0, 2 * np.pi))
    axis = separation * np.array([np.cos(angle), np.sin(angle)])
    knots, light = _knots(galaxy, galaxy.fluxes, _Orientation(0.7, angle), rng)
    # Positions count from the brighter nucleus: the alert's host.
    envelope = _Orientation(0.45, angle).place(_sersic(1.0), 1.5 * size)
    profiles = [0.25 * envelope.shift(*(share * axis))]
    for part, place in ((1 - share, 0.0 * axis), (share, axis)):
        own = _Orientation(float(rng.uniform(0.35, 0.9)), float(rng.uniform(0, np.pi)))
        nucleus = own.place(_sersic(float(rng.choice((1.0, 1.5, 2.5)))), 0.6 * size * np.sqrt(part))
        tail = _Orientation(0.3, angle + float(rng.uniform(0.8, 2.3)))
        shift = place + 0.8 * size * np.array(tail.on_sky(1.0, 0.0)) * rng.choice((-1, 1))
        profiles.append(0.75 * 0.82 * part * nucleus.shift(*place))
        profiles.append(0.75 * 0.18 * part * tail.place(_sersic(0.7), 0.8 * size).shift(*shift))
    return [Component(galsim.Sum(profiles), light, 0.0, 0.0)], knots, _Orientation(0.8, angle)


def _knots(
    galaxy: Galaxy, disk: FloatArray, orientation: _Orientation, rng: np.random.Generator
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


def _star_fluxes(magnitude: float, survey: Survey, ebv: float, rng: np.random.Generator) -> FloatArray:
    # Disk and halo dwarfs: a blue peak at the turnoff and a red one of M dwarfs.
    blue = happens(0.55, rng)
    colour = float(np.clip(rng.normal(0.15, 0.08) if blue else rng.normal(0.9, 0.4), -0.1, 2.0))
    magnitudes = star_colours(colour)
    return redden(magnitude_to_njy(magnitudes - magnitudes[REFERENCE_BAND[survey]] + magnitude), ebv, survey)


def _field(
    survey: Survey, ebv: float, clear: float, rng: np.random.Generator
) -> tuple[tuple[Component, ...], tuple[PointSource, ...]]:
    """Neighbours, none within `clear` of the alert (in seeing discs of one arcsec for Rubin, two for ZTF)."""
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
            _star_fluxes(_counts(bright, faint, 0.22, rng), survey, ebv, rng), *_place(half, clear, rng)
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
    orientation = _Orientation(float(rng.uniform(0.3, 1.0)), float(rng.uniform(0, np.pi)))
    profile = orientation.place(_sersic(1.0), galaxy.half_light_radius)
    return Component(profile, redden(galaxy.fluxes, ebv, survey), *place)
