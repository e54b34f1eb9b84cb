"""What is done with alerts that come faster than the network can see them: a stated choice, never a silent one."""

import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from broker.alert import Message, Outcome

MILLISECONDS = 1000


class Enricher(Protocol):
    """What makes outcomes of messages."""

    def outcomes(self, messages: Iterable[Message]) -> Iterator[Outcome]:
        """Enrich; one outcome for each message, in their order."""

    def pass_on(self, messages: Iterable[Message]) -> Iterator[Outcome]:
        """Read, but let no network see them: partial, with flag ``shed``."""


@dataclass(frozen=True)
class Shedding:
    """Enriches what is fresh, and a share of what is late; passes the rest on as it is, in its place in the order.

    Attributes
    ----------
    enrich : Enricher
    late_seconds : float
        Age since publication beyond which an alert is late.
    share : float
        Of the late ones that are enriched, chosen by their place: a message that comes again meets the same choice.
    clock : callable
        Seconds since the Unix epoch.
    """

    enrich: Enricher
    late_seconds: float
    share: float = 0.0
    clock: Callable[[], float] = time.time

    def outcomes(self, messages: Sequence[Message]) -> Iterator[Outcome]:
        """Give one outcome for each message, in their order."""
        oldest = (self.clock() - self.late_seconds) * MILLISECONDS
        chosen = [self._is_chosen(message, oldest) for message in messages]
        seen = self.enrich.outcomes(m for m, wanted in zip(messages, chosen, strict=True) if wanted)
        passed = self.enrich.pass_on(m for m, wanted in zip(messages, chosen, strict=True) if not wanted)
        for wanted in chosen:
            yield next(seen if wanted else passed)

    def _is_chosen(self, message: Message, oldest: float) -> bool:
        if message.timestamp_ms is None or message.timestamp_ms >= oldest:
            return True
        place = f"{message.topic} {message.partition} {message.offset}".encode()
        return zlib.crc32(place) < self.share * 2**32
