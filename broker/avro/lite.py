"""A datum without its stamps: its own bytes up to them, and three null indexes."""

from typing import Any

from broker.alert import ROLES, Alert
from broker.avro.store import SchemaStore
from broker.avro.walker import Walker, compile_walker

FIELDS = frozenset(f"cutout{role.capitalize()}" for role in ROLES)


class StampCutter:
    """Cuts the stamps off data of one schema; what remains is a datum of the same schema.

    Parameters
    ----------
    schema : dict
        The writer's.

    Raises
    ------
    ValueError
        If the three stamps are not its last fields, or cannot be null.
    """

    def __init__(self, schema: Any) -> None:
        fields = schema["fields"]
        stamps = fields[-len(ROLES) :]
        if {field["name"] for field in stamps} != FIELDS:
            raise ValueError(
                f"the last fields are {[field['name'] for field in stamps]}, wanted are {sorted(FIELDS)}"
            )
        self._nulls = bytes(2 * _null_index(field) for field in stamps)
        self._before: Walker = compile_walker(schema, (), fields[-len(ROLES) - 1]["name"])

    def __call__(self, datum: bytes | memoryview) -> bytes:
        """Cut.

        Raises
        ------
        DatumError
            If the datum breaks its schema before its stamps.
        """
        _, end = self._before.leading(datum)
        return bytes(datum[:end]) + self._nulls


def _null_index(field: dict[str, Any]) -> int:
    kind = field["type"]
    if not isinstance(kind, list) or "null" not in kind:
        raise ValueError(f"{field['name']} is {kind!r:.80}, which cannot be null")
    return kind.index("null")


class LiteSerializer:
    """Takes the stamps out of enriched alerts.

    Parameters
    ----------
    store : SchemaStore
    """

    def __init__(self, store: SchemaStore) -> None:
        self._store = store
        self._cutters: dict[str, StampCutter] = {}

    def __call__(self, alert: Alert, enriched: bytes) -> bytes:
        """Cut the stamps off the record of an alert, which ends in the alert's own datum.

        Parameters
        ----------
        alert : Alert
        enriched : bytes
            Of `broker.avro.serializer.EnrichedSerializer`.

        Returns
        -------
        bytes
            A record of the same schema.
        """
        cutter = self._cutters.get(alert.form)
        if cutter is None:
            cutter = self._cutters[alert.form] = StampCutter(self._store.form(alert.form).schema)
        return enriched[: len(enriched) - len(alert.datum)] + cutter(alert.datum)
