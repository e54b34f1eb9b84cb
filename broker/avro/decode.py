"""The reading side: what the broker published, back to records."""

import io
from collections import OrderedDict
from typing import Any

import fastavro
from fastavro.schema import SchemaParseException

import schemas
from broker.avro.frame import unwrap_frame
from broker.avro.store import Registry
from broker.errors import DatumError, SchemaUnknown
from schemas.derivation import record_name

MOST_SCHEMAS = 64
"""Parsed schemas that are kept."""

_OURS = "nightjar."


class Decoder:
    """Decodes what was published.

    A schema of the bundle is found by its fingerprint, or by its id in the reserved block. For what the bundle
    lacks a registry is asked: that of the outputs by the id on the wire, or, for an id of the reserved block,
    that of the alerts by the id of the alert's schema, from which ours follows (`schemas.enriched`).

    Parameters
    ----------
    outputs, alerts : Registry, optional
        Of what goes out, and of the survey's alerts.
    """

    def __init__(self, outputs: Registry | None = None, alerts: Registry | None = None) -> None:
        self._outputs = outputs
        self._alerts = alerts
        self._parsed: OrderedDict[tuple[int, str | None], Any] = OrderedDict()

    def __call__(self, value: bytes, fingerprint: str | None = None) -> dict[str, Any]:
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
            If neither the bundle nor a registry has the schema: a later version of Nightjar wrote it, or the
            alert's own schema is newer than the bundle.
        DatumError
            If the datum breaks its schema.
        """
        schema_id, datum = unwrap_frame(value)
        schema = self._schema(schema_id, fingerprint)
        source = io.BytesIO(datum)
        try:
            record: dict[str, Any] = fastavro.schemaless_reader(source, schema, None)  # type: ignore[assignment]
        except (EOFError, IndexError, ValueError, OverflowError, TypeError) as error:
            raise DatumError(f"the datum breaks schema id {schema_id}: {error}") from error
        return record

    def _schema(self, schema_id: int, fingerprint: str | None) -> Any:
        # Registries give their ids to more than one schema over the years: the fingerprint is part of the key.
        key = schema_id, fingerprint
        parsed = self._parsed.get(key)
        if parsed is None:
            parsed = self._parsed[key] = _parse(self._found(schema_id, fingerprint))
            if len(self._parsed) > MOST_SCHEMAS:
                self._parsed.popitem(last=False)
        return parsed

    def _found(self, schema_id: int, fingerprint: str | None) -> dict[str, Any]:
        try:
            return schemas.by_id(schema_id) if fingerprint is None else schemas.by_fingerprint(fingerprint)
        except LookupError as error:
            try:
                found = self._asked(schema_id, fingerprint)
            except SchemaUnknown as unknown:
                raise SchemaUnknown(f"{error}; {unknown.detail}") from None
            if found is None:
                raise SchemaUnknown(str(error)) from None
            return found

    def _asked(self, schema_id: int, fingerprint: str | None) -> dict[str, Any] | None:
        """Ask a registry; None where there is none to ask."""
        reserved = schemas.input_id(schema_id)
        if reserved is None:
            if self._outputs is None:
                return None
            return self._outputs.find(schema_id, lambda schema: _ours(schema, fingerprint))
        if self._alerts is None:
            return None
        version, number = reserved
        return self._alerts.find(number, lambda schema: _derived(schema, number, version, fingerprint))


decode = Decoder()
"""Decodes by the bundle alone."""


def _parse(schema: dict[str, Any]) -> Any:
    try:
        return fastavro.parse_schema(schema)
    except (SchemaParseException, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SchemaUnknown(f"the registry's schema cannot be read: {error}") from None


def _ours(schema: Any, fingerprint: str | None) -> dict[str, Any]:
    try:
        name = record_name(schema)
    except (LookupError, ValueError, TypeError, RecursionError) as error:
        raise SchemaUnknown(f"it is not the schema of a record: {error}") from None
    if not name.startswith(_OURS):
        raise SchemaUnknown(f"it is the schema of {name:.80}, wanted one of Nightjar's")
    return _of_fingerprint(schema, fingerprint)


def _derived(schema: Any, number: int, version: int, fingerprint: str | None) -> dict[str, Any]:
    try:
        return _of_fingerprint(schemas.enriched(schema, number, version), fingerprint)
    except (LookupError, ValueError, TypeError, RecursionError) as error:
        raise SchemaUnknown(f"it is not an alert's schema: {error}") from None


def _of_fingerprint(schema: dict[str, Any], fingerprint: str | None) -> dict[str, Any]:
    found = schemas.fingerprint(schema)
    if fingerprint not in (None, found):
        raise SchemaUnknown(f"its fingerprint is {found}, the message's header says {fingerprint}")
    return schema
