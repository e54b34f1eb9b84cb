"""Which schema a message was written with."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import schemas
from broker.alert import Survey
from broker.avro.recognition import Need, Recognised, recognise_schema
from broker.errors import SchemaUnknown

MOST_LEARNED = 64
"""Forms beyond the bundle that one process takes: Rubin published ten schemas in its first years, and whoever
writes to a topic decides what its containers hold."""

MOST_REFUSED = 256
"""Schemas of containers whose refusal is kept, so that a topic full of them costs one look each."""

T = TypeVar("T")


class Registry(Protocol):
    """Who is asked for the schema of an id that the bundle lacks."""

    def find(self, schema_id: int, accept: Callable[[Any], T]) -> T:
        """Give what `accept` makes of the schema; a schema for which it raises is a wrong answer.

        Raises
        ------
        SchemaUnknown
            If no schema is found that is accepted, within a bounded time.
        """


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
        Schema id on the wire of the enriched alert where no registry gives another.
    output_fingerprint : str
        Of the enriched alert's schema: header ``schema-fingerprint``.
    output : dict
        The enriched alert's schema, complete.
    """

    name: str
    schema: dict[str, Any]
    output_id: int
    output_fingerprint: str
    output: dict[str, Any]


class SchemaStore:
    """Finds the form of a packet by what its wrapping says, and what belongs to the form.

    One store is shared by whatever reads and writes. The bundle holds every published schema and goes first. A
    schema that it lacks comes with its container, or from a registry by its id; if it is an alert's, it is
    read like those of the bundle.

    Parameters
    ----------
    needs : mapping of Survey to mapping of str to Need, optional
        What a schema must have to be read as an alert's; without it the bundle is all that is known.
    registry : Registry, optional
        Without one an id that the bundle lacks is unknown.
    """

    def __init__(
        self,
        needs: Mapping[Survey, Mapping[str, Need]] | None = None,
        registry: Registry | None = None,
    ) -> None:
        forms = [entry for entry in schemas.entries() if entry.name in schemas.INPUT_FORMS]
        self._needs = needs
        self._registry = registry
        self._by_id = {entry.schema_id: entry.name for entry in forms if entry.schema_id is not None}
        self._by_fingerprint = {entry.fingerprint: entry.name for entry in forms}
        self._bundled = ", ".join(str(one) for one in sorted(self._by_id))
        self._forms: dict[str, Form] = {}
        self._learned: set[str] = set()
        self._refused: dict[str, str] = {}

    def by_id(self, schema_id: int) -> str:
        """Give the form of a schema id on the wire, such as ``lsst.v11_1``.

        Raises
        ------
        SchemaUnknown
            If it is none of the bundle's, and there is no registry, or none of the registry's that is an
            alert's.
        """
        form = self._by_id.get(schema_id)
        return self._ask(schema_id) if form is None else form

    def by_fingerprint(self, fingerprint: str, schema: Any = None) -> str:
        """Give the form of a schema that came with its data.

        Parameters
        ----------
        fingerprint : str
            Of its canonical form.
        schema : object, optional
            The schema itself.

        Raises
        ------
        SchemaUnknown
            If its canonical form is none of the bundle's, and the schema itself is not an alert's.
        """
        form = self._by_fingerprint.get(fingerprint)
        return self._accept(fingerprint, schema) if form is None else form

    def form(self, name: str) -> Form:
        """Give what belongs to a form.

        Raises
        ------
        LookupError
            If it is none of the bundle's and was not met before.
        """
        form = self._forms.get(name)
        if form is None:
            output = schemas.enriched_name(name)
            form = _form(Recognised(name, schemas.input_form(name), schemas.load(output)))
            self._forms[name] = form
        return form

    def _ask(self, schema_id: int) -> str:
        if self._needs is None or self._registry is None:
            raise SchemaUnknown(f"schema id {schema_id} is not known, only {self._bundled}")
        needs = self._needs
        try:
            found = self._registry.find(schema_id, lambda schema: recognise_schema(schema, schema_id, needs))
        except SchemaUnknown as error:
            raise SchemaUnknown(
                f"schema id {schema_id} is none of the bundle's ({self._bundled}): {error.detail}"
            ) from None
        self._by_id[schema_id] = self._learn(found)
        return found.form

    def _accept(self, fingerprint: str, schema: Any) -> str:
        if self._needs is None or schema is None:
            raise SchemaUnknown(self._unknown(fingerprint))
        if fingerprint not in self._refused:
            try:
                form = self._learn(recognise_schema(schema, None, self._needs))
            except SchemaUnknown as error:
                self._refuse(fingerprint, error.detail)
            else:
                self._by_fingerprint[fingerprint] = form
                return form
        raise SchemaUnknown(f"{self._unknown(fingerprint)}: {self._refused[fingerprint]}")

    def _refuse(self, fingerprint: str, detail: str) -> None:
        if len(self._refused) >= MOST_REFUSED:
            self._refused.clear()
        self._refused[fingerprint] = detail

    def _learn(self, found: Recognised) -> str:
        if found.form in schemas.INPUT_FORMS or found.form in self._learned:
            return found.form
        if len(self._learned) >= MOST_LEARNED:
            raise SchemaUnknown(
                f"{found.form} would be the form number {MOST_LEARNED + 1} that the bundle lacks, one process "
                f"takes {MOST_LEARNED}: see who writes so many, or start the process again"
            )
        self._learned.add(found.form)
        self._forms[found.form] = _form(found)
        return found.form

    def _unknown(self, fingerprint: str) -> str:
        known = ", ".join(
            f"{one} ({name})" for one, name in self._by_fingerprint.items() if name in schemas.INPUT_FORMS
        )
        return f"a schema with fingerprint {fingerprint} is not known, only {known}"


def _form(found: Recognised) -> Form:
    mark = schemas.fingerprint(found.output)
    return Form(found.form, found.schema, schemas.output_id(found.form), mark, found.output)


@functools.cache
def survey_of(form: str) -> Survey:
    """Survey of a form."""
    return Survey(form.partition(".")[0])
