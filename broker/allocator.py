"""What becomes of memory that was freed, and how often Python looks for it.

It is kept for the alerts that follow. By default glibc gives it back to the system as soon as it lies at the end of its
heap, and asks for it again for the next batch, a page at a time: measured on a virtual machine, making the records of a
batch of Rubin alerts took eight times as long for it.

Python looks for unreachable cycles after a few hundred new objects, which are a dozen alerts here, and every now and
then among all that was imported: a tenth of the time that our own code takes for an alert.
"""

import ctypes
import gc

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of settings in glibc's ``malloc.h``."""

KEPT_BYTES = 256 * 1024 * 1024
"""Free memory at the end of the heap that is kept: eight batches of 32 MiB, waiting, at work and as records."""

LARGEST_FROM_HEAP = 8 * 1024 * 1024
"""Bytes of the largest piece that is taken from it: a batch of 4 MB (`broker.kafka.sink`) that is compressed is one,
and a Rubin packet of 0.1 to 0.5 MB. Larger ones go back to the system at once."""

OBJECTS_BETWEEN_LOOKS = 20_000
"""An alert in hand has some 50: so a search is made when there are 400 more of them."""


def look_less_for_cycles() -> None:
    """Leave what is there by now out of the search for cycles, and search less often, in this process."""
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_LOOKS)


def keep_freed_memory() -> bool:
    """Set it so for this process; False where the C library knows no such setting."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_TRIM_THRESHOLD, KEPT_BYTES) and mallopt(_MMAP_THRESHOLD, LARGEST_FROM_HEAP))
