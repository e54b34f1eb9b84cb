"""Bright galaxies as SDSS's colour pictures show them: see ``docs/simulation.md``.

A picture is scaled by the galaxy's size, as those of Galaxy Zoo were, and stretched as Lupton et al. 2004 (PASP 116,
133) do: colours stay, bright light is compressed. It has no physical units any more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import galsim
import numpy as np
from numpy.typing import NDArray

from broker.alert import BANDS, Survey
from broker.cutouts import FWHM_PER_SIGMA
from encoder.images.archive import ImageSet, Kind
from encoder.images.foreign import DISPLAY_BANDS
from encoder.simulate.alerts import OBJECT_IDS
from encoder.simulate.chance import happens
from encoder.simulate.colours import FloatArray, redden
from encoder.simulate.components import Component, PointSource
from encoder.simulate.field import draw_field
from encoder.simulate.galaxies import disk_and_bulge, galaxy_parts
from encoder.simulate.optics import MOFFAT_BETAS, Psf
from encoder.simulate.parts import simulate_in_parts
from encoder.simulate.populations import Galaxy, draw_galaxy

SHOWN = [BANDS.index(band) for band in "irg"]
"""Bands behind red, green and blue."""

R_BAND = BANDS.index("r")

SIDE = 64
"""Pixels: what a field of 36 turned by any angle and shifted reaches."""

PICTURE_CLASSES = ("smooth", "spiral", "edge_on", "merger")
"""What people see: a disk without arms is as smooth as an elliptical to them, and one that is inclined by less than 80
degrees still seen from the side."""

SHARES = (0.40, 0.30, 0.18, 0.12)
"""Of the classes. Galaxy Zoo has fewer of the rarer ones; a set to learn from has more."""

EARLY = 0.55
"""Of smooth ones, that are bulges; the others are disks without arms."""

FLAT, FLAT_SHARE = (0.2, 0.4), 0.4
"""Axis ratio of disks seen nearly from the side, and their share of those seen from the side."""

PAIRS = 0.7
"""Of mergers, that are two whole galaxies; the others are disturbed bodies with two nuclei."""

APART, FAINTER = (0.9, 2.6), 1.2
"""Distance of a pair in the mean of their half-light radii, and by how many magnitudes one is fainter at most."""

MAGNITUDES, SLOPE = (14.5, 17.77), 0.5
"""SDSS's spectroscopic sample in r (Strauss et al. 2002, AJ 124, 1810); counts in dex a magnitude, somewhat flatter
than Euclidean."""

COMPACT = 0.7
"""The population's disks are a third too large where they are bright (``docs/simulation.md``)."""

SHARPEST = 2.2
"""Half-light radius in standard deviations of the seeing below which a galaxy shows no shape."""

SEEING, SEEING_SCATTER, SEEING_LIMITS = 1.32, 0.13, (0.9, 2.2)
"""Arcsec: median in r (SDSS DR7, Abazajian et al. 2009, ApJS 182, 543), scatter of its logarithm (tuned), limits."""

DUST = 0.03
"""Mean E(B-V) of the sky that SDSS looks at."""

SCALE, SCALE_SCATTER = 0.070, 0.15
"""Arcsec a pixel in units of the galaxy's reach, and scatter of its logarithm: tuned, so that light falls with distance
from the middle as in pictures of Galaxy Zoo, which are 0.024 Petrosian radii times 424 / 96 pixels a pixel."""

REACH_DISK, REACH_BULGE = 2.3, 3.1
"""R90 / R50 of a disk and of a de Vaucouleurs profile (Strateva et al. 2001, AJ 122, 1861)."""

CLEAR, STARS_KEPT = 2.0, 0.15
"""No neighbour is nearer, arcsec for Rubin as in `encoder.simulate.field.draw_field`; and the share kept of ZTF's
stars: SDSS looks away from the Milky Way."""

NATIVE = 0.396
"""Arcsec: SDSS's pixel (Gunn et al. 1998, AJ 116, 3040)."""

NANOMAGGY = 3631.0
"""nJy."""

SKY_NOISE: FloatArray = np.array([0.026, 0.017, 0.013])
"""Nanomaggies a native pixel in i, r and g: tuned to the scatter of dark sky in real pictures, 3 of 255."""

NOISE_SCATTER = 0.15

BALANCE: FloatArray = np.array([0.86, 1.0, 1.42])
"""By which i, r and g are multiplied: such that the middles of galaxies have real pictures' colours."""

GAIN, SOFTENING = 53.0, 6.5
"""Of the stretch, 8-bit values and per nanomaggy a native pixel: such that sky noise and galaxies' middles are as in
real pictures."""

SKY_LEVEL = 4.0
"""8-bit value of dark sky."""

DARK = 1e-9


@dataclass(frozen=True, slots=True)
class Picture:
    """One galaxy and its truth.

    Attributes
    ----------
    image : ndarray of uint8, shape (3, SIDE, SIDE)
    label : str
        Of `PICTURE_CLASSES`.
    redshift : float
    object_id : int
    """

    image: NDArray[np.uint8]
    label: str
    redshift: float
    object_id: int


def simulate_picture(seed: int, number: int) -> Picture:
    """Simulate one galaxy; the same two numbers give the same picture in any process."""
    rng = np.random.default_rng([seed, number, 3])
    label = str(rng.choice(PICTURE_CLASSES, p=SHARES))
    fwhm = float(np.clip(rng.lognormal(np.log(SEEING), SEEING_SCATTER), *SEEING_LIMITS))
    body = _body(label, fwhm, rng)
    scale = float(SCALE * body.reach(fwhm) * rng.lognormal(0, SCALE_SCATTER))
    g1, g2 = rng.normal(0, 0.02, 2)
    psf = Psf(fwhm, float(rng.choice(MOFFAT_BETAS)), float(g1), float(g2), scale)
    noise = SKY_NOISE * min(1.0, NATIVE / scale) * rng.lognormal(0, NOISE_SCATTER)
    light = _light(body, psf, rng)
    light += noise[:, None, None] * rng.normal(size=light.shape)
    return Picture(stretch(light), label, body.galaxy.redshift, (seed + 1) * OBJECT_IDS + number)


@dataclass(frozen=True, slots=True)
class _Body:
    """What stands in the middle: a galaxy or a pair, its parts, and how far apart a pair is in arcsec."""

    galaxy: Galaxy
    extended: tuple[Component, ...]
    points: tuple[PointSource, ...]
    apart: float = 0.0

    def reach(self, fwhm: float) -> float:
        """Arcsec that hold most of the light."""
        galaxy = self.galaxy
        concentration = REACH_DISK + (REACH_BULGE - REACH_DISK) * galaxy.bulge_fraction
        return float(np.hypot(galaxy.half_light_radius, 0.6 * fwhm) * concentration + 0.45 * self.apart)


def _body(label: str, fwhm: float, rng: np.random.Generator) -> _Body:
    if label == "merger" and happens(PAIRS, rng):
        return _pair(fwhm, rng)
    kind = {"smooth": "bulge" if happens(EARLY, rng) else "disk", "spiral": "disk"}.get(label, label)
    galaxy = _resolved(kind, _magnitude(rng), fwhm, rng)
    if label in ("smooth", "spiral"):
        parts = disk_and_bulge(galaxy, Survey.ZTF, rng, arms=label == "spiral")
    elif label == "edge_on" and happens(FLAT_SHARE, rng):
        parts = disk_and_bulge(galaxy, Survey.ZTF, rng, arms=False, flattening=FLAT)
    else:
        parts = galaxy_parts(label, galaxy, Survey.ZTF, rng)
    return _Body(galaxy, tuple(parts[0]), tuple(parts[1]), galaxy.separation or 0.0)


def _pair(fwhm: float, rng: np.random.Generator) -> _Body:
    """Draw two galaxies that nearly touch, the brighter one in the middle."""
    magnitude = _magnitude(rng)
    one = _resolved(_either(rng), magnitude, fwhm, rng)
    other = _resolved(_either(rng), magnitude + float(rng.uniform(0, FAINTER)), 0.0, rng)
    apart = float(rng.uniform(*APART)) * (one.half_light_radius + other.half_light_radius) / 2 + 0.5 * fwhm
    angle = float(rng.uniform(0, 2 * np.pi))
    x, y = apart * np.cos(angle), apart * np.sin(angle)
    extended, points, _ = disk_and_bulge(one, Survey.ZTF, rng)
    beside, knots, _ = disk_and_bulge(other, Survey.ZTF, rng)
    return _Body(
        one,
        (*extended, *(replace(part, x=part.x + x, y=part.y + y) for part in beside)),
        (*points, *(replace(knot, x=knot.x + x, y=knot.y + y) for knot in knots)),
        apart,
    )


def _either(rng: np.random.Generator) -> str:
    return "bulge" if happens(0.5, rng) else "disk"


def _resolved(kind: str, magnitude: float, fwhm: float, rng: np.random.Generator) -> Galaxy:
    """Draw a galaxy that is larger than the seeing; another magnitude where one is not."""
    while True:
        galaxy = draw_galaxy(kind, magnitude, R_BAND, rng)
        size = COMPACT * galaxy.half_light_radius
        if size > SHARPEST * fwhm / FWHM_PER_SIGMA:
            apart = None if galaxy.separation is None else COMPACT * galaxy.separation
            return replace(galaxy, half_light_radius=size, separation=apart)
        magnitude = _magnitude(rng)


def _magnitude(rng: np.random.Generator) -> float:
    first, last = (10.0 ** (SLOPE * one) for one in MAGNITUDES)
    return float(np.log10(rng.uniform(first, last)) / SLOPE)


def _light(body: _Body, psf: Psf, rng: np.random.Generator) -> FloatArray:
    """Noiseless picture (3, SIDE, SIDE) in i, r and g, nanomaggies a native pixel."""
    ebv = float(min(rng.exponential(DUST), 0.3))
    neighbours, stars = draw_field(Survey.ZTF, ebv, CLEAR, rng)
    own = [replace(part, fluxes=redden(part.fluxes, ebv, Survey.LSST)) for part in body.extended]
    kept = [star for star in stars if happens(STARS_KEPT, rng)]
    x, y = (SIDE - 1) / 2 + rng.uniform(-0.5, 0.5, 2)
    image = sum(_drawn([*own, *neighbours], [*body.points, *kept], psf, (float(x), float(y))), np.zeros(()))
    return np.asarray(image / NANOMAGGY * (NATIVE / psf.pixel_scale) ** 2)


def _drawn(
    extended: Sequence[Component], points: Sequence[PointSource], psf: Psf, middle: tuple[float, float]
) -> Iterator[FloatArray]:
    """Draw every part, in nJy a pixel of the picture."""
    for one in extended:
        profile: galsim.GSObject = one.profile.shift(one.x, one.y)
        yield one.fluxes[SHOWN, None, None] * psf.draw_seen(profile, (SIDE, SIDE), *middle)
    for point in points:
        spot = np.zeros((SIDE, SIDE))
        x, y = (at + off / psf.pixel_scale for at, off in zip(middle, (point.x, point.y), strict=True))
        psf.add_star(spot, 1.0, x, y)
        yield point.fluxes[SHOWN, None, None] * spot


def stretch(light: FloatArray) -> NDArray[np.uint8]:
    """Make a colour picture (3, h, w) of i, r and g light in nanomaggies a native pixel."""
    balanced = light * BALANCE[:, None, None]
    intensity = balanced.mean(0)
    intensity = np.where(np.abs(intensity) > DARK, intensity, DARK)
    shown = SKY_LEVEL + balanced * GAIN * np.arcsinh(SOFTENING * intensity) / intensity
    # Too bright a pixel is dimmed as a whole: its colour stays.
    shown /= np.maximum(shown.max(0) / 255.0, 1.0)
    return np.asarray(np.rint(shown.clip(0, 255)), np.uint8)


@dataclass(frozen=True, slots=True)
class PictureDrawing:
    """Some pictures of a seed; see `encoder.simulate.parts.Drawing`."""

    count: int
    seed: int
    visits: int = 1

    def note(self) -> dict[str, Any]:
        """Tell this run from others."""
        return {"pictures": True, **asdict(self)}

    def draw(self, numbers: Sequence[int]) -> ImageSet:
        """Draw some pictures."""
        pictures = [simulate_picture(self.seed, number) for number in numbers]
        return ImageSet.of(
            np.stack([one.image for one in pictures]),
            kind=Kind.DISPLAY,
            bands=DISPLAY_BANDS,
            classes=PICTURE_CLASSES,
            label=np.array([PICTURE_CLASSES.index(one.label) for one in pictures]),
            redshift=np.array([one.redshift for one in pictures]),
            object_id=np.array([one.object_id for one in pictures]),
        )


def simulate_pictures(n: int, seed: int, path: Path, *, processes: int = 1) -> None:
    """Simulate display pictures of bright galaxies; see `encoder.simulate.parts.simulate_in_parts`."""
    simulate_in_parts(PictureDrawing(n, seed), path, processes=processes)
