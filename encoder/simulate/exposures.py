"""One alert's three stamps: the scene through telescope and detector, subtracted, detected."""

from collections.abc import Sequence
from dataclasses import dataclass

import galsim
import numpy as np

from broker.alert import BANDS, Survey
from broker.cutouts import FWHM_PER_SIGMA
from encoder.simulate.bogus import DIFFERENCE, SCIENCE, TEMPLATE, Artefact, Canvas
from encoder.simulate.chance import happens
from encoder.simulate.colours import FloatArray
from encoder.simulate.components import Component, PointSource, Scene
from encoder.simulate.noise import draw_noise, stated_variance
from encoder.simulate.optics import Psf
from encoder.simulate.photometry import forced_flux
from encoder.simulate.visits import Conditions

DETECTION_SNR = 5.0
BRIGHTEST_SNR = 1000.0

RUBIN_SNR_INDEX = 1.6
"""Rubin's detections above a signal-to-noise s fall as s to the minus this."""

ZTF_SNR = (35.0, 1.3)
"""Median and scatter (natural logarithm) of the signal-to-noise of ZTF's public alerts against the noise in
their own stamps: its stream is thinned by scores and by two detections."""

NEGATIVE_SHARE = {"star": 0.5, "nucleus": 0.5, "supernova": 0.0}
"""Variables fade as often as they brighten."""

FORCED_REACH = 5.0
"""Arcsec: extended light centred farther away adds nothing to a forced point source."""

MASKED_STAR_SHARE = 0.12
"""Of ZTF stamps; with detector edges 14 % of real ones have pixels without data."""

REGISTRATION = 0.04
"""Pixels: error of the template's place in a good subtraction, per axis."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """What one visit gives.

    Attributes
    ----------
    stamps : FloatArray, shape (3, h, w)
        Science, template, difference in survey units, sky included where the survey leaves it; NaN: no data.
    variance : FloatArray, shape (3, h, w)
        Of each, in survey units squared.
    flux, flux_error : float
        PSF flux of the transient forced on science minus template, nJy; negative where it has faded.
    brightened : bool
        Whether that flux is positive: what ZTF writes as ``isdiffpos``. Where it is not, ZTF's difference is
        template minus science.
    static_fluxes : FloatArray, shape (6,)
        Forced at the position on the noiseless template, nJy; NaN for ZTF, which does not measure it.
    """

    stamps: FloatArray
    variance: FloatArray
    flux: float
    flux_error: float
    brightened: bool
    static_fluxes: FloatArray


def expose(
    scene: Scene, conditions: Conditions, artefact: Artefact | None, rng: np.random.Generator
) -> Exposure:
    """Observe a scene: without an artefact there is a transient or variable at the position."""
    science_model = _model(scene, conditions, conditions.science_psf)
    if scene.survey is Survey.LSST:
        template_model, static_fluxes = _forced_template(scene, conditions)
    else:
        template_model, static_fluxes = _model(scene, conditions, conditions.template_psf), np.full(6, np.nan)
    source, flux_error = _source(scene, conditions, science_model, artefact, rng)
    noise = draw_noise(conditions, science_model + source, template_model, rng)
    residual = _registration_residual(science_model, float(np.abs(source).max()), conditions, rng)
    stamps = np.stack(
        [
            science_model + source + noise[SCIENCE],
            template_model + noise[TEMPLATE],
            source + residual + noise[DIFFERENCE],
        ]
    )
    if artefact is not None:
        psf, frame = conditions.science_psf, conditions.frame
        sigma = psf.fwhm / FWHM_PER_SIGMA / psf.pixel_scale
        canvas = Canvas(
            scene.survey,
            stamps,
            science_model,
            conditions.science_noise,
            psf.noise_pixels,
            sigma,
            frame.x,
            frame.y,
        )
        artefact(canvas, rng)
    point = _point(conditions.science_psf, conditions)
    flux = forced_flux(np.nan_to_num(stamps[DIFFERENCE]), point)
    if scene.survey is Survey.ZTF:
        stamps[DIFFERENCE] *= ztf_sign(flux)
    _spoil(stamps, conditions, rng)
    stamps[:DIFFERENCE] += conditions.sky
    return Exposure(
        stamps=stamps,
        variance=stated_variance(conditions, science_model + np.maximum(source, 0), template_model),
        flux=flux / conditions.unit,
        flux_error=flux_error / conditions.unit,
        brightened=flux >= 0,
        static_fluxes=static_fluxes,
    )


def ztf_sign(flux: float) -> float:
    """Sign by which ZTF multiplies a difference stamp on which the forced flux is `flux`.

    Its pipeline looks for sources in science minus template and in the negative of it, and cuts the stamp
    from where it found the alert: the core is always bright (Bellm, community.lsst.org/t/10619). Rubin keeps
    the sign.
    """
    return 1.0 if flux >= 0 else -1.0


def _pixel(conditions: Conditions, x: float, y: float) -> tuple[float, float]:
    frame, scale = conditions.frame, conditions.pixel_scale
    return frame.x + x / scale, frame.y + y / scale


def _point(psf: Psf, conditions: Conditions) -> FloatArray:
    return psf.draw(conditions.frame.shape, conditions.frame.x, conditions.frame.y)


def _is_in_reach(conditions: Conditions, x: float, y: float) -> bool:
    """Whether something at (x, y) arcsec can show in the stamp."""
    column, row = _pixel(conditions, x, y)
    height, width = conditions.frame.shape
    margin = 4.0 / conditions.pixel_scale
    return -margin < column < width + margin and -margin < row < height + margin


def _model(scene: Scene, conditions: Conditions, psf: Psf) -> FloatArray:
    """Draw the static sky through a PSF, in survey units: all extended light at once."""
    image = np.zeros(conditions.frame.shape)
    _add_extended(image, scene.extended, conditions, psf)
    for p in scene.points:
        flux = float(p.fluxes[conditions.band] * conditions.unit)
        if (p.x, p.y) == (0.0, 0.0):
            image += flux * _point(psf, conditions)
        elif _is_in_reach(conditions, p.x, p.y):
            psf.add_star(image, flux, *_pixel(conditions, p.x, p.y))
    return image


def _add_extended(
    image: FloatArray, components: Sequence[Component], conditions: Conditions, psf: Psf
) -> None:
    frame, band = conditions.frame, conditions.band
    light = [
        (c.profile * float(c.fluxes[band] * conditions.unit)).shift(c.x, c.y)
        for c in components
        if _is_in_reach(conditions, c.x, c.y) and c.fluxes[band] > 0
    ]
    if light:
        image += psf.draw_seen(galsim.Sum(light), frame.shape, frame.x, frame.y)


def _forced_template(scene: Scene, conditions: Conditions) -> tuple[FloatArray, FloatArray]:
    """Draw the static sky in the template, and measure it there.

    Returns the image, and the flux of a forced point source per band (nJy, without noise). Each part near the
    position is drawn once, with unit flux, and serves all bands.
    """
    shape, psf, band = conditions.frame.shape, conditions.template_psf, conditions.band
    point = _point(psf, conditions)
    image, forced = np.zeros(shape), np.zeros(len(BANDS))
    near = [c for c in scene.extended if np.hypot(c.x, c.y) < FORCED_REACH]
    units = [(_drawn(c, conditions, psf), c.fluxes) for c in near]
    units += [(_star(p, conditions, psf, point), p.fluxes) for p in scene.points]
    for unit, fluxes in units:
        image += unit * fluxes[band] * conditions.unit
        forced += forced_flux(unit, point) * fluxes
    far = [c for c in scene.extended if np.hypot(c.x, c.y) >= FORCED_REACH]
    _add_extended(image, far, conditions, psf)
    return image, forced


def _drawn(component: Component, conditions: Conditions, psf: Psf) -> FloatArray:
    x, y = _pixel(conditions, component.x, component.y)
    return psf.draw_seen(component.profile, conditions.frame.shape, x, y)


def _star(source: PointSource, conditions: Conditions, psf: Psf, point: FloatArray) -> FloatArray:
    if (source.x, source.y) == (0.0, 0.0):
        return point
    unit = np.zeros(conditions.frame.shape)
    psf.add_star(unit, 1.0, *_pixel(conditions, source.x, source.y))
    return unit


def _source(
    scene: Scene,
    conditions: Conditions,
    science_model: FloatArray,
    artefact: Artefact | None,
    rng: np.random.Generator,
) -> tuple[FloatArray, float]:
    """Draw the changed light at the position; also the error of its PSF flux, in survey units."""
    psf, frame = conditions.science_psf, conditions.frame
    local = float(science_model[round(frame.y), round(frame.x)])
    variance = (
        conditions.science_noise**2 + conditions.template_noise**2 + max(local, 0.0) / conditions.electrons
    )
    error = float(np.sqrt(variance * psf.noise_pixels))
    if artefact is not None:
        return np.zeros(frame.shape), error
    snr = _significance(scene.survey, rng)
    flux = snr * error
    kind = "star" if scene.label == "star" else "nucleus" if scene.nuclear else "supernova"
    if rng.uniform() < NEGATIVE_SHARE[kind]:
        available = (
            float(scene.host_fluxes[conditions.band]) * conditions.unit * (0.8 if kind == "star" else 0.3)
        )
        flux = -min(flux, available) if available > 4 * error else flux
    # The position is the measured centroid; its error falls with the signal-to-noise (King 1983).
    wobble = psf.fwhm / psf.pixel_scale / FWHM_PER_SIGMA / max(snr, 1.0)
    dx, dy = rng.normal(0, wobble, 2)
    return flux * psf.draw(frame.shape, frame.x + dx, frame.y + dy), error


def _significance(survey: Survey, rng: np.random.Generator) -> float:
    if survey is Survey.LSST:
        return float(min(DETECTION_SNR * (1 - rng.uniform()) ** (-1 / RUBIN_SNR_INDEX), BRIGHTEST_SNR))
    median, scatter = ZTF_SNR
    while True:
        snr = float(rng.lognormal(np.log(median), scatter))
        if DETECTION_SNR < snr < BRIGHTEST_SNR:
            return snr


def _registration_residual(
    model: FloatArray, source_peak: float, conditions: Conditions, rng: np.random.Generator
) -> FloatArray:
    """Leave what a good subtraction leaves of the static sky: a small shift, a small error of scale."""
    gy, gx = np.gradient(model)
    dx, dy = rng.normal(0, REGISTRATION, 2)
    residual = dx * gx + dy * gy + model * rng.normal(0, 0.003)
    # Detections that are mostly residual are what the class `bogus` is for.
    limit = max(0.35 * source_peak, conditions.science_noise)
    peak = float(np.abs(residual).max())
    return np.asarray(residual * min(1.0, limit / peak) if peak > 0 else residual)


def _spoil(stamps: FloatArray, conditions: Conditions, rng: np.random.Generator) -> None:
    """Take away what surveys have no data for: masked bright stars, ends of the template's coverage."""
    height, width = conditions.frame.shape
    if conditions.survey is Survey.ZTF and happens(MASKED_STAR_SHARE, rng):
        half = int(rng.integers(4, 12))
        row, column = int(rng.integers(height)), int(rng.integers(width))
        if np.hypot(row - conditions.frame.y, column - conditions.frame.x) > 1.5 * half + 3:
            stamps[:, max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1] = np.nan
    if happens(0.03, rng):
        angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.5) * width
        y, x = np.indices((height, width))
        beyond = np.cos(angle) * (x - conditions.frame.x) + np.sin(angle) * (y - conditions.frame.y) > depth
        stamps[TEMPLATE][beyond] = np.nan
        stamps[DIFFERENCE][beyond] = np.nan
