"""What the bundle holds: names, fixed ids and fingerprints, and the schemas themselves.

Names are ``lsst.v11_1`` and ``ztf.v4_02`` for the forms that are read,
``enriched_alert.v2.lsst.v11_1`` for what goes out for each of them, and ``dead_letter.v1``. Versions of what
goes out stay in the bundle when a newer one is written, so that whatever was published can be read.
"""

import functools
import gzip
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

ENRICHED_VERSION = 2
"""Of the enriched alerts that are written."""

DEAD_LETTER = "dead_letter.v1"

OUTPUT_ID_BLOCK = 1_900_000_000
"""First id of the block that is reserved for Nightjar's own schemas where there is no registry: registries
count up from 1, and Rubin's ids are MAJOR*100 + MINOR. Enriched alerts take 10,000 * version + n above it,
with n the writer's id for Rubin, 5,000 + MAJOR*100 + MINOR for ZTF and 9,999 for forms without a number
(`schemas.derivation`); dead letters take 9,000 + version."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One schema of the bundle.

    Attributes
    ----------
    name : str
    schema_id : int or None
        Id on the wire; None for ZTF's forms, which come in containers.
    fingerprint : str
        As `schemas.fingerprint` gives it, computed when the bundle was made.
    """

    name: str
    schema_id: int | None
    fingerprint: str


@functools.cache
def entries() -> tuple[Entry, ...]:
    """Every schema of the bundle."""
    return tuple(Entry(**row) for row in json.loads(_text("index.json")))


@functools.cache
def _by(attribute: str) -> dict[Any, Entry]:
    return {getattr(row, attribute): row for row in entries() if getattr(row, attribute) is not None}


def entry(name: str) -> Entry:
    """Name, id and fingerprint of one schema.

    Raises
    ------
    LookupError
        If the bundle has no such name.
    """
    return _find("name", name)


def by_id(schema_id: int) -> dict[str, Any]:
    """Complete schema of an id on the wire.

    Raises
    ------
    LookupError
        If the bundle has no such id; the text lists those it has.
    """
    return load(_find("schema_id", schema_id).name)


def by_fingerprint(fingerprint: str) -> dict[str, Any]:
    """Complete schema of a fingerprint, such as header ``schema-fingerprint`` gives.

    Raises
    ------
    LookupError
        If the bundle has no such fingerprint.
    """
    return load(_find("fingerprint", fingerprint).name)


def by_known_fingerprint(fingerprint: str) -> str | None:
    """Name of the schema of a fingerprint; None where the bundle has none."""
    found = _by("fingerprint").get(fingerprint)
    return None if found is None else found.name


def input_form(name: str) -> dict[str, Any]:
    """Complete schema of a form that is read, such as ``lsst.v11_1``.

    Raises
    ------
    LookupError
        If `name` is none of `INPUT_FORMS`.
    """
    if name not in INPUT_FORMS:
        raise LookupError(f"no input form {name!r}: the bundle holds {', '.join(INPUT_FORMS)}")
    survey, _, version = name.partition(".")
    return _schema(f"{survey}/{version}/alert.avsc")


def enriched_name(form: str, version: int = ENRICHED_VERSION) -> str:
    """Name of what goes out for an input form: ``enriched_alert.v2.lsst.v11_1``."""
    return f"enriched_alert.v{version}.{form}"


def load(name: str) -> dict[str, Any]:
    """Complete schema of a name of the bundle.

    Raises
    ------
    LookupError
        If the bundle has no such name.
    """
    _find("name", name)
    kind, _, rest = name.partition(".")
    if kind == "dead_letter":
        return _schema(f"dead_letter/{rest}/dead_letter.avsc")
    if kind != "enriched_alert":
        return input_form(name)
    version, _, form = rest.partition(".")
    return enriched_alert(enrichment(int(version.removeprefix("v"))), form)


def enrichment(version: int = ENRICHED_VERSION) -> dict[str, Any]:
    """Complete schema of the part that Nightjar attaches."""
    return _schema(f"enriched_alert/v{version}/enrichment.avsc")


def sample(name: str) -> bytes:
    """Value of one Kafka message of a schema of the bundle, made from a simulated packet.

    Rubin's packets and everything Nightjar writes begin with five bytes of frame: zero and the schema's id;
    ZTF's packets are Avro container files.

    Raises
    ------
    LookupError
        If the bundle has no such name.
    """
    _find("name", name)
    packed = resources.files("schemas").joinpath(sample_path(name)).read_bytes()
    return gzip.decompress(packed)


def sample_path(name: str) -> str:
    """Where the sample of a schema lies below the package."""
    kind, _, rest = name.partition(".")
    if kind != "enriched_alert":
        return f"{kind}/{rest}/sample.gz"
    version, _, form = rest.partition(".")
    return f"{kind}/{version}/{form}.sample.gz"


def enriched_alert(
    enrichment: dict[str, Any], form: str, record: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Put the schema of an enriched alert together: the enrichment, then the original record.

    Because the original record is the last field, its datum bytes are the last of ours, untouched.

    Parameters
    ----------
    enrichment : dict
    form : str
    record : dict, optional
        The survey's schema, of a form that the bundle lacks.
    """
    return {
        "type": "record",
        "name": f"nightjar.{form}.EnrichedAlert",
        "doc": "An alert as its survey sent it, and what Nightjar attached to it.",
        "fields": [
            {"name": "enrichment", "type": enrichment, "doc": "What Nightjar attached."},
            {
                "name": "alert",
                "type": input_form(form) if record is None else record,
                "doc": "The survey's record: its datum bytes, untouched.",
            },
        ],
    }


def _find(attribute: str, value: object) -> Entry:
    known = _by(attribute)
    if value not in known:
        listed = ", ".join(str(one) for one in sorted(known))
        raise LookupError(f"no schema with {attribute} {value!r}: the bundle holds {listed}")
    return known[value]


def _schema(path: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(_text(path))
    return schema


def _text(path: str) -> str:
    return resources.files("schemas").joinpath(path).read_text(encoding="utf-8")


INPUT_FORMS = (
    "lsst.v7_0",
    "lsst.v7_1",
    "lsst.v7_2",
    "lsst.v7_3",
    "lsst.v7_4",
    "lsst.v8_0",
    "lsst.v9_0",
    "lsst.v10_0",
    "lsst.v11_0",
    "lsst.v11_1",
    "ztf.v3_3",
    "ztf.v4_02",
)
"""Canonical forms that are read: every published Rubin schema from 7.0, and the two forms of ZTF's."""
