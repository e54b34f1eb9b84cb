"""Enrichments to Avro, written out field by field.

fastavro takes some 60 us for the two hundred floats of an enrichment; here an array of floats
is one copy of its memory. The order below is that of ``schemas/enriched_alert/v2``, and a test
holds it against fastavro.
"""

import functools
import struct

import numpy as np

from broker.alert import Alert, Enrichment, Float32Array, HeadValues, ModelIdentity, Redshift, Seen
from broker.avro.exact import MORE

_FLOAT = struct.Struct("<f")
_POSITION = struct.Struct("<ddd")
_NULL, _PRESENT, _END = b"\x00", b"\x02", b"\x00"
PHOTOZ_SOURCES = ("image", "photometry", "both", "unknown")
"""Symbols of ``nightjar.PhotoZSource`` in their order."""


def encode_enrichment(alert: Alert, enrichment: Enrichment, enriched_at: int) -> bytes:
    """Encode what is attached to an alert.

    Parameters
    ----------
    alert : Alert
    enrichment : Enrichment
    enriched_at : int
        Microseconds since the Unix epoch.

    Returns
    -------
    bytes
        A datum of ``nightjar.Enrichment``.
    """
    parts = (
        string(alert.survey.value),
        long(alert.alert_id),
        string(alert.object_id),
        _POSITION.pack(alert.ra, alert.dec, alert.mjd),
        long(enriched_at),
        _model(enrichment.model),
        _seen(enrichment.seen),
        strings(enrichment.bands_used),
        _nullable_floats(enrichment.embedding),
        strings(enrichment.morphology_classes),
        _nullable_floats(enrichment.morphology),
        _nullable_string(enrichment.top_class),
        _NULL if enrichment.redshift is None else _PRESENT + _photoz(enrichment.redshift),
        _nullable_float(enrichment.anomaly),
        _nullable_float(enrichment.anomaly_interesting),
        _nullable_float(enrichment.anomaly_artefact),
        _nullable_string(enrichment.anomaly_reason),
        _heads(enrichment.heads),
        strings(enrichment.flags),
    )
    return b"".join(parts)


def long(value: int) -> bytes:
    """Encode an int or a long."""
    return _SMALL[value] if 0 <= value < len(_SMALL) else _long(value)


def _long(value: int) -> bytes:
    raw = (value << 1) ^ (value >> 63)
    out = bytearray()
    while raw >= MORE:
        out.append(raw & 0x7F | MORE)
        raw >>= 7
    out.append(raw)
    return bytes(out)


_SMALL = tuple(map(_long, range(512)))
"""Lengths of texts and arrays are nearly all of these."""


def string(text: str) -> bytes:
    """Encode a string; what has no UTF-8 form (a lone surrogate) is written as an escape."""
    raw = text.encode("utf-8", "backslashreplace")
    return long(len(raw)) + raw


@functools.lru_cache(maxsize=1024)
def strings(texts: tuple[str, ...]) -> bytes:
    """Encode an array of strings; the same few come again and again."""
    return b"".join((long(len(texts)), *map(string, texts), _END)) if texts else _END


def floats(values: Float32Array) -> bytes:
    """Encode an array of floats, shape (n,)."""
    return long(len(values)) + np.asarray(values, dtype="<f4").tobytes() + _END if len(values) else _END


def _nullable_float(value: float | None) -> bytes:
    return _NULL if value is None else _PRESENT + _FLOAT.pack(value)


def _nullable_floats(values: Float32Array | None) -> bytes:
    return _NULL if values is None else _PRESENT + floats(values)


def _nullable_string(text: str | None) -> bytes:
    return _NULL if text is None else _PRESENT + string(text)


@functools.lru_cache(maxsize=16)
def _model(model: ModelIdentity) -> bytes:
    return string(model.name) + string(model.version) + string(model.digest)


def _seen(seen: Seen) -> bytes:
    return b"".join(
        (
            long(seen.size),
            _FLOAT.pack(seen.pixel_scale),
            _nullable_string(seen.band),
            _nullable_float(seen.psf_fwhm),
            floats(seen.valid_fraction),
        )
    )


def _photoz(redshift: Redshift) -> bytes:
    return b"".join(
        (
            _FLOAT.pack(redshift.z_min),
            _FLOAT.pack(redshift.z_max),
            floats(redshift.pdf),
            _FLOAT.pack(redshift.point),
            _FLOAT.pack(redshift.low),
            _FLOAT.pack(redshift.high),
            long(PHOTOZ_SOURCES.index(redshift.source)),
        )
    )


def _heads(heads: tuple[HeadValues, ...]) -> bytes:
    if not heads:
        return _END
    encoded = (
        string(head.name) + string(head.digest) + strings(tuple(head.labels)) + floats(head.values)
        for head in heads
    )
    return b"".join((long(len(heads)), *encoded, _END))
