"""Where an alert lies in a stamp, and how large the stamp's pixels are."""

from typing import Final

import numpy as np

from broker.alert import Alert, Survey
from broker.cutouts import Cutout

NATIVE_SCALE: Final = {Survey.LSST: 0.2, Survey.ZTF: 1.01}
"""Arcseconds per native pixel: LSSTCam (LSE-30), ZTF (Dekany et al. 2020, PASP 132, 038001). Rubin stamps
state their own, which for precursor cameras differs by up to a quarter."""

SCALE_TOLERANCE: Final = 2.0
"""A stamp that states more than twice or less than half the nominal scale has a broken WCS."""

ZTF_HALF_SIDE: Final = 31
"""A ZTF stamp reaches 31 px to each side of the pixel nearest to the alert; less at the detector's edge."""

ZTF_SIDE: Final = 2 * ZTF_HALF_SIDE + 1
"""Pixels of a side of a ZTF stamp that is whole."""


def native_scale(survey: Survey, cutout: Cutout | None = None) -> float:
    """Arcseconds per native pixel.

    Parameters
    ----------
    survey : Survey
    cutout : Cutout, optional
        Its own scale is used where it states a plausible one.

    Returns
    -------
    float
    """
    nominal = NATIVE_SCALE[survey]
    stated = None if cutout is None else cutout.pixel_scale
    if stated is None or not nominal / SCALE_TOLERANCE <= stated <= nominal * SCALE_TOLERANCE:
        return nominal
    return stated


def centre(alert: Alert, cutout: Cutout) -> tuple[float, float]:
    """Where the alert lies in a stamp.

    Rubin stamps say so themselves. ZTF cuts 31 px to each side of the pixel nearest to the alert, and
    less where the detector ends, so the position on the detector tells how much is missing on the low side.

    Parameters
    ----------
    alert : Alert
    cutout : Cutout

    Returns
    -------
    tuple of float
        0-based (x, y) in native pixels; the stamp's middle where nothing says better.
    """
    height, width = cutout.image.shape
    if alert.survey is Survey.LSST:
        found = cutout.centre
    elif alert.position is None:
        found = None
    else:
        found = (behind_edge(alert.position[0]), behind_edge(alert.position[1]))
    if found is None or not (_is_inside(found[0], width) and _is_inside(found[1], height)):
        return (width - 1) / 2, (height - 1) / 2
    return found


def _is_inside(coordinate: float, length: int) -> bool:
    return 0.0 <= coordinate + 0.5 <= length


def behind_edge(position: float) -> float:
    """Give the 0-based coordinate in a ZTF stamp of a 0-based detector coordinate."""
    return position - max(0.0, float(np.rint(position)) - ZTF_HALF_SIDE)
