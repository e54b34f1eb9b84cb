"""What must hold of every message, whatever it is: checked with fastavro, nothing of the broker's own."""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import fastavro
import numpy as np

import schemas
from broker.alert import Enriched, Enrichment, Message, Outcome, Record, Rejected
from broker.errors import Reason
from broker.flags import VOCABULARY, is_partial

_LONG, _BYTES = fastavro.parse_schema("long"), fastavro.parse_schema("bytes")
_MARKER = {"type": "fixed", "name": "Marker", "size": 16}
_HEADER = fastavro.parse_schema(
    {
        "type": "record",
        "name": "Header",
        "fields": [
            {"name": "magic", "type": {"type": "fixed", "name": "Magic", "size": 4}},
            {"name": "meta", "type": {"type": "map", "values": "bytes"}},
            {"name": "sync", "type": _MARKER},
        ],
    }
)
"""As the specification states it ("Object Container Files")."""

_INFLATE: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"null": bytes,
    b"deflate": lambda packed: zlib.decompressobj(-15).decompress(packed),
    b"bzip2": lambda packed: bz2.BZ2Decompressor().decompress(packed),
    b"xz": lambda packed: lzma.LZMADecompressor().decompress(packed),
}

SLACK = 16 * 1024
"""Bytes a record may be longer than the message it is about, beside the object's id: what an enrichment takes."""


def label(outcome: Outcome) -> str:
    """Name what became of a message: ``enriched``, ``partial`` or the reason of its dead letter."""
    if isinstance(outcome, Rejected):
        return outcome.reason.value
    return "partial" if is_partial(outcome.enrichment.flags) else "enriched"


LABELS = ("enriched", "partial", *(reason.value for reason in Reason))


def faults(message: Message, outcome: Outcome, record: Record) -> Iterator[str]:
    """Say what does not hold.

    Parameters
    ----------
    message : Message
    outcome : Outcome
        Of the message.
    record : Record
        Of the outcome.

    Yields
    ------
    str
        One line for each fault.
    """
    if outcome.message is not message:
        yield "the outcome is another message's"
    try:
        texts = {name: (value or b"").decode("utf-8") for name, value in record.headers}
        (record.key or b"").decode("utf-8")
    except UnicodeDecodeError as error:
        yield f"a header or the key is not UTF-8: {error}"
        return
    try:
        decoded = _decoded(record.value, texts["schema-fingerprint"])
    except Exception as error:  # noqa: BLE001 - whatever fastavro raises, a subscriber would see it
        yield f"the record does not decode: {error!r}"
        return
    if isinstance(outcome, Enriched):
        yield from _enriched_faults(message, outcome, record, decoded)
    else:
        yield from _letter_faults(message, outcome, record, decoded)


def _decoded(value: bytes, fingerprint: str) -> dict[str, Any]:
    if int.from_bytes(value[1:5], "big") != _id_of(fingerprint):
        raise ValueError("the id on the wire and the fingerprint name two schemas")
    source = io.BytesIO(value[5:])
    record: Any = fastavro.schemaless_reader(source, _parsed(fingerprint), None)
    if source.tell() != len(value) - 5:
        raise ValueError(f"{len(value) - 5 - source.tell()} bytes follow the record")
    decoded: dict[str, Any] = record
    return decoded


@cache
def _parsed(fingerprint: str) -> Any:
    return fastavro.parse_schema(schemas.by_fingerprint(fingerprint))


@cache
def _id_of(fingerprint: str) -> int | None:
    return next(entry.schema_id for entry in schemas.entries() if entry.fingerprint == fingerprint)


def _enriched_faults(
    message: Message, outcome: Enriched, record: Record, decoded: Mapping[str, Any]
) -> Iterator[str]:
    assert message.value is not None
    datum = bytes(outcome.alert.datum)
    if not record.value.endswith(datum):
        yield "the record does not end with the alert's datum"
    if datum != original_datum(message.value):
        yield "the alert's datum is not the message's"
    if len(record.value) > len(datum) + len(outcome.alert.object_id.encode()) + SLACK:
        yield f"{len(record.value)} bytes of record for a datum of {len(datum)}"
    if unknown := set(outcome.enrichment.flags) - VOCABULARY:
        yield f"flags that nobody knows: {unknown}"
    yield from _not_finite(outcome.enrichment)
    if decoded["enrichment"]["alert_id"] != outcome.alert.alert_id:
        yield "the record is about another alert"


def original_datum(value: bytes) -> bytes:
    """Take the datum out of a message by fastavro alone."""
    if value[:1] == b"\0":
        return value[5:]
    # Not by its reader of containers: that refuses a schema for the defaults in it, which decide no byte.
    source = io.BytesIO(value)
    # A name in the metadata that is no UTF-8 decides none either: nobody asks for it.
    header: Any = fastavro.schemaless_reader(source, _HEADER, None, handle_unicode_errors="replace")
    while fastavro.schemaless_reader(source, _LONG, None) == 0:
        source.read(17)  # an empty block: its size of one byte, and the marker
    content: Any = fastavro.schemaless_reader(source, _BYTES, None)
    return _INFLATE[header["meta"].get("avro.codec", b"null")](content)


def _not_finite(enrichment: Enrichment) -> Iterator[str]:
    redshift = enrichment.redshift
    published: dict[str, Any] = {
        "embedding": enrichment.embedding,
        "morphology": enrichment.morphology,
        "anomaly": enrichment.anomaly,
        "anomaly_interesting": enrichment.anomaly_interesting,
        "anomaly_artefact": enrichment.anomaly_artefact,
        "photoz": None if redshift is None else [*redshift.pdf, redshift.point, redshift.low, redshift.high],
        "psf_fwhm": enrichment.seen.psf_fwhm,
        "valid_fraction": enrichment.seen.valid_fraction,
    }
    for name, values in published.items():
        if values is not None and not np.isfinite(np.asarray(values, dtype=np.float64)).all():
            yield f"{name} is not finite"


def _letter_faults(
    message: Message, outcome: Rejected, record: Record, decoded: Mapping[str, Any]
) -> Iterator[str]:
    stated = {
        "value": message.value,
        "key": message.key,
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "timestamp_ms": message.timestamp_ms,
        "reason": outcome.reason.value,
    }
    yield from (
        f"the dead letter's {name} differs" for name, value in stated.items() if decoded[name] != value
    )
    if len(record.value) > len(message.value or b"") + SLACK:
        yield f"{len(record.value)} bytes of dead letter for a message of {len(message.value or b'')}"
    if not decoded["error"]:
        yield "the dead letter does not say why"
