"""Schemas that nobody has published: a bundled one under another name, with fields added anywhere.

For tests of what must be read without a release of ours.
"""

import copy
import io
import json
from collections.abc import Mapping
from typing import Any, cast

import fastavro

import schemas
from broker.avro.frame import FRAME_SIZE
from broker.testing.datums import CONTAINER_MAGIC, SYNC_MARKER, avro_long, frame
from broker.testing.packets import lsst_packet, ztf_packet

Schema = dict[str, Any]


def minor(form: str, version: str, additions: Mapping[tuple[str, int], Schema]) -> Schema:
    """Make a schema out of a bundled one.

    Parameters
    ----------
    form : str
        Such as ``lsst.v11_1``.
    version : str
        That takes its place in the names of records: ``lsst.v11_2``.
    additions : mapping of (str, int) to dict
        Fields, each with a default, by record (``diaSource``; empty is the alert itself) and place in it.

    Returns
    -------
    dict
    """
    schema: Schema = json.loads(json.dumps(schemas.input_form(form)).replace(form, version))
    for (record, at), field in additions.items():
        _fields(schema, record).insert(at, copy.deepcopy(field))
    return schema


def _fields(schema: Schema, record: str) -> list[Any]:
    if not record:
        return cast(list[Any], schema["fields"])
    kind = next(field["type"] for field in schema["fields"] if field["name"] == record)
    branches = kind if isinstance(kind, list) else [kind]
    inner = next(branch for branch in branches if isinstance(branch, dict))
    return cast(list[Any], inner.get("items", inner)["fields"])


def rubin_datum(schema: Schema, form: str = "lsst.v11_1", **packet: Any) -> bytes:
    """Encode a packet of Rubin's with a made-up schema; its new fields take their defaults.

    Parameters
    ----------
    schema : dict
        Made of `form`.
    form : str
    **packet
        As for `broker.testing.packets.lsst_packet`.
    """
    schema_id = schemas.entry(form).schema_id
    assert schema_id is not None
    return _again(lsst_packet(schema_id=schema_id, **packet)[FRAME_SIZE:], form, schema)


def rubin_packet(schema: Schema, schema_id: int, **packet: Any) -> bytes:
    """Write a packet of Rubin's with a made-up schema; see `rubin_datum`."""
    return frame(schema_id, rubin_datum(schema, **packet))


def ztf_container(schema: Schema, form: str = "ztf.v4_02", **packet: Any) -> bytes:
    """Write a packet of ZTF's with a made-up schema in its header.

    Parameters
    ----------
    schema : dict
        Made of `form`.
    form : str
    **packet
        As for `broker.testing.packets.ztf_packet`.
    """
    block: Any = next(iter(fastavro.block_reader(io.BytesIO(ztf_packet(**packet)))))
    return in_container(schema, _again(block.bytes_.getvalue(), form, schema))


def in_container(schema: Any, datum: bytes) -> bytes:
    """Put a datum into an object container whose header has the schema as it is."""
    text = json.dumps(schema).encode()
    head = avro_long(1) + _sized(b"avro.schema") + _sized(text) + avro_long(0)
    return CONTAINER_MAGIC + head + SYNC_MARKER + avro_long(1) + _sized(datum) + SYNC_MARKER


def _again(datum: bytes, form: str, schema: Schema) -> bytes:
    record = fastavro.schemaless_reader(io.BytesIO(datum), schemas.input_form(form), None)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, copy.deepcopy(schema), record)
    return out.getvalue()


def _sized(content: bytes) -> bytes:
    return avro_long(len(content)) + content
