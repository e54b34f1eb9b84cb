"""Outputs that come again after a crash, told by their headers and dropped by whoever reads them."""

import hashlib
from collections.abc import Mapping

from broker.letters import COUNT_HEADER, POSITION_HEADERS

REMEMBERED = 1_000_000
"""Outputs remembered at most, and half as many at least: some 110 MiB when full. Repeats after a crash come within a
batch or two of the first, a few ten thousand records at most."""

DIGEST_BYTES = 16

OF_ALERTS = ("survey", "alert-id", "model")
OF_LETTERS = ("reason", COUNT_HEADER)
"""A letter about a message that was tried again is not the first one come again."""


class Repeats:
    """Remembers which outputs were seen.

    An output comes again if its identity *and* its source position agree with one that was seen. An alert that its
    producer sent twice stands at two positions: those are two outputs. One that was redriven keeps its first position:
    redriven twice it is one. Without a position nothing is a repeat.

    Parameters
    ----------
    remembered : int
        Outputs remembered at most; those seen longest ago are forgotten, in halves.

    Attributes
    ----------
    count : int
        Repeats found.
    """

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._half = max(1, remembered // 2)
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()
        self.count = 0

    def __call__(self, topic: str, headers: Mapping[str, str]) -> bool:
        """Whether an output of a topic was seen before; from now on it was."""
        digest = identity(topic, headers)
        if digest is None:
            return False
        seen = digest in self._young or digest in self._old
        self.count += seen
        self._young.add(digest)
        if len(self._young) >= self._half:
            self._old, self._young = self._young, set()
        return seen


def identity(topic: str, headers: Mapping[str, str]) -> bytes | None:
    """Give a digest of what an output is and where its message first stood; None where the headers do not say.

    The output's own topic is a part of it, as one message makes a whole record and a lite one.
    """
    what = OF_LETTERS if "reason" in headers else OF_ALERTS
    if not headers.keys() >= {*POSITION_HEADERS, what[0]}:
        return None
    told = (topic, *(headers.get(name, "") for name in (*what, *POSITION_HEADERS)))
    return hashlib.blake2b("\0".join(told).encode(), digest_size=DIGEST_BYTES).digest()
