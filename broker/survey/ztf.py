"""ZTF packets, schemas 3.3 to 4.02, to `Alert`.

What is read has the same name in all of them; missing values are null in some and -999 in
others.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from broker import flags
from broker.alert import Alert, Survey
from broker.avro.deserializer import Packet
from broker.avro.recognition import INTEGER, NUMBER, TEXT, Need
from broker.photometry import PS1_BANDS, ps1_source_flux
from broker.survey.times import possible

WANTED: Final[Mapping[str, Need]] = {
    "objectId": Need(TEXT, present=True, nullable=False),
    "candid": Need(INTEGER, present=True, nullable=False),
    "candidate.jd": Need(NUMBER, present=True),
    "candidate.fid": Need(INTEGER, present=True),
    "candidate.ra": Need(NUMBER, present=True),
    "candidate.dec": Need(NUMBER, present=True),
    "candidate.xpos": Need(NUMBER),
    "candidate.ypos": Need(NUMBER),
    "candidate.ssnamenr": Need(TEXT),
    "candidate.distpsnr1": Need(NUMBER),
    **{f"candidate.s{band}mag1": Need(NUMBER) for band in PS1_BANDS},
}
"""Dotted paths of what is read, and what a schema must make of each."""

BAND_OF_FILTER: Final = {1: "g", 2: "r", 3: "i"}
"""``fid``; Bellm et al. 2019, PASP 131, 018002."""

DETECTOR_SIZE: Final = (3072, 3080)
"""Pixels of one readout quadrant (Dekany et al. 2020, PASP 132, 038001); stamps end at its edges."""

JD_OF_MJD: Final = 2400000.5


def read(packet: Packet) -> Alert:
    """Put a ZTF packet into the terms both surveys share.

    Parameters
    ----------
    packet : Packet
        With the fields of `WANTED`.

    Returns
    -------
    Alert
    """
    fields = packet.fields
    band = BAND_OF_FILTER.get(fields["candidate.fid"])
    ra, dec = _finite(fields, "ra"), _finite(fields, "dec")
    mjd = possible(_finite(fields, "jd") - JD_OF_MJD)
    words = {
        # The survey itself writes a name only where its ephemerides put a known object at the position.
        flags.SOLAR_SYSTEM: fields.get("candidate.ssnamenr") not in (None, "", "null"),
        flags.POSITION_UNKNOWN: math.isnan(ra) or math.isnan(dec),
        flags.TIME_UNKNOWN: math.isnan(mjd),
        flags.BAND_UNKNOWN: band is None,
    }
    return Alert(
        survey=Survey.ZTF,
        form=packet.form,
        alert_id=fields["candid"],
        object_id=fields["objectId"],
        ra=ra,
        dec=dec,
        mjd=mjd,
        band=band,
        datum=packet.datum,
        cutouts=packet.cutouts,
        photometry=ps1_source_flux(
            [fields.get(f"candidate.s{band}mag1") for band in PS1_BANDS], fields.get("candidate.distpsnr1")
        ),
        position=_position(fields),
        flags=tuple(word for word, raised in words.items() if raised),
    )


def _position(fields: Mapping[str, Any]) -> tuple[float, float] | None:
    """0-based (x, y) on the detector; xpos and ypos count from 1."""
    x, y = _finite(fields, "xpos"), _finite(fields, "ypos")
    on_detector = 0.0 < x <= DETECTOR_SIZE[0] + 1 and 0.0 < y <= DETECTOR_SIZE[1] + 1
    return (x - 1.0, y - 1.0) if on_detector else None


def _finite(fields: Mapping[str, Any], name: str) -> float:
    value = fields.get(f"candidate.{name}")
    return value if value is not None and math.isfinite(value) else math.nan
