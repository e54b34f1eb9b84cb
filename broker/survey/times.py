"""Times of alerts: which are possible, and Rubin's TAI to UTC."""

import math
import warnings
from functools import lru_cache
from typing import Final

import erfa

MJD_ZERO: Final = 2400000.5
"""Julian date of MJD 0."""

MJD_RANGE: Final = (41317.0, 100000.0)
"""From 1972, when UTC began to differ from TAI by whole seconds, to 2132: no alert is older or younger."""


def possible(mjd: float) -> float:
    """Give back an MJD, or NaN outside `MJD_RANGE`."""
    return mjd if MJD_RANGE[0] <= mjd <= MJD_RANGE[1] else math.nan


def utc(mjd_tai: float) -> float:
    """UTC of a TAI date.

    Parameters
    ----------
    mjd_tai : float
        Days.

    Returns
    -------
    float
        Days; NaN outside `MJD_RANGE`.
    """
    if not MJD_RANGE[0] <= mjd_tai <= MJD_RANGE[1]:
        return math.nan
    return mjd_tai - _tai_minus_utc(int(mjd_tai))


@lru_cache(maxsize=64)
def _tai_minus_utc(day: int) -> float:
    """Days between TAI and UTC: by ERFA, as astropy does, whose import would be a third of the start."""
    with warnings.catch_warnings():
        # Of years ahead ERFA says that leap seconds may still be announced.
        warnings.simplefilter("ignore")
        whole, part = erfa.taiutc(MJD_ZERO + day, 0.5)
    return float(round(((MJD_ZERO + day - whole) + (0.5 - part)) * 86400.0)) / 86400.0
