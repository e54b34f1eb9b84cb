"""Which topics there are, and which of them were meant."""

import difflib
import logging
import threading
import time
from collections.abc import Iterable

from confluent_kafka import Consumer

from broker.errors import KafkaError, SettingsError
from broker.kafka.connection import look
from broker.settings import Topics

LOOK_SECONDS = 0.5
"""Time between two looks for a topic that is not there yet."""

logger = logging.getLogger("broker.kafka")


def await_topics(consumer: Consumer, wanted: Topics, seconds: float, stop: threading.Event) -> list[str]:
    """Wait until every named topic is there.

    Returns
    -------
    list of str
        Every topic of the cluster, sorted; empty when `stop` was set meanwhile.

    Raises
    ------
    SettingsError
        When one is still missing after `seconds`; it names those that are close.
    KafkaError
        When the cluster has not said in that time which there are.
    """
    deadline = time.monotonic() + seconds
    existing: list[str] = []
    told = False
    while not stop.is_set():
        metadata = look(consumer)
        existing = existing if metadata is None else sorted(metadata.topics)
        missing = sorted(set(wanted.names) - set(existing))
        if not missing and metadata is not None:
            return existing
        if time.monotonic() >= deadline:
            if not missing:
                raise KafkaError(f"the cluster did not list its topics within {seconds:g} s: try again")
            raise SettingsError(_missing(missing[0], existing))
        if missing and not told:
            logger.info("waiting up to %g s for topic %s", seconds, ", ".join(missing))
            told = True
        stop.wait(LOOK_SECONDS)
    return []


def _missing(topic: str, existing: Iterable[str]) -> str:
    ours = sorted(name for name in existing if not name.startswith("__"))
    close = difflib.get_close_matches(topic, ours, n=3) or ours[:5]
    there = f"there are {', '.join(close)}" if close else "the cluster has no topics"
    return f"topic {topic} does not exist ({there}): create it, or correct --topic"
