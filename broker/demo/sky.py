"""What stands in the demonstration's sky: hosts, stars, empty places, artefacts and a few rarities.

Spectra, sizes and counts are drawn by hand from textbook shapes, so that colours follow redshift and
faint galaxies are small and far; they are not the populations that the model was trained on.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from broker.alert import BANDS, Survey
from broker.demo import optics
from broker.demo.optics import Canvas, Ellipse, FloatArray

KINDS = ("disk", "bulge", "edge_on", "merger", "star", "transient", "bogus")
"""What alerts are drawn as; the words of the model's classes."""

RARITIES = ("ring", "lens_arc", "lens_quad")
"""Drawn a few times each, and no class of the model: a ring galaxy, an arc and a lensed quasar."""

AB_ZERO_POINT_NJY = 31.4
WAVELENGTH = np.array([367.0, 483.0, 622.0, 755.0, 869.0, 971.0])
"""Effective wavelengths of Rubin's bands in nm, in the order of BANDS."""

REST = np.array([150.0, 250.0, 350.0, 390.0, 420.0, 550.0, 650.0, 800.0, 1000.0, 1300.0])
SPECTRA = {
    "early": np.array([0.015, 0.03, 0.16, 0.22, 0.50, 1.0, 1.35, 1.75, 2.1, 2.4]),
    "spiral": np.array([0.12, 0.17, 0.35, 0.42, 0.62, 1.0, 1.2, 1.45, 1.6, 1.8]),
    "late": np.array([0.35, 0.42, 0.58, 0.65, 0.80, 1.0, 1.1, 1.2, 1.3, 1.4]),
    "irregular": np.array([0.85, 0.80, 0.82, 0.90, 1.0, 1.0, 0.98, 0.95, 0.95, 0.95]),
}
"""f_nu at rest-frame wavelengths in nm, 1 at 550: by eye from Coleman, Wu & Weedman 1980 (ApJS 43, 393)."""

TYPES = {
    "disk": ("spiral", "late"),
    "bulge": ("early",),
    "edge_on": ("spiral", "late"),
    "merger": ("late", "irregular"),
    "ring": ("spiral",),
    "lens_arc": ("early",),
    "lens_quad": ("early",),
}

REDSHIFT = {Survey.LSST: (2.5, 0.14, 1.2), Survey.ZTF: (2.2, 0.035, 0.25)}
"""Shape and scale of a gamma distribution of host redshifts, and where it is cut."""

MAGNITUDES = {Survey.LSST: (17.5, 23.8), Survey.ZTF: (14.0, 20.3)}
"""AB magnitudes of hosts in r; others are drawn again."""

STAR_MAGNITUDES = {Survey.LSST: (17.0, 22.5), Survey.ZTF: (14.0, 19.5)}

HUBBLE_MPC = 299_792.458 / 70.0
DECELERATION = -0.55
"""Of a flat universe with a matter share of 0.3; distances are second order in z, good to 1 % below 1.2."""

YOUNG = "irregular"
"""Spectrum of knots, rings and arcs."""

NUCLEAR_SHARE = 0.35
"""Of alerts on galaxies, those on the nucleus itself."""

LARGEST_OFFSET = {Survey.LSST: 2.2, Survey.ZTF: 10.0}
"""Arcsec from the nucleus, so that the host is in the stamp."""

EINSTEIN_RADIUS = {Survey.LSST: 1.3, Survey.ZTF: 5.0}
"""Arcsec; ZTF's are larger than any galaxy's, or its pixels could not show them."""

QUAD_IMAGES = ((0.0, 1.0, 0.5), (1.2, 0.95, 0.45), (2.9, 0.85, 0.3), (4.6, 0.9, 0.25))
"""Azimuth from the brightest image in radians, Einstein radii from the lens, flux per flux of the lens."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Light of one spectrum: an image of unit flux on the fine grid and fluxes in nJy, shape (6,)."""

    image: FloatArray
    fluxes: FloatArray


@dataclass(frozen=True, slots=True)
class Point:
    """A point source at (x, y) arcsec from the alert with fluxes in nJy, shape (6,)."""

    x: float
    y: float
    fluxes: FloatArray


@dataclass(frozen=True, slots=True)
class Scene:
    """The sky that does not change.

    Attributes
    ----------
    kind : str
        One of `KINDS` or `RARITIES`.
    redshift : float or None
        Of the host.
    layers : tuple of Layer
    points : tuple of Point
        The alert's own star first, where it is one.
    host_fluxes : FloatArray, shape (6,)
        Total light of host or star in nJy; zero without one.
    host_offset : tuple of float
        Arcsec from the alert.
    """

    kind: str
    redshift: float | None = None
    layers: tuple[Layer, ...] = ()
    points: tuple[Point, ...] = ()
    host_fluxes: FloatArray = field(default_factory=lambda: np.zeros(len(BANDS)))
    host_offset: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class _Galaxy:
    kind: str
    spectrum: str
    redshift: float
    fluxes: FloatArray
    size: float
    where: Ellipse


def draw_scene(kind: str, survey: Survey, canvas: Canvas, rng: np.random.Generator) -> Scene:
    """Draw the sky around an alert.

    Parameters
    ----------
    kind : str
        One of `KINDS` or `RARITIES`; ``bogus`` and ``transient`` have neighbours only.
    survey : Survey
    canvas : Canvas
    rng : numpy.random.Generator

    Returns
    -------
    Scene
    """
    neighbours, stars = _field(survey, canvas, rng)
    if kind in TYPES:
        galaxy = _draw_galaxy(kind, survey, rng)
        layers, points = _BUILDERS[kind](galaxy, canvas, rng)
        centre = (galaxy.where.x, galaxy.where.y)
        total = np.sum([layer.fluxes for layer in layers] + [point.fluxes for point in points], axis=0)
        return Scene(kind, galaxy.redshift, (*layers, *neighbours), (*points, *stars), total, centre)
    if kind == "star":
        fluxes = _star_fluxes(float(rng.uniform(*STAR_MAGNITUDES[survey])), rng)
        return Scene(kind, None, tuple(neighbours), (Point(0.0, 0.0, fluxes), *stars), fluxes)
    return Scene(kind, None, tuple(neighbours), tuple(stars))


def flux(magnitude: FloatArray | float) -> FloatArray:
    """Flux in nJy of an AB magnitude."""
    return np.asarray(10.0 ** (0.4 * (AB_ZERO_POINT_NJY - np.asarray(magnitude))))


def galaxy_spectrum(spectrum: str, redshift: float) -> FloatArray:
    """Relative f_nu in the six bands, 1 in r."""
    rest = WAVELENGTH / (1 + redshift)
    observed = np.exp(np.interp(np.log(rest), np.log(REST), np.log(SPECTRA[spectrum])))
    return np.asarray(observed / observed[BANDS.index("r")])


def _comoving_mpc(redshift: float) -> float:
    jerk_term = 1 - (1 + DECELERATION) / 2 * redshift
    return HUBBLE_MPC * redshift * max(jerk_term, 0.5)


def _draw_galaxy(kind: str, survey: Survey, rng: np.random.Generator) -> _Galaxy:
    """Draw redshift and luminosity until the survey would see it, then the shape that goes with them."""
    shape, scale, last = REDSHIFT[survey]
    low, high = MAGNITUDES[survey]
    spectrum = str(rng.choice(TYPES[kind]))
    while True:
        redshift = float(np.clip(rng.gamma(shape, scale), 0.012, last))
        absolute = float(rng.normal(-19.8 if spectrum == "late" and kind != "merger" else -20.8, 0.9))
        modulus = 5 * np.log10(_comoving_mpc(redshift) * (1 + redshift)) + 25
        rest_r = np.exp(
            np.interp(np.log(WAVELENGTH[2] / (1 + redshift)), np.log(REST), np.log(SPECTRA[spectrum]))
        )
        magnitude = absolute + modulus - 2.5 * np.log10((1 + redshift) * rest_r / 1.15)
        if low < magnitude < high:
            break
    kpc_per_arcsec = _comoving_mpc(redshift) / (1 + redshift) * np.pi / 648.0
    kpc = 10 ** (0.62 - 0.12 * (absolute + 20.8) + rng.normal(0, 0.12)) * (1 + redshift) ** -0.75
    size = float(np.clip(kpc / kpc_per_arcsec, 0.15, 12.0))
    ratio = float(rng.uniform(0.45, 1.0) if kind in ("disk", "ring") else rng.uniform(0.65, 1.0))
    angle, azimuth = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    ratio = 0.14 if kind == "edge_on" else ratio
    radius = _offset(kind, size, survey, rng)
    dx, dy = Ellipse(0.0, 0.0, ratio, angle).on_sky(radius, azimuth)
    fluxes = galaxy_spectrum(spectrum, redshift) * flux(magnitude)
    return _Galaxy(kind, spectrum, redshift, fluxes, size, Ellipse(-dx, -dy, ratio, float(angle)))


def _offset(kind: str, size: float, survey: Survey, rng: np.random.Generator) -> float:
    """Distance of the alert from the nucleus in arcsec: supernovae follow the light of the disk."""
    if kind == "lens_quad":
        return EINSTEIN_RADIUS[survey]
    if kind in RARITIES or rng.uniform() < NUCLEAR_SHARE:
        return 0.0
    return float(min(size / optics.EXPONENTIAL_B * rng.gamma(2.0), LARGEST_OFFSET[survey]))


Parts = tuple[list[Layer], list[Point]]


def _disk(galaxy: _Galaxy, canvas: Canvas, rng: np.random.Generator) -> Parts:
    pitch = float(np.radians(rng.uniform(14, 28))) * float(rng.choice((-1, 1)))
    disk = optics.spiral(
        canvas,
        galaxy.where,
        galaxy.size,
        arms=int(rng.choice((2, 2, 3))),
        pitch=pitch,
        contrast=rng.uniform(0.4, 1.1),
    )
    share = float(rng.uniform(0.05, 0.35)) if galaxy.spectrum == "spiral" else float(rng.uniform(0.0, 0.1))
    core = Ellipse(galaxy.where.x, galaxy.where.y, (1 + galaxy.where.axis_ratio) / 2, galaxy.where.angle)
    bulge = optics.de_vaucouleurs(canvas, core, 0.25 * galaxy.size)
    old, rest = _old_part(galaxy, share)
    return [Layer(disk, rest), Layer(bulge, old)], _knots(galaxy, rng)


def _bulge(galaxy: _Galaxy, canvas: Canvas, rng: np.random.Generator) -> Parts:
    del rng
    return [Layer(optics.de_vaucouleurs(canvas, galaxy.where, galaxy.size), galaxy.fluxes)], []


def _edge_on(galaxy: _Galaxy, canvas: Canvas, rng: np.random.Generator) -> Parts:
    disk = optics.edge_on(canvas, galaxy.where, 1.2 * galaxy.size, float(rng.uniform(0.08, 0.16)))
    old, rest = _old_part(galaxy, float(rng.uniform(0.02, 0.2)))
    core = Ellipse(galaxy.where.x, galaxy.where.y, 0.65, galaxy.where.angle)
    return [Layer(disk, rest), Layer(optics.exponential(canvas, core, 0.25 * galaxy.size), old)], []


def _merger(galaxy: _Galaxy, canvas: Canvas, rng: np.random.Generator) -> Parts:
    """Two disturbed disks, the envelope they share, a tail each and knots of young stars."""
    first = galaxy.where
    apart = galaxy.size * float(rng.uniform(1.0, 2.0))
    angle = float(rng.uniform(0, 2 * np.pi))
    x, y = first.x + apart * np.cos(angle), first.y + apart * np.sin(angle)
    envelope = Ellipse((first.x + x) / 2, (first.y + y) / 2, 0.5, angle)
    share = float(rng.uniform(0.3, 0.5))
    layers = [Layer(optics.exponential(canvas, envelope, 1.4 * galaxy.size), 0.25 * galaxy.fluxes)]
    for part, px, py in ((1 - share, first.x, first.y), (share, x, y)):
        own = Ellipse(px, py, float(rng.uniform(0.4, 0.9)), float(rng.uniform(0, np.pi)))
        tail = Ellipse(px, py, 0.8, angle + float(rng.uniform(0.8, 2.3)))
        body = optics.exponential(canvas, own, 0.5 * galaxy.size * part**0.5)
        swept = optics.arc(canvas, tail, 1.1 * galaxy.size, 0.2 * galaxy.size, 0.7)
        layers += [Layer(body, 0.6 * part * galaxy.fluxes), Layer(swept, 0.15 * part * galaxy.fluxes)]
    return layers, _knots(galaxy, rng)


def _ring(galaxy: _Galaxy, canvas: Canvas, rng: np.random.Generator) -> Parts:
    """Draw an old core and a detached young ring, as in Hoag's object."""
    old, _ = _old_part(galaxy, 0.4)
    core = optics.de_vaucouleurs(canvas, galaxy.where, 0.3 * galaxy.size)
    radius = max(1.3 * galaxy.size, 6 * canvas.pixel_scale)
    young = optics.ring(canvas, galaxy.where, radius, 0.1 * radius)
    blue = galaxy_spectrum(YOUNG, galaxy.redshift) * galaxy.fluxes[2] * float(rng.uniform(0.6, 0.9))
    return [Layer(core, old), Layer(young, blue)], []


def _lens_arc(galaxy: _Galaxy, canvas: Canvas, rng: np.random.Generator) -> Parts:
    """Draw an early-type lens, a long blue arc of a galaxy behind it and the counter-image."""
    layers, _ = _bulge(galaxy, canvas, rng)
    radius = max(1.6, 5 * canvas.pixel_scale)
    angle = float(rng.uniform(0, 2 * np.pi))
    light = galaxy_spectrum(YOUNG, 1.5) * galaxy.fluxes[2]
    for turn, share, half_angle in ((0.0, 0.6, 0.75), (np.pi, 0.15, 0.25)):
        where = Ellipse(galaxy.where.x, galaxy.where.y, 1.0, angle + turn)
        image = optics.arc(canvas, where, radius * (1.0 - 0.1 * bool(turn)), 0.12 * radius, half_angle)
        layers.append(Layer(image, share * light))
    return layers, []


def _lens_quad(galaxy: _Galaxy, canvas: Canvas, rng: np.random.Generator) -> Parts:
    """Draw an early-type lens and four images of a blue quasar; the brightest is the one that varies."""
    layers, _ = _bulge(galaxy, canvas, rng)
    radius = float(np.hypot(galaxy.where.x, galaxy.where.y))
    towards_alert = float(np.arctan2(-galaxy.where.y, -galaxy.where.x))
    light = np.ones(len(BANDS)) * galaxy.fluxes[2]
    points = [
        Point(
            galaxy.where.x + radius * reach * float(np.cos(towards_alert + turn)),
            galaxy.where.y + radius * reach * float(np.sin(towards_alert + turn)),
            share * light,
        )
        for turn, reach, share in QUAD_IMAGES
    ]
    return layers, points


_BUILDERS: dict[str, Callable[[_Galaxy, Canvas, np.random.Generator], Parts]] = {
    "disk": _disk,
    "bulge": _bulge,
    "edge_on": _edge_on,
    "merger": _merger,
    "ring": _ring,
    "lens_arc": _lens_arc,
    "lens_quad": _lens_quad,
}


def _old_part(galaxy: _Galaxy, share: float) -> tuple[FloatArray, FloatArray]:
    """Fluxes of an old population with a share of the r light, and of the rest."""
    old = np.minimum(
        share * galaxy.fluxes[2] * galaxy_spectrum("early", galaxy.redshift), 0.95 * galaxy.fluxes
    )
    return old, galaxy.fluxes - old


def _knots(galaxy: _Galaxy, rng: np.random.Generator) -> list[Point]:
    light = 0.06 * galaxy.fluxes[2] * galaxy_spectrum(YOUNG, galaxy.redshift)
    weights = rng.dirichlet(np.ones(5))
    places = [
        galaxy.where.on_sky(galaxy.size * rng.uniform(0.5, 1.8), rng.uniform(0, 2 * np.pi)) for _ in weights
    ]
    return [Point(x, y, weight * light) for weight, (x, y) in zip(weights, places, strict=True)]


def _star_fluxes(magnitude: float, rng: np.random.Generator) -> FloatArray:
    """Draw a black body's light through the bands, 3,300 to 9,000 K."""
    kelvin = float(np.exp(rng.uniform(np.log(3300), np.log(9000))))
    x = 1.4388e7 / (WAVELENGTH * kelvin)
    light = WAVELENGTH**-3.0 / np.expm1(x)
    return np.asarray(flux(magnitude) * light / light[BANDS.index("r")])


def _field(survey: Survey, canvas: Canvas, rng: np.random.Generator) -> tuple[list[Layer], list[Point]]:
    """Neighbours none of which stands on the alert."""
    half = canvas.side * canvas.pixel_scale / 2 + 1.0
    clear = 2.0 if survey is Survey.LSST else 5.0
    n_galaxies, n_stars = (rng.poisson(0.6), rng.poisson(0.2))
    faint, bright = 24.5, 20.5
    if survey is Survey.ZTF:
        n_galaxies, n_stars = rng.poisson(0.5), min(rng.poisson(rng.lognormal(np.log(9), 0.8)), 60)
        faint, bright = 21.5, 15.0
    layers = []
    for _ in range(n_galaxies):
        x, y = _place(half, clear, rng)
        where = Ellipse(x, y, float(rng.uniform(0.3, 1.0)), float(rng.uniform(0, np.pi)))
        light = flux(_count(bright + 1, faint, rng)) * galaxy_spectrum("late", float(rng.uniform(0.1, 0.8)))
        size = (0.3 if survey is Survey.LSST else 1.2) * float(np.exp(rng.normal(0, 0.3)))
        layers.append(Layer(optics.exponential(canvas, where, size), light))
    stars = [
        Point(*_place(half, clear, rng), _star_fluxes(_count(bright, faint, rng), rng))
        for _ in range(n_stars)
    ]
    return layers, stars


def _count(bright: float, faint: float, rng: np.random.Generator) -> float:
    """Draw a magnitude from counts that rise by 0.25 dex a magnitude."""
    return float(np.log10(rng.uniform(10 ** (0.25 * bright), 10 ** (0.25 * faint))) / 0.25)


def _place(half: float, clear: float, rng: np.random.Generator) -> tuple[float, float]:
    while True:
        x, y = rng.uniform(-half, half, 2)
        if np.hypot(x, y) > clear:
            return float(x), float(y)
