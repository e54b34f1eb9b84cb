"""Every Avro schema Nightjar reads or writes, complete and without dependencies.

A subscriber needs this package and any Avro library, nothing else of Nightjar::

    import fastavro, io, schemas

    schema_id = int.from_bytes(value[1:5], "big")
    alert = fastavro.schemaless_reader(io.BytesIO(value[5:]), schemas.by_id(schema_id), None)

Schemas are handed out as plain dictionaries, each self-contained; a call gives a fresh copy.
"""

from schemas.canonical import canonical_form, fingerprint
from schemas.catalogue import (
    DEAD_LETTER,
    ENRICHED_VERSION,
    INPUT_FORMS,
    Entry,
    by_fingerprint,
    by_id,
    enriched_name,
    entries,
    entry,
    input_form,
    load,
    sample,
)
from schemas.derivation import enriched, form_name, input_id, output_id

__all__ = [
    "DEAD_LETTER",
    "ENRICHED_VERSION",
    "INPUT_FORMS",
    "Entry",
    "by_fingerprint",
    "by_id",
    "canonical_form",
    "enriched",
    "enriched_name",
    "entries",
    "entry",
    "fingerprint",
    "form_name",
    "input_form",
    "input_id",
    "load",
    "output_id",
    "sample",
]
