"""Why an alert is called unusual, in words: from what was published of it, the same every time."""

import math
from collections.abc import Iterator, Sequence
from typing import Final

from broker import flags
from broker.alert import ROLES, Float32Array

UNUSUAL: Final = 0.9
"""Anomaly from which an alert is called unusual: one in ten of the reference population is."""

LIKELY: Final = 0.5
"""Probability from which something is said to be so: more likely than not."""

UNSEEN: Final = (flags.CUTOUT_NULL, flags.CUTOUT_UNREADABLE, flags.NOISE_UNKNOWN)

_UNSEEN_ROLES: Final = {role: frozenset(flags.of_stamp(flag, role) for flag in UNSEEN) for role in ROLES}
_HOLED_ROLES: Final = {role: flags.of_stamp(flags.NAN_PIXELS, role) for role in ROLES}

CAVEATS: Final = {
    flags.NO_HOST: "no host visible",
    flags.SOLAR_SYSTEM: "a known solar-system object",
    flags.OUTSIDE_TRAINING_RANGE: "photometry outside the range of training",
    flags.EDGE: "cut at the detector's edge",
    flags.BAND_UNKNOWN: "filter unknown",
    flags.WCS_IMPLAUSIBLE: "position or scale of a stamp in doubt",
}
"""Flags that bear on how an alert looks, in the order they are said."""


def reason(
    anomaly: float,
    artefact: float | None,
    likeness: tuple[Sequence[str], Float32Array] | None,
    artefact_class: str | None,
    words: Sequence[str],
) -> str:
    """Say what the anomaly scores rest on.

    Parameters
    ----------
    anomaly : float
        In [0, 1].
    artefact : float or None
        ``anomaly_artefact``, where the model has it.
    likeness : (classes, probabilities) or None
        Morphology, where there is one.
    artefact_class : str or None
        Class that stands for artefacts, where the model names one.
    words : sequence of str
        The alert's flags.

    Returns
    -------
    str
        Such as ``unusual: farther from known alerts than 99.3 % of the reference; most like disk (83 %); no
        host visible``.
    """
    chances = {} if likeness is None else dict(zip(likeness[0], likeness[1].tolist(), strict=True))
    verdict = _verdict(anomaly, chances.get(artefact_class or "", 0.0))
    parts = [f"{verdict}: farther from known alerts than {_percent(anomaly)} of the reference"]
    if artefact is not None and artefact >= UNUSUAL:
        parts.append(f"more like an artefact than {_percent(artefact)}")
    if chances:
        parts.append(_likeness(chances))
    return "; ".join((*parts, *_caveats(words)))


def _verdict(anomaly: float, artefact_chance: float) -> str:
    if artefact_chance >= LIKELY:
        return "probably an artefact"
    return "unusual" if anomaly >= UNUSUAL else "usual"


def _likeness(chances: dict[str, float]) -> str:
    top = max(chances, key=chances.__getitem__)
    clear = "" if chances[top] >= LIKELY else "no clear class, "
    return f"{clear}most like {top.replace('_', ' ')} ({chances[top]:.0%})".replace("%", " %")


def _percent(share: float) -> str:
    """Tenths of a per cent, rounded down: no alert is said to be stranger than all."""
    return f"{min(math.floor(share * 1000), 999) / 10:.1f} %"


def _caveats(words: Sequence[str]) -> Iterator[str]:
    raised = set(words)
    unseen = [role for role, of_role in _UNSEEN_ROLES.items() if not raised.isdisjoint(of_role)]
    holes = [role for role, word in _HOLED_ROLES.items() if word in raised]
    if unseen:
        yield f"not seen: {', '.join(unseen)}"
    if holes:
        yield f"holes in: {', '.join(holes)}"
    yield from (text for flag, text in CAVEATS.items() if flag in raised)
