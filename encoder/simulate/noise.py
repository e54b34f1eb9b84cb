"""Noise of science, template and difference."""

import numpy as np
from scipy.ndimage import convolve1d

from broker.alert import Survey
from encoder.simulate.colours import FloatArray
from encoder.simulate.visits import Conditions

TEMPLATE_CORRELATION = {Survey.LSST: 0.13, Survey.ZTF: 0.28}
"""Weight of the neighbours in resampled noise: gives the templates' correlation of adjacent pixels, measured
0.25 (Rubin) and 0.5 (ZTF)."""


def draw_noise(
    conditions: Conditions, science: FloatArray, template: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Noise of the three stamps, (3, h, w): the difference shares that of science and (matched) template."""
    shape = science.shape
    poisson = np.maximum(science, 0.0) / conditions.electrons
    own = rng.normal(size=shape) * np.sqrt(conditions.science_noise**2 + poisson)
    if conditions.survey is Survey.ZTF:
        own += rng.normal(
            0, 0.15 * conditions.science_noise, shape[1]
        )  # columns read with offsets of their own
    coadd = correlated(shape, TEMPLATE_CORRELATION[conditions.survey], rng)
    share = (conditions.template_noise / conditions.science_noise) ** 2
    of_template = coadd * np.sqrt(
        conditions.template_noise**2 + share * np.maximum(template, 0) / conditions.electrons
    )
    matched = of_template
    if conditions.science_psf.fwhm > conditions.template_psf.fwhm:
        matched = _smoothed(of_template, 0.2)
    return np.stack([own, of_template, own - matched])


def correlated(shape: tuple[int, ...], weight: float, rng: np.random.Generator) -> FloatArray:
    """Noise of unit variance in which neighbours along the last two axes have a share."""
    return correlated_scatter(rng.normal(size=shape), weight)


def correlated_scatter(image: FloatArray, weight: float) -> FloatArray:
    """Spread over neighbours such that white noise keeps its variance.

    Weights of a sum over such noise, spread themselves, are its weights over the white noise.
    """
    return _smoothed(image, weight) * (1 + 2 * weight) ** 2 / (1 + 2 * weight**2) if weight else image


def _smoothed(image: FloatArray, weight: float) -> FloatArray:
    """Convolve with (w, 1, w) / (1 + 2w) along the last two axes."""
    kernel = np.array([weight, 1.0, weight]) / (1 + 2 * weight)
    once = convolve1d(image, kernel, axis=-2, mode="wrap")
    return np.asarray(convolve1d(once, kernel, axis=-1, mode="wrap"))


def stated_variance(conditions: Conditions, science: FloatArray, template: FloatArray) -> FloatArray:
    """Variance planes as Rubin states them, (3, h, w), of the noiseless science and template, without sky."""
    share = (conditions.template_noise / conditions.science_noise) ** 2
    own = conditions.science_noise**2 + np.maximum(science, 0) / conditions.electrons
    of_template = conditions.template_noise**2 + share * np.maximum(template, 0) / conditions.electrons
    return np.stack([own, of_template, own + of_template])
