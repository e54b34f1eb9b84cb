"""A value becomes a packet or one error with its reason, whichever survey it is of."""

import struct
from random import Random

import fastavro
import pytest
from avro_oracle import decode_whole, encode, leaf, same
from hypothesis import given, settings
from hypothesis import strategies as st

import schemas
from broker.alert import Survey
from broker.avro.deserializer import STAMPS, Deserializer
from broker.avro.encoding import long
from broker.avro.store import SchemaStore
from broker.avro.tail import SIGNATURE, stamps_at_the_end
from broker.avro.types import resolve
from broker.errors import AlertError, DatumError, FrameError, Reason, SchemaUnknown
from broker.survey import WANTED
from broker.testing.broken import broken_messages
from broker.testing.datums import container, frame
from broker.testing.packets import lsst_packet, ztf_packet

RUBIN_IDS = [entry.schema_id for entry in schemas.entries() if entry.name.startswith("lsst.")]
ROLES = ("Science", "Template", "Difference")


@pytest.fixture(params=["full", "off"])
def deserialize(request):
    return Deserializer(WANTED, validate=request.param)


@pytest.mark.parametrize("broken", broken_messages(), ids=lambda broken: broken.label)
def test_each_way_to_be_broken_has_its_reason(broken):
    with pytest.raises(AlertError) as caught:
        Deserializer(WANTED)(broken.value)
    assert caught.value.reason is broken.reason


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_as_what_they_pretend_to_be(value):
    with pytest.raises(AlertError) as caught:
        Deserializer(WANTED)(value)
    pretended = {b"\0": {Reason.SCHEMA_UNKNOWN, Reason.FRAME_INVALID, Reason.DATUM_INVALID}}
    assert caught.value.reason in pretended.get(value[:1], {Reason.FRAME_INVALID, Reason.CONTAINER_INVALID})


@given(st.integers(0, 3000), st.binary(min_size=1, max_size=8))
@settings(deadline=None)
def test_damaged_packets_are_read_or_refused_and_nothing_else(at, bytes_):
    for value in (lsst_packet(), ztf_packet()):
        damaged = value[:at] + bytes_ + value[at + len(bytes_) :]
        for validate in ("full", "off"):
            try:
                packet = Deserializer(WANTED, validate=validate)(damaged)
            except AlertError:
                continue
            assert damaged.find(packet.datum) > 0


def test_an_unknown_id_is_said_with_those_that_are_known():
    with pytest.raises(SchemaUnknown, match=r"schema id 4242 is not known, only 700, .* 1101"):
        Deserializer(WANTED)(frame(4242, b""))


def test_our_own_output_is_not_an_input():
    for entry in schemas.entries():
        if entry.name not in schemas.INPUT_FORMS:
            with pytest.raises(SchemaUnknown):
                SchemaStore().by_id(entry.schema_id)


def test_no_value_and_an_empty_one_differ():
    with pytest.raises(AlertError, match="tombstone") as caught:
        Deserializer(WANTED)(None)
    assert caught.value.reason is Reason.NULL_VALUE
    with pytest.raises(FrameError, match="it is empty"):
        Deserializer(WANTED)(b"")


@pytest.mark.parametrize("schema_id", RUBIN_IDS)
def test_every_rubin_schema_is_read_by_the_id_on_the_wire(schema_id, deserialize):
    packet = deserialize(lsst_packet(schema_id=schema_id, alert_id=77))
    assert (packet.survey, packet.schema_id) == (Survey.LSST, schema_id)
    assert packet.form == f"lsst.v{schema_id // 100}_{schema_id % 100}"
    assert packet.fields["diaSource.diaSourceId"] == 77


@pytest.mark.parametrize("form", ["ztf.v3_3", "ztf.v4_02"])
@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_both_forms_of_ztf_are_told_by_the_schema_in_the_container(form, codec, deserialize):
    packet = deserialize(ztf_packet(form=form, codec=codec, alert_id=78))
    assert (packet.survey, packet.form, packet.schema_id) == (Survey.ZTF, form, None)
    assert packet.fields["candid"] == 78


def test_a_form_that_is_not_known_is_refused_by_its_fingerprint():
    value = container("lsst.v9_0", [b"\0"]).replace(b'"diaSourceId"', b'"diaSauceId_"')
    with pytest.raises(
        SchemaUnknown, match=r"fingerprint [0-9a-f]{16} is not known, only .*bc101b0befbc8242 \(ztf.v4_02\)"
    ):
        Deserializer(WANTED)(value)


def test_a_frame_and_a_container_may_carry_the_same_form():
    datum = lsst_packet(schema_id=900)[5:]
    framed, contained = (
        Deserializer(WANTED)(frame(900, datum)),
        Deserializer(WANTED)(container("lsst.v9_0", [datum])),
    )
    assert framed.cutouts == contained.cutouts
    assert bytes(framed.datum) == bytes(contained.datum) == datum


def test_stamps_are_views_in_the_order_of_roles(deserialize):
    stamps = [SIGNATURE + bytes([i]) * 8871 for i in (1, 2, 3)]
    value = lsst_packet(stamps)
    packet = deserialize(value)
    assert [bytes(stamp) for stamp in packet.cutouts] == stamps
    assert all(stamp.obj is value for stamp in packet.cutouts)


def tail_of(*stamps):
    return b"".join(b"\0" if stamp is None else b"\2" + long(len(stamp)) + stamp for stamp in stamps)


def fits(number, size=8880):
    return SIGNATURE + bytes([number]) * (size - len(SIGNATURE))


A, B, C = fits(65), fits(66, 70_000), fits(67, 60)


def test_the_tail_gives_three_stamps_that_end_with_the_datum():
    assert stamps_at_the_end(b"\2\2\0leading" + tail_of(A, B, C), 0) == (A, B, C)


@pytest.mark.parametrize(
    "tail",
    [
        tail_of(None, A, B),
        tail_of(A, None, B),
        tail_of(A, B, None),
        tail_of(A, B),
        tail_of(A, B, C) + b"\0",
        tail_of(A, B, C)[:-1],
        tail_of(A, B, C, A),
        tail_of(b"not FITS", A, B),
        tail_of(A, b"not FITS", B),
        tail_of(A, B, b""),
        tail_of(A, B, C + tail_of(A, B, C)),  # two chains that hold
        tail_of(A, B, C + tail_of(B, C, A)),
        tail_of(b"not FITS", B, C + tail_of(A, B, C)),  # the only one that holds is not the outer
        b"",
    ],
)
def test_any_other_tail_is_left_to_a_full_walk(tail):
    assert stamps_at_the_end(b"leading" + tail, 0) is None


def test_a_tail_full_of_signatures_is_left_to_a_full_walk():
    assert stamps_at_the_end(tail_of(A, B, C + 20 * SIGNATURE), 0) is None


stamp_bytes = st.one_of(
    st.none(),
    st.sampled_from((A, B, C)),
    st.binary(max_size=80),
    st.builds(lambda s, t: s + t, st.just(A), st.binary(max_size=9)),
)
nested = st.builds(
    lambda head, inner, end: head + tail_of(*inner) + end,
    st.sampled_from((A, C)),
    st.lists(stamp_bytes, min_size=3, max_size=3),
    st.sampled_from((b"", b"", b"end")),
)


@given(
    st.sampled_from(RUBIN_IDS), st.lists(stamp_bytes | nested, min_size=3, max_size=3), st.integers(0, 999)
)
@settings(deadline=None, max_examples=100)
def test_without_validation_the_stamps_are_those_of_a_full_walk(schema_id, stamps, seed):
    form = f"lsst.v{schema_id // 100}_{schema_id % 100}"
    fields = resolve(schemas.input_form(form)).fields
    datum = b"".join(encode(kind, Random(seed)) for _, kind in fields[:-3]) + tail_of(*stamps)
    by_name = dict(zip((name for name, _ in fields[-3:]), stamps, strict=True))
    for validate in ("full", "off"):
        packet = Deserializer(WANTED, validate=validate)(frame(schema_id, datum))
        assert [None if c is None else bytes(c) for c in packet.cutouts] == [
            by_name[f"cutout{r}"] for r in ROLES
        ]


def test_without_validation_damage_between_the_fields_and_the_stamps_goes_unseen_and_with_it_not():
    value = lsst_packet(history=[])
    packet = Deserializer(WANTED)(value)
    schema = schemas.input_form("lsst.v11_1")
    fields = resolve(schema).fields
    before = b"".join(encode(kind, Random(1)) for name, kind in fields[:5])
    damaged = frame(1101, before + b"\x7f" + tail_of(*map(bytes, packet.cutouts)))
    with pytest.raises(DatumError, match="prvDiaForcedSources at byte"):
        Deserializer(WANTED)(damaged)
    assert Deserializer(WANTED, validate="off")(damaged).cutouts[0] is not None


def rubin_oracle(value):
    (schema_id,) = struct.unpack(">i", value[1:5])
    return decode_whole(fastavro.parse_schema(schemas.by_id(schema_id)), value[5:])


def test_every_real_packet_gives_what_fastavro_gives(lsst_paths, ztf_paths, deserialize):
    counts = dict.fromkeys(Survey, 0)
    for path in (*lsst_paths, *ztf_paths):
        value = path.read_bytes()
        packet = deserialize(value)
        if packet.survey is Survey.LSST:
            record = rubin_oracle(value)
        else:
            with path.open("rb") as file:
                (record,) = fastavro.reader(file)
        counts[packet.survey] += 1
        assert set(packet.fields) <= set(WANTED[packet.survey])
        assert [p for p, got in packet.fields.items() if not same(got, leaf(record, p))] == []
        assert list(packet.cutouts) == [leaf(record, STAMPS[packet.survey].format(role)) for role in ROLES]
        assert value.find(packet.datum) > 0
    assert counts == {Survey.LSST: len(lsst_paths), Survey.ZTF: len(ztf_paths)}
