"""What goes out is the enrichment, then the original datum, and needs nothing of ours to be read."""

import io
from datetime import UTC, datetime

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import schemas
from broker.alert import (
    Alert,
    Enrichment,
    HeadValues,
    Message,
    ModelIdentity,
    Redshift,
    Rejected,
    Seen,
    Survey,
)
from broker.avro.decode import decode
from broker.avro.deserializer import Deserializer
from broker.avro.encoding import PHOTOZ_SOURCES, encode_enrichment
from broker.avro.frame import frame
from broker.avro.serializer import DeadLetterSerializer, EnrichedSerializer
from broker.avro.store import SchemaStore
from broker.errors import DatumError, FrameError, Reason, SchemaUnknown
from broker.survey import WANTED, read_alert
from broker.testing.packets import lsst_packet, ztf_packet

NOON = 1_700_000_000_123_456_789
ENRICHMENT_SCHEMA = fastavro.parse_schema(
    schemas.load(schemas.enriched_name("lsst.v11_1"))["fields"][0]["type"]
)

texts = st.text(max_size=80)
words = st.lists(texts, max_size=4).map(tuple)
numbers = st.floats(width=32, allow_nan=False)
positions = st.floats(allow_nan=False)
vectors = st.integers(0, 150).flatmap(lambda n: arrays(np.float32, n, elements=st.floats(0, 1, width=32)))
classes = st.just(("spiral", "elliptical", "star"))
three = arrays(np.float32, 3, elements=st.floats(0, 1, width=32))
seen = st.builds(Seen, st.integers(8, 256), numbers, st.none() | texts, st.none() | numbers, three)
redshifts = st.builds(
    Redshift, numbers, numbers, vectors, numbers, numbers, numbers, st.sampled_from(PHOTOZ_SOURCES[:3])
)
heads = st.lists(st.builds(HeadValues, texts, texts, words, vectors), max_size=2).map(tuple)
enrichments = st.builds(
    Enrichment,
    model=st.builds(ModelIdentity, texts, texts, texts),
    embedding=st.none() | vectors,
    morphology_classes=classes,
    morphology=st.none() | three,
    redshift=st.none() | redshifts,
    anomaly=st.none() | numbers,
    seen=seen,
    flags=words,
    heads=heads,
    bands_used=words,
    anomaly_interesting=st.none() | numbers,
    anomaly_artefact=st.none() | numbers,
    anomaly_reason=st.none() | texts,
)
alerts = st.builds(
    Alert,
    survey=st.sampled_from(Survey),
    form=st.sampled_from(schemas.INPUT_FORMS),
    alert_id=st.integers(-(2**63), 2**63 - 1),
    object_id=texts,
    ra=positions,
    dec=positions,
    mjd=positions,
    band=st.none(),
    datum=st.binary(max_size=20),
    cutouts=st.just((None, None, None)),
    photometry=st.just(np.zeros(6, np.float32)),
)


def expected(alert, enrichment, micros):
    """Put an enrichment into the terms of its schema, the plain way."""
    redshift, model, look = enrichment.redshift, enrichment.model, enrichment.seen
    return {
        "survey": alert.survey.value,
        "alert_id": alert.alert_id,
        "object_id": alert.object_id,
        "ra": alert.ra,
        "dec": alert.dec,
        "mjd": alert.mjd,
        "enriched_at": micros,
        "model": {"name": model.name, "version": model.version, "weights_digest": model.digest},
        "seen": as_dict(look, ("size", "pixel_scale", "band", "psf_fwhm", "valid_fraction")),
        "bands_used": list(enrichment.bands_used),
        "embedding": listed(enrichment.embedding),
        "morphology_classes": list(enrichment.morphology_classes),
        "morphology": listed(enrichment.morphology),
        "morphology_top": enrichment.top_class,
        "photoz": redshift and as_dict(redshift, ("z_min", "z_max", "pdf", "point", "low", "high", "source")),
        "anomaly": enrichment.anomaly,
        "anomaly_interesting": enrichment.anomaly_interesting,
        "anomaly_artefact": enrichment.anomaly_artefact,
        "anomaly_reason": enrichment.anomaly_reason,
        "heads": [as_dict(head, ("name", "digest", "labels", "values")) for head in enrichment.heads],
        "flags": list(enrichment.flags),
    }


def as_dict(part, names):
    return {name: listed(getattr(part, name)) for name in names}


def listed(value):
    return (
        value.tolist()
        if isinstance(value, np.ndarray)
        else list(value)
        if isinstance(value, tuple)
        else value
    )


@given(alerts, enrichments)
@settings(deadline=None, max_examples=200)
def test_an_enrichment_is_encoded_as_fastavro_encodes_it(alert, enrichment):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, ENRICHMENT_SCHEMA, expected(alert, enrichment, NOON // 1000), strict=True)
    assert encode_enrichment(alert, enrichment, NOON // 1000) == out.getvalue()


@pytest.fixture
def enrichment():
    ramp = np.linspace(0, 1, 64, dtype=np.float32)
    return Enrichment(
        model=ModelIdentity("test", "1", "0" * 64),
        embedding=ramp / np.linalg.norm(ramp),
        morphology_classes=("disk", "bulge"),
        morphology=np.array([0.25, 0.75], np.float32),
        redshift=Redshift(0.0, 2.0, np.full(40, 1 / 40, np.float32), 1.0, 0.32, 1.68, "both"),
        anomaly=0.5,
        seen=Seen(32, 0.25, "r", 0.75, np.ones(3, np.float32)),
        flags=("edge",),
        bands_used=("g", "r"),
    )


def read_with_fastavro_and_schemas_only(value):
    """All a subscriber needs: an Avro library and the schemas."""
    schema = schemas.by_id(int.from_bytes(value[1:5], "big"))
    return fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None)


def test_a_subscriber_needs_fastavro_and_the_schemas_only(enrichment):
    for packet in (lsst_packet(alert_id=7), ztf_packet(alert_id=8)):
        alert = read_alert(Deserializer(WANTED)(packet))
        record = read_with_fastavro_and_schemas_only(
            EnrichedSerializer(SchemaStore(), lambda: NOON)(alert, enrichment)
        )
        attached, original = record["enrichment"], record["alert"]
        assert attached["alert_id"] == original.get("candid", original.get("diaSourceId")) == alert.alert_id
        assert np.linalg.norm(attached["embedding"]) == pytest.approx(1, abs=1e-6)
        assert attached["morphology_top"] == "bulge"
        assert attached["photoz"]["source"] == "both"
        assert attached["enriched_at"] == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)


def test_the_original_datum_follows_untouched_for_every_real_packet(lsst_paths, ztf_paths, enrichment):
    deserialize, serialize = Deserializer(WANTED), EnrichedSerializer(SchemaStore(), lambda: NOON)
    for path in (*lsst_paths, *ztf_paths):
        alert = read_alert(deserialize(path.read_bytes()))
        value = serialize(alert, enrichment)
        prefix = frame(schemas.entry(schemas.enriched_name(alert.form)).schema_id)
        assert value == prefix + encode_enrichment(alert, enrichment, NOON // 1000) + alert.datum
        record = read_with_fastavro_and_schemas_only(value)
        assert record["enrichment"]["object_id"] == alert.object_id
        again = io.BytesIO()
        fastavro.schemaless_writer(again, schemas.by_id(int.from_bytes(value[1:5], "big")), record)
        assert again.getvalue() == value[5:]


def test_the_fingerprint_of_a_form_names_its_output_schema(enrichment):
    fingerprint = EnrichedSerializer(SchemaStore()).fingerprint("ztf.v3_3")
    assert schemas.by_fingerprint(fingerprint)["name"] == "nightjar.ztf.v3_3.EnrichedAlert"


@pytest.mark.parametrize("value", [None, b"", b"\0\0\0\x11\x94broken"])
def test_a_dead_letter_holds_the_message_as_it_came(value):
    message = Message(
        value,
        "alerts",
        3,
        2**40,
        key=b"\xff",
        headers=(("a", b"\x80"), ("a", None), ("\udc80", b"")),
        timestamp_ms=2**62,
    )
    serialize = DeadLetterSerializer("0.1.0", lambda: NOON)
    record = read_with_fastavro_and_schemas_only(
        serialize(Rejected(message, Reason.SCHEMA_UNKNOWN, "found \udcff"))
    )
    assert record == {
        "value": value,
        "key": b"\xff",
        "headers": [
            {"name": "a", "value": b"\x80"},
            {"name": "a", "value": None},
            {"name": "\\udc80", "value": b""},
        ],
        "timestamp_ms": 2**62,
        "topic": "alerts",
        "partition": 3,
        "offset": 2**40,
        "reason": "schema_unknown",
        "error": "found \\udcff",
        "version": "0.1.0",
        "rejected_at": datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC),
    }
    assert schemas.by_fingerprint(serialize.fingerprint)["name"] == "nightjar.DeadLetter"


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_can_be_written(reason):
    value = DeadLetterSerializer("1")(Rejected(Message(b"", "t", 0, 0), reason, ""))
    assert decode(value)["reason"] == reason.value


def test_decode_goes_by_the_fingerprint_where_there_is_one(enrichment):
    alert = read_alert(Deserializer(WANTED)(lsst_packet(schema_id=900)))
    serialize = EnrichedSerializer(SchemaStore())
    value = serialize(alert, enrichment)
    assert decode(value)["alert"]["diaSourceId"] == alert.alert_id
    under_another_id = frame(17) + value[5:]
    assert decode(under_another_id, serialize.fingerprint(alert.form)) == decode(value)
    with pytest.raises(SchemaUnknown, match="no schema with schema_id 17"):
        decode(under_another_id)
    with pytest.raises(SchemaUnknown, match="no schema with fingerprint"):
        decode(value, "00" * 8)
    with pytest.raises(DatumError):
        decode(value[:100])
    with pytest.raises(FrameError):
        decode(b"\0\0")
