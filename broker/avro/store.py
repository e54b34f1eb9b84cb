"""Which schema a message was written with."""

import functools
from dataclasses import dataclass
from typing import Any

import schemas
from broker.alert import Survey
from broker.errors import SchemaUnknown


@dataclass(frozen=True, slots=True)
class Form:
    """One canonical form of input, and what goes out for it.

    Attributes
    ----------
    name : str
        Such as ``lsst.v11_1``.
    schema : dict
        Complete.
    output_id : int
        Schema id on the wire of the enriched alert.
    output_fingerprint : str
        Of the enriched alert's schema: header ``schema-fingerprint``.
    """

    name: str
    schema: dict[str, Any]
    output_id: int
    output_fingerprint: str


class SchemaStore:
    """Finds the form of a packet by what its wrapping says, and what belongs to the form.

    One store is shared by whatever reads and writes. The bundle holds every published schema; a lookup in a
    registry, for ids it does not hold, has its place here and nowhere else.
    """

    def __init__(self) -> None:
        forms = [entry for entry in schemas.entries() if entry.name in schemas.INPUT_FORMS]
        self._by_id = {entry.schema_id: entry.name for entry in forms if entry.schema_id is not None}
        self._by_fingerprint = {entry.fingerprint: entry.name for entry in forms}
        self._forms: dict[str, Form] = {}

    def by_id(self, schema_id: int) -> str:
        """Give the form of a schema id on the wire, such as ``lsst.v11_1``.

        Raises
        ------
        SchemaUnknown
            If it is none of the bundle's.
        """
        form = self._by_id.get(schema_id)
        if form is None:
            known = ", ".join(str(one) for one in sorted(self._by_id))
            raise SchemaUnknown(f"schema id {schema_id} is not known, only {known}")
        return form

    def by_fingerprint(self, fingerprint: str) -> str:
        """Give the form of a schema that came with its data.

        Raises
        ------
        SchemaUnknown
            If its canonical form is none of the bundle's.
        """
        form = self._by_fingerprint.get(fingerprint)
        if form is None:
            known = ", ".join(f"{one} ({name})" for one, name in self._by_fingerprint.items())
            raise SchemaUnknown(f"a schema with fingerprint {fingerprint} is not known, only {known}")
        return form

    def form(self, name: str) -> Form:
        """Give what belongs to a form.

        Raises
        ------
        LookupError
            If it is none of the bundle's.
        """
        form = self._forms.get(name)
        if form is None:
            output = schemas.entry(schemas.enriched_name(name))
            assert output.schema_id is not None
            form = Form(name, schemas.input_form(name), output.schema_id, output.fingerprint)
            self._forms[name] = form
        return form


@functools.cache
def survey_of(form: str) -> Survey:
    """Survey of a form."""
    return Survey(form.partition(".")[0])
