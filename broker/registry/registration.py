"""Ids of what goes out, from a registry.

A topic mixes records of several names, so a schema's subject is the topic's name and the record's
(TopicRecordNameStrategy). Ids are kept in memory only: a registry that was emptied and filled again gives others.
"""

import json
import logging
from collections.abc import Callable
from typing import Any

from broker.errors import ConfigurationError, RegistryError
from broker.registry.client import RegistryClient, RegistryTrouble, Trouble
from broker.registry.lookup import LARGEST_ID

COMPATIBILITY = "FULL"
"""Each version of a subject reads the others and is read by them: what the enrichment promises."""

logger = logging.getLogger("broker.registry")


class OutputRegistration:
    """Registers what goes out, once for each schema and topic.

    Parameters
    ----------
    client : RegistryClient
    """

    def __init__(self, client: RegistryClient) -> None:
        self._client = client
        self._ids: dict[tuple[str, str], int] = {}

    def __call__(self, topic: str, name: str, schema: Callable[[], dict[str, Any]]) -> int:
        """Give the id of a schema on a topic.

        Parameters
        ----------
        topic : str
        name : str
            By which the caller knows the schema.
        schema : callable
            Gives it, the first time.

        Raises
        ------
        RegistryError
            If the registry gave no id within the bound: nothing may go out under another.
        ConfigurationError
            If it refuses the schema, or refuses us.
        """
        known = self._ids.get((topic, name))
        if known is not None:
            return known
        found = self._register(topic, schema())
        self._ids[topic, name] = found
        return found

    def _register(self, topic: str, schema: dict[str, Any]) -> int:
        subject = f"{topic}-{schema['name']}"
        body = {"schema": json.dumps(schema), "schemaType": "AVRO"}
        try:
            schema_id = self._client.patiently(lambda: self._post(subject, body))
        except RegistryTrouble as trouble:
            if trouble.kind is Trouble.DENIED:
                raise ConfigurationError(
                    f"no schema id for subject {subject}: {trouble.detail}", self._client.remedy
                ) from trouble
            if trouble.kind is Trouble.REFUSED:
                raise ConfigurationError(
                    f"the registry does not take the schema of subject {subject}: {trouble.detail}",
                    "see which versions the subject has, and its compatibility",
                ) from trouble
            raise RegistryError(
                f"no schema id for subject {subject}: {trouble.detail}: nothing goes out under another id; "
                "start the registry, or set registry.register_output to false"
            ) from trouble
        self._ask_for_compatibility(subject)
        logger.info("subject %s has schema id %d", subject, schema_id)
        return schema_id

    def _post(self, subject: str, body: dict[str, str]) -> int:
        answer = self._client.ask("POST", ("subjects", subject, "versions"), body)
        schema_id = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(schema_id, int) or isinstance(schema_id, bool) or not 0 < schema_id <= LARGEST_ID:
            raise RegistryTrouble(Trouble.WRONG, f"it answered no id: {json.dumps(answer)[:80]}")
        return schema_id

    def _ask_for_compatibility(self, subject: str) -> None:
        """Ask that later versions be checked; a registry may not let us, and the id is good without."""
        try:
            if not self._is_checked(subject):
                self._client.ask("PUT", ("config", subject), {"compatibility": COMPATIBILITY})
        except RegistryTrouble as trouble:
            logger.warning("subject %s is not checked for compatibility: %s", subject, trouble.detail)

    def _is_checked(self, subject: str) -> bool:
        """Whether the subject has a compatibility of its own, which its operator chose."""
        try:
            answer = self._client.ask("GET", ("config", subject))
        except RegistryTrouble as trouble:
            if trouble.kind is Trouble.NOT_FOUND:
                return False
            raise
        return isinstance(answer, dict) and answer.get("compatibilityLevel") not in (None, "NONE")
