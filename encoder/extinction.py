"""Extinction by the dust of our Galaxy in each survey's bands."""

from collections.abc import Sequence

import numpy as np

from broker.alert import BANDS, Float32Array, Survey

EXTINCTION = {
    Survey.LSST: (4.145, 3.237, 2.273, 1.684, 1.323, 1.088),
    Survey.ZTF: (4.239, 3.172, 2.271, 1.682, 1.322, 1.087),
}
"""A_band / E(B-V) in the order of `broker.alert.BANDS`, R_V = 3.1, on the scale of Schlegel, Finkbeiner and
Davis 1998 as recalibrated by Schlafly and Finkbeiner 2011 (ApJ 737, 103, table 6): LSST's filters; for ZTF
Pan-STARRS1's, from whose catalogue its packets' photometry is, and SDSS's u."""

SDSS_EXTINCTION = {"u": 4.239, "g": 3.303, "r": 2.285, "i": 1.698, "z": 1.263}
"""A_band / E(B-V) (the same table), SDSS's filters."""

LSST_EXTINCTION = dict(zip(BANDS, EXTINCTION[Survey.LSST], strict=True))


def extinction_of(bands: Sequence[str]) -> Float32Array:
    """A_band / E(B-V) of each band (bands,): LSST's filters where y is among them, SDSS's else; 0 of others."""
    known = LSST_EXTINCTION if "y" in bands else SDSS_EXTINCTION
    return np.array([known.get(band, 0.0) for band in bands], np.float32)
