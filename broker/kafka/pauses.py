"""Partitions held back while a batch is in hand: librdkafka is served, and gives nothing."""

from collections.abc import Callable, Iterable

from confluent_kafka import Consumer, TopicPartition

from broker.kafka.terms import Place, asking, place_of


class Pauses:
    """Pauses and resumes all that is held; librdkafka remembers it of a partition that goes, and so do we.

    Parameters
    ----------
    consumer : Consumer
    """

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._paused = False
        self._kept: set[Place] = set()

    def pause(self, held: Iterable[Place]) -> None:
        """Take nothing of what is held."""
        if not self._paused:
            self._have_done("pausing", self._consumer.pause, held)
        self._paused = True

    def resume(self, held: Iterable[Place]) -> None:
        """Take again."""
        if self._paused:
            self._have_done("resuming", self._consumer.resume, held)
        self._paused = False

    def settle(self, partitions: list[TopicPartition]) -> None:
        """Pause what comes while all is paused, and resume what comes back as it went."""
        if self._paused:
            self._consumer.pause(partitions)
        elif kept := [partition for partition in partitions if place_of(partition) in self._kept]:
            self._consumer.resume(kept)
        self._kept -= {place_of(partition) for partition in partitions}

    def forget(self, places: set[Place]) -> None:
        """Note what goes while all is paused."""
        if self._paused:
            self._kept |= places

    @staticmethod
    def _have_done(doing: str, call: Callable[[list[TopicPartition]], None], held: Iterable[Place]) -> None:
        """Have librdkafka do something to all we hold: where it never comes back, `broker.cli.stuck` ends the process.

        It holds the interpreter meanwhile, so that no thread of ours could say when it is enough.
        """
        if partitions := [TopicPartition(*place) for place in held]:
            with asking(doing):
                call(partitions)
