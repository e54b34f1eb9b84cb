"""Sky and noise of a stamp from its own pixels, and which of them count."""

from typing import Final

import numpy as np

from broker.alert import Float32Array, Survey
from broker.resampling import BoolArray

LARGEST_PIXEL: Final = 1e30
"""nJy or DN; what lies beyond is no measurement, and would overflow float32 when summed."""


def sky_and_noise(
    image: Float32Array, valid: BoolArray, variance: Float32Array | None, *, survey: Survey, role: str
) -> tuple[float, float]:
    """Sky level to subtract and noise of a native pixel.

    Rubin subtracts the sky itself and publishes the variance; the noise is the root of its mean.
    ZTF leaves the sky in science and template (median), and the noise must come from the pixels: the
    distance from the 16th percentile to the median, on the side that sources do not reach.

    Parameters
    ----------
    image : Float32Array, shape (h, w)
    valid : BoolArray, shape (h, w)
    variance : Float32Array, shape (h, w), or None
    survey : Survey
    role : str
        One of `broker.alert.ROLES`.

    Returns
    -------
    sky, noise : float
        In the units of ``image``; a noise of 0 means it cannot be told.
    """
    if variance is not None:
        if not (variance.min() > 0.0 and variance.max() < LARGEST_PIXEL):
            variance = variance[(variance > 0.0) & (variance < LARGEST_PIXEL)]
        if variance.size:
            return 0.0, (float(np.add.reduce(variance, axis=None)) / variance.size) ** 0.5
    values = image.ravel() if valid.all() else image[valid]
    if values.size == 0:
        return 0.0, 0.0
    low, middle = (int(q * (values.size - 1)) for q in (0.16, 0.5))
    ordered = np.partition(values, (low, middle))
    noise = float(ordered[middle]) - float(ordered[low])
    sky = float(ordered[middle]) if has_sky(survey, role) else 0.0
    return sky, noise


def has_sky(survey: Survey, role: str) -> bool:
    """Whether the survey leaves the sky in such a stamp."""
    return survey is Survey.ZTF and role != "difference"


def has_bare_side(valid: BoolArray) -> bool:
    """Whether a side of a stamp has no valid pixel."""
    return not all(side.any() for side in (valid[0], valid[-1], valid[:, 0], valid[:, -1]))
