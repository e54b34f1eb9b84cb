"""Simulated alerts as the surveys would send them: real packets, and a table of the truth."""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from rich.progress import track

from broker.alert import BANDS, Survey
from broker.testing.packets import Visit, lsst_packet, ztf_packet
from broker.testing.stamps import Stamp
from encoder.simulate.alerts import SimulatedAlert
from encoder.simulate.colours import AB_ZERO_POINT_NJY
from encoder.simulate.driver import simulated_alerts
from encoder.simulate.populations import CLASSES

LABELS_FILE = "labels.csv"
LABELS_HEADER = ("alert_id", "object_id", "survey", "class", "redshift", "file")

MJD = 61_400.0
"""2026 December 26; object by object a second apart."""

VISIT_SPACING = 3.0
"""Days between the visits of a history."""


def to_packet(alert: SimulatedAlert) -> bytes:
    """Write one alert as its survey does.

    Parameters
    ----------
    alert : SimulatedAlert

    Returns
    -------
    bytes
        Rubin: a Confluent frame of schema 11.1; ZTF: an object container of schema 4.02.
    """
    return _lsst(alert) if alert.survey is Survey.LSST else _ztf(alert)


def write_packets(alerts: Iterable[SimulatedAlert], folder: Path) -> list[Path]:
    """Write packets into a folder, and beside them ``labels.csv`` with the truth.

    Parameters
    ----------
    alerts : iterable of SimulatedAlert
    folder : Path
        Made where it does not exist.

    Returns
    -------
    list of Path
        The packets, in the order of the alerts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with (folder / LABELS_FILE).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(LABELS_HEADER)
        for alert in alerts:
            path = folder / f"{alert.survey.value}_{alert.alert_id}.avro"
            path.write_bytes(to_packet(alert))
            redshift = "" if math.isnan(alert.redshift) else f"{alert.redshift:.4f}"
            survey = alert.survey.value
            table.writerow((alert.alert_id, alert.object_id, survey, alert.label, redshift, path.name))
            paths.append(path)
    return paths


def simulate_packets(
    n: int,
    seed: int,
    folder: Path,
    *,
    surveys: Sequence[Survey] = tuple(Survey),
    classes: Sequence[str] = CLASSES,
    visits: int = 1,
    first: int = 0,
) -> list[Path]:
    """Simulate alerts into packets; the same as `encoder.simulate.simulate` puts into shards.

    Parameters
    ----------
    n, seed : int
    folder : Path
        Made where it does not exist.
    surveys, classes : sequence
        Take turns.
    visits : int
        Alerts of each object.
    first : int
        Number of the first object.

    Returns
    -------
    list of Path
    """
    alerts = simulated_alerts(range(first, first + n), seed, surveys, classes, visits)
    shown = track(alerts, description=f"simulate {n} objects", total=n * visits)
    return write_packets(shown, folder)


def _position(alert: SimulatedAlert) -> tuple[float, float]:
    """Give an object its place on the sky, spread evenly over what both surveys see."""
    golden = (1 + math.sqrt(5)) / 2
    ra = 360.0 * (alert.object_number / golden % 1.0)
    dec = -25.0 + 30.0 * (alert.object_number / golden**2 % 1.0)
    return ra, dec


def _mjd(alert: SimulatedAlert) -> float:
    return MJD + alert.object_number % 86_400 / 86_400 + VISIT_SPACING * (alert.alert_id % 100)


def _lsst(alert: SimulatedAlert) -> bytes:
    conditions, exposure = alert.conditions, alert.exposure
    psfs = (conditions.science_psf, conditions.template_psf, conditions.science_psf)
    stamps = [
        Stamp(pixels, variance, psf.kernel, (conditions.frame.x, conditions.frame.y))
        for pixels, variance, psf in zip(exposure.stamps, exposure.variance, psfs, strict=True)
    ]
    ra, dec = _position(alert)
    mjd = _mjd(alert)
    known = np.flatnonzero(np.isfinite(alert.template_flux))
    others = [int(b) for b in known if b != conditions.band]
    history = [
        Visit(
            mjd_tai=mjd - VISIT_SPACING * (len(others) - k),
            band=BANDS[b],
            psf_flux=exposure.flux,
            psf_flux_error=exposure.flux_error,
            template_flux=float(alert.template_flux[b]),
            science_flux=float(alert.template_flux[b]) + exposure.flux,
        )
        for k, b in enumerate(others)
    ]
    own = float(alert.template_flux[conditions.band]) if conditions.band in known else None
    return lsst_packet(
        stamps,
        alert_id=alert.alert_id,
        object_id=alert.object_number,
        ra=ra,
        dec=dec,
        visit=Visit(
            mjd_tai=mjd,
            band=BANDS[conditions.band],
            psf_flux=exposure.flux,
            psf_flux_error=exposure.flux_error,
            template_flux=own,
            science_flux=None if own is None else own + exposure.flux,
        ),
        history=history,
    )


def _ztf(alert: SimulatedAlert) -> bytes:
    conditions, exposure = alert.conditions, alert.exposure
    detector = conditions.frame.detector_position or (0.0, 0.0)
    ra, dec = _position(alert)
    flux = max(abs(exposure.flux), 1e-3)
    return ztf_packet(
        [Stamp(pixels) for pixels in exposure.stamps],
        alert_id=alert.alert_id,
        object_id=alert.object_id,
        ra=ra,
        dec=dec,
        mjd=_mjd(alert),
        band=BANDS[conditions.band],
        magnitude=AB_ZERO_POINT_NJY - 2.5 * math.log10(flux),
        magnitude_error=1.0857 * exposure.flux_error / flux,
        # ZTF counts pixels from one.
        position=(detector[0] + 1.0, detector[1] + 1.0),
        ps1=alert.ps1.by_band,
        ps1_distance=alert.ps1.distance,
        fwhm=conditions.science_psf.fwhm / conditions.pixel_scale,
        zero_point=conditions.zero_point,
        fields={"isdiffpos": "t" if exposure.brightened else "f"},
    )
