"""Whether a schema that the bundle lacks is an alert's, and has what is read of one.

A minor version adds fields; nothing here asks where. A schema is taken if its record is named as its survey
names alerts, and every field that the broker reads, as well as the three stamps, is there with a type it can
use. Schemas come from outside, so their size is counted before anything is made of them: types that name each
other can double with every line.
"""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import fastavro
from fastavro.schema import SchemaParseException

import schemas
from broker.alert import ROLES, Survey
from broker.avro.types import PRIMITIVES, Array, Primitive, Record, Type, Union, resolve
from broker.avro.walker import compile_walker
from broker.errors import SchemaUnknown
from schemas.derivation import facts

INTEGER = frozenset({"int", "long"})
NUMBER = INTEGER | {"float", "double"}
TEXT = frozenset({"string"})
BYTES = frozenset({"bytes"})

STAMPS: Mapping[Survey, str] = {Survey.LSST: "cutout{}", Survey.ZTF: "cutout{}.stampData"}
"""Paths of the stamps; the gap takes a role, capitalised."""

MOST_TYPES = 20_000
"""Types in a schema with every name written out, texts counted `TEXT_WEIGHT` times; Rubin's 11.1 comes to some
thousands. What is at the limit takes a few seconds, once."""

TEXT_WEIGHT = 100
"""A pattern for a text takes 15 ms to compile, as long as one for a hundred numbers."""

_NO_SCHEMA = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    RecursionError,
    re.error,
    SchemaParseException,
)
"""What code that was written for schemas raises of other things."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a field must be so that it can be read.

    Attributes
    ----------
    kinds : frozenset of str
        Primitive types it may have.
    present : bool
        Without it the schema is not an alert's.
    nullable : bool
    """

    kinds: frozenset[str]
    present: bool = False
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class Recognised:
    """A schema that is an alert's.

    Attributes
    ----------
    form : str
        As `schemas.form_name` gives it.
    schema : dict
        What decides its bytes and defaults, as the bundle keeps others.
    output : dict
        Of the enriched alert.
    """

    form: str
    schema: dict[str, Any]
    output: dict[str, Any]


def recognise_schema(
    schema: Any, schema_id: int | None, needs: Mapping[Survey, Mapping[str, Need]]
) -> Recognised:
    """Find out which form a schema is.

    Parameters
    ----------
    schema : object
        As parsed from JSON.
    schema_id : int or None
        Under which a registry has it.
    needs : mapping of Survey to mapping of str to Need
        By dotted path.

    Raises
    ------
    SchemaUnknown
        If it is no schema, no survey's, or lacks what is needed; the text says what was found and wanted.
    """
    try:
        _refuse_huge(schema)
        form = schemas.form_name(schema, schema_id)
        if form in schemas.INPUT_FORMS:
            return Recognised(form, schemas.input_form(form), schemas.load(schemas.enriched_name(form)))
        kept = facts(schema)
        survey = Survey(form.partition(".")[0])
        wanted = {**needs[survey], **_stamps(survey)}
        _refuse_unmet(resolve(kept), wanted)
        output = schemas.enriched(kept, schema_id)
        # What goes out must be read by others, and the walker that is made of it later must not fail then; made
        # with the same paths, its patterns are in the cache of `re` by then.
        fastavro.parse_schema(deepcopy(output))
        compile_walker(kept, tuple(wanted)).prepare()
    except _NO_SCHEMA as error:
        said = f"{type(error).__name__} {error}" if isinstance(error, LookupError) else str(error)
        raise SchemaUnknown(f"not an Avro schema that can be read: {said}") from None
    except LookupError as error:
        raise SchemaUnknown(f"not an alert's schema: {error}") from None
    return Recognised(form, kept, output)


def _stamps(survey: Survey) -> dict[str, Need]:
    return {STAMPS[survey].format(role.capitalize()): Need(BYTES, present=True) for role in ROLES}


def _refuse_unmet(record: Type, needs: Mapping[str, Need]) -> None:
    found: dict[str, set[str]] = {}
    for path, kind in _leaves(record, "", nullable=False):
        found.setdefault(path, set()).add(kind)
    for path, need in needs.items():
        _refuse_other(path, frozenset(found.get(path, ())), need)


def _refuse_other(path: str, found: frozenset[str], need: Need) -> None:
    wanted = " or ".join(sorted(need.kinds))
    values = found - {"null"}
    if not values and need.present:
        raise LookupError(f"it lacks the field {path}, wanted as {wanted}")
    if not values <= need.kinds:
        raise LookupError(f"its field {path} is {' or '.join(sorted(values))}, wanted {wanted}")
    if "null" in found and not need.nullable:
        raise LookupError(f"its field {path} may be null, wanted {wanted} always")


def _leaves(node: Type, path: str, *, nullable: bool) -> Iterator[tuple[str, str]]:
    """Paths of the leaves with the kinds they may have, null among them where anything above may be null."""
    match node:
        case Record(fields=fields):
            for name, kind in fields:
                yield from _leaves(kind, f"{path}.{name}" if path else name, nullable=nullable)
        case Union(branches=branches):
            absent = nullable or Primitive("null") in branches
            for branch in branches:
                yield from _leaves(branch, path, nullable=absent)
        case Array(items=items) if "[]" not in path:
            yield from _leaves(items, f"{path}[]", nullable=nullable)
        case Primitive(kind=kind):
            yield path, kind
            if nullable:
                yield path, "null"
        case _:
            yield path, type(node).__name__.lower()


def _refuse_huge(schema: Any) -> None:
    count = _count(schema, "", {})
    if count > MOST_TYPES:
        raise ValueError(
            f"it comes to {count} types with every name written out (a text counts {TEXT_WEIGHT}), at most "
            f"{MOST_TYPES} are read"
        )


def _count(schema: Any, space: str, named: dict[str, int]) -> int:
    """Count types, each name as often as what it names; in one pass, however large the count."""
    if isinstance(schema, str):
        if schema in PRIMITIVES:
            return TEXT_WEIGHT if schema == "string" else 1
        return named.get(schema, named.get(f"{space}.{schema}", 1))
    if isinstance(schema, list):
        return 1 + sum(_count(branch, space, named) for branch in schema)
    kind = schema["type"]
    if kind not in ("record", "error", "enum", "fixed", "array", "map"):
        return _count(kind, space, named)
    if kind in ("array", "map"):
        return 1 + _count(schema["items" if kind == "array" else "values"], space, named)
    name, inner = schema["name"], schema.get("namespace", space)
    full = name if "." in name else f"{inner}.{name}"
    inside = full.rpartition(".")[0]
    count = 1 + sum(_count(field["type"], inside, named) for field in schema.get("fields", ()))
    named[full] = named[name] = count
    return count
