"""What of an alert is known without any network: the baselines of a probe."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from broker.alert import Alert
from broker.contract import Grid
from broker.geometry import lay
from broker.photometry import magnitude
from encoder.evaluate import Floats

COMPONENTS = 64
"""Principal components of the pixels; as many as the embedding has numbers."""

UNKNOWN_MAGNITUDE = 0.0
"""Stands for light that the packet does not have; a column beside it says so."""

PIXELS, PHOTOMETRY = "probe on PCA of pixels", "probe on the packet's photometry"


def plain_row(alert: Alert, grid: Grid) -> dict[str, Floats]:
    """Say what a network is given of an alert, as numbers.

    Parameters
    ----------
    alert : Alert
    grid : Grid

    Returns
    -------
    dict of str to Floats
        ``pixels``: the three stamps on the common grid in units of their noise, arcsinh as the eye has it, in one row;
        ``photometry``: AB magnitude in each band, and whether it is known.
    """
    stamps = lay(alert, grid)
    noise = np.where(stamps.noise > 0, stamps.noise, 1.0)[..., None, None]
    known = alert.photometry > 0
    light = np.full(len(known), UNKNOWN_MAGNITUDE)
    light[known] = magnitude(alert.photometry[known])
    return {
        "pixels": np.arcsinh(stamps.image / noise).ravel().astype(np.float64),
        "photometry": np.hstack([light, known]).astype(np.float64),
    }


def plain_features(rows: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[np.float64]]:
    """Name what a probe may read beside the embedding; nothing where rows were not made by `plain_row`.

    Returns
    -------
    dict of str to Floats, shape (n, d)
        Components are of these rows, without their labels.
    """
    if "pixels" not in rows[0]:
        return {}
    pixels = np.stack([row["pixels"] for row in rows])
    count = min(COMPONENTS, *pixels.shape)
    return {
        PIXELS: PCA(count, random_state=0).fit_transform(pixels),
        PHOTOMETRY: np.stack([row["photometry"] for row in rows]),
    }
