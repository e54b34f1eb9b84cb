"""A packet's container holds one record; replay splits those that hold more."""

import io
import json
import os
import zlib

import fastavro
import pytest

import schemas
from broker.avro import container as subject
from broker.avro.container import ContainerReader, read_header, split_container
from broker.avro.encoding import long
from broker.errors import LONGEST_DETAIL, AlertError, ContainerError, Reason

SCHEMA = {
    "type": "record",
    "name": "t.One",
    "fields": [{"name": "n", "type": "long"}, {"name": "b", "type": "bytes"}],
}
RECORDS = [{"n": i, "b": bytes([i]) * i} for i in range(5)]


def written(records, codec="null", **settings):
    out = io.BytesIO()
    fastavro.writer(out, SCHEMA, records, codec=codec, **settings)
    return out.getvalue()


def parts(value):
    """Header up to the sync marker, the marker, and the rest."""
    raw = read_header(value).raw
    return raw, value[len(raw) : len(raw) + 16], value[len(raw) + 16 :]


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
def test_the_record_is_given_without_its_container(codec):
    header, datum = ContainerReader().record(written(RECORDS[3:4], codec))
    assert fastavro.schemaless_reader(io.BytesIO(datum), fastavro.parse_schema(SCHEMA), None) == RECORDS[3]
    assert header.fingerprint == schemas.fingerprint(SCHEMA)
    assert header.codec == codec


def test_a_header_is_parsed_once_however_often_it_comes(monkeypatch):
    reader = ContainerReader()
    first, _ = reader.record(written(RECORDS[:1], sync_marker=os.urandom(16)))
    monkeypatch.setattr(subject, "read_header", None)
    second, datum = reader.record(written(RECORDS[1:2], sync_marker=os.urandom(16)))
    assert second is first
    assert bytes(datum) == long(1) + long(1) + b"\1"


def test_headers_that_are_kept_are_bounded():
    reader = ContainerReader()
    for i in range(subject.MOST_HEADERS + 5):
        reader.record(written(RECORDS[:1], metadata={"number": str(i)}))
    assert len(reader._headers) == subject.MOST_HEADERS


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
@pytest.mark.parametrize("interval", [1, 20, 10_000])
def test_several_records_are_split_into_containers_of_one(codec, interval):
    split = split_container(written(RECORDS, codec, sync_interval=interval))
    assert [list(fastavro.reader(io.BytesIO(one))) for one in split] == [[record] for record in RECORDS]
    for one, record in zip(split, RECORDS, strict=True):
        _, datum = ContainerReader().record(one)
        assert fastavro.schemaless_reader(io.BytesIO(datum), fastavro.parse_schema(SCHEMA), None) == record


def test_a_container_of_one_record_is_not_touched():
    value = written(RECORDS[:1], "deflate")
    assert split_container(value) == [value]


def test_real_ztf_packets_are_not_touched(ztf_paths):
    for path in ztf_paths[:40]:
        assert split_container(path.read_bytes()) == [path.read_bytes()]


def refused(value, match, reason=Reason.CONTAINER_INVALID):
    with pytest.raises(ContainerError, match=match) as caught:
        ContainerReader().record(value)
    assert caught.value.reason is reason


def with_header(**entries):
    return b"Obj\1" + long(len(entries)) + b"".join(
        long(len(raw)) + raw for key, content in entries.items() for raw in (key.replace("_", ".").encode(), content)
    ) + b"\0" + bytes(16)  # fmt: skip


def test_how_many_records_there_are_is_said():
    refused(written([]), "holds 1 record, this one 0")
    refused(written(RECORDS), "holds 1 record, this one 5")


def test_what_is_wrong_with_a_container_is_said():
    raw, sync, rest = parts(written(RECORDS[3:4]))
    refused(b"Obj\1", "header cannot be read")
    refused(raw[:-5], "header cannot be read")
    refused(raw + sync[:7], "ends inside the sync marker")
    refused(raw + sync + rest[:-1], "no sync marker")
    refused(raw + sync + rest[:-18], "block of the container cannot be read")
    refused(raw + bytes(16) + rest, "no sync marker")
    refused(raw + sync + long(-1) + rest[1:], "-1 records")
    refused(raw + sync + long(1) + long(-4) + rest[2:], "length -4")
    refused(with_header(avro_codec=b"null"), "names no schema")
    refused(with_header(avro_schema=b"{not json"), "schema cannot be read")
    refused(with_header(avro_schema=b'{"type": "record"}'), "lacks its attribute 'name'")
    refused(with_header(avro_schema=b"[" * 100_000), "schema cannot be read")
    refused(b"Obj\1" + long(2**60), "more than 64 entries")


def test_a_codec_that_is_not_read_has_its_own_reason():
    refused(
        with_header(avro_schema=b'"int"', avro_codec=b"zstandard"), "'zstandard'", Reason.CODEC_UNSUPPORTED
    )


def block_of(codec, block):
    schema = json.dumps(SCHEMA).encode()
    head = with_header(avro_schema=schema, avro_codec=codec)
    return head + long(1) + long(len(block)) + block + bytes(16)


@pytest.mark.parametrize("codec", [b"deflate", b"bzip2", b"xz"])
def test_compressed_data_that_are_broken_are_refused(codec):
    refused(block_of(codec, b"garbage that nothing inflates"), "decompressed|end early")
    refused(block_of(codec, b""), "end early")


def test_a_block_that_inflates_without_end_is_refused():
    bomb = zlib.compress(bytes(subject.MOST_INFLATED + 1), wbits=-15)
    refused(block_of(b"deflate", bomb), "inflates to more than")


def test_a_name_in_the_metadata_that_is_no_text_decides_nothing():
    """Found by flipping bits: fastavro cannot open such a container, whose record is whole."""
    sound = written(RECORDS[3:4], metadata={"number": "1"})
    broken = sound.replace(b"number", b"\xf6umber")
    with pytest.raises(UnicodeDecodeError):
        next(fastavro.reader(io.BytesIO(broken)))
    assert ContainerReader().record(broken)[1] == ContainerReader().record(sound)[1]


def test_a_negative_count_of_metadata_is_legal():
    entries = b"".join(long(len(raw)) + raw for raw in (b"avro.schema", b'"long"'))
    value = (
        b"Obj\1"
        + long(-1)
        + long(len(entries))
        + entries
        + b"\0"
        + bytes(16)
        + long(1)
        + long(1)
        + b"\2"
        + bytes(16)
    )
    assert list(fastavro.reader(io.BytesIO(value))) == [1]
    header, datum = ContainerReader().record(value)
    assert (header.schema, bytes(datum)) == ("long", b"\2")


def test_a_header_that_costs_seconds_and_memory_is_refused():
    many = long(100_000) + 100_000 * b"\0\0"
    refused(b"Obj\1" + many, "more than 64 entries")
    names = b"".join(long(6) + b"%06d" % n + b"\0" for n in range(65))
    refused(b"Obj\1" + long(65) + names + b"\0", "more than 64 entries")
    wide = json.dumps({"type": "enum", "name": "E", "symbols": [f"s{n}" for n in range(200_000)]}).encode()
    refused(
        b"Obj\1" + long(1) + long(11) + b"avro.schema" + long(len(wide)) + wide + b"\0" + bytes(16),
        "does not end within 262144 bytes",
    )


def test_records_that_break_their_schema_are_not_split():
    raw, sync, _ = parts(written(RECORDS))
    with pytest.raises(AlertError):
        split_container(raw + sync + long(2) + long(3) + b"\0\0\0" + sync)


def test_a_namespace_that_is_written_before_thousands_of_names_is_refused():
    fields = [{"name": "a", "type": "b"}] * 4000
    schema = {"type": "record", "name": "r", "namespace": "n" * 20_000, "fields": fields}
    refused(with_header(avro_schema=json.dumps(schema).encode()), "more than 512 characters")


def test_what_is_quoted_of_a_header_does_not_make_the_error_as_long():
    with pytest.raises(ContainerError) as caught:
        ContainerReader().record(with_header(**{"\0" * 100_000: b"x"}))
    assert len(caught.value.detail) <= LONGEST_DETAIL + 1
