"""Calls into librdkafka that may never come back."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def watched(call: Callable[[], Result], seconds: float) -> Result:
    """Make a call, and leave it behind when it takes too long.

    librdkafka 2.16 was seen to wait for ever in ``send_offsets_to_transaction``, whatever time it was given, after a
    broker was killed and came back. A thread cannot be taken out of such a call: it stays, with its producer, until
    the process ends.

    Parameters
    ----------
    call : callable
    seconds : float

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

    threading.Thread(target=run, name="watched", daemon=True).start()
    return outcome.result(seconds)
