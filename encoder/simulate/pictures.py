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
from encoder.simulate.galaxies import galaxy_parts
from encoder.simulate.optics import MOFFAT_BETAS, Psf
from encoder.simulate.parts import simulate_in_parts
from encoder.simulate.populations import GALAXIES, Galaxy, draw_galaxy

SHOWN = [BANDS.index(band) for band in "irg"]
"""Bands behind red, green and blue."""

R_BAND = BANDS.index("r")

SIDE = 64
"""Pixels: what a field of 36 turned by any angle and shifted reaches."""

SHARES = (0.36, 0.38, 0.16, 0.10)
"""Of `GALAXIES`: disks, bulges, edge-on disks and mergers. Galaxy Zoo has fewer of the rarer ones; a set to learn from
has more."""

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
        Of `GALAXIES`.
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
    label = str(rng.choice(GALAXIES, p=SHARES))
    fwhm = float(np.clip(rng.lognormal(np.log(SEEING), SEEING_SCATTER), *SEEING_LIMITS))
    galaxy = _resolved(label, fwhm, rng)
    scale = _scale(galaxy, fwhm, rng)
    g1, g2 = rng.normal(0, 0.02, 2)
    psf = Psf(fwhm, float(rng.choice(MOFFAT_BETAS)), float(g1), float(g2), scale)
    noise = SKY_NOISE * min(1.0, NATIVE / scale) * rng.lognormal(0, NOISE_SCATTER)
    light = _light(label, galaxy, psf, rng)
    light += noise[:, None, None] * rng.normal(size=light.shape)
    return Picture(stretch(light), label, galaxy.redshift, (seed + 1) * OBJECT_IDS + number)


def _resolved(label: str, fwhm: float, rng: np.random.Generator) -> Galaxy:
    while True:
        galaxy = draw_galaxy(label, _magnitude(rng), R_BAND, rng)
        size = COMPACT * galaxy.half_light_radius
        if size > SHARPEST * fwhm / FWHM_PER_SIGMA:
            apart = None if galaxy.separation is None else COMPACT * galaxy.separation
            return replace(galaxy, half_light_radius=size, separation=apart)


def _magnitude(rng: np.random.Generator) -> float:
    first, last = (10.0 ** (SLOPE * one) for one in MAGNITUDES)
    return float(np.log10(rng.uniform(first, last)) / SLOPE)


def _scale(galaxy: Galaxy, fwhm: float, rng: np.random.Generator) -> float:
    """Arcsec a pixel: the larger the galaxy, the coarser."""
    concentration = REACH_DISK + (REACH_BULGE - REACH_DISK) * galaxy.bulge_fraction
    reach = np.hypot(galaxy.half_light_radius, 0.6 * fwhm) * concentration + 0.45 * (galaxy.separation or 0.0)
    return float(SCALE * reach * rng.lognormal(0, SCALE_SCATTER))


def _light(label: str, galaxy: Galaxy, psf: Psf, rng: np.random.Generator) -> FloatArray:
    """Noiseless picture (3, SIDE, SIDE) in i, r and g, nanomaggies a native pixel."""
    ebv = float(min(rng.exponential(DUST), 0.3))
    parts, knots, _ = galaxy_parts(label, galaxy, Survey.ZTF, rng)
    neighbours, stars = draw_field(Survey.ZTF, ebv, CLEAR, rng)
    own = [replace(part, fluxes=redden(part.fluxes, ebv, Survey.LSST)) for part in parts]
    kept = [star for star in stars if happens(STARS_KEPT, rng)]
    x, y = (SIDE - 1) / 2 + rng.uniform(-0.5, 0.5, 2)
    image = sum(_drawn([*own, *neighbours], [*knots, *kept], psf, (float(x), float(y))), np.zeros(()))
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
            classes=GALAXIES,
            label=np.array([GALAXIES.index(one.label) for one in pictures]),
            redshift=np.array([one.redshift for one in pictures]),
            object_id=np.array([one.object_id for one in pictures]),
        )


def simulate_pictures(n: int, seed: int, path: Path, *, processes: int = 1) -> None:
    """Simulate display pictures of bright galaxies; see `encoder.simulate.parts.simulate_in_parts`."""
    simulate_in_parts(PictureDrawing(n, seed), path, processes=processes)
