"""Rubin packets, schemas from 7.0, to `Alert`.

What is read has the same name in all of them; 7.x has no templateFlux, then nothing is
known of the host's light. The order of the identifiers is that of the issue: alerts of
solar-system objects carry a diaObjectId of 0, older schemas null.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from broker import flags
from broker.alert import BANDS, Alert, Survey
from broker.avro.deserializer import Packet
from broker.avro.recognition import INTEGER, NUMBER, TEXT, Need
from broker.photometry import forced_template_flux
from broker.survey.times import utc

WANTED: Final[Mapping[str, Need]] = {
    "diaSource.diaSourceId": Need(INTEGER, present=True, nullable=False),
    "diaSource.diaObjectId": Need(INTEGER),
    "diaSource.ssObjectId": Need(INTEGER),
    "diaSource.midpointMjdTai": Need(NUMBER, present=True),
    "diaSource.ra": Need(NUMBER, present=True),
    "diaSource.dec": Need(NUMBER, present=True),
    "diaSource.band": Need(TEXT),
    "diaSource.templateFlux": Need(NUMBER),
    "prvDiaSources[].band": Need(TEXT),
    "prvDiaSources[].templateFlux": Need(NUMBER),
}
"""Dotted paths of what is read, and what a schema must make of each."""


def read(packet: Packet) -> Alert:
    """Put a Rubin packet into the terms both surveys share.

    Parameters
    ----------
    packet : Packet
        With the fields of `WANTED`.

    Returns
    -------
    Alert
    """
    fields = packet.fields
    alert_id = fields["diaSource.diaSourceId"]
    solar_system = fields.get("diaSource.ssObjectId") or 0
    band = fields.get("diaSource.band")
    ra, dec, mjd = _finite(fields, "ra"), _finite(fields, "dec"), utc(_finite(fields, "midpointMjdTai"))
    words = {
        flags.SOLAR_SYSTEM: bool(solar_system),
        flags.POSITION_UNKNOWN: math.isnan(ra) or math.isnan(dec),
        flags.TIME_UNKNOWN: math.isnan(mjd),
        flags.BAND_UNKNOWN: band not in BANDS,
    }
    return Alert(
        survey=Survey.LSST,
        form=packet.form,
        alert_id=alert_id,
        object_id=str(fields.get("diaSource.diaObjectId") or solar_system or alert_id),
        ra=ra,
        dec=dec,
        mjd=mjd,
        band=band if band in BANDS else None,
        datum=packet.datum,
        cutouts=packet.cutouts,
        photometry=forced_template_flux(
            [band, *(fields.get("prvDiaSources[].band") or ())],
            [fields.get("diaSource.templateFlux"), *_history(fields)],
        ),
        flags=tuple(word for word, raised in words.items() if raised),
    )


def _finite(fields: Mapping[str, Any], name: str) -> float:
    value = fields.get(f"diaSource.{name}")
    return value if value is not None and math.isfinite(value) else math.nan


def _history(fields: Mapping[str, Any]) -> list[float | None]:
    """TemplateFlux of the history; null for each entry where the schema has none."""
    fluxes = fields.get("prvDiaSources[].templateFlux")
    return [None] * len(fields.get("prvDiaSources[].band") or ()) if fluxes is None else list(fluxes)
