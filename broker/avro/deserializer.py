"""A message's value to the fields and stamps of its packet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from broker.alert import ROLES, Survey
from broker.avro.container import ContainerReader
from broker.avro.frame import FRAME_SIZE, Wrapping, recognise, unwrap_frame
from broker.avro.recognition import STAMPS, Need
from broker.avro.store import Form, SchemaStore, survey_of
from broker.avro.tail import stamps_at_the_end
from broker.avro.walker import Walker, compile_walker

Validate = Literal["full", "off"]


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet that was read.

    Attributes
    ----------
    survey : Survey
    form : str
        Name of its canonical form, such as ``lsst.v11_1``.
    schema_id : int or None
        Id on the wire; None for a packet that came in a container.
    datum : bytes or memoryview
        The Avro datum as it came.
    fields : dict of str to object
        The wanted leaves by dotted path, without the stamps; see `broker.avro.walker.Walker`.
    cutouts : tuple of memoryview or None, length 3
        In the order of `broker.alert.ROLES`, not copied; None where the packet has null.
    """

    survey: Survey
    form: str
    schema_id: int | None
    datum: bytes | memoryview
    fields: dict[str, Any]
    cutouts: tuple[memoryview | None, ...]


class Deserializer:
    """Reads packets of either survey, each by the schema it was written with.

    Parameters
    ----------
    wanted : mapping of Survey to mapping of str to Need
        Dotted paths of the fields to read; those a schema does not have are left out. A schema that the
        bundle lacks must meet the needs.
    validate : {'full', 'off'}
        ``full`` walks every datum to its end, so that what passes decodes whole. ``off`` reads Rubin packets
        no farther than the last wanted field and finds the stamps from the end.
    store : SchemaStore, optional
        To be shared with what writes; by default one of its own.
    """

    def __init__(
        self,
        wanted: Mapping[Survey, Mapping[str, Need]],
        *,
        validate: Validate = "full",
        store: SchemaStore | None = None,
    ) -> None:
        self._wanted = wanted
        self._validate = validate
        self._store = store or SchemaStore(wanted)
        self._containers = ContainerReader()
        self._readers: dict[str, _FormReader] = {}

    def __call__(self, value: bytes | None) -> Packet:
        """Read one packet.

        Parameters
        ----------
        value : bytes or None

        Raises
        ------
        AlertError
            If it cannot be read; the subclass and `AlertError.reason` say where.
        """
        if recognise(value) is Wrapping.FRAME:
            assert value is not None
            schema_id, framed = unwrap_frame(value)
            return self._reader(self._store.by_id(schema_id)).read(value, FRAME_SIZE, schema_id, framed)
        assert value is not None
        header, datum = self._containers.record(value)
        return self._reader(self._store.by_fingerprint(header.fingerprint, header.schema)).walk(datum, None)

    def _reader(self, form: str) -> "_FormReader":
        reader = self._readers.get(form)
        if reader is None:
            survey = survey_of(form)
            reader = _FormReader(self._store.form(form), survey, tuple(self._wanted[survey]), self._validate)
            self._readers[form] = reader
        return reader


class _FormReader:
    """Reads packets of one form."""

    def __init__(self, form: Form, survey: Survey, wanted: Sequence[str], validate: Validate) -> None:
        self._form = form.name
        schema = form.schema
        self._survey = survey
        self._stamps = tuple(STAMPS[survey].format(role.capitalize()) for role in ROLES)
        self._walker = compile_walker(schema, (*wanted, *self._stamps))
        names = [field["name"] for field in schema["fields"]]
        self._last_three = tuple(names[-3:])
        # The tail is a chain of bytes only where the stamps are the last fields themselves.
        self._leading: Walker | None = None
        if validate == "off" and set(self._last_three) == set(self._stamps):
            tops = {path.partition(".")[0].removesuffix("[]") for path in self._walker.paths} - set(
                self._stamps
            )
            self._leading = compile_walker(schema, wanted, max(tops, key=names.index, default=names[0]))

    def walk(self, datum: bytes | memoryview, schema_id: int | None) -> Packet:
        """Read a datum to its end."""
        fields = self._walker(datum)
        cutouts = tuple(fields.pop(path) for path in self._stamps)
        return Packet(self._survey, self._form, schema_id, datum, fields, cutouts)

    def read(self, value: bytes, start: int, schema_id: int, datum: memoryview) -> Packet:
        """Read the datum that follows a frame, by its ends if that was chosen and they hold."""
        if self._leading is None:
            return self.walk(datum, schema_id)
        fields, end = self._leading.leading(datum)
        stamps = stamps_at_the_end(value, start + end)
        if stamps is None:
            return self.walk(datum, schema_id)
        by_name = dict(zip(self._last_three, stamps, strict=True))
        cutouts = tuple(by_name[path] for path in self._stamps)
        return Packet(self._survey, self._form, schema_id, datum, fields, cutouts)
