"""Calls that may never come back."""

import threading
import time

import pytest

from broker.kafka.watched import watched


def nothing() -> None:
    """Wait."""


def test_what_a_call_gives_or_raises_is_handed_on() -> None:
    assert watched(lambda: 7, 5.0, nothing) == 7

    def refuse() -> None:
        raise KeyError("no")

    with pytest.raises(KeyError, match="no"):
        watched(refuse, 5.0, nothing)


def test_a_call_that_does_not_come_back_is_left() -> None:
    free = threading.Event()
    told: list[int] = []
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        watched(free.wait, 0.7, lambda: told.append(1))
    assert time.monotonic() - began < 5
    assert told
    free.set()
