"""A dead man's switch: a process that stands still, or does not end when told to, is ended and says where it stood.

librdkafka was seen not to come back from calls, some of which hold the interpreter meanwhile: then no thread of Python
runs, no handler of a signal either, and nothing but a timer of C is left (`faulthandler`).
"""

import faulthandler
import os
import select
import signal
import threading

STILL_SECONDS = 120.0
"""Time in which no thread of Python gets its turn, after which the process is ended. The longest that one message
keeps the interpreter is some four seconds; a process that is stopped and goes on later than this begins anew."""

BEAT_SECONDS = 5.0
"""Time between two beats, each of which puts the end off."""

ENDINGS = (signal.SIGTERM, signal.SIGINT)


class DeadMan:
    """Ends the process with exit code 1, and where each thread stands on standard error.

    Attributes
    ----------
    patience : float
        Seconds from the first signal to end to the end by force: more than anything that is waited for in between.
    still_seconds : float
    """

    def __init__(self) -> None:
        self.patience = self.still_seconds = STILL_SECONDS

    def watch(self) -> None:
        """Begin; called by the main thread, as only that may have signals told."""
        woken, written = os.pipe()
        os.set_blocking(written, False)
        # Written to from C, whatever Python is in.
        signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        threading.Thread(target=self._beat, args=(woken,), name="dead man's switch", daemon=True).start()

    def _beat(self, woken: int) -> None:
        is_told = False
        while not is_told:
            faulthandler.dump_traceback_later(self.still_seconds, exit=True)
            is_told = self._is_told_to_end(woken)
        # Once: more signals put nothing off.
        faulthandler.dump_traceback_later(self.patience, exit=True)

    def _is_told_to_end(self, woken: int) -> bool:
        is_there, _, _ = select.select([woken], [], [], min(BEAT_SECONDS, self.still_seconds / 4))
        return bool(is_there) and os.read(woken, 1)[0] in ENDINGS


dead_man = DeadMan()
"""Of this process."""
