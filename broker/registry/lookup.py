"""The schema of an id that the bundle lacks: from disk, else from the registry, else known to be missing.

Ten thousand alerts of an unknown id must not make ten thousand requests, nor a registry that is down hold up
the alerts that need none. So a failure is remembered for a while, by id; where nothing answers at all, for
every id; and of any stretch of failures no more than a share is spent in waiting.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from broker.errors import ConfigurationError, SchemaUnknown
from broker.registry.cache import SchemaCache
from broker.registry.client import RegistryClient, RegistryTrouble, Trouble

QUIET_SECONDS = 30.0
"""For so long a failed lookup is not made again."""

MOST_WAITED_SECONDS = 20.0
"""In failed lookups before all further ones are left out for `QUIET_SECONDS`: garbage on a topic has a new id in
each message."""

MOST_FAILURES = 1024
"""Failures that are remembered at a time."""

LARGEST_ID = 2**31 - 1

logger = logging.getLogger("broker.registry")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Failure:
    until: float
    detail: str


class SchemaLookup:
    """Finds schemas by their id.

    Parameters
    ----------
    client : RegistryClient
    cache : SchemaCache
    count : callable, optional
        Told of each lookup how it ended: ``found``, ``cached`` (on disk) or one of `Trouble`.
    clock : callable
        Seconds that never go back.
    """

    def __init__(
        self,
        client: RegistryClient,
        cache: SchemaCache,
        count: Callable[[str], None] = lambda _result: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._cache = cache
        self._count = count
        self._clock = clock
        self._failures: dict[int, _Failure] = {}
        self._quiet: _Failure | None = None
        self._waited = 0.0

    def find(self, schema_id: int, accept: Callable[[Any], T]) -> T:
        """Give what `accept` makes of the schema of an id.

        Parameters
        ----------
        schema_id : int
        accept : callable
            Raises `SchemaUnknown` for a schema that is of no use. That is a wrong answer like any other: it is
            asked for again, and not kept.

        Raises
        ------
        SchemaUnknown
            The text says what the registry answered, and how often it was asked.
        ConfigurationError
            If it does not let us in: no alert is at fault, and waiting does not mend it.
        """
        if not 0 < schema_id <= LARGEST_ID:
            raise SchemaUnknown("no registry gives such an id")
        kept = self._kept(schema_id, accept)
        if kept is not None:
            return kept
        self._refuse_known(schema_id)
        return self._fetched(schema_id, accept)

    def _kept(self, schema_id: int, accept: Callable[[Any], T]) -> T | None:
        schema = self._cache.read(schema_id)
        if schema is None:
            return None
        try:
            found = accept(schema)
        except SchemaUnknown:
            return None  # an older version of this program took what this one does not
        self._count("cached")
        return found

    def _refuse_known(self, schema_id: int) -> None:
        now = self._clock()
        for failure in (self._failures.get(schema_id), self._quiet):
            if failure is not None and now < failure.until:
                raise SchemaUnknown(failure.detail)

    def _fetched(self, schema_id: int, accept: Callable[[Any], T]) -> T:
        began = self._clock()
        try:
            schema, found = self._client.patiently(lambda: self._try(schema_id, accept))
        except RegistryTrouble as trouble:
            if trouble.kind is Trouble.DENIED:
                self._count(Trouble.REFUSED.value)
                raise ConfigurationError(trouble.detail, self._client.remedy) from None
            self._count(trouble.kind.value)
            self._remember(schema_id, trouble, began)
            raise SchemaUnknown(trouble.detail) from None
        self._count("found")
        self._cache.keep(schema_id, schema)
        self._failures.pop(schema_id, None)
        self._waited = 0.0
        logger.info("schema id %d is from the registry at %s", schema_id, self._client.url)
        return found

    def _try(self, schema_id: int, accept: Callable[[Any], T]) -> tuple[Any, T]:
        schema = schema_in(self._client.ask("GET", ("schemas", "ids", str(schema_id))))
        try:
            return schema, accept(schema)
        except SchemaUnknown as error:
            raise RegistryTrouble(Trouble.WRONG, error.detail) from None

    def _remember(self, schema_id: int, trouble: RegistryTrouble, began: float) -> None:
        now = self._clock()
        failure = _Failure(now + QUIET_SECONDS, trouble.detail)
        if len(self._failures) >= MOST_FAILURES:
            self._failures.clear()
        self._failures[schema_id] = failure
        self._waited += now - began
        is_of_all = trouble.kind in {Trouble.UNREACHABLE, Trouble.REFUSED}
        if is_of_all or self._waited >= MOST_WAITED_SECONDS:
            why = trouble.detail if is_of_all else f"too many lookups failed, the last: {trouble.detail}"
            self._quiet, self._waited = _Failure(failure.until, why), 0.0
            logger.warning("not asked again for %g s: %s", QUIET_SECONDS, why)


def schema_in(answer: Any) -> Any:
    """Take the schema out of a registry's answer.

    Raises
    ------
    RegistryTrouble
        If there is none, it is not Avro, or it is not complete.
    """
    if not isinstance(answer, dict) or not isinstance(answer.get("schema"), str):
        raise RegistryTrouble(Trouble.WRONG, f"it answered no schema: {json.dumps(answer)[:80]}")
    if answer.get("schemaType", "AVRO") != "AVRO":
        raise RegistryTrouble(Trouble.WRONG, f"its schema is {answer['schemaType']!r:.40}, wanted AVRO")
    if answer.get("references"):
        raise RegistryTrouble(Trouble.WRONG, "its schema refers to others, wanted one that is complete")
    try:
        return json.loads(answer["schema"])
    except (ValueError, RecursionError):
        raise RegistryTrouble(Trouble.WRONG, f"its schema is no JSON: {answer['schema']!r:.80}") from None
