"""Names of topics: which are read, and what those we write end in."""

import re
from dataclasses import dataclass

ENRICHED_SUFFIX = ".enriched"
DEAD_LETTER_SUFFIX = ".dead-letter"
LITE_SUFFIX = ".lite"
REDRIVE_SUFFIX = ".redrive"
OUTPUT_SUFFIXES = (ENRICHED_SUFFIX, DEAD_LETTER_SUFFIX)
"""Endings of the topics the broker always writes."""

OWN_SUFFIXES = (*OUTPUT_SUFFIXES, LITE_SUFFIX, REDRIVE_SUFFIX)
"""Endings of topics of our own, which are never taken for a survey's."""

TOPIC_NAME = r"[A-Za-z0-9._-]{1,230}"
"""Names Kafka allows, up to 249 characters, less what our suffixes take."""


def how_to_make(topic: str, servers: str) -> str:
    """Say how to make a topic: one of our own by our own program."""
    for suffix in OWN_SUFFIXES:
        if topic.endswith(suffix):
            at = f"--prefix {topic.removesuffix(suffix)} --bootstrap-servers {servers.strip(', ')}"
            return f"make it by broker-topics {at} --create"
    return "create it"


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics by name, or in their place by a pattern.

    Attributes
    ----------
    names : tuple of str
    pattern : str or None
        Python regular expression that a whole name must match; it never takes our own outputs, nor Kafka's
        own topics, which grow by what is read and begin with two underscores.
    optional : tuple of str
        Topics that are read too, where they are there.
    """

    names: tuple[str, ...]
    pattern: str | None = None
    optional: tuple[str, ...] = ()

    def holds(self, topic: str) -> bool:
        """Whether a topic of this name is meant."""
        if topic in self.optional:
            return True
        if self.pattern is None:
            return topic in self.names
        ours_or_kafkas = topic.endswith(OWN_SUFFIXES) or topic.startswith("__")
        return not ours_or_kafkas and bool(re.fullmatch(self.pattern, topic))
