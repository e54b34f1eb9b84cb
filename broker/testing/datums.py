"""Avro datums from a few stated fields: everything else takes the plainest value its schema allows.

Also the two envelopes a datum travels in, the Confluent frame and the object container.
"""

import bz2
import io
import json
import lzma
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import fastavro

import schemas

Datum = dict[str, Any]

CONTAINER_MAGIC = b"Obj\x01"
SYNC_MARKER = bytes.fromhex("6e696768746a61722d706c61696e2d31")
"""Sixteen bytes that end each block; any will do, fixed so that packets repeat."""

ZEROS: dict[str, Any] = {
    "null": None,
    "boolean": False,
    "int": 0,
    "long": 0,
    "float": 0.0,
    "double": 0.0,
    "string": "",
    "bytes": b"",
}

_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "null": lambda plain: plain,
    "deflate": lambda plain: zlib.compress(plain, wbits=-15),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


@cache
def parsed(form: str) -> Datum:
    """Return the schema of a bundled form as fastavro parsed it.

    Parameters
    ----------
    form : str
        Such as ``lsst.v11_1`` or ``ztf.v4_02``.
    """
    schema: Datum = fastavro.parse_schema(schemas.input_form(form))  # type: ignore[assignment]
    return schema


def field_names(form: str, *path: str) -> frozenset[str]:
    """Names of the fields of the record at ``path`` below the top one."""
    return frozenset(_plain_template(form, path))


def plain_record(form: str, *path: str, values: Mapping[str, Any]) -> Datum:
    """Fill the record that stands in ``path`` below the top one.

    Parameters
    ----------
    form : str
        Such as ``lsst.v11_1``.
    *path : str
        Fields to go down by; unions and arrays are looked through: ``"prvDiaSources"`` is the record of
        one entry. Empty is the alert itself.
    values : mapping of str to object
        The fields that matter. Of the others nullable ones become null (booleans False, as surveys write
        them), the rest zero or empty.

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If a value is given for a field that the record does not have.
    """
    template = _plain_template(form, path)
    unknown = sorted(set(values) - set(template))
    if unknown:
        where = ".".join((form, *path))
        raise ValueError(f"{where} has no field {', '.join(unknown)}; it has {', '.join(sorted(template))}")
    return template | dict(values)


@cache
def _plain_template(form: str, path: tuple[str, ...]) -> Datum:
    top = parsed(form)
    names = top["__named_schemas"]
    record = _record_in(top, names)
    for step in path:
        record = _record_in(next(f["type"] for f in record["fields"] if f["name"] == step), names)
    return {field["name"]: _plain_value(field["type"], names) for field in record["fields"]}


def _record_in(schema: Any, names: Datum) -> Datum:
    if isinstance(schema, str):
        return _record_in(names[schema], names) if schema in names else {}
    if isinstance(schema, list):
        return next(filter(None, (_record_in(branch, names) for branch in schema)), {})
    if schema["type"] == "array":
        return _record_in(schema["items"], names)
    return schema if schema["type"] == "record" else {}


def _plain_value(schema: Any, names: Datum) -> Any:
    if isinstance(schema, list):
        return (
            False if "boolean" in schema else _plain_value(schema[0], names) if "null" not in schema else None
        )
    if isinstance(schema, dict):
        return [] if schema["type"] == "array" else _plain_value(schema["type"], names)
    return ZEROS.get(schema)


def encode(form: str, datum: Mapping[str, Any]) -> bytes:
    """Encode a record of a bundled form, without frame or container."""
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, parsed(form), datum)
    return stream.getvalue()


def frame(schema_id: int, datum: bytes) -> bytes:
    """Put a datum in a Confluent frame: a zero byte and the schema's id, big-endian."""
    return struct.pack(">bi", 0, schema_id) + datum


def container(form: str, datums: Sequence[bytes], *, codec: str = "null") -> bytes:
    """Put datums in one block of an Avro object container with the form's schema in its header.

    Parameters
    ----------
    form : str
    datums : sequence of bytes
        Surveys write one; none makes a container without a block.
    codec : str
        ``null`` as surveys do, ``deflate``, ``bzip2``, ``xz``; any other name is written into the header and
        nothing is compressed.

    Returns
    -------
    bytes
    """
    meta = {"avro.schema": json.dumps(schemas.input_form(form)).encode(), "avro.codec": codec.encode()}
    entries = b"".join(_sized(key.encode()) + _sized(value) for key, value in meta.items())
    header = CONTAINER_MAGIC + avro_long(len(meta)) + entries + avro_long(0) + SYNC_MARKER
    if not datums:
        return header
    block = _COMPRESS.get(codec, bytes)(b"".join(datums))
    return header + avro_long(len(datums)) + _sized(block) + SYNC_MARKER


def _sized(content: bytes) -> bytes:
    return avro_long(len(content)) + content


def avro_long(number: int) -> bytes:
    """Encode an Avro long: zigzag, seven bits a byte, least significant first."""
    zigzag = (number << 1) ^ (number >> 63)
    groups = bytearray()
    while zigzag > 0x7F:  # noqa: PLR2004 - seven bits
        groups.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    groups.append(zigzag)
    return bytes(groups)
