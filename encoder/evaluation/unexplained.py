"""Structure that the light of a galaxy does not explain: what is unusual for its brightness, size and colour.

A bright galaxy differs from most others of a pool by being bright. So what is measured of each image is held against
what images of like light have: the azimuthal structure of each ring and band against the light of all rings, and the
light of all rings against that of the inner ones. An arc, a second nucleus or a tail leaves residuals; brightness, size
and colour leave none.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from torch import Tensor

from encoder.evaluate import Floats
from encoder.images.config import ImageNetworkConfig
from encoder.images.shape import AMPLITUDE_FLOOR, RINGS, rings_of
from encoder.images.views import ImageSource, ImageView, as_given

CHUNK = 512
FIELD = 36
"""Side of the sky that rings reach over, in pixels: 7 arcsec of Rubin's, where the light of a galaxy is."""

ORDERS = slice(1, 4)
"""Azimuthal orders of Fourier: lopsided, elongated, three-armed. Higher ones are mostly noise at this sampling."""

INNER = 2
"""Rings whose light is taken as given where that of all rings is asked about."""

COMPONENTS, DEGREE = 12, 3
"""Principal components of the light, and the degree of the polynomial in them that is fitted."""

STRENGTHS = (1.0, 10.0, 100.0, 1000.0)
BINS = 20
"""Of brightness, in each of which residuals are brought to unit scatter: faint images scatter more."""

LARGEST = 5
"""Residuals of an image that count: most of an unusual galaxy is usual."""


@dataclass(frozen=True, slots=True)
class Unexplained:
    """What is left of each image of a pool.

    Attributes
    ----------
    residual : ndarray, shape (n, d)
        In units of the scatter among images as bright.
    score : ndarray, shape (n,)
        The higher, the more unusual: Fisher's sum of the logarithms of both parts' tails.
    """

    residual: Floats
    score: Floats


def unexplained(images: ImageSource, network: ImageNetworkConfig) -> Unexplained:
    """Hold every image against the others of its pool; no label is used.

    Parameters
    ----------
    images : Images
        Fluxes in several bands.
    network : ImageNetworkConfig
        Its kind, bands and size are how images are laid.
    """
    light, structure = measured(images, network.model_copy(update={"field": FIELD}))
    inner = light.reshape(len(light), -1, RINGS)[:, :, :INNER].reshape(len(light), -1)
    bins = np.argsort(np.argsort(light.sum(1), kind="stable")) * BINS // len(light)
    parts = [residual(structure, light, bins), residual(light, inner, bins)]
    return Unexplained(np.concatenate(parts, axis=1), np.sum([tail(part) for part in parts], axis=0))


def measured(images: ImageSource, network: ImageNetworkConfig) -> tuple[Floats, Floats]:
    """Light (n, bands rings) and azimuthal amplitudes (n, bands rings orders) of every band.

    Light is the inverse hyperbolic sine of twice its signal to noise a pixel, so that rings fainter than the sky keep
    their sign; amplitudes are logarithms. What a missing band would have is taken as the mean of those that have it.
    """
    found = [
        _of_bands(as_given(images[slice(start, start + CHUNK)], network))
        for start in range(0, len(images), CHUNK)
    ]
    light, structure = (torch.cat(part).double().numpy() for part in zip(*found, strict=True))
    return _filled(light), _filled(structure)


def _of_bands(view: ImageView) -> tuple[Tensor, Tensor]:
    seen = view.noise > 0
    scaled = view.pixels / torch.where(seen, view.noise, 1.0)[..., None, None]
    rings = rings_of(scaled.flatten(0, 1))
    rings = rings.view(*seen.shape, *rings.shape[1:])
    missing = ~seen[..., None]
    light = torch.asinh(2 * rings[..., 0].real).masked_fill(missing, torch.nan)
    structure = torch.log(rings[..., ORDERS].abs() + AMPLITUDE_FLOOR).masked_fill(
        missing[..., None], torch.nan
    )
    return light.flatten(1), structure.flatten(1)


def _filled(measure: Floats) -> Floats:
    known = np.isfinite(measure)
    mean = np.where(known, measure, 0.0).sum(0) / known.sum(0).clip(1)
    return np.asarray(np.where(known, measure, mean))


def residual(asked: Floats, given: Floats, bins: NDArray[np.int64]) -> Floats:
    """Subtract from (n, d) what a smooth function of (n, g) says, in units of the scatter within each bin."""
    standard = (asked - asked.mean(0)) / (asked.std(0) + 1e-9)
    fitted = make_pipeline(
        PCA(min(COMPONENTS, given.shape[1]), whiten=True, random_state=0),
        PolynomialFeatures(DEGREE),
        RidgeCV(STRENGTHS),
    ).fit(given, standard)
    left = standard - fitted.predict(given)
    for one in np.unique(bins):
        left[bins == one] /= left[bins == one].std(0) + 1e-9
    return np.asarray(left)


def tail(residuals: Floats) -> Floats:
    """Score (n,) rows of (n, d) by their largest: minus the logarithm of the share of rows beyond."""
    largest = np.sort(np.abs(residuals), axis=1)[:, -LARGEST:].mean(1)
    beyond = np.argsort(np.argsort(-largest, kind="stable"), kind="stable") + 1
    return np.asarray(-np.log(beyond / len(largest)))
