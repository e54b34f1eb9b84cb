"""What is published for an outcome: topic, key, headers and bytes."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from broker.alert import Enriched, Message, Outcome, Parcel, Record, Rejected
from broker.avro.lite import LiteSerializer
from broker.avro.serializer import DeadLetterSerializer, EnrichedSerializer, OutputIds
from broker.avro.store import SchemaStore
from broker.errors import KafkaError, Reason
from broker.letters import COUNT_HEADER, POSITION_HEADERS
from broker.topics import DEAD_LETTER_SUFFIX, ENRICHED_SUFFIX, LITE_SUFFIX, REDRIVE_SUFFIX

DIGEST_DIGITS = 16
"""Of the weights' digest in header ``model``: enough to tell repeats of one model from another's answer."""

UNBOUNDED = 2**31 - 1
"""Bytes a topic takes of which nothing is known: more than Kafka can."""

KEPT_BYTES = 4096
"""Of a message that does not fit into a dead letter, keys and headers up to this size are kept nonetheless."""

Headers = tuple[tuple[str, bytes | None], ...]


class RecordBuilder:
    """Turns outcomes into records.

    Parameters
    ----------
    prefix_of : callable
        Prefix of the output topics for a source topic.
    version : str
        Version of the broker, written into dead letters.
    store : SchemaStore, optional
        That of the deserializer; by default one of its own.
    ids : OutputIds, optional
        A registry's, for the frames; by default the reserved ones.
    limits : mapping of str to int, optional
        Bytes of the largest record that topics take.
    lite : bool
        Whether each enriched alert goes out without its stamps too.
    """

    def __init__(
        self,
        prefix_of: Callable[[str], str],
        version: str,
        store: SchemaStore | None = None,
        ids: OutputIds | None = None,
        *,
        limits: Mapping[str, int] | None = None,
        lite: bool = False,
    ) -> None:
        store = store or SchemaStore()
        self._prefix_of = prefix_of
        self._enriched = EnrichedSerializer(store, ids=ids)
        self._lite = LiteSerializer(store, ids) if lite else None
        self._dead_letter = DeadLetterSerializer(version, ids=ids)
        self._limits = dict(limits or {})

    def __call__(self, outcome: Outcome) -> Parcel:
        """Build the records of one outcome; one whose record its topic does not take becomes a dead letter."""
        if isinstance(outcome, Rejected):
            return self._letter(outcome)
        parcel = Parcel(outcome, self._enriched_records(outcome))
        return parcel if all(map(self._fits, parcel.records)) else self.smaller(parcel)

    def smaller(self, parcel: Parcel) -> Parcel:
        """Build in the place of a parcel that Kafka does not take one that is smaller.

        Raises
        ------
        KafkaError
            If nothing smaller tells what must be told.
        """
        refused = next((record for record in parcel.records if not self._fits(record)), parcel.records[0])
        topic, size = refused.topic, refused.size
        if isinstance(parcel.outcome, Rejected):
            smaller = self._without_value(parcel.outcome)
            if parcel.message.value is None or smaller.size >= size:
                raise KafkaError(
                    f"{topic} does not take a dead letter of {size} bytes, and none can be smaller: raise its "
                    "max.message.bytes"
                )
            return Parcel(parcel.outcome, (smaller,))
        detail = f"its record of {size} bytes is larger than {topic} takes: raise max.message.bytes there, and redrive"
        return self._letter(Rejected(parcel.message, Reason.MESSAGE_TOO_LARGE, detail))

    def _fits(self, record: Record) -> bool:
        return record.size <= self._limits.get(record.topic, UNBOUNDED)

    def _letter(self, outcome: Rejected) -> Parcel:
        record = self._letter_record(outcome)
        return Parcel(outcome, (record if self._fits(record) else self._without_value(outcome),))

    def _enriched_records(self, outcome: Enriched) -> tuple[Record, ...]:
        alert, prefix = outcome.alert, self._prefix_of(outcome.message.topic)
        texts = {**_alert_texts(outcome), "schema-fingerprint": self._enriched.fingerprint(alert.form)}
        topic = prefix + ENRICHED_SUFFIX
        value = self._enriched(alert, outcome.enrichment, topic)
        whole = Record(
            topic=topic,
            value=value,
            key=alert.key.encode(),
            headers=_encode(texts) + _source_headers(outcome.message),
        )
        if self._lite is None:
            return (whole,)
        topic = prefix + LITE_SUFFIX
        return whole, replace(whole, topic=topic, value=self._lite(alert, value, topic))

    def _letter_record(self, outcome: Rejected, extra: Headers = ()) -> Record:
        message = outcome.message
        topic = self._prefix_of(message.topic) + DEAD_LETTER_SUFFIX
        texts = {"reason": outcome.reason.value, "schema-fingerprint": self._dead_letter.fingerprint}
        return Record(
            topic=topic,
            value=self._dead_letter(outcome, topic),
            key=message.key,
            headers=_encode(texts) + extra + _source_headers(message),
        )

    def _without_value(self, outcome: Rejected) -> Record:
        """Tell of a message too large for the dead-letter topic: its place and digest are left of it."""
        message, value = outcome.message, outcome.message.value or b""
        digest = hashlib.sha256(value).hexdigest()
        kept = replace(
            message,
            value=None,
            key=message.key if len(message.key or b"") <= KEPT_BYTES else None,
            headers=message.headers if _size(message.headers) <= KEPT_BYTES else (),
        )
        left = f"its {len(value)} bytes, SHA-256 {digest}, do not fit here: they stand in the source"
        detail = f"{outcome.detail}; {left}"
        extra = _encode({"value-bytes": str(len(value)), "value-sha256": digest})
        return self._letter_record(replace(outcome, message=kept, detail=detail), extra)


def _size(headers: Headers) -> int:
    return sum(len(name) + len(value or b"") for name, value in headers)


def _alert_texts(outcome: Enriched) -> dict[str, str]:
    """Headers by which a subscriber filters without decoding; unknown is the empty text."""
    alert, enrichment = outcome.alert, outcome.enrichment
    redshift = enrichment.redshift
    point, low, high = (redshift.point, redshift.low, redshift.high) if redshift else (None, None, None)
    return {
        "alert-id": str(alert.alert_id),
        "object-id": alert.object_id,
        "survey": alert.survey.value,
        "ra": _number(alert.ra, ".7f"),
        "dec": _number(alert.dec, ".7f"),
        "mjd": _number(alert.mjd, ".7f"),
        "band": alert.band or "",
        "model": f"{enrichment.model.name}-{enrichment.model.version}-{enrichment.model.digest[:DIGEST_DIGITS]}",
        "anomaly": _number(enrichment.anomaly, ".4f"),
        "anomaly-interesting": _number(enrichment.anomaly_interesting, ".4f"),
        "anomaly-artefact": _number(enrichment.anomaly_artefact, ".4f"),
        "morphology": enrichment.top_class or "",
        "photoz": _number(point, ".4f"),
        "photoz-lo": _number(low, ".4f"),
        "photoz-hi": _number(high, ".4f"),
        "flags": ",".join(enrichment.flags),
    }


def _number(value: float | None, form: str) -> str:
    return "" if value is None or not math.isfinite(value) else format(value, form)


def _source_headers(message: Message) -> Headers:
    """Say where a message first stood, which one that comes again from the redrive topic says itself."""
    said = dict(message.headers)
    if COUNT_HEADER in said and message.topic.endswith(REDRIVE_SUFFIX):
        return tuple((name, said.get(name, b"")) for name in (*POSITION_HEADERS, COUNT_HEADER))
    timestamp = "" if message.timestamp_ms is None else str(message.timestamp_ms)
    place = (message.topic, str(message.partition), str(message.offset), timestamp)
    return _encode(dict(zip(POSITION_HEADERS, place, strict=True)))


def _encode(texts: dict[str, str]) -> Headers:
    return tuple((name, text.encode()) for name, text in texts.items())
