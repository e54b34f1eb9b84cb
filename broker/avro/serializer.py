"""What goes out: enriched alerts and dead letters, framed."""

import io
import time
from collections.abc import Callable

import fastavro

import schemas
from broker.alert import Alert, Enrichment, Rejected
from broker.avro.encoding import encode_enrichment
from broker.avro.frame import frame
from broker.avro.store import SchemaStore

Clock = Callable[[], int]
"""Nanoseconds since the Unix epoch."""


class EnrichedSerializer:
    """Puts an enrichment in front of the record it is about.

    Parameters
    ----------
    store : SchemaStore
        That of the deserializer the alerts come from.
    clock : callable
        The present time for ``enriched_at``, in nanoseconds since the Unix epoch.
    """

    def __init__(self, store: SchemaStore, clock: Clock = time.time_ns) -> None:
        self._store = store
        self._clock = clock

    def __call__(self, alert: Alert, enrichment: Enrichment) -> bytes:
        """Serialize an enriched alert.

        Parameters
        ----------
        alert : Alert
        enrichment : Enrichment

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
        return b"".join((frame(self._store.form(alert.form).output_id), attached, alert.datum))

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

    Attributes
    ----------
    fingerprint : str
        Of the schema: header ``schema-fingerprint``.
    """

    def __init__(self, version: str, clock: Clock = time.time_ns) -> None:
        self._version = version
        self._clock = clock
        self._schema = fastavro.parse_schema(schemas.load(schemas.DEAD_LETTER))
        entry = schemas.entry(schemas.DEAD_LETTER)
        assert entry.schema_id is not None
        self._frame = frame(entry.schema_id)
        self.fingerprint = entry.fingerprint

    def __call__(self, rejected: Rejected) -> bytes:
        """Serialize a dead letter.

        Parameters
        ----------
        rejected : Rejected

        Returns
        -------
        bytes
            The frame and the datum, which holds the message as it came.
        """
        message = rejected.message
        out = io.BytesIO()
        out.write(self._frame)
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


def _text(text: str) -> str:
    """Text that has a UTF-8 form: what has none (a lone surrogate) is written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
