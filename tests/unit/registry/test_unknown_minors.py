"""Schemas that the bundle lacks: a new minor is read without a release, whatever else is refused in words."""

import copy
import io
import json
import time
from random import Random

import fastavro
import numpy as np
import pytest

import schemas
from broker import native
from broker.alert import Enrichment, ModelIdentity, Seen, Survey
from broker.avro.decode import Decoder, decode
from broker.avro.deserializer import Deserializer
from broker.avro.encoding import long
from broker.avro.frame import frame
from broker.avro.serializer import EnrichedSerializer
from broker.avro.store import MOST_LEARNED, SchemaStore
from broker.errors import AlertError, DatumError, SchemaUnknown
from broker.survey import WANTED, read_alert
from broker.testing.minors import in_container, minor, rubin_datum, rubin_packet, ztf_container
from broker.testing.packets import Visit, example_stamps, lsst_packet, ztf_packet

NEW = {"name": "fresh", "type": ["null", "double"], "default": None}
RECORD = {
    "name": "weather",
    "type": {
        "type": "record",
        "name": "weather",
        "fields": [
            {"name": "seeing", "type": "float", "default": 0.7},
            {"name": "notes", "type": {"type": "array", "items": "string"}, "default": []},
        ],
    },
    "default": {"seeing": 0.7, "notes": ["clear"]},
}
ENUM = {
    "name": "kind",
    "type": {"type": "enum", "name": "kinds", "symbols": ["STAR", "GALAXY"], "default": "STAR"},
    "default": "GALAXY",
}
ARRAY = {
    "name": "tiles",
    "type": {"type": "array", "items": ["null", "long", "string"]},
    "default": [1, None, "a"],
}
MAP = {"name": "scores", "type": {"type": "map", "values": "double"}, "default": {"a": 1.0}}
FIXED = {
    "name": "hash",
    "type": ["null", {"type": "fixed", "name": "md5", "size": 4}],
    "default": None,
}
TIME = {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}, "default": 5}
BYTES = {"name": "blob", "type": ["null", "bytes"], "default": None}

ADDITIONS = {
    "at the end, behind the stamps": {("", 99): NEW},
    "at the beginning": {("", 0): ENUM},
    "between the stamps": {("", 10): BYTES},
    "a fourth stamp": {("", 99): {"name": "cutoutTemplate2", "type": ["null", "bytes"], "default": None}},
    "at the end of diaSource, and so of the history": {("diaSource", 999): NEW},
    "at the beginning of diaSource": {("diaSource", 0): ENUM},
    "within diaSource": {("diaSource", 20): TIME, ("diaSource", 50): ARRAY},
    "in a nullable record": {("diaObject", 3): MAP},
    "a record": {("", 3): RECORD},
    "a record in diaSource": {("diaSource", 5): RECORD},
    "everywhere": {
        ("", 0): FIXED,
        ("diaSource", 7): MAP,
        ("ssSource", 1): ENUM,
        ("mpc_orbits", 2): RECORD,
        ("", 9): ARRAY,
    },
}
HISTORY = [Visit(band="g", template_flux=500.0), Visit(band="r", template_flux=700.0)]


class Known:
    """A registry of schemas by id."""

    def __init__(self, **schemas_: object) -> None:
        self.schemas = {int(name.removeprefix("n")): schema for name, schema in schemas_.items()}
        self.asked: list[int] = []

    def find(self, schema_id, accept):
        self.asked.append(schema_id)
        if schema_id not in self.schemas:
            raise SchemaUnknown("the registry answered 404")
        return accept(json.loads(json.dumps(self.schemas[schema_id])))


@pytest.fixture
def enrichment():
    unit = np.full(64, 0.125, np.float32)
    return Enrichment(
        model=ModelIdentity("test", "1", "0" * 64),
        embedding=unit,
        morphology_classes=("disk", "bulge"),
        morphology=np.array([0.25, 0.75], np.float32),
        redshift=None,
        anomaly=0.5,
        seen=Seen(32, 0.25, "r", 0.75, np.ones(3, np.float32)),
        flags=(),
        bands_used=(),
    )


def made_up(additions):
    return minor("lsst.v11_1", "lsst.v11_2", additions)


@pytest.mark.parametrize("validate", ["full", "off"])
@pytest.mark.parametrize("where", ADDITIONS)
def test_a_field_added_anywhere_is_read_like_the_version_before(where, validate, enrichment):
    schema = made_up(ADDITIONS[where])
    store = SchemaStore(WANTED, Known(n1102=schema))
    deserialize = Deserializer(WANTED, validate=validate, store=store)
    packet = {"alert_id": 77, "object_id": 5, "history": HISTORY, "stamps": example_stamps()}
    read = deserialize(rubin_packet(schema, 1102, **packet))
    before = Deserializer(WANTED)(lsst_packet(**packet))
    assert (read.survey, read.form, read.schema_id) == (Survey.LSST, "lsst.v11_2", 1102)
    assert read.fields == before.fields
    assert [bytes(stamp) for stamp in read.cutouts] == [bytes(stamp) for stamp in before.cutouts]
    alert = read_alert(read)
    value = EnrichedSerializer(store)(alert, enrichment)
    assert value[:5] == frame(1_900_021_102)
    output = schemas.enriched(schema, 1102)
    source = io.BytesIO(value[5:])
    record = fastavro.schemaless_reader(source, fastavro.parse_schema(output), None)
    assert not source.read()
    assert value.endswith(rubin_datum(schema, **packet))
    assert record["alert"]["diaSource"]["diaSourceId"] == 77
    assert record["enrichment"]["anomaly"] == 0.5
    assert output["name"] == "nightjar.lsst.v11_2.EnrichedAlert"
    assert EnrichedSerializer(store).fingerprint("lsst.v11_2") == schemas.fingerprint(output)


def test_a_new_minor_is_asked_for_once_however_many_alerts_come():
    schema = made_up({("", 0): NEW})
    known = Known(n1102=schema)
    deserialize = Deserializer(WANTED, store=SchemaStore(WANTED, known))
    for number in range(20):
        deserialize(rubin_packet(schema, 1102, alert_id=number + 1))
    assert known.asked == [1102]


def test_the_bundle_goes_first():
    known = Known(n1101=made_up({("", 0): NEW}))
    assert Deserializer(WANTED, store=SchemaStore(WANTED, known))(lsst_packet()).form == "lsst.v11_1"
    assert known.asked == []


def test_a_bundled_schema_under_another_id_is_the_bundled_form():
    store = SchemaStore(WANTED, Known(n7=schemas.input_form("lsst.v10_0")))
    packet = Deserializer(WANTED, store=store)(frame(7) + lsst_packet(schema_id=1000)[5:])
    assert (packet.form, packet.schema_id) == ("lsst.v10_0", 7)
    assert store.form(packet.form).output_id == 1_900_021_000


def test_a_minor_under_a_number_that_is_not_its_own_is_named_by_its_fingerprint():
    schema = made_up({("", 0): NEW})
    store = SchemaStore(WANTED, Known(n12=schema))
    form = store.by_id(12)
    assert form == f"lsst.v11_2_x{schemas.fingerprint(schema)}"
    assert store.form(form).output_id == 1_900_029_999
    assert schemas.enriched(schema, 12)["name"] == f"nightjar.{form}.EnrichedAlert"


def test_another_schema_that_calls_itself_a_bundled_version_does_not_take_its_name():
    schema = minor("lsst.v11_1", "lsst.v11_1", {("", 0): NEW})
    assert (
        SchemaStore(WANTED, Known(n1102=schema)).by_id(1102) == f"lsst.v11_1_x{schemas.fingerprint(schema)}"
    )


def test_a_container_brings_its_own_schema_and_needs_no_registry(enrichment):
    schema = minor("ztf.v4_02", "ztf.v4_02", {("candidate", 5): ENUM, ("", 3): RECORD, ("", 99): NEW})
    store = SchemaStore(WANTED)
    packet = Deserializer(WANTED, store=store)(ztf_container(schema, alert_id=8))
    before = Deserializer(WANTED)(ztf_packet(alert_id=8))
    assert packet.fields == before.fields
    assert packet.form == f"ztf.x{schemas.fingerprint(schema)}"
    value = EnrichedSerializer(store)(read_alert(packet), enrichment)
    assert value[:5] == frame(1_900_029_999)
    source = io.BytesIO(value[5:])
    record = fastavro.schemaless_reader(source, schemas.enriched(schema), None)
    assert not source.read()
    assert record["alert"]["candid"] == 8


def test_a_minor_of_rubins_in_a_container():
    schema = made_up({("", 0): NEW})
    packet = Deserializer(WANTED)(in_container(schema, rubin_datum(schema, alert_id=9)))
    assert packet.fields["diaSource.diaSourceId"] == 9
    assert packet.form == f"lsst.v11_2_x{schemas.fingerprint(schema)}"


def changed(path, **attributes):
    """Change or take away a field of 11.1 that is read."""
    schema = made_up({})
    fields = schema["fields"]
    record, _, name = path.rpartition(".")
    if record:
        fields = next(field for field in fields if field["name"] == record)["type"]["fields"]
    (at,) = [i for i, field in enumerate(fields) if field["name"] == name]
    if attributes:
        fields[at] = {"name": name, **attributes}
    else:
        del fields[at]
    return schema


def nullable(name):
    schema = made_up({})
    (field,) = [field for field in schema["fields"] if field["name"] == name]
    field["type"] = ["null", field["type"]]
    return schema


def doubling(depth):
    """Types that each name the one before twice: a page of text, a datum without end."""
    fields = [
        {"name": "first", "type": {"type": "record", "name": "t0", "fields": [{"name": "a", "type": "int"}]}}
    ]
    fields += [
        {
            "name": f"f{i}",
            "type": {
                "type": "record",
                "name": f"t{i}",
                "fields": [{"name": "a", "type": f"t{i - 1}"}, {"name": "b", "type": f"t{i - 1}"}],
            },
        }
        for i in range(1, depth)
    ]
    schema = made_up({})
    schema["fields"] += fields
    return schema


REFUSED = {
    "no identifier": (
        changed("diaSource.diaSourceId"),
        "lacks the field diaSource.diaSourceId, wanted as int or long",
    ),
    "an identifier that may be null": (
        changed("diaSource.diaSourceId", type=["null", "long"]),
        "diaSource.diaSourceId may be null, wanted int or long always",
    ),
    "an identifier of text": (
        changed("diaSource.diaSourceId", type="string"),
        "is string, wanted int or long",
    ),
    "no position": (changed("diaSource.ra"), "lacks the field diaSource.ra"),
    "a band of bytes": (
        changed("diaSource.band", type=["null", "bytes"]),
        "diaSource.band is bytes, wanted string",
    ),
    "a band of an enum": (
        changed("diaSource.band", type={"type": "enum", "name": "b", "symbols": ["g"]}),
        "diaSource.band is enumeration, wanted string",
    ),
    "no stamp": (changed("cutoutScience"), "lacks the field cutoutScience, wanted as bytes"),
    "a stamp of text": (changed("cutoutTemplate", type="string"), "cutoutTemplate is string, wanted bytes"),
    "a diaSource that may be null": (nullable("diaSource"), "diaSource.diaSourceId may be null"),
    "another record": (
        {**made_up({}), "name": "lsst.v11_2.notAlert"},
        "its record is 'lsst.v11_2.notAlert', wanted one",
    ),
    "ours": (
        schemas.load(schemas.enriched_name("lsst.v11_1")),
        "its record is 'nightjar.lsst.v11_1.EnrichedAlert'",
    ),
    "no record": ("int", 'it is "int", wanted a record'),
    "no schema": ({"a": 1}, "not an Avro schema"),
    "nothing": (None, "not an Avro schema"),
    "an unknown name": (made_up({("", 0): {"name": "a", "type": "Nowhere"}}), "Nowhere"),
    "a recursive one": (
        made_up({("", 0): {"name": "a", "type": ["null", "lsst.v11_2.alert"], "default": None}}),
        "recursive",
    ),
    "a logical type": (
        made_up(
            {("", 0): {"name": "a", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4}}}
        ),
        "logical type 'decimal'",
    ),
    "a fixed of less than nothing": (
        made_up({("", 0): {"name": "a", "type": {"type": "fixed", "name": "f", "size": -1}}}),
        "a fixed of -1 bytes",
    ),
    "a fixed without end": (
        made_up({("", 0): {"name": "a", "type": {"type": "fixed", "name": "f", "size": 3 * 10**9}}}),
        "a fixed of 3000000000 bytes",
    ),
    "doubling": (doubling(60), "types with every name written out (a text counts 100), at most 20000"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("by", ["registry", "container"])
def test_what_is_no_alerts_schema_is_said_with_what_was_wanted(what, by):
    schema, said = REFUSED[what]
    if by == "registry":
        store = SchemaStore(WANTED, Known(n1102=schema))
        with pytest.raises(SchemaUnknown) as caught:
            store.by_id(1102)
        assert "schema id 1102 is none of the bundle's (700, " in caught.value.detail
    else:
        with pytest.raises(SchemaUnknown) as caught:
            SchemaStore(WANTED).by_fingerprint("0123456789abcdef", schema)
        if schema is not None:
            assert "a schema with fingerprint 0123456789abcdef is not known" in caught.value.detail
    if not (by == "container" and schema is None):
        assert said in caught.value.detail


def test_a_datum_that_breaks_its_new_schema_is_the_datums_fault():
    schema = made_up({("", 0): NEW})
    with pytest.raises(DatumError):
        Deserializer(WANTED, store=SchemaStore(WANTED, Known(n1102=schema)))(rubin_packet(schema, 1102)[:-9])


def test_whoever_writes_schemas_without_end_fills_neither_memory_nor_registry():
    store = SchemaStore(WANTED)
    deserialize = Deserializer(WANTED, store=store)
    for number in range(MOST_LEARNED):
        schema = made_up({("", 0): {"name": f"n{number}", "type": "int", "default": 0}})
        deserialize(in_container(schema, rubin_datum(schema)))
    schema = made_up({("", 0): {"name": "one_too_many", "type": "int", "default": 0}})
    for _ in range(2):
        with pytest.raises(SchemaUnknown, match="form number 65 that the bundle lacks"):
            deserialize(in_container(schema, rubin_datum(schema)))
    assert deserialize(lsst_packet()).form == "lsst.v11_1"


def test_a_store_without_needs_knows_the_bundle_only():
    schema = made_up({})
    with pytest.raises(SchemaUnknown, match="schema id 1102 is not known, only 700"):
        SchemaStore(registry=Known(n1102=schema)).by_id(1102)
    with pytest.raises(SchemaUnknown, match="is not known, only"):
        SchemaStore().by_fingerprint(schemas.fingerprint(schema), schema)


class TestDecoding:
    """What a subscriber makes of records whose schema no release of ours holds."""

    @pytest.fixture
    def schema(self):
        return made_up({("diaSource", 4): ARRAY, ("", 99): NEW})

    @pytest.fixture
    def written(self, schema, enrichment):
        store = SchemaStore(WANTED, Known(n1102=schema))
        alert = read_alert(Deserializer(WANTED, store=store)(rubin_packet(schema, 1102, alert_id=6)))
        serialize = EnrichedSerializer(store)
        return serialize(alert, enrichment), serialize.fingerprint(alert.form)

    def test_by_the_alerts_own_registry_and_an_id_of_the_reserved_block(self, schema, written):
        known = Known(n1102=schema)
        read = Decoder(alerts=known)
        for fingerprint in (written[1], None, written[1]):
            assert read(written[0], fingerprint)["alert"]["diaSourceId"] == 6
        assert known.asked == [1102, 1102]

    def test_by_the_registry_of_the_outputs(self, schema, written):
        value, fingerprint = written
        read = Decoder(outputs=Known(n31=schemas.enriched(schema, 1102)))
        assert read(frame(31) + value[5:], fingerprint)["alert"]["diaSourceId"] == 6

    def test_a_registry_may_write_a_name_and_its_namespace_apart(self, schema, written):
        value, fingerprint = written
        output = schemas.enriched({**schema, "name": "alert", "namespace": "lsst.v11_2"}, 1102)
        apart = {**output, "name": "EnrichedAlert", "namespace": "nightjar.lsst.v11_2"}
        read = Decoder(outputs=Known(n31=apart))
        assert read(frame(31) + value[5:], fingerprint)["alert"]["diaSourceId"] == 6

    def test_a_bundled_schema_needs_no_registry_whatever_its_id(self, enrichment):
        alert = read_alert(Deserializer(WANTED)(lsst_packet(alert_id=3)))
        serialize = EnrichedSerializer(SchemaStore(), ids=lambda *_: 31)
        value = serialize(alert, enrichment, "t")
        assert value[:5] == frame(31)
        assert decode(value, serialize.fingerprint("lsst.v11_1"))["alert"]["diaSourceId"] == 3

    def test_a_registry_that_has_another_schema_under_the_id_is_told_by_the_fingerprint(self, written):
        value, fingerprint = written
        other = made_up({("", 0): NEW})
        with pytest.raises(
            SchemaUnknown, match=r"no schema with fingerprint .*its fingerprint is [0-9a-f]{16}, the"
        ):
            Decoder(alerts=Known(n1102=other))(value, fingerprint)
        with pytest.raises(
            SchemaUnknown, match=r"it is the schema of lsst\.v11_2\.alert, wanted one of Nightjar's"
        ):
            Decoder(outputs=Known(n31=other))(frame(31) + value[5:], fingerprint)

    def test_without_a_registry_it_is_said(self, written):
        with pytest.raises(SchemaUnknown, match="no schema with fingerprint"):
            decode(*written)
        with pytest.raises(SchemaUnknown, match="no schema with schema_id 1900021102"):
            decode(written[0])

    def test_the_enrichment_is_read_all_the_same(self, written):
        part = schemas.load("enriched_alert.v2.lsst.v11_1")["fields"][0]["type"]
        record = fastavro.schemaless_reader(io.BytesIO(written[0][5:]), part, None)
        assert (record["alert_id"], record["anomaly"]) == (6, 0.5)

    @pytest.mark.parametrize("nonsense", [None, [], {"name": 5}, {"name": "nightjar.x"}, "int"])
    def test_a_registry_that_answers_nonsense(self, nonsense, written):
        value, fingerprint = written
        for read in (Decoder(alerts=Known(n1102=nonsense)), Decoder(outputs=Known(n31=nonsense))):
            for schema_id in (31, 1_900_021_102):
                with pytest.raises(SchemaUnknown):
                    read(frame(schema_id) + value[5:], fingerprint)


def test_a_made_up_version_of_the_enrichment_and_the_present_one_read_each_other_for_a_new_minor():
    """What holds for the bundled forms holds for what is learned: only the enrichment's version differs."""
    schema = made_up({("", 0): RECORD})
    v1, v2 = (schemas.enriched(schema, 1102, version) for version in (1, 2))
    value = io.BytesIO()
    old = fastavro.schemaless_reader(
        io.BytesIO(schemas.sample("enriched_alert.v1.lsst.v11_1")[5:]),
        schemas.load("enriched_alert.v1.lsst.v11_1"),
        None,
    )
    fastavro.schemaless_writer(value, copy.deepcopy(v1), old)
    read = fastavro.schemaless_reader(io.BytesIO(value.getvalue()), copy.deepcopy(v1), copy.deepcopy(v2))
    assert read["enrichment"]["anomaly_reason"] is None
    back = io.BytesIO()
    fastavro.schemaless_writer(back, copy.deepcopy(v2), read)
    again = fastavro.schemaless_reader(io.BytesIO(back.getvalue()), copy.deepcopy(v2), copy.deepcopy(v1))
    assert "anomaly_reason" not in again["enrichment"]
    assert again["alert"] == read["alert"]


def test_a_schema_of_a_thousand_texts_is_refused_before_seconds_go_into_it():
    schema = made_up({})
    schema["fields"] += [{"name": f"text{i}", "type": "string", "default": ""} for i in range(1000)]
    began = time.monotonic()
    with pytest.raises(SchemaUnknown, match=r"it comes to 1[0-9]{5} types"):
        SchemaStore(WANTED, Known(n1102=schema)).by_id(1102)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("helper", ["compiled", "Python alone"])
@pytest.mark.parametrize("branches", [64, 65, 129, 200])
def test_a_union_of_more_branches_than_one_byte_numbers(monkeypatch, helper, branches):
    """An index of two bytes is legal, and what it does not name is refused."""
    if helper == "Python alone":
        monkeypatch.setattr(native, "walk", None)
    schema = made_up({("", 0): {"name": "many", "type": ["null"] * branches}})
    read = Deserializer(WANTED)
    whole = rubin_datum(made_up({}), alert_id=9)
    for index in (0, branches - 1):
        packet = read(in_container(schema, long(index) + whole))
        assert packet.fields["diaSource.diaSourceId"] == 9
    for datum in (long(branches) + whole, long(0) + whole[:-7], long(branches - 1) + whole + b"x"):
        with pytest.raises(AlertError):
            read(in_container(schema, datum))


def broken_somewhere(random, schema):
    """Damage one place of a schema, so that it may still be one."""
    schema = copy.deepcopy(schema)
    place, key = schema, "fields"
    while random.random() < 0.9 and isinstance(place[key], dict | list) and place[key]:
        place = place[key]
        key = random.choice(list(place)) if isinstance(place, dict) else random.randrange(len(place))
    values = (
        None,
        7,
        -1,
        "",
        "int",
        "Nowhere",
        [],
        {},
        [[]],
        ["int", "int"],
        {"type": "array"},
        {"type": []},
    )
    if random.random() < 0.3:
        del place[key]
    else:
        place[key] = random.choice((*values, copy.deepcopy(place[key]), [copy.deepcopy(place[key])]))
    return schema


def test_a_damaged_schema_is_read_or_refused_and_nothing_else():
    random, whole = Random(11), made_up({("", 3): RECORD, ("diaSource", 4): ENUM})
    datum, read, refused = rubin_datum(whole), 0, 0
    for _ in range(120):
        schema = broken_somewhere(random, whole)
        try:
            Deserializer(WANTED)(in_container(schema, datum))
            read += 1
        except AlertError:
            refused += 1
    assert read > 2
    assert refused > 30
