"""A walk accepts what is legal, refuses what is not, and takes the leaves fastavro takes."""

from random import Random

import fastavro
import pytest
from avro_oracle import decode_whole, encode, leaf, leaves_of, same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import schemas
from broker.avro.encoding import long
from broker.avro.types import resolve
from broker.avro.walker import MOST_UNUSUAL, compile_walker
from broker.errors import DatumError

EVERY_TYPE = {
    "type": "record",
    "name": "t.Every",
    "fields": [
        {"name": "flag", "type": ["null", "boolean"]},
        {"name": "when", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]},
        {"name": "pair", "type": {"type": "fixed", "name": "Pair", "size": 2}},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["a", "b", "c"]}},
        {"name": "many", "type": ["int", "string", "null", "double", "bytes"]},
        {"name": "inner", "type": ["null", {"type": "record", "name": "Inner", "fields": [
            {"name": "x", "type": "float"}]}]},
        {"name": "history", "type": ["null", {"type": "array", "items": "Inner"}]},
        {"name": "texts", "type": {"type": "array", "items": "string"}},
        {"name": "raws", "type": {"type": "array", "items": {"type": "record", "name": "R", "fields": [
            {"name": "raw", "type": ["bytes", "null"]}, {"name": "n", "type": "int"}]}}},
        {"name": "by_name", "type": {"type": "map", "values": ["null", "long"]}},
        {"name": "end", "type": "long"},
    ],
}  # fmt: skip
SCHEMAS = {"every": EVERY_TYPE, **{name: schemas.input_form(name) for name in schemas.INPUT_FORMS}}
TREES = {name: resolve(schema) for name, schema in SCHEMAS.items()}
PARSED = {name: fastavro.parse_schema(schema) for name, schema in SCHEMAS.items()}
LEAVES = {name: leaves_of(tree) for name, tree in TREES.items()}
WALKERS = {name: compile_walker(schema, LEAVES[name]) for name, schema in SCHEMAS.items()}

names = st.sampled_from(sorted(SCHEMAS))
seeds = st.integers(0, 2**32 - 1)
generous = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=150)


def assert_same_leaves(name, datum):
    walked, decoded = WALKERS[name](datum), decode_whole(PARSED[name], datum)
    assert set(walked) == set(LEAVES[name])
    differing = [path for path in LEAVES[name] if not same(walked[path], leaf(decoded, path))]
    assert differing == []


@given(names, seeds)
@generous
def test_a_legal_datum_gives_the_leaves_that_fastavro_gives(name, seed):
    assert_same_leaves(name, encode(TREES[name], Random(seed)))


@given(names, seeds, st.data())
@settings(generous, max_examples=400)
def test_what_passes_after_damage_decodes_whole_with_fastavro(name, seed, data):
    datum = bytearray(encode(TREES[name], Random(seed)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(datum) - 1))
        datum[at] = data.draw(
            st.sampled_from((0, 1, 2, 3, 4, 0x7F, 0x80, 0xFF, datum[at] ^ 1, datum[at] ^ 2))
        )
    try:
        WALKERS[name](bytes(datum))
    except DatumError:
        return
    assert_same_leaves(name, bytes(datum))


@given(names, seeds, st.integers(1, 50))
@generous
def test_a_datum_cut_short_is_refused(name, seed, cut):
    datum = encode(TREES[name], Random(seed))
    with pytest.raises(DatumError):
        WALKERS[name](datum[: max(0, len(datum) - cut)])


@given(names, seeds, st.binary(min_size=1, max_size=3))
@generous
def test_bytes_after_the_last_field_are_refused(name, seed, tail):
    with pytest.raises(DatumError, match="follow the last field"):
        WALKERS[name](encode(TREES[name], Random(seed)) + tail)


def one_field(kind):
    return compile_walker({"type": "record", "name": "One", "fields": [{"name": "f", "type": kind}]}, ["f"])


BROKEN = [
    (["null", "int"], long(2) + long(0), "union index 2"),
    (["null", "int"], long(-1) + long(0), "union index -1"),
    ("boolean", b"\2", "boolean 2"),
    ("string", long(-1), "length -1"),
    ("bytes", long(-5) + b"12345", "length -5"),
    ("bytes", long(5) + b"1234", "5 bytes wanted, 4 remain"),
    ("string", long(2) + b"\xc3\x28", "not UTF-8"),
    ("int", long(2**31), "beyond the range"),
    ("int", b"\x80" * 5 + b"\0", "more than 5 bytes"),
    ("long", b"\xff" * 9 + b"\2", "beyond the range"),
    ("long", b"\x80" * 10 + b"\0", "more than 10 bytes"),
    ("long", b"\x80\x80", "ends inside a number"),
    ("double", b"1234567", "8 bytes wanted, 7 remain"),
    ({"type": "enum", "name": "E", "symbols": ["a"]}, long(1), "enum index 1"),
    ({"type": "enum", "name": "E", "symbols": ["a"]}, long(-1), "enum index -1"),
    ({"type": "array", "items": "long"}, long(2**40), "1099511627776 items"),
    ({"type": "array", "items": "long"}, long(-1) + long(3) + long(1) + b"\0", "a block said it has 3 bytes"),
    (
        {"type": "array", "items": "long"},
        long(-1) + long(-1) + long(1) + b"\0",
        "a block said it has -1 bytes",
    ),
    (
        {"type": "array", "items": "long"},
        long(-1) + long(2) + long(1) + b"\0\0\0",
        "a block said it ends at byte 4",
    ),
    ({"type": "map", "values": "long"}, long(-1) + long(2) + long(1) + b"k\1\0", "a block said it ends"),
    ({"type": "long", "logicalType": "timestamp-micros"}, long(2**62), "outside years 1 to 9999"),
]


@pytest.mark.parametrize(("kind", "datum", "what"), BROKEN)
def test_what_breaks_a_type_is_refused_with_its_field_and_byte(kind, datum, what):
    with pytest.raises(DatumError, match=rf"^f(\[\])? at byte \d+: .*{what}"):
        one_field(kind)(datum)


@pytest.mark.parametrize(
    "datum",
    [
        long(-2) + long(2) + long(7) + long(8) + b"\0",
        long(1) + long(7) + long(-1) + long(1) + long(8) + b"\0",
    ],
)
def test_negative_block_counts_are_legal(datum):
    item = {"type": "record", "name": "I", "fields": [{"name": "x", "type": "long"}]}
    field = {"name": "f", "type": {"type": "array", "items": item}}
    walker = compile_walker({"type": "record", "name": "One", "fields": [field]}, ["f[].x"])
    assert walker(datum) == {"f[].x": [7, 8]}


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("nowhere.Defined", "does not define before"),
        (
            {"type": "record", "name": "Self", "fields": [{"name": "s", "type": ["null", "Self"]}]},
            "recursive",
        ),
        ({"type": "array", "items": "null"}, "take no bytes"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 4}, "logical type 'decimal'"),
    ],
)
def test_schemas_that_are_not_read_are_refused_when_compiled(kind, why):
    with pytest.raises(ValueError, match=why):
        one_field(kind)


def test_a_history_of_thousands_of_items_that_nobody_writes_is_refused():
    item = {"type": "record", "name": "I", "fields": [{"name": "x", "type": ["null", "long"]}]}
    field = {"name": "f", "type": {"type": "array", "items": item}}
    walker = compile_walker({"type": "record", "name": "One", "fields": [field]}, ["f[].x"])
    unusual, usual = b"\x82\x00\x02", b"\x02\x02"
    assert len(walker(long(MOST_UNUSUAL) + unusual * MOST_UNUSUAL + b"\0")["f[].x"]) == MOST_UNUSUAL
    assert len(walker(long(50_000) + usual * 50_000 + b"\0")["f[].x"]) == 50_000
    blocks = (long(1001) + unusual * 1001) * 2
    with pytest.raises(DatumError, match="encoded as no survey does"):
        walker(blocks + b"\0")


def test_paths_the_schema_lacks_are_left_out():
    walker = compile_walker(schemas.input_form("lsst.v7_4"), ["diaSource.ra", "diaSource.templateFlux"])
    assert walker.paths == ("diaSource.ra",)


def test_a_walk_that_stops_early_gives_the_leaves_before_and_looks_no_farther():
    schema = schemas.input_form("lsst.v11_1")
    datum = encode(TREES["lsst.v11_1"], Random(4))
    leaves, end = compile_walker(schema, ["diaSource.ra", "diaObject.ra"], "diaSource").leading(datum[:-40])
    assert set(leaves) == {"diaSource.ra"}
    assert 0 < end < len(datum)
    assert same(leaves["diaSource.ra"], WALKERS["lsst.v11_1"](datum)["diaSource.ra"])


def test_every_leaf_of_every_real_packet_is_as_fastavro_decodes_it(lsst_paths, ztf_paths):
    for path in lsst_paths:
        value = path.read_bytes()
        assert_same_leaves(f"lsst.v{(n := int.from_bytes(value[1:5], 'big')) // 100}_{n % 100}", value[5:])
    for path in ztf_paths:
        with path.open("rb") as file:
            block = next(fastavro.block_reader(file))
        form = "ztf.v4_02" if "fp_hists" in str(block.writer_schema) else "ztf.v3_3"
        block.bytes_.seek(0)
        assert_same_leaves(form, block.bytes_.read())


def test_bits_flipped_before_the_stamps_of_real_packets_pass_only_if_fastavro_decodes_them(lsst_paths):
    random = Random(1)
    outcomes = {"refused": 0, "passed": 0}
    for path in lsst_paths[::4]:
        value = path.read_bytes()
        form = f"lsst.v{(n := int.from_bytes(value[1:5], 'big')) // 100}_{n % 100}"
        datum = bytearray(value[5:])
        leading = datum.index(b"SIMPLE  =")
        for _ in range(20):
            broken = datum.copy()
            broken[random.randrange(leading)] ^= 1 << random.randrange(8)
            try:
                WALKERS[form](bytes(broken))
            except DatumError:
                outcomes["refused"] += 1
                continue
            outcomes["passed"] += 1
            assert_same_leaves(form, bytes(broken))
    assert min(outcomes.values()) > 100
