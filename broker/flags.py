"""The closed vocabulary of flags: what is unusual about an alert, in words.

``docs/flags.md`` says what each means to a reader; a test holds the two together. A flag
that belongs to one stamp ends in its role, as in ``cutout_null:template``.
"""

from collections.abc import Iterable
from typing import Final

from broker.alert import ROLES

SOLAR_SYSTEM: Final = "solar_system"
POSITION_UNKNOWN: Final = "position_unknown"
TIME_UNKNOWN: Final = "time_unknown"
BAND_UNKNOWN: Final = "band_unknown"
EDGE: Final = "edge"
NO_HOST: Final = "no_host"
WCS_IMPLAUSIBLE: Final = "wcs_implausible"
OUTSIDE_TRAINING_RANGE: Final = "outside_training_range"
MODEL_OUTPUT_INVALID: Final = "model_output_invalid"
SHED: Final = "shed"

CUTOUT_NULL: Final = "cutout_null"
CUTOUT_UNREADABLE: Final = "cutout_unreadable"
NAN_PIXELS: Final = "nan_pixels"
NOISE_UNKNOWN: Final = "noise_unknown"

ALERT_FLAGS = (
    SOLAR_SYSTEM,
    POSITION_UNKNOWN,
    TIME_UNKNOWN,
    BAND_UNKNOWN,
    EDGE,
    NO_HOST,
    WCS_IMPLAUSIBLE,
    OUTSIDE_TRAINING_RANGE,
    MODEL_OUTPUT_INVALID,
    SHED,
)
"""Flags of the whole alert."""

STAMP_FLAGS = (CUTOUT_NULL, CUTOUT_UNREADABLE, NAN_PIXELS, NOISE_UNKNOWN)
"""Flags of one stamp, published as ``flag:role``."""

PARTIAL_FLAGS = (CUTOUT_NULL, CUTOUT_UNREADABLE, NOISE_UNKNOWN, MODEL_OUTPUT_INVALID, SHED)
"""Flags that say a part of the enrichment is missing or rests on fewer than three stamps."""


def of_stamp(flag: str, role: str) -> str:
    """Flag of one stamp.

    Parameters
    ----------
    flag : str
        One of `STAMP_FLAGS`.
    role : str
        One of `broker.alert.ROLES`.

    Returns
    -------
    str
        Such as ``cutout_null:template``.
    """
    return f"{flag}:{role}"


VOCABULARY = frozenset(ALERT_FLAGS) | {of_stamp(flag, role) for flag in STAMP_FLAGS for role in ROLES}
"""Every flag that can be published."""


def is_partial(flags: Iterable[str]) -> bool:
    """Whether an alert with these flags was enriched only in part.

    Parameters
    ----------
    flags : iterable of str
        Of `VOCABULARY`.

    Returns
    -------
    bool
    """
    return any(flag.partition(":")[0] in PARTIAL_FLAGS for flag in flags)
