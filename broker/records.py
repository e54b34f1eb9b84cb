"""What is published for an outcome: topic, key, headers and bytes."""

from collections.abc import Callable

import numpy as np

from broker.alert import Enriched, Message, Outcome, Record, Rejected
from broker.avro.serializer import DeadLetterSerializer, EnrichedSerializer, OutputIds
from broker.avro.store import SchemaStore
from broker.topics import DEAD_LETTER_SUFFIX, ENRICHED_SUFFIX

DIGEST_DIGITS = 16
"""Of the weights' digest in header ``model``: enough to tell repeats of one model from another's answer."""

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
    """

    def __init__(
        self,
        prefix_of: Callable[[str], str],
        version: str,
        store: SchemaStore | None = None,
        ids: OutputIds | None = None,
    ) -> None:
        self._prefix_of = prefix_of
        self._enriched = EnrichedSerializer(store or SchemaStore(), ids=ids)
        self._dead_letter = DeadLetterSerializer(version, ids=ids)

    def __call__(self, outcome: Outcome) -> Record:
        """Build the record of one outcome."""
        prefix = self._prefix_of(outcome.message.topic)
        if isinstance(outcome, Enriched):
            return self._enriched_record(prefix + ENRICHED_SUFFIX, outcome)
        return self._dead_letter_record(prefix + DEAD_LETTER_SUFFIX, outcome)

    def _enriched_record(self, topic: str, outcome: Enriched) -> Record:
        alert = outcome.alert
        texts = {**_alert_texts(outcome), "schema-fingerprint": self._enriched.fingerprint(alert.form)}
        return Record(
            topic=topic,
            value=self._enriched(alert, outcome.enrichment, topic),
            key=alert.key.encode(),
            headers=_encode(texts) + _source_headers(outcome.message),
        )

    def _dead_letter_record(self, topic: str, outcome: Rejected) -> Record:
        message = outcome.message
        texts = {"reason": outcome.reason.value, "schema-fingerprint": self._dead_letter.fingerprint}
        return Record(
            topic=topic,
            value=self._dead_letter(outcome, topic),
            key=message.key,
            headers=_encode(texts) + _source_headers(message),
        )


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
    return "" if value is None or not np.isfinite(value) else format(value, form)


def _source_headers(message: Message) -> Headers:
    timestamp = "" if message.timestamp_ms is None else str(message.timestamp_ms)
    return _encode(
        {
            "source-topic": message.topic,
            "source-partition": str(message.partition),
            "source-offset": str(message.offset),
            "source-timestamp": timestamp,
        }
    )


def _encode(texts: dict[str, str]) -> Headers:
    return tuple((name, text.encode()) for name, text in texts.items())
