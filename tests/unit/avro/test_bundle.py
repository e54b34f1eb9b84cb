"""The bundle holds what the surveys publish and what the broker writes, complete, under fixed ids."""

import copy
import io
import json
from pathlib import Path

import fastavro
import pytest
from fastavro.schema import fingerprint, load_schema, to_parsing_canonical_form
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import schemas
from broker.avro.deserializer import Deserializer
from broker.avro.encoding import PHOTOZ_SOURCES
from broker.errors import Reason
from broker.survey import WANTED

NAMES = [entry.name for entry in schemas.entries()]
RUBIN = [name for name in schemas.INPUT_FORMS if name.startswith("lsst.")]


@pytest.mark.parametrize("name", NAMES)
def test_each_schema_is_complete_and_its_fingerprint_is_fastavros(name):
    schema = schemas.load(name)
    canonical = to_parsing_canonical_form(fastavro.parse_schema(copy.deepcopy(schema)))
    assert schemas.canonical_form(schema) == canonical
    assert (
        schemas.entry(name).fingerprint
        == fingerprint(canonical, "CRC-64-AVRO")
        == schemas.fingerprint(schema)
    )


@pytest.mark.parametrize("form", RUBIN)
def test_rubin_schemas_are_the_published_ones_without_their_documentation(form):
    packet = pytest.importorskip("lsst.alert.packet", reason="lsst-alert-packet is a development oracle")
    major, _, minor = form.removeprefix("lsst.v").partition("_")
    published = load_schema(
        str(Path(packet.__file__).parent / "schema" / major / minor / f"{form}.alert.avsc")
    )
    assert schemas.canonical_form(schemas.input_form(form)) == to_parsing_canonical_form(published)
    assert '"doc"' not in json.dumps(schemas.input_form(form))


def test_every_published_rubin_schema_from_7_0_is_in_the_bundle():
    packet = pytest.importorskip("lsst.alert.packet", reason="lsst-alert-packet is a development oracle")
    root = Path(packet.__file__).parent / "schema"
    versions = {(int(p.parts[-3]), int(p.parts[-2])) for p in root.glob("*/*/lsst.v*.alert.avsc")}
    assert {f"lsst.v{major}_{minor}" for major, minor in versions if major >= 7} == set(RUBIN)


def test_every_ztf_packet_has_one_of_the_two_forms(ztf_paths):
    found = set()
    for path in ztf_paths:
        with path.open("rb") as file:
            found.add(schemas.fingerprint(json.loads(fastavro.reader(file).metadata["avro.schema"])))
    assert found == {schemas.entry("ztf.v3_3").fingerprint, schemas.entry("ztf.v4_02").fingerprint}


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_ever_shipped_reads_its_sample_to_the_end(name):
    value, entry = schemas.sample(name), schemas.entry(name)
    if entry.schema_id is None:
        (record,) = fastavro.reader(io.BytesIO(value))
    else:
        assert value[:5] == b"\0" + entry.schema_id.to_bytes(4, "big")
        rest = io.BytesIO(value[5:])
        record = fastavro.schemaless_reader(rest, schemas.load(name), None)
        assert rest.read() == b""
    assert set(record) == {field["name"] for field in schemas.load(name)["fields"]}


VERSIONS = range(1, schemas.ENRICHED_VERSION + 1)


@pytest.mark.parametrize("form", schemas.INPUT_FORMS)
@pytest.mark.parametrize(("written", "read"), [(1, 2), (2, 1)])
def test_each_version_of_what_goes_out_is_read_by_a_reader_of_the_other(form, written, read):
    value = schemas.sample(schemas.enriched_name(form, written))
    writer, reader = (schemas.load(schemas.enriched_name(form, version)) for version in (written, read))
    whole = fastavro.schemaless_reader(io.BytesIO(value[5:]), writer, None)
    record = fastavro.schemaless_reader(io.BytesIO(value[5:]), writer, reader)
    assert record["alert"] == whole["alert"]
    expected = {name: part for name, part in whole["enrichment"].items() if name != "anomaly_reason"}
    if read == 2:
        expected["anomaly_reason"] = None
    assert record["enrichment"] == expected


def test_version_1_is_what_was_published():
    """A published version never changes: these are its fingerprints of the day."""
    assert schemas.entry("enriched_alert.v1.lsst.v11_1").fingerprint == "4c8d1570de23d758"
    assert schemas.entry("enriched_alert.v1.ztf.v4_02").fingerprint == "0f732ad8860b42c2"


def test_a_sample_of_the_version_that_is_written_gives_its_reason():
    value = schemas.sample(schemas.enriched_name("lsst.v11_1"))
    record = fastavro.schemaless_reader(io.BytesIO(value[5:]), schemas.by_id(1_900_021_101), None)
    assert "of the reference; " in record["enrichment"]["anomaly_reason"]


@pytest.mark.parametrize("form", schemas.INPUT_FORMS)
@pytest.mark.parametrize("version", VERSIONS)
def test_an_enriched_sample_ends_with_the_datum_of_the_sample_it_was_made_from(form, version):
    datum = Deserializer(WANTED)(schemas.sample(form)).datum
    assert schemas.sample(schemas.enriched_name(form, version)).endswith(bytes(datum))


def test_ids_and_names_are_fixed():
    ids = {entry.name: entry.schema_id for entry in schemas.entries()}
    assert ids["lsst.v7_0"] == 700
    assert ids["lsst.v11_1"] == 1101
    assert ids["ztf.v4_02"] is None
    assert ids["enriched_alert.v1.lsst.v11_1"] == 1_900_011_101
    assert ids["enriched_alert.v1.ztf.v3_3"] == 1_900_015_303
    assert ids["enriched_alert.v1.ztf.v4_02"] == 1_900_015_402
    assert ids["enriched_alert.v2.lsst.v7_0"] == 1_900_020_700
    assert ids["enriched_alert.v2.ztf.v4_02"] == 1_900_025_402
    assert len(ids) == 2 * 12 + 12 + 1
    assert ids["dead_letter.v1"] == 1_900_009_001
    assert schemas.by_id(1_900_011_101)["name"] == "nightjar.lsst.v11_1.EnrichedAlert"


def test_an_enriched_alert_ends_with_the_original_record():
    for form in schemas.INPUT_FORMS:
        schema = schemas.load(schemas.enriched_name(form))
        assert [field["name"] for field in schema["fields"]] == ["enrichment", "alert"]
        assert schema["fields"][-1]["type"] == schemas.input_form(form)


def test_schemas_are_found_by_fingerprint():
    for entry in schemas.entries():
        assert schemas.fingerprint(schemas.by_fingerprint(entry.fingerprint)) == entry.fingerprint


@pytest.mark.parametrize(
    "find",
    [
        lambda: schemas.by_id(4242),
        lambda: schemas.by_fingerprint("00" * 8),
        lambda: schemas.load("lsst.v6_0"),
        lambda: schemas.input_form("dead_letter.v1"),
    ],
)
def test_what_the_bundle_lacks_is_refused_with_what_it_has(find):
    with pytest.raises(LookupError, match=r"the bundle holds .*, .*"):
        find()


def test_a_caller_cannot_change_the_bundle():
    schemas.by_id(1101)["fields"].clear()
    assert schemas.by_id(1101)["fields"]


def our_fields(schema):
    """Give every field of our own records."""
    if isinstance(schema, dict):
        for field in schema.get("fields", ()):
            yield field
            yield from our_fields(field["type"])
        yield from our_fields(schema.get("items"))
    elif isinstance(schema, list):
        for branch in schema:
            yield from our_fields(branch)


OURS = [
    *(
        schemas.load(schemas.enriched_name("lsst.v11_1", version))["fields"][0]["type"]
        for version in VERSIONS
    ),
    schemas.load("dead_letter.v1"),
]


@pytest.mark.parametrize("schema", OURS, ids=["enrichment v1", "enrichment v2", "dead_letter"])
def test_our_fields_are_documented_and_null_has_a_meaning_and_is_the_default(schema):
    fields = list(our_fields(schema))
    assert len(fields) > 10
    for field in fields:
        assert len(field["doc"]) > 3
        if isinstance(field["type"], list):
            assert field["type"][0] == "null"
            assert field["default"] is None
            assert "Null" in field["doc"]


def test_reasons_are_those_of_the_errors_and_leave_room_for_others():
    reason = next(f["type"] for f in schemas.load("dead_letter.v1")["fields"] if f["name"] == "reason")
    assert {r.value for r in Reason} <= set(reason["symbols"])
    assert reason["default"] == "other"


def test_sources_of_a_redshift_are_those_of_the_schema():
    photoz = next(f["type"][1] for f in OURS[0]["fields"] if f["name"] == "photoz")
    source = next(f["type"] for f in photoz["fields"] if f["name"] == "source")
    assert tuple(source["symbols"]) == PHOTOZ_SOURCES


kinds = st.sampled_from(["record", "enum", "fixed", "array", "map", "int", "Name"])
attributes = st.none() | st.integers() | st.text(max_size=3) | kinds
made_up_schemas = st.recursive(
    attributes,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.fixed_dictionaries(
            {"type": kinds | inner},
            optional=dict.fromkeys(
                ("name", "namespace", "fields", "items", "values", "symbols", "size"), attributes | inner
            ),
        )
    ),
    max_leaves=8,
)


@given(made_up_schemas)
@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_what_is_no_schema_is_a_value_error(made_up):
    try:
        form = schemas.canonical_form(made_up)
    except ValueError:
        return
    assert json.loads(form) is not None
