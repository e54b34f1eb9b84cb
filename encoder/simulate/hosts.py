"""Galaxies in Rubin's six bands, as coadds and single visits show them: see ``docs/simulation.md``."""

from dataclasses import dataclass

import numpy as np

from broker.alert import BANDS, Float32Array, Survey
from broker.cutouts import effective_fwhm
from encoder.kept_out import ANOMALIES
from encoder.simulate.alerts import OBJECT_IDS
from encoder.simulate.anomalies import anomaly_parts, draw_anomaly
from encoder.simulate.chance import happens
from encoder.simulate.colours import FloatArray, redden
from encoder.simulate.field import draw_field
from encoder.simulate.fourier import PIXEL_SCALE, ComplexArray, draw, responses, shift, transform
from encoder.simulate.galaxies import galaxy_parts
from encoder.simulate.noise import correlated, correlated_scatter
from encoder.simulate.optics import Psf
from encoder.simulate.populations import GALAXIES, I_BAND, Galaxy, class_shares, draw_galaxy, host_magnitude
from encoder.simulate.scenes import MEAN_EBV, Candidate, as_candidate, is_within
from encoder.simulate.visibility import PARTED, RESOLVED
from encoder.simulate.visibility import SEEN as TOLD
from encoder.simulate.visits import LSST_ELECTRONS, LSST_SKY_NOISE, draw_psf

HOST_CLASSES = (*GALAXIES, *ANOMALIES)

SIDE = 48
"""Pixels: 9.6 arcsec hold two half-light radii to each side of nine in ten objects (galaxies brighter than i = 19
overflow it), the seeing and some sky for the rest; four halvings divide it."""

LARGEST_ANOMALY = 4.0
"""Arcsec: what makes an anomaly is in the stamp."""

DETECTED = 5.0
"""Signal-to-noise in i below which there is no object to make a stamp of."""

COADD_SHARE = 0.7
"""Of objects seen in coadds; the others in one visit a band."""

FULL_SURVEY: FloatArray = np.array([56.0, 80.0, 184.0, 184.0, 160.0, 160.0])
"""Visits in ten years (Ivezic et al. 2019, ApJ 873, 111, table 1)."""

LEAST_SURVEY = 0.03
"""Share of the survey behind the shallowest coadds; shares are even in their logarithm."""

SEEING_BY_BAND: FloatArray = np.array([1.11, 1.05, 1.0, 0.96, 0.93, 0.91])
"""Relative to r: wavelength to the power -0.2 (Kolmogorov), at the effective wavelengths of the filters."""

COADD_CORRELATION = 0.13
"""Weight of neighbours in resampled noise, as in `encoder.simulate.noise.TEMPLATE_CORRELATION`."""

CALIBRATION = 0.01
"""Scatter of zero points."""

BACKGROUND = 0.03
"""Scatter of the sky level that is left, in units of a pixel's noise."""

CLEAR = 1.8
"""Arcsec: neighbours nearer would be blended with the object."""

DRAWS = 400
"""Attempts to find an object that is seen."""

POINT: ComplexArray = np.ones((1, 1), dtype=np.complex128)
"""Transform of a point source, at any wave number."""


@dataclass(frozen=True, slots=True)
class Sight:
    """How six bands see one object.

    Attributes
    ----------
    psfs : tuple of Psf
        One a band.
    noise : FloatArray, shape (6,)
        Of a pixel's sky, nJy.
    electrons : FloatArray, shape (6,)
        Per nJy over all visits.
    correlation : float
        Weight of neighbouring pixels in the noise; zero for a visit.
    calibration : FloatArray, shape (6,)
        Factor on all light.
    background : FloatArray, shape (6,)
        Level left in each pixel, nJy.
    x, y : float
        0-based pixel of the object.
    """

    psfs: tuple[Psf, ...]
    noise: FloatArray
    electrons: FloatArray
    correlation: float
    calibration: FloatArray
    background: FloatArray
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Host:
    """One object and its truth.

    Attributes
    ----------
    images : Float32Array, shape (6, SIDE, SIDE)
        nJy per pixel.
    label : str or None
        Of `HOST_CLASSES`; None where the images cannot tell it.
    redshift, ebv : float
    noise, psf_fwhm : FloatArray, shape (6,)
        nJy per pixel; pixels.
    photometry, photometry_error : FloatArray, shape (6,)
        Flux of a point source forced at the position, nJy.
    object_id : int
    """

    images: Float32Array
    label: str | None
    redshift: float
    ebv: float
    noise: FloatArray
    psf_fwhm: FloatArray
    photometry: FloatArray
    photometry_error: FloatArray
    object_id: int


def draw_sight(rng: np.random.Generator) -> Sight:
    """Draw seeing, depth, background and place in the stamp."""
    coadd = happens(COADD_SHARE, rng)
    if coadd:
        progress = float(np.exp(rng.uniform(np.log(LEAST_SURVEY), 0.0)))
        visits = 1.0 + rng.poisson(progress * FULL_SURVEY)
        median, scatter = 0.88, 0.10
    else:
        visits, (median, scatter) = np.ones(len(BANDS)), (0.92, 0.25)
    psfs = tuple(draw_psf(Survey.LSST, median * b, scatter, (0.55, 2.1), rng) for b in SEEING_BY_BAND)
    clouds_and_moon = 10 ** rng.normal(0.05, 0.1, len(BANDS))
    noise = LSST_SKY_NOISE * clouds_and_moon / np.sqrt(visits)
    return Sight(
        psfs=psfs,
        noise=noise,
        electrons=LSST_ELECTRONS * visits,
        correlation=COADD_CORRELATION if coadd else 0.0,
        calibration=1 + rng.normal(0, CALIBRATION, len(BANDS)),
        background=noise * rng.normal(0, BACKGROUND, len(BANDS)),
        x=(SIDE - 1) / 2 + float(rng.uniform(-0.5, 0.5)),
        y=(SIDE - 1) / 2 + float(rng.uniform(-0.5, 0.5)),
    )


def simulate_host(seed: int, number: int, *, visit: int = 0, anomaly_share: float = 0.0) -> Host:
    """Simulate one object under the conditions of one of its visits.

    Parameters
    ----------
    seed, number : int
        The same two give the same object in any process.
    visit : int
        Another sees it under other conditions.
    anomaly_share : float
        Of objects that are one of `ANOMALIES`.

    Returns
    -------
    Host
    """
    of_object = np.random.default_rng([seed, number, 0])
    first = draw_sight(np.random.default_rng([seed, number, 1]))
    of_visit = np.random.default_rng([seed, number, 1 + visit])
    sight = draw_sight(of_visit)
    ebv = float(min(of_object.exponential(MEAN_EBV[Survey.LSST]), 0.5))
    label, galaxy = _draw_object(first, ebv, anomaly_share, of_object)
    spectra = _spectra(label, galaxy, ebv, of_object)
    images, photometry, error, widths = observe(spectra, sight, of_visit)
    candidate = as_candidate(label, galaxy, redden(galaxy.fluxes, ebv, Survey.LSST))
    return Host(
        images=images.astype(np.float32),
        label=label if tells_class(candidate, sight) else None,
        redshift=galaxy.redshift,
        ebv=ebv,
        noise=sight.noise,
        psf_fwhm=widths,
        photometry=photometry,
        photometry_error=error,
        object_id=(seed + 1) * OBJECT_IDS + number,
    )


def significance(candidate: Candidate, sight: Sight) -> float:
    """Signal-to-noise in i through an aperture of the object's size and the seeing."""
    psf = sight.psfs[I_BAND]
    pixels = np.pi * ((candidate.size / PIXEL_SCALE) ** 2 + (psf.fwhm / PIXEL_SCALE) ** 2 / 2)
    return float(candidate.fluxes[I_BAND] / (sight.noise[I_BAND] * np.sqrt(pixels)))


def tells_class(candidate: Candidate, sight: Sight) -> bool:
    """Whether the i image is deep and sharp enough: the limits are those of `encoder.simulate.visibility`."""
    if significance(candidate, sight) <= TOLD:
        return False
    fwhm = sight.psfs[I_BAND].fwhm
    if candidate.separation is not None:
        return candidate.separation > PARTED * fwhm
    return candidate.size > RESOLVED * fwhm / 2


def _draw_object(
    sight: Sight, ebv: float, anomaly_share: float, rng: np.random.Generator
) -> tuple[str, Galaxy]:
    """Draw magnitude, class and galaxy until the object is detected, an anomaly until it shows."""
    rare = str(rng.choice(ANOMALIES)) if happens(anomaly_share, rng) else None
    for _ in range(DRAWS):
        magnitude = host_magnitude(Survey.LSST, rng)
        if rare is not None:
            label, galaxy = rare, draw_anomaly(rare, magnitude, I_BAND, rng)
        else:
            label = str(rng.choice(GALAXIES, p=class_shares(round(magnitude, 1), I_BAND)))
            galaxy = draw_galaxy(label, magnitude, I_BAND, rng)
        candidate = as_candidate(label, galaxy, redden(galaxy.fluxes, ebv, Survey.LSST))
        if rare is None and significance(candidate, sight) > DETECTED:
            break
        if rare is not None and tells_class(candidate, sight) and is_within(galaxy, LARGEST_ANOMALY):
            break
    return label, galaxy


def _spectra(label: str, galaxy: Galaxy, ebv: float, rng: np.random.Generator) -> ComplexArray:
    """Transform the sky around an object at the origin, in nJy behind dust, without PSF: one array a band."""
    parts = anomaly_parts if label in ANOMALIES else galaxy_parts
    components, knots, _ = parts(label, galaxy, Survey.LSST, rng)
    neighbours, stars = draw_field(Survey.LSST, ebv, CLEAR, rng)
    own = [(transform(c.profile), c) for c in components]
    light = [(t, redden(c.fluxes, ebv, Survey.LSST), c.x, c.y) for t, c in own]
    light += [(POINT, redden(k.fluxes, ebv, Survey.LSST), k.x, k.y) for k in knots]
    light += [(transform(c.profile), c.fluxes, c.x, c.y) for c in neighbours]
    light += [(POINT, s.fluxes, s.x, s.y) for s in stars]
    units = np.stack(
        [t if x == y == 0 else t * shift(x / PIXEL_SCALE, y / PIXEL_SCALE) for t, _, x, y in light]
    )
    fluxes = np.stack([f for _, f, _, _ in light])
    return np.asarray(np.einsum("cb,cij->bij", fluxes, units))  # no BLAS: one core a process


def observe(
    spectra: ComplexArray, sight: Sight, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Look at the sky in six bands, and measure it.

    Parameters
    ----------
    spectra : ComplexArray, shape (6, PERIOD, PERIOD / 2 + 1)
    sight : Sight
    rng : numpy.random.Generator

    Returns
    -------
    images : FloatArray, shape (6, SIDE, SIDE)
        nJy.
    photometry, error : FloatArray, shape (6,)
        PSF flux forced at the position, nJy, and what the sky and the object's light leave uncertain of it.
    psf_fwhm : FloatArray, shape (6,)
        Pixels, as the broker takes it from a PSF plane.
    """
    seen = responses(sight.psfs) * shift(sight.x, sight.y)
    points = draw(seen, SIDE)
    light = draw(spectra * seen, SIDE) * sight.calibration[:, None, None]
    scatter = np.sqrt(sight.noise[:, None, None] ** 2 + np.maximum(light, 0) / sight.electrons[:, None, None])
    grain = correlated(light.shape, sight.correlation, rng)
    images = light + scatter * grain + sight.background[:, None, None]
    power = np.sum(points**2, axis=(1, 2))
    photometry = np.sum(images * points, axis=(1, 2)) / power
    error = np.sqrt(np.sum(correlated_scatter(scatter * points, sight.correlation) ** 2, axis=(1, 2))) / power
    widths = np.array([effective_fwhm(p) or np.nan for p in points])
    return images, photometry, error, widths
