"""Derive the bundled survey schemas and the index from what the surveys publish.

Takes facts of the interface only (names, types, defaults), no documentation, from

* the ``lsst-alert-packet`` package, for every Rubin schema the bundle names;
* ZTF packets given by path, for ZTF's forms.

::

    python tools/derive_schemas.py --ztf v4_02=PACKET.avro --ztf v3_3=PACKET.avro

Without ``--ztf`` the ZTF forms stay as they are. The index holds the fixed ids and the
fingerprints of every schema, ours included: run this after any change below ``schemas/``.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import fastavro
from fastavro.schema import load_schema

import schemas
from schemas.catalogue import OUTPUT_ID_BLOCK, enriched_alert
from schemas.derivation import facts, output_id, wire_number

BUNDLE = Path(schemas.__file__).parent


def lines(schema: dict[str, Any]) -> str:
    """Write a schema with one field a line, so that versions can be compared."""
    text = json.dumps(schema)
    return text.replace('[{"name"', '[\n{"name"').replace(', {"name"', ',\n{"name"') + "\n"


def derive_lsst(form: str) -> dict[str, Any]:
    """Read the schema of a Rubin form from the published package."""
    import lsst.alert.packet  # noqa: PLC0415 - a development oracle, wanted here only

    major, _, minor = form.removeprefix("lsst.v").partition("_")
    folder = Path(lsst.alert.packet.__file__).parent / "schema" / major / minor
    return facts(load_schema(str(folder / f"{form}.alert.avsc"), _write_hint=False))


def derive_ztf(path: Path) -> dict[str, Any]:
    """Read the schema of a ZTF packet from its container's header."""
    with path.open("rb") as file:
        return facts(json.loads(fastavro.reader(file).metadata["avro.schema"]))


def write_schema(form: str, schema: dict[str, Any]) -> None:
    """Put a form's schema into the bundle."""
    survey, _, version = form.partition(".")
    path = BUNDLE / survey / version / "alert.avsc"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(lines(schema), encoding="utf-8")


def index() -> list[dict[str, Any]]:
    """Rows of ``index.json``."""
    dead_letter = json.loads((BUNDLE / "dead_letter/v1/dead_letter.avsc").read_text(encoding="utf-8"))
    rows: list[tuple[str, int | None, Any]] = []
    for form in schemas.INPUT_FORMS:
        schema_id = wire_number(form) if form.startswith("lsst.") else None
        rows.append((form, schema_id, schemas.input_form(form)))
    for version in range(1, schemas.ENRICHED_VERSION + 1):
        path = BUNDLE / f"enriched_alert/v{version}/enrichment.avsc"
        enrichment = json.loads(path.read_text(encoding="utf-8"))
        rows.extend(
            (schemas.enriched_name(form, version), output_id(form, version), enriched_alert(enrichment, form))
            for form in schemas.INPUT_FORMS
        )
    rows.append((schemas.DEAD_LETTER, OUTPUT_ID_BLOCK + 9_001, dead_letter))
    return [
        {"name": name, "schema_id": schema_id, "fingerprint": schemas.fingerprint(schema)}
        for name, schema_id, schema in rows
    ]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--ztf", action="append", default=[], metavar="VERSION=PATH", help="a packet of a ZTF form"
    )
    return parser.parse_args()


def main() -> None:
    """Write schemas and index."""
    for form in schemas.INPUT_FORMS:
        if form.startswith("lsst."):
            write_schema(form, derive_lsst(form))
    for pair in arguments().ztf:
        version, _, path = pair.partition("=")
        write_schema(f"ztf.{version}", derive_ztf(Path(path)))
    rows = ",\n".join(json.dumps(row) for row in index())
    (BUNDLE / "index.json").write_text(f"[\n{rows}\n]\n", encoding="utf-8")
    print(f"wrote {len(schemas.INPUT_FORMS)} forms and index.json below {BUNDLE}")


if __name__ == "__main__":
    main()
