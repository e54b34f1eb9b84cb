"""Calls into librdkafka that may never come back."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from broker.kafka.sink import SLICE_SECONDS

NAME = "watched"
"""Of the threads."""

Result = TypeVar("Result")


def left_behind() -> int:
    """Count the calls that have not come back."""
    return sum(thread.name == NAME for thread in threading.enumerate())


def watched(call: Callable[[], Result], seconds: float, meanwhile: Callable[[], None]) -> Result:
    """Make a call, and leave it behind when it takes too long.

    librdkafka 2.16 waits for ever in ``send_offsets_to_transaction``, whatever time it was given, when the group's
    coordinator went away meanwhile (its issue 5456). A thread cannot be taken out of such a call: it stays, with its
    producer, until the process ends.

    Parameters
    ----------
    call : callable
    seconds : float
    meanwhile : callable
        Called a few times a second; what it raises leaves the call behind too.

    Raises
    ------
    TimeoutError
        When it has not come back.
    """
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 -- handed to the caller, whatever it is
            outcome.set_exception(error)

    # No executor: that would wait at exit for the thread that never ends.
    threading.Thread(target=run, name=NAME, daemon=True).start()
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > SLICE_SECONDS:
        try:
            return outcome.result(SLICE_SECONDS)
        except TimeoutError:
            if outcome.done():  # its own
                raise
            meanwhile()
    return outcome.result(max(0.0, left))
