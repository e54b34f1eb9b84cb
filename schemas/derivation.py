"""From what a survey publishes to what Nightjar keeps and writes: one way for the bundle and for what comes later.

A schema that the bundle lacks gets its name, its output schema and its id here, by rules that need nothing but
the schema itself. A subscriber who has the survey's schema derives the same::

    schema = schemas.enriched(survey_schema, schema_id)
    assert schemas.fingerprint(schema) == header_schema_fingerprint
"""

import json
import re
from typing import Any

from schemas.canonical import canonical_form, fingerprint
from schemas.catalogue import (
    ENRICHED_VERSION,
    INPUT_FORMS,
    OUTPUT_ID_BLOCK,
    by_known_fingerprint,
    enriched_alert,
    enrichment,
)

KEPT = ("name", "type", "namespace", "items", "values", "symbols", "size", "logicalType", "fields", "default")
ZTF_ID_OFFSET = 5_000

UNNUMBERED = 9_999
"""Of the ids of a version's enriched alerts, the one of every form that has no number of its own: only the
fingerprint tells these apart."""

_RUBIN = re.compile(r"lsst\.v([1-9][0-9]?)_(0|[1-9][0-9]?)\.alert")
_VERSION = re.compile(r"(lsst|ztf)\.v([0-9]{1,2})_([0-9]{1,2})")
_ZTF = "ztf.alert"


def facts(schema: Any) -> Any:
    """Leave out of a schema what does not decide its bytes or its defaults.

    Raises
    ------
    KeyError, TypeError
        If it is no schema.
    """
    if isinstance(schema, list):
        return [facts(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: schema[name] for name in KEPT if name in schema}
    for name in ("type", "items", "values"):
        if name in kept:
            kept[name] = facts(kept[name])
    if "fields" in kept:
        kept["fields"] = [facts(field) for field in kept["fields"]]
    if "default" in kept and not default_is_legal(kept["type"], kept["default"]):
        del kept["default"]
    return kept


def default_is_legal(kind: Any, default: Any) -> bool:
    """Tell whether a default is of its union's first branch: strict parsers refuse others; ZTF has some."""
    first = kind[0] if isinstance(kind, list) else kind
    return bool(first == "null") == (default is None)


def wire_number(form: str) -> int | None:
    """MAJOR*100 + MINOR, 5,000 higher for ZTF; None for a form that has no number of its own."""
    match = _VERSION.fullmatch(form)
    if match is None:
        return None
    return int(match[2]) * 100 + int(match[3]) + (ZTF_ID_OFFSET if match[1] == "ztf" else 0)


def output_id(form: str, version: int = ENRICHED_VERSION) -> int:
    """Id, in the reserved block, of what goes out for a form; see `schemas.catalogue.OUTPUT_ID_BLOCK`."""
    number = wire_number(form)
    return OUTPUT_ID_BLOCK + 10_000 * version + (UNNUMBERED if number is None else number)


def input_id(reserved: int) -> tuple[int, int] | None:
    """Take an id of the reserved block apart: version of the enriched alert, and Rubin's id of its input.

    Returns
    -------
    tuple of int, or None
        None for the id of anything but an enriched alert of Rubin.
    """
    version, number = divmod(reserved - OUTPUT_ID_BLOCK, 10_000)
    return (version, number) if 1 <= version <= ENRICHED_VERSION and number < ZTF_ID_OFFSET else None


def form_name(schema: Any, schema_id: int | None = None) -> str:
    """Name the form of a survey's schema, bundled or not.

    Parameters
    ----------
    schema : dict
        Complete.
    schema_id : int, optional
        Under which a registry has it.

    Returns
    -------
    str
        That of the bundle where it has the form. Else ``lsst.v11_2`` for a schema of Rubin's that is
        registered under its own number (1102); else the survey, Rubin's version and, because nothing vouches
        that no other schema claims the same, an x and the fingerprint: ``ztf.x9f6b…``, ``lsst.v11_2_x9f6b…``.

    Raises
    ------
    LookupError
        If its record is not named as Rubin (``lsst.v11_2.alert``) or ZTF (``ztf.alert``) name theirs.
    ValueError
        If it is no schema.
    """
    mark = fingerprint(schema)
    bundled = by_known_fingerprint(mark)
    if bundled in INPUT_FORMS:
        return str(bundled)
    record = record_name(schema)
    rubin = _RUBIN.fullmatch(record)
    if rubin is not None:
        name = f"lsst.v{rubin[1]}_{rubin[2]}"
        is_numbered = schema_id is not None and schema_id == wire_number(name) and name not in INPUT_FORMS
        return name if is_numbered else f"{name}_x{mark}"
    if record == _ZTF:
        return f"ztf.x{mark}"
    raise LookupError(
        f"its record is {record!r:.80}, wanted one named as alerts of Rubin are (lsst.v11_1.alert) or of ZTF "
        f"({_ZTF})"
    )


def enriched(
    schema: dict[str, Any], schema_id: int | None = None, version: int = ENRICHED_VERSION
) -> dict[str, Any]:
    """Make the schema of the enriched alert for a survey's schema, bundled or not.

    Parameters
    ----------
    schema : dict
        As the survey publishes it, complete.
    schema_id : int, optional
        Under which the survey's registry has it; without one for a schema that came in a container.
    version : int
        Of the enriched alert.

    Raises
    ------
    LookupError, ValueError
        As `form_name`.
    """
    form = form_name(schema, schema_id)
    return enriched_alert(enrichment(version), form, None if form in INPUT_FORMS else facts(schema))


def record_name(schema: Any) -> str:
    """Full name of a record, however its name and its namespace are written.

    Raises
    ------
    LookupError
        If it is a schema of something else.
    ValueError
        If it is no schema.
    """
    canonical = canonical_form(schema)
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise LookupError(f"it is {canonical:.80}, wanted a record")
    return str(json.loads(canonical)["name"])
