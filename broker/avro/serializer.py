"""What goes out: enriched alerts and dead letters, framed."""

import io
import time
from collections.abc import Callable
from typing import Any, Protocol

import fastavro

import schemas
from broker.alert import Alert, Enrichment, Rejected
from broker.avro.encoding import encode_enrichment
from broker.avro.frame import frame
from broker.avro.store import SchemaStore

Clock = Callable[[], int]
"""Nanoseconds since the Unix epoch."""


class OutputIds(Protocol):
    """Who gives ids to what goes out."""

    def __call__(self, topic: str, name: str, schema: Callable[[], dict[str, Any]]) -> int:
        """Give the id, on a topic, of the schema that is known by a name."""


class EnrichedSerializer:
    """Puts an enrichment in front of the record it is about.

    Parameters
    ----------
    store : SchemaStore
        That of the deserializer the alerts come from.
    clock : callable
        The present time for ``enriched_at``, in nanoseconds since the Unix epoch.
    ids : OutputIds, optional
        A registry's; by default the reserved ones.
    """

    def __init__(self, store: SchemaStore, clock: Clock = time.time_ns, ids: OutputIds | None = None) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids

    def __call__(self, alert: Alert, enrichment: Enrichment, topic: str = "") -> bytes:
        """Serialize an enriched alert.

        Parameters
        ----------
        alert : Alert
        enrichment : Enrichment
        topic : str
            It goes to: a registry's ids are for topics.

        Returns
        -------
        bytes
            The frame, the enrichment's datum and, untouched, the alert's own.

        Raises
        ------
        LookupError
            If `alert.form` is none of the store's.
        """
        attached = encode_enrichment(alert, enrichment, self._clock() // 1000)
        form = self._store.form(alert.form)
        schema_id = form.output_id
        if self._ids is not None:
            schema_id = self._ids(topic, form.name, lambda: form.output)
        return b"".join((frame(schema_id), attached, alert.datum))

    def fingerprint(self, form: str) -> str:
        """Give the fingerprint of the schema that goes out for a form: header ``schema-fingerprint``."""
        return self._store.form(form).output_fingerprint


class DeadLetterSerializer:
    """Wraps a message that could not be read.

    Parameters
    ----------
    version : str
        Version of the broker.
    clock : callable
        The present time for ``rejected_at``, in nanoseconds since the Unix epoch.
    ids : OutputIds, optional
        A registry's; by default the reserved one.

    Attributes
    ----------
    fingerprint : str
        Of the schema: header ``schema-fingerprint``.
    """

    def __init__(self, version: str, clock: Clock = time.time_ns, ids: OutputIds | None = None) -> None:
        self._version = version
        self._ids = ids
        self._clock = clock
        self._schema = fastavro.parse_schema(schemas.load(schemas.DEAD_LETTER))
        entry = schemas.entry(schemas.DEAD_LETTER)
        assert entry.schema_id is not None
        self._frame = frame(entry.schema_id)
        self.fingerprint = entry.fingerprint

    def __call__(self, rejected: Rejected, topic: str = "") -> bytes:
        """Serialize a dead letter.

        Parameters
        ----------
        rejected : Rejected
        topic : str
            It goes to: a registry's ids are for topics.

        Returns
        -------
        bytes
            The frame and the datum, which holds the message as it came.
        """
        message = rejected.message
        out = io.BytesIO()
        out.write(self._frame if self._ids is None else frame(self.register(topic, self._ids)))
        record = {
            "value": message.value,
            "key": message.key,
            "headers": [{"name": _text(name), "value": value} for name, value in message.headers],
            "timestamp_ms": message.timestamp_ms,
            "topic": message.topic,
            "partition": message.partition,
            "offset": message.offset,
            "reason": rejected.reason.value,
            "error": _text(rejected.detail),
            "version": self._version,
            "rejected_at": self._clock() // 1000,
        }
        fastavro.schemaless_writer(out, self._schema, record)
        return out.getvalue()

    @staticmethod
    def register(topic: str, ids: OutputIds) -> int:
        """Get an id; done at start, dead letters can be written while the registry is down."""
        return ids(topic, schemas.DEAD_LETTER, lambda: schemas.load(schemas.DEAD_LETTER))


def _text(text: str) -> str:
    """Text that has a UTF-8 form: what has none (a lone surrogate) is written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
