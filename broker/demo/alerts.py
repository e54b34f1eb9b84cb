"""The demonstration's alerts: scenes seen by both surveys, written as packets; some broken on purpose."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle, zip_longest

import numpy as np

from broker.alert import BANDS, Survey
from broker.demo.exposure import ARTEFACTS, Conditions, Exposure, expose
from broker.demo.sky import AB_ZERO_POINT_NJY, RARITIES, Scene, draw_scene
from broker.errors import Reason
from broker.testing.broken import (
    BrokenMessage,
    BrokenStamp,
    broken_lsst_stamps,
    broken_messages,
    broken_ztf_stamps,
)
from broker.testing.packets import StampLike, Visit, lsst_packet, ztf_packet
from broker.testing.stamps import Stamp

SHARES = {
    "disk": 0.27,
    "bulge": 0.15,
    "edge_on": 0.10,
    "merger": 0.08,
    "star": 0.17,
    "transient": 0.13,
    "bogus": 0.10,
}
"""Of what is whole and no rarity."""

RARE_SHARE = 0.03
"""Of each of the `RARITIES`, among all alerts; ten times what a survey sees is still few."""

SIGNAL_TO_NOISE = (7.0, 80.0)
LSST_SCHEMA_IDS = (900, 1000, 1100, 1101)
ZTF_DETECTOR = (3072, 3080)
ZTF_STARS_SHOW = 22.0
"""AB magnitude in i at which the demonstration's PS1 catalogue ends."""

FIRST_LSST_ID = 170_500_000_000_000_000
FIRST_ZTF_ID = 3_100_000_000_000_010_000
MJD = 61_360.1
"""2026 November 16: Rubin and ZTF both observe."""


@dataclass(frozen=True, slots=True)
class SimulatedAlert:
    """One message of the demonstration.

    Attributes
    ----------
    drawn_as : str
        A kind of `broker.demo.sky`, or what is broken.
    survey : Survey or None
        None where the message is no alert.
    alert_id : int or None
    value : bytes or None
    readable : bool
        False for what must become a dead letter.
    """

    drawn_as: str
    survey: Survey | None
    alert_id: int | None
    value: bytes | None
    readable: bool = True


def simulate(count: int, seed: int) -> Iterator[SimulatedAlert]:
    """Make the demonstration's messages, one by one.

    Parameters
    ----------
    count : int
        Messages in all; about one in forty cannot be read, as many have a stamp that cannot.
    seed : int
        The same seed and count make the same bytes.

    Yields
    ------
    SimulatedAlert
        Both surveys mixed.
    """
    rng = np.random.default_rng(seed)
    broken = cycle(_one_reason_after_another())
    for number, kind in enumerate(_kinds(count, rng)):
        if kind == "dead_letter":
            message = next(broken)
            yield SimulatedAlert(message.label, None, None, message.value, readable=False)
        else:
            yield _alert(kind, number, rng)


def _kinds(count: int, rng: np.random.Generator) -> list[str]:
    """Choose what each message shall be, in random order."""
    n_broken, n_partial = max(1, count // 40), max(1, count // 40)
    n_rare = max(1, round(RARE_SHARE * count / len(RARITIES)))
    special = ["dead_letter"] * n_broken + ["broken_stamp"] * n_partial + list(RARITIES) * n_rare
    special = (special + ["asteroid"] * (1 + count // 100))[:count]
    names, shares = list(SHARES), np.array(list(SHARES.values()))
    common = rng.choice(names, count - len(special), p=shares / shares.sum())
    return [str(kind) for kind in rng.permutation([*special, *common])]


def _one_reason_after_another() -> list[BrokenMessage]:
    """Broken messages in an order in which few show every reason."""
    by_reason = [[m for m in broken_messages() if m.reason is reason] for reason in Reason]
    return [message for turn in zip_longest(*by_reason) for message in turn if message is not None]


def _alert(kind: str, number: int, rng: np.random.Generator) -> SimulatedAlert:
    survey = Survey.LSST if kind == "asteroid" or rng.uniform() < 0.5 else Survey.ZTF  # noqa: PLR2004
    return (_lsst_alert if survey is Survey.LSST else _ztf_alert)(kind, number, rng)


def _observe(kind: str, survey: Survey, rng: np.random.Generator) -> tuple[Scene, Conditions, Exposure]:
    conditions = Conditions.draw(survey, rng)
    artefact = str(rng.choice(ARTEFACTS)) if kind == "bogus" else None
    # Dipoles are what bad registration leaves of a star.
    static = {"dipole": "star", "broken_stamp": "disk", "asteroid": "transient"}.get(artefact or kind, kind)
    scene = draw_scene(static, survey, conditions.canvas, rng)
    low, high = np.log(SIGNAL_TO_NOISE)
    sign = -1.0 if kind == "star" and rng.uniform() < 0.4 else 1.0  # noqa: PLR2004
    return (
        scene,
        conditions,
        expose(scene, conditions, sign * float(np.exp(rng.uniform(low, high))), artefact, rng),
    )


def _lsst_alert(kind: str, number: int, rng: np.random.Generator) -> SimulatedAlert:
    _, conditions, exposure = _observe(kind, Survey.LSST, rng)
    alert_id = FIRST_LSST_ID + number
    visit = Visit(
        mjd_tai=MJD + number * 1e-5,
        band=BANDS[conditions.band],
        psf_flux=exposure.psf_flux,
        psf_flux_error=exposure.psf_flux_error,
        template_flux=float(exposure.template_fluxes[conditions.band]),
        science_flux=exposure.science_flux,
    )
    asteroid = kind == "asteroid"
    ra, dec = _pointing(-70.0, 5.0, rng)
    value = lsst_packet(
        _spoiled(exposure.stamps, broken_lsst_stamps, rng) if kind == "broken_stamp" else exposure.stamps,
        schema_id=int(rng.choice(LSST_SCHEMA_IDS)),
        alert_id=alert_id,
        object_id=0 if asteroid else alert_id - int(rng.integers(10_000)),
        ss_object_id=int(rng.integers(10**15, 10**16)) if asteroid else None,
        ra=ra,
        dec=dec,
        visit=visit,
        history=None if asteroid else _history(visit, exposure, rng),
        corner=(int(rng.integers(100, 3900)), int(rng.integers(100, 3900))),
        rotation=float(rng.uniform(-180, 180)),
    )
    return SimulatedAlert(kind, Survey.LSST, alert_id, value)


def _history(visit: Visit, exposure: Exposure, rng: np.random.Generator) -> list[Visit]:
    """Draw earlier visits in other bands, from which the host's colours are known."""
    nights = np.sort(rng.uniform(1.0, 40.0, int(rng.integers(0, 7))))[::-1]
    past = []
    for nights_ago in nights:
        band = int(rng.choice(len(BANDS), p=(0.06, 0.16, 0.24, 0.24, 0.18, 0.12)))
        new = (visit.psf_flux or 0.0) * float(rng.uniform(0.3, 1.1))
        template = float(exposure.template_fluxes[band])
        past.append(
            replace(
                visit,
                mjd_tai=visit.mjd_tai - float(nights_ago),
                band=BANDS[band],
                psf_flux=new,
                template_flux=template,
                science_flux=template + new,
            )
        )
    return past


def _ztf_alert(kind: str, number: int, rng: np.random.Generator) -> SimulatedAlert:
    scene, conditions, exposure = _observe(kind, Survey.ZTF, rng)
    alert_id = FIRST_ZTF_ID + number
    canvas = conditions.canvas
    # The stamp's middle is the detector pixel nearest to the alert; positions there count from 1.
    corner = rng.integers(100, np.array(ZTF_DETECTOR) - 200)
    magnitude = AB_ZERO_POINT_NJY - 2.5 * np.log10(max(abs(exposure.psf_flux), exposure.psf_flux_error))
    ps1, distance = _nearest_source(scene, rng)
    ra, dec = _pointing(-28.0, 75.0, rng)
    value = ztf_packet(
        _spoiled(exposure.stamps, broken_ztf_stamps, rng) if kind == "broken_stamp" else exposure.stamps,
        alert_id=alert_id,
        object_id=f"ZTF26sim{_letters(number)}",
        ra=ra,
        dec=dec,
        mjd=MJD + number * 1e-5,
        band=BANDS[conditions.band],
        magnitude=float(magnitude),
        magnitude_error=1.0857
        * exposure.psf_flux_error
        / max(abs(exposure.psf_flux), exposure.psf_flux_error),
        position=(float(corner[0] + canvas.x + 1), float(corner[1] + canvas.y + 1)),
        ps1=ps1,
        ps1_distance=distance,
        fwhm=conditions.science.fwhm / canvas.pixel_scale,
        zero_point=conditions.zero_point,
        fields={"isdiffpos": "t" if exposure.brightened else "f"},
    )
    return SimulatedAlert(kind, Survey.ZTF, alert_id, value)


def _nearest_source(scene: Scene, rng: np.random.Generator) -> tuple[dict[str, float], float]:
    """Find magnitudes and distance of the nearest source that a catalogue would list."""
    found = [(float(np.hypot(*scene.host_offset)), scene.host_fluxes)] if scene.host_fluxes.any() else []
    found += [(float(np.hypot(p.x, p.y)), p.fluxes) for p in scene.points if np.hypot(p.x, p.y) > 3.0]  # noqa: PLR2004
    limit = 10 ** (0.4 * (AB_ZERO_POINT_NJY - ZTF_STARS_SHOW))
    listed = sorted((pair for pair in found if pair[1][BANDS.index("i")] > limit), key=lambda pair: pair[0])
    if not listed:
        return {}, -999.0
    distance, fluxes = listed[0]
    magnitudes = AB_ZERO_POINT_NJY - 2.5 * np.log10(fluxes) + rng.normal(0, 0.03, len(BANDS))
    return {band: float(magnitudes[BANDS.index(band)]) for band in "griz"}, distance + abs(rng.normal(0, 0.1))


def _spoiled(
    stamps: tuple[Stamp, Stamp, Stamp],
    garbage: Callable[[], tuple[BrokenStamp, ...]],
    rng: np.random.Generator,
) -> tuple[StampLike, ...]:
    """Put garbage or nothing in the place of one stamp."""
    kinds = (None, *(broken.content for broken in garbage()))
    spoiled: list[StampLike] = list(stamps)
    spoiled[int(rng.integers(len(stamps)))] = kinds[int(rng.integers(len(kinds)))]
    return tuple(spoiled)


def _pointing(south: float, north: float, rng: np.random.Generator) -> tuple[float, float]:
    """Draw a position, even over the sky between two declinations."""
    low, high = np.sin(np.radians([south, north]))
    return float(rng.uniform(0, 360)), float(np.degrees(np.arcsin(rng.uniform(low, high))))


def _letters(number: int) -> str:
    """Four letters that count, as survey names end: 0 is aaaa, 27 is aabb."""
    return "".join(chr(ord("a") + number // 26**place % 26) for place in (3, 2, 1, 0))
