"""The reading side: what the broker published, back to records."""

import functools
import io
from typing import Any

import fastavro

import schemas
from broker.avro.frame import unwrap_frame
from broker.errors import DatumError, SchemaUnknown


def decode(value: bytes, fingerprint: str | None = None) -> dict[str, Any]:
    """Decode an enriched alert or a dead letter.

    Parameters
    ----------
    value : bytes
        A record's value.
    fingerprint : str, optional
        Header ``schema-fingerprint``. Where it is given it decides, since a registry may have given the
        schema another id; without it the id on the wire does.

    Returns
    -------
    dict

    Raises
    ------
    FrameError
        If the value has no Confluent frame.
    SchemaUnknown
        If the bundle has no such schema: a later version of Nightjar wrote it.
    DatumError
        If the datum breaks its schema.
    """
    schema_id, datum = unwrap_frame(value)
    schema = _by_id(schema_id) if fingerprint is None else _by_fingerprint(fingerprint)
    source = io.BytesIO(datum)
    try:
        record: dict[str, Any] = fastavro.schemaless_reader(source, schema, None)  # type: ignore[assignment]
    except (EOFError, IndexError, ValueError, OverflowError, TypeError) as error:
        raise DatumError(f"the datum breaks schema id {schema_id}: {error}") from error
    return record


@functools.lru_cache(maxsize=32)
def _by_id(schema_id: int) -> Any:
    try:
        return fastavro.parse_schema(schemas.by_id(schema_id))
    except LookupError as error:
        raise SchemaUnknown(str(error)) from None


@functools.lru_cache(maxsize=32)
def _by_fingerprint(fingerprint: str) -> Any:
    try:
        return fastavro.parse_schema(schemas.by_fingerprint(fingerprint))
    except LookupError as error:
        raise SchemaUnknown(str(error)) from None
