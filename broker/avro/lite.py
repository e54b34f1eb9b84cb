"""A datum without its stamps: its own bytes up to them, and three null indexes."""

import io
from collections.abc import Callable
from typing import Any, TypeAlias

import fastavro

from broker.alert import ROLES, Alert
from broker.avro.frame import FRAME_SIZE, frame
from broker.avro.serializer import OutputIds
from broker.avro.store import SchemaStore
from broker.avro.walker import compile_walker

FIELDS = tuple(f"cutout{role.capitalize()}" for role in ROLES)

Cutter: TypeAlias = Callable[[bytes | memoryview], bytes]
"""From a datum to one of the same schema whose stamps are null."""


def stamp_cutter(schema: Any) -> Cutter:
    """Make what cuts the stamps off data of a schema.

    Where they are its last fields, as in every schema that the surveys have published, nothing is encoded anew; else
    the datum is decoded and written again. Stamps that cannot be null stay.
    """
    fields = {field["name"]: field for field in schema["fields"]}
    last = list(fields)[-len(FIELDS) :]
    nullable = [name for name in FIELDS if _null_index(fields[name]) is not None]
    if {*last} == {*FIELDS} == {*nullable}:
        return _cutting(schema, last, list(fields)[-len(FIELDS) - 1])
    return _writing_again(fastavro.parse_schema(schema), nullable)


def _cutting(schema: Any, stamps: list[str], before: str) -> Cutter:
    fields = {field["name"]: field for field in schema["fields"]}
    nulls = bytes(2 * (_null_index(fields[name]) or 0) for name in stamps)
    walker = compile_walker(schema, (), before)

    def cut(datum: bytes | memoryview) -> bytes:
        _, end = walker.leading(datum)
        return bytes(datum[:end]) + nulls

    return cut


def _writing_again(schema: Any, stamps: list[str]) -> Cutter:
    def cut(datum: bytes | memoryview) -> bytes:
        record = fastavro.schemaless_reader(io.BytesIO(datum), schema, None)
        assert isinstance(record, dict)
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, record | dict.fromkeys(stamps))
        return out.getvalue()

    return cut


def _null_index(field: dict[str, Any]) -> int | None:
    """Where null stands among the branches, whose index Avro writes zigzag; None where it does not."""
    kind = field["type"]
    return kind.index("null") if isinstance(kind, list) and "null" in kind else None


class LiteSerializer:
    """Takes the stamps out of enriched alerts.

    Parameters
    ----------
    store : SchemaStore
    ids : OutputIds, optional
        A registry's, for the frames; by default that of the enriched alert stays.
    """

    def __init__(self, store: SchemaStore, ids: OutputIds | None = None) -> None:
        self._store = store
        self._ids = ids
        self._cutters: dict[str, Cutter] = {}

    def __call__(self, alert: Alert, enriched: bytes, topic: str) -> bytes:
        """Cut the stamps off the record of an alert, which ends in the alert's own datum.

        Parameters
        ----------
        alert : Alert
        enriched : bytes
            Of `broker.avro.serializer.EnrichedSerializer`.
        topic : str
            It goes to: a registry's ids are for topics.

        Returns
        -------
        bytes
            A record of the same schema.
        """
        cutter = self._cutters.get(alert.form)
        form = self._store.form(alert.form)
        if cutter is None:
            cutter = self._cutters[alert.form] = stamp_cutter(form.schema)
        head = enriched[:FRAME_SIZE]
        if self._ids is not None:
            head = frame(self._ids(topic, form.name, lambda: form.output))
        return b"".join((head, enriched[FRAME_SIZE : len(enriched) - len(alert.datum)], cutter(alert.datum)))
