"""Offsets of a group on their way to the cluster."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException, TopicPartition

from broker.alert import Message
from broker.backoff import delays
from broker.errors import NightjarError
from broker.kafka.connection import REMINDER_SECONDS
from broker.kafka.faults import LOST_TO_OTHERS, OF_THE_MOMENT, as_ours
from broker.kafka.terms import Place, place_of
from broker.kafka.watched import watched

LAST_SECONDS = 5.0
"""How long an answer is waited for where partitions are given up: others wait for them."""

TRIED_AGAIN, GIVEN_UP = "it is tried again", "these alerts may come again"
"""What follows where a commit is not taken: while the partition is held, and when it is given up."""

logger = logging.getLogger("broker.kafka")


def after(batch: Iterable[Message]) -> dict[Place, int]:
    """Offset that follows a batch, for each partition of it."""
    return {(message.topic, message.partition): message.offset + 1 for message in batch}


def listed(offsets: dict[Place, int]) -> list[TopicPartition]:
    """Offsets as librdkafka takes them."""
    return [TopicPartition(*place, offset) for place, offset in offsets.items()]


class Commits:
    """What is still to be committed: sent without waiting, and again where the cluster did not take it.

    One commit is on its way at a time. What comes to be committed meanwhile goes with the next, so that a
    coordinator that does not answer holds up neither the alerts nor the group.

    Parameters
    ----------
    commit : callable
        ``confluent_kafka.Consumer.commit``.
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, commit: Callable[..., Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._commit = commit
        self._clock = clock
        self._pending: dict[Place, int] = {}
        self._since: float | None = None
        self._told = -REMINDER_SECONDS
        self._waits = delays()
        self._due = 0.0
        self._refusal: NightjarError | None = None

    def add(self, offsets: dict[Place, int]) -> None:
        """Have these committed with the next."""
        self._pending |= offsets

    def drop(self, places: Collection[Place]) -> None:
        """Commit nothing there: it was done in a transaction, or is for others to do."""
        for place in places:
            self._pending.pop(place, None)

    def send(self) -> None:
        """Commit what is pending, unless an answer is still awaited or what failed has its pause.

        Raises
        ------
        KafkaError, ConfigurationError
            When Kafka has refused a commit for a cause that does not pass.
        """
        self.check()
        if self._pending and self._since is None and self._clock() >= self._due:
            self._since = self._clock()
            try:
                self._commit(offsets=listed(self._pending), asynchronous=True)
            except KafkaException as error:
                self.heard(error.args[0], ())

    def check(self) -> None:
        """End with what waiting will not mend.

        Raises
        ------
        KafkaError, ConfigurationError
        """
        if self._refusal is not None:
            raise self._refusal

    def heard(
        self, fault: Fault | None, answers: Sequence[TopicPartition], otherwise: str = TRIED_AGAIN
    ) -> None:
        """Take what became of a commit, as librdkafka's ``on_commit``; and what follows where it was not taken."""
        self._since = None
        faults = [one for one in (fault, *(answer.error for answer in answers)) if one is not None]
        for answer in answers:
            if not (fault or answer.error) and self._pending.get(place_of(answer)) == answer.offset:
                del self._pending[place_of(answer)]
        if faults:
            self._failed(faults[0], otherwise)
        else:
            self._waits = delays()

    def finish(self, places: Collection[Place]) -> None:
        """Commit what is pending there before it is given up, and wait for the answer, but not long.

        A commit that is not taken is told: the messages come again to whoever holds the partition.
        """
        offsets = {place: offset for place, offset in self._pending.items() if place in places}
        if offsets:
            commit = partial(self._commit, offsets=listed(offsets), asynchronous=False)
            try:
                answers = watched(commit, LAST_SECONDS, lambda: None)
            except TimeoutError:
                logger.warning("no answer to the last commit: these alerts may come again")
            except KafkaException as error:
                self._failed(error.args[0], GIVEN_UP)
            else:
                self.heard(None, answers or (), GIVEN_UP)
        self.drop(places)

    def finish_all(self) -> None:
        """Do so everywhere."""
        self.finish(list(self._pending))

    @property
    def unanswered_seconds(self) -> float:
        """How long an answer has been awaited."""
        return 0.0 if self._since is None else self._clock() - self._since

    def _failed(self, fault: Fault, otherwise: str = TRIED_AGAIN) -> None:
        if fault.code() not in LOST_TO_OTHERS | OF_THE_MOMENT and not fault.retriable():
            self._refusal = as_ours(fault, "committing offsets")
            logger.warning("commit refused (%s): these alerts come again", fault.str())
            return
        now = self._clock()
        self._due = now + next(self._waits)
        if otherwise is GIVEN_UP or now - self._told >= REMINDER_SECONDS:
            self._told = now
            logger.warning("commit not taken (%s): %s", fault.str(), otherwise)
