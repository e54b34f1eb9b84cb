"""Which schema a message was written with."""

import functools

import schemas
from broker.alert import Survey
from broker.errors import SchemaUnknown


class SchemaStore:
    """Finds the form of a packet by what its wrapping says.

    The bundle holds every published schema; a lookup in a registry, for ids it does not hold,
    has its place here.
    """

    def __init__(self) -> None:
        forms = [entry for entry in schemas.entries() if entry.name in schemas.INPUT_FORMS]
        self._by_id = {entry.schema_id: entry.name for entry in forms if entry.schema_id is not None}
        self._by_fingerprint = {entry.fingerprint: entry.name for entry in forms}

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

    def schema_id(self, form: str) -> int | None:
        """Give the id on the wire of a form; None for those that come in containers."""
        return schemas.entry(form).schema_id


@functools.cache
def survey_of(form: str) -> Survey:
    """Survey of a form."""
    return Survey(form.partition(".")[0])
