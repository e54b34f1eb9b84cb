"""What is done with alerts that come faster than the network can see them: a stated choice, never a silent one."""

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from broker.alert import Message

MILLISECONDS = 1000


@dataclass(frozen=True)
class Admission:
    """Admits to the network what is fresh, and a share of what is late; the rest is passed on in its place, flagged.

    Attributes
    ----------
    late_seconds : float
        Age since publication beyond which an alert is late.
    share : float
        Of the late ones that are admitted, chosen by their place: a message that comes again meets the same choice.
    clock : callable
        Seconds since the Unix epoch.
    """

    late_seconds: float
    share: float = 0.0
    clock: Callable[[], float] = time.time

    def __call__(self, message: Message) -> bool:
        """Whether the network sees a message; one that does not say when it was published is never late."""
        oldest = (self.clock() - self.late_seconds) * MILLISECONDS
        if message.timestamp_ms is None or message.timestamp_ms >= oldest:
            return True
        place = f"{message.topic} {message.partition} {message.offset}".encode()
        return zlib.crc32(place) < self.share * 2**32


def admit_all(_message: Message) -> bool:
    """Keep order and fall behind, which is the default."""
    return True
