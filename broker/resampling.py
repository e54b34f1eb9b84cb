"""Native pixels to the common grid.

The rule. Pixel (i, j) of the grid sits at the offset ((j - c) s, (i - c) s) arcsec from the alert's
position, with c = (size - 1) / 2 and s the grid's scale; in the native stamp that is
``centre + offset / native_scale``. There the valid pixels m are interpolated bilinearly,
value = W(m x) / W(m), and the pixel counts where W(m) >= 0.5; beyond the stamp nothing is valid. Times
(s / native_scale)^2 the value is flux per grid pixel. W is separable, so it is two small matrices: rows
(size, h) and columns (size, w).
"""

import math
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from broker.alert import Float32Array

BoolArray: TypeAlias = NDArray[np.bool_]

VALID_WEIGHT: Final = 0.5
"""A grid pixel counts where at least half of its interpolation weight fell on valid pixels."""

BILINEAR_NOISE: Final = 2.0 / 3.0
"""Bilinear interpolation averages: of white noise it leaves a variance of (1 - f)^2 + f^2 per axis, whose
mean over all fractions f is 2/3, thus 2/3 of the standard deviation in two axes."""

_TINY: Final = np.float32(1e-6)
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


def grid_noise(native_noise: float, native_scale: float, grid_scale: float) -> float:
    """Noise of a grid pixel from that of a native pixel.

    Parameters
    ----------
    native_noise : float
        Standard deviation of a native pixel.
    native_scale, grid_scale : float
        Arcseconds per pixel.

    Returns
    -------
    float
        Standard deviation of a grid pixel in flux per grid pixel: the area's ratio times `BILINEAR_NOISE`.
    """
    return native_noise * (grid_scale / native_scale) ** 2 * BILINEAR_NOISE


def resample(
    image: Float32Array,
    mask: BoolArray | Float32Array,
    centre: tuple[float, float],
    native_scale: float,
    grid_scale: float,
    size: int,
) -> tuple[Float32Array, Float32Array]:
    """Interpolate stamps of one geometry onto the grid.

    Parameters
    ----------
    image : Float32Array, shape (n, h, w)
        What it holds where masked does not matter.
    mask : BoolArray or Float32Array, shape (n, h, w)
        True or 1 where a pixel is valid.
    centre : tuple of float
        0-based (x, y) of the alert in native pixels.
    native_scale, grid_scale : float
        Arcseconds per pixel.
    size : int
        Side of the grid.

    Returns
    -------
    image, mask : Float32Array, shape (n, size, size)
        Flux per grid pixel, 0 where masked; 1 where valid, else 0.
    """
    ratio = grid_scale / native_scale
    row_range = _reach(image.shape[1], centre[1], ratio, size)
    column_range = _reach(image.shape[2], centre[0], ratio, size)
    image, mask = image[:, row_range, column_range], mask[:, row_range, column_range]
    rows = weights(image.shape[1], centre[1] - row_range.start, ratio, size)
    columns = weights(image.shape[2], centre[0] - column_range.start, ratio, size)
    if mask.all():
        laid, covered = _whole(rows, image, columns)
    else:
        laid, covered = _masked(rows, image, mask.astype(bool), columns)
    laid *= np.float32(ratio * ratio)
    return laid, covered


def weights(length: int, centre: float, ratio: float, size: int) -> Float32Array:
    """Bilinear weights along one axis.

    Parameters
    ----------
    length : int
        Native pixels along the axis.
    centre : float
        0-based native coordinate of the alert.
    ratio : float
        Grid scale over native scale.
    size : int
        Side of the grid.

    Returns
    -------
    Float32Array, shape (size, length)
        A tent of half-width one native pixel around each grid pixel; rows sum to less than 1 at the stamp's
        edge and to 0 beyond it.
    """
    positions = (centre + _offsets(size) * ratio).astype(np.float32)
    tent: Float32Array = positions[:, None] - _pixels(length)
    np.abs(tent, out=tent)
    np.subtract(_ONE, tent, out=tent)
    np.maximum(tent, _ZERO, out=tent)
    return tent


def _reach(length: int, centre: float, ratio: float, size: int) -> slice:
    """Native pixels the grid touches: a third of a ZTF stamp's side, and so a ninth of the work."""
    half = (size - 1) / 2 * ratio
    start = min(max(0, math.floor(centre - half)), length - 1)
    return slice(start, max(start + 1, min(length, math.floor(centre + half) + 2)))


@lru_cache(maxsize=8)
def _offsets(size: int) -> NDArray[np.float64]:
    return np.arange(size, dtype=np.float64) - (size - 1) / 2


@lru_cache(maxsize=128)
def _pixels(length: int) -> Float32Array:
    return np.arange(length, dtype=np.float32)


@lru_cache(maxsize=128)
def _ones(length: int) -> Float32Array:
    return np.ones(length, dtype=np.float32)


def _whole(
    rows: Float32Array, image: Float32Array, columns: Float32Array
) -> tuple[Float32Array, Float32Array]:
    """Interpolate stamps without a masked pixel: W(m) is the product of the row sums and the column sums."""
    row_sums, column_sums = rows @ _ones(rows.shape[1]), columns @ _ones(columns.shape[1])
    covered = (row_sums[:, None] * column_sums >= VALID_WEIGHT).astype(np.float32)
    rows /= np.maximum(row_sums, _TINY)[:, None]
    columns /= np.maximum(column_sums, _TINY)[:, None]
    laid = _apply(rows, image, columns)
    laid *= covered
    return laid, np.array([covered] * len(image))


def _masked(
    rows: Float32Array, image: Float32Array, mask: BoolArray, columns: Float32Array
) -> tuple[Float32Array, Float32Array]:
    both = np.concatenate([np.where(mask, image, _ZERO), mask.astype(np.float32)])
    interpolated = _apply(rows, both, columns)
    total, weight = interpolated[: len(image)], interpolated[len(image) :]
    covered = weight >= VALID_WEIGHT
    laid = np.zeros_like(total)
    np.divide(total, weight, out=laid, where=covered)
    return laid, covered.astype(np.float32)


def _apply(rows: Float32Array, stack: Float32Array, columns: Float32Array) -> Float32Array:
    """Interpolate along both axes: rows @ stamp @ columns.T for each of the stack."""
    # One small product a stamp: larger ones make BLAS wake its threads, which costs more than it saves.
    result: Float32Array = np.matmul(rows, np.matmul(stack, columns.T))
    return result
