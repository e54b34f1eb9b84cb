"""Parsing canonical form of a schema and its Rabin fingerprint.

Both as the Avro 1.12 specification states them ("Parsing Canonical Form for Schemas",
"Schema Fingerprints"): two schemas with the same form read each other's bytes.
"""

import functools
import json
from typing import Any

LONGEST_NAME = 512
"""Characters of a full name; the surveys' have 40. A namespace is written before each name below it, so that a long
one makes of a schema of 100 kB a form of gigabytes."""

EMPTY = 0xC15D213AA4D7A795
"""Fingerprint of nothing: the 64-bit polynomial of the specification."""

_PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})


def canonical_form(schema: Any) -> str:
    """Give the parsing canonical form of a schema.

    Parameters
    ----------
    schema : dict, list or str
        As parsed from JSON.

    Returns
    -------
    str
        JSON without whitespace: full names, and of the attributes only those that decide the bytes.

    Raises
    ------
    ValueError
        If something in it is not an Avro schema; the text says what.
    """
    return json.dumps(_canonical(schema, ""), separators=(",", ":"), ensure_ascii=False)


def fingerprint(schema: Any) -> str:
    """CRC-64-AVRO of the parsing canonical form.

    Parameters
    ----------
    schema : dict, list or str

    Returns
    -------
    str
        Sixteen hexadecimal digits, the least significant byte first, as Avro's single-object
        encoding writes it on the wire.
    """
    crc = EMPTY
    table = _table()
    for byte in canonical_form(schema).encode():
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc.to_bytes(8, "little").hex()


@functools.cache
def _table() -> tuple[int, ...]:
    return tuple(functools.reduce(_shift, range(8), byte) for byte in range(256))


def _shift(value: int, _bit: int) -> int:
    return (value >> 1) ^ (EMPTY if value & 1 else 0)


def _canonical(schema: Any, namespace: str) -> Any:
    if isinstance(schema, str):
        return schema if schema in _PRIMITIVES else _full_name(schema, namespace)
    if isinstance(schema, list):
        return [_canonical(branch, namespace) for branch in schema]
    if not isinstance(schema, dict) or "type" not in schema:
        raise ValueError(f"not an Avro schema: {schema!r:.80}")
    kind = schema["type"]
    if not isinstance(kind, str) or kind in _PRIMITIVES:
        return _canonical(kind, namespace)
    if kind in {"array", "map"}:
        items = "items" if kind == "array" else "values"
        return {"type": kind, items: _canonical(_attribute(schema, items), namespace)}
    if kind in {"record", "error", "enum", "fixed"}:
        return _named(schema, namespace)
    return _full_name(kind, namespace)


def _named(schema: dict[str, Any], namespace: str) -> dict[str, Any]:
    name = _full_name(_attribute(schema, "name"), schema.get("namespace", namespace))
    kind = schema["type"]
    if kind == "enum":
        return {"name": name, "type": kind, "symbols": _listed(schema, "symbols")}
    if kind == "fixed":
        return {"name": name, "type": kind, "size": _attribute(schema, "size")}
    inner = name.rpartition(".")[0]
    fields = [
        {"name": _attribute(field, "name"), "type": _canonical(_attribute(field, "type"), inner)}
        for field in _listed(schema, "fields")
    ]
    return {"name": name, "type": "record", "fields": fields}


def _attribute(schema: Any, name: str) -> Any:
    if not isinstance(schema, dict) or name not in schema:
        raise ValueError(f"an Avro schema lacks its attribute {name!r}: {schema!r:.80}")
    return schema[name]


def _listed(schema: dict[str, Any], name: str) -> list[Any]:
    value = _attribute(schema, name)
    if not isinstance(value, list):
        raise ValueError(f"attribute {name!r} of an Avro schema is no list: {value!r:.80}")  # noqa: TRY004 - as below
    return value


def _full_name(name: Any, namespace: str) -> str:
    if not isinstance(name, str):
        raise ValueError(f"not the name of an Avro type: {name!r:.80}")  # noqa: TRY004 - one error for a bad schema
    full = name if "." in name or not namespace else f"{namespace}.{name}"
    if len(full) > LONGEST_NAME:
        raise ValueError(f"the name of an Avro type has more than {LONGEST_NAME} characters: {full!r:.80}")
    return full
