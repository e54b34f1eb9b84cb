"""A batch that is bounded in messages and in bytes, and waits for its first message only."""

from collections.abc import Callable, Sequence

from confluent_kafka import Message as KafkaMessage

from broker.kafka.terms import headers_of

FIRST_GUESS = 1_048_576
"""Bytes a message is taken for before any was seen: Kafka's own limit."""

FORGETTING = 0.99
"""By how much the largest message seen shrinks from one to the next, so that one giant does not slow a night."""

MOST_AT_ONCE = 16
"""Messages taken in one step, so that giants behind small ones exceed the bound by 160 MiB at most."""


class Gatherer:
    """Takes messages until one of the bounds is reached.

    Parameters
    ----------
    consume : callable
        Takes at most so many messages in at most so many seconds, as `confluent_kafka.Consumer.consume`.
    most_bytes : int
        The last message may exceed it.
    broken_off : callable
        Asked after each step whether to take no more.
    """

    def __init__(
        self,
        consume: Callable[[int, float], Sequence[KafkaMessage]],
        most_bytes: int,
        broken_off: Callable[[], bool] = lambda: False,
    ) -> None:
        self._consume = consume
        self._most = most_bytes
        self._broken_off = broken_off
        self._size = float(FIRST_GUESS)

    def __call__(self, limit: int, linger_seconds: float) -> list[KafkaMessage]:
        """Take at most `limit` messages of those that are there, waiting at most `linger_seconds` for the first."""
        taken: list[KafkaMessage] = []
        left = self._most
        while len(taken) < limit and left > 0:
            # The first is waited for, the others are taken only if they are there: one alone does not wait for more.
            step = min(limit - len(taken), MOST_AT_ONCE, max(1, int(left / self._size))) if taken else 1
            part = self._consume(step, 0.0 if taken else linger_seconds)
            taken += part
            left -= sum(map(self._measure, part))
            if len(part) < step or self._broken_off():
                break
        return taken

    def _measure(self, message: KafkaMessage) -> int:
        size = 0
        if message.error() is None:
            headers = sum(len(name) + len(content or b"") for name, content in headers_of(message))
            size = len(message.value() or b"") + len(message.key() or b"") + headers
        self._size = max(float(size), FORGETTING * self._size, 1.0)
        return size
