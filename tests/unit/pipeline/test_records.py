"""What is published: topic, key, headers and bytes."""

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import fastavro
import pytest

import schemas
from broker.alert import Enriched, Message, Parcel, Record, Rejected
from broker.avro.deserializer import Deserializer
from broker.avro.lite import stamp_cutter
from broker.errors import KafkaError, Reason, RegistryError
from broker.inference import Model
from broker.pipeline import Pipeline
from broker.records import RecordBuilder
from broker.survey import WANTED
from broker.testing.packets import lsst_packet, ztf_packet

HEADERS = [
    *("alert-id", "object-id", "survey", "ra", "dec", "mjd", "band", "model", "anomaly"),
    *("anomaly-interesting", "anomaly-artefact", "morphology"),
    *("photoz", "photoz-lo", "photoz-hi", "flags", "schema-fingerprint"),
    *("source-topic", "source-partition", "source-offset", "source-timestamp"),
]


@pytest.fixture(scope="module")
def pipeline(untrained_model: Path) -> Pipeline:
    return Pipeline(Deserializer(WANTED), Model.load(untrained_model))


@pytest.fixture
def build() -> RecordBuilder:
    return RecordBuilder(lambda topic: f"out.{topic}", "0.0.test")


def published(pipeline: Pipeline, build: RecordBuilder, value: bytes | None) -> Record:
    message = Message(value, "alerts", 3, 41, b"their key", (("their", b"header"),), 1_700_000_000_123)
    (record,) = build(pipeline([message])[0]).records
    return record


def decoded(record: Record) -> dict:
    schema = schemas.by_id(int.from_bytes(record.value[1:5], "big"))
    return fastavro.schemaless_reader(io.BytesIO(record.value[5:]), schema, None)


def test_an_enriched_alert_goes_to_the_enriched_topic_under_its_object(pipeline, build) -> None:
    record = published(pipeline, build, lsst_packet(object_id=99))
    assert (record.topic, record.key) == ("out.alerts.enriched", b"lsst:99")


@pytest.mark.parametrize(
    ("packet", "key"),
    [
        (lsst_packet(object_id=0, ss_object_id=5, alert_id=7), b"lsst:5"),
        (lsst_packet(object_id=None, ss_object_id=None, alert_id=7), b"lsst:7"),
        (ztf_packet(object_id="ZTF20abc"), b"ztf:ZTF20abc"),
    ],
)
def test_the_key_falls_back_from_object_to_solar_system_to_alert(pipeline, build, packet, key) -> None:
    assert published(pipeline, build, packet).key == key


def test_headers_are_text_and_complete(pipeline, build) -> None:
    record = published(pipeline, build, lsst_packet(alert_id=7))
    headers = dict(record.headers)
    assert [name for name, _ in record.headers] == HEADERS
    assert headers["alert-id"] == b"7"
    assert headers["survey"] == b"lsst"
    assert headers["source-topic"] == b"alerts"
    assert (headers["source-partition"], headers["source-offset"]) == (b"3", b"41")
    assert headers["source-timestamp"] == b"1700000000123"
    assert record.timestamp_ms is None


def test_headers_say_what_the_record_says(pipeline, build) -> None:
    record = published(pipeline, build, ztf_packet())
    headers = {name: (value or b"").decode() for name, value in record.headers}
    enrichment = decoded(record)["enrichment"]
    assert float(headers["anomaly"]) == pytest.approx(enrichment["anomaly"], abs=1e-4)
    for view in ("interesting", "artefact"):
        assert float(headers[f"anomaly-{view}"]) == pytest.approx(enrichment[f"anomaly_{view}"], abs=1e-4)
    assert "of the reference" in enrichment["anomaly_reason"]
    assert float(headers["photoz"]) == pytest.approx(enrichment["photoz"]["point"], abs=1e-4)
    assert headers["morphology"] == enrichment["morphology_top"]
    name, version, digest = headers["model"].split("-")
    assert {"name": name, "version": version}.items() <= enrichment["model"].items()
    assert enrichment["model"]["weights_digest"].startswith(digest)
    assert len(digest) == 16


def test_what_is_unknown_is_an_empty_header(pipeline, build) -> None:
    headers = dict(published(pipeline, build, ztf_packet([None, None, None])).headers)
    assert headers["anomaly"] == headers["photoz"] == headers["morphology"] == b""
    assert headers["anomaly-interesting"] == headers["anomaly-artefact"] == b""


def test_the_original_datum_ends_the_record_untouched(pipeline, build) -> None:
    packet = lsst_packet()
    assert published(pipeline, build, packet).value.endswith(packet[5:])


def test_the_fingerprint_names_the_schema(pipeline, build) -> None:
    for packet in (lsst_packet(), ztf_packet(), b"broken"):
        record = published(pipeline, build, packet)
        schema = schemas.by_id(int.from_bytes(record.value[1:5], "big"))
        assert (dict(record.headers)["schema-fingerprint"] or b"").decode() == schemas.fingerprint(schema)


def test_a_dead_letter_holds_everything_that_came(pipeline, build) -> None:
    record = published(pipeline, build, b"\x00broken")
    letter = decoded(record)
    headers = dict(record.headers)
    assert record.topic == "out.alerts.dead-letter"
    assert record.key == b"their key"
    assert headers["reason"].decode() == letter["reason"]
    stated = {"value": b"\x00broken", "key": b"their key", "topic": "alerts", "partition": 3, "offset": 41}
    assert stated.items() <= letter.items()
    assert letter["version"] == "0.0.test"
    assert letter["headers"] == [{"name": "their", "value": b"header"}]
    assert letter["timestamp_ms"] == 1_700_000_000_123


def test_outcomes_are_one_of_two(pipeline) -> None:
    outcomes = pipeline([Message(lsst_packet(), "a", 0, 0), Message(None, "a", 0, 1)])
    assert [type(outcome) for outcome in outcomes] == [Enriched, Rejected]


def test_a_registrys_ids_are_asked_for_by_topic_and_form_and_the_fingerprint_stays(
    pipeline: Pipeline,
) -> None:
    asked: list[tuple[str, str, str]] = []

    def ids(topic: str, name: str, schema) -> int:
        asked.append((topic, name, schema()["name"]))
        return 10 + len(asked)

    plain, registered = (RecordBuilder(lambda _: "out", "1", ids=one) for one in (None, ids))
    outcomes = pipeline([Message(value, "in", 0, 0) for value in (lsst_packet(), ztf_packet(), b"broken")])
    for number, outcome in enumerate(outcomes):
        (record,) = registered(outcome).records
        assert record.value[:5] == b"\0" + (11 + number).to_bytes(4, "big")
        assert (
            dict(record.headers)["schema-fingerprint"]
            == dict(plain(outcome).records[0].headers)["schema-fingerprint"]
        )
    assert asked == [
        ("out.enriched", "lsst.v11_1", "nightjar.lsst.v11_1.EnrichedAlert"),
        ("out.enriched", "ztf.v4_02", "nightjar.ztf.v4_02.EnrichedAlert"),
        ("out.dead-letter", "dead_letter.v1", "nightjar.DeadLetter"),
    ]


def test_an_id_that_the_registry_does_not_give_is_no_dead_letter(pipeline: Pipeline) -> None:
    def ids(topic: str, name: str, schema) -> int:
        raise RegistryError("down")

    (outcome,) = pipeline([Message(lsst_packet(), "in", 0, 0)])
    with pytest.raises(RegistryError):
        RecordBuilder(lambda _: "out", "1", ids=ids)(outcome)


def test_lite_is_the_same_record_with_null_stamps(pipeline: Pipeline) -> None:
    for packet in (lsst_packet(), lsst_packet(schema_id=704), ztf_packet()):
        (outcome,) = pipeline([Message(packet, "in", 0, 0)])
        whole, lite = RecordBuilder(lambda _: "out", "1", lite=True)(outcome).records
        assert lite.topic == "out.lite"
        assert (lite.key, lite.headers) == (whole.key, whole.headers)
        full, small = decoded(whole), decoded(lite)
        assert full["alert"] != small["alert"]
        stamps = dict.fromkeys(name for name in full["alert"] if name.startswith("cutout"))
        assert len(stamps) == 3
        assert repr(full["alert"] | stamps) == repr(small["alert"])
        assert repr(full["enrichment"]) == repr(small["enrichment"])


def test_stamps_that_are_not_the_last_fields_are_cut_by_writing_again() -> None:
    schema = schemas.input_form("lsst.v11_1")
    moved = {**schema, "fields": [*schema["fields"][-3:], *schema["fields"][:-3]]}
    cut = stamp_cutter(moved)
    out = io.BytesIO()
    record = fastavro.schemaless_reader(io.BytesIO(lsst_packet()[5:]), schema, None)
    fastavro.schemaless_writer(out, moved, record)
    small = fastavro.schemaless_reader(io.BytesIO(cut(out.getvalue())), moved, None)
    assert repr(small) == repr({name: None if name.startswith("cutout") else small[name] for name in small})
    assert small["diaSource"]["ra"] == record["diaSource"]["ra"]


def test_a_lite_record_that_does_not_fit_takes_the_whole_parcel_with_it(pipeline: Pipeline) -> None:
    (outcome,) = pipeline([Message(lsst_packet(), "in", 0, 0)])
    parcel = RecordBuilder(lambda _: "out", "1", lite=True, limits={"out.lite": 500})(outcome)
    assert [record.topic for record in parcel.records] == ["out.dead-letter"]
    assert "larger than out.lite takes" in decoded(parcel.records[0])["error"]


def test_a_record_its_topic_does_not_take_is_a_dead_letter_then_one_without_its_bytes(
    pipeline: Pipeline,
) -> None:
    packet = lsst_packet()
    (outcome,) = pipeline([Message(packet, "in", 0, 0, key=b"k" * 5000)])
    size = RecordBuilder(lambda _: "out", "1")(outcome).records[0].size
    small, smaller = (
        RecordBuilder(lambda _: "out", "1", limits={"out.enriched": size - 1, "out.dead-letter": letters})(
            outcome
        )
        for letters in (2 * size, 4000)
    )
    for parcel in (small, smaller):
        assert isinstance(parcel.outcome, Rejected)
        assert parcel.outcome.reason is Reason.MESSAGE_TOO_LARGE
    assert decoded(small.records[0])["value"] == packet
    letter = decoded(smaller.records[0])
    assert (letter["value"], letter["key"]) == (None, None)
    assert hashlib.sha256(packet).hexdigest() in letter["error"]
    assert dict(smaller.records[0].headers)["value-bytes"] == str(len(packet)).encode()
    with pytest.raises(KafkaError, match=r"raise its max\.message\.bytes"):
        RecordBuilder(lambda _: "out", "1").smaller(
            Parcel(replace(smaller.outcome, message=Message(None, "in", 0, 0)), smaller.records)
        )


def test_a_dead_letter_that_cannot_be_smaller_ends_it() -> None:
    pack = RecordBuilder(lambda _: "out", "1")
    letter = pack(Rejected(Message(bytes(5000), "in", 0, 1), Reason.DATUM_INVALID, "no alert"))
    smaller = pack.smaller(letter)
    assert smaller.size < letter.size
    with pytest.raises(KafkaError, match=r"none can be smaller: raise its max\.message\.bytes"):
        pack.smaller(smaller)
