"""How many processors this process may use."""

import math
import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Where a container finds its limit: microseconds of processor time, or ``max``, in a period of microseconds
(control groups v2 of Linux)."""


def processors(quota: Path = QUOTA) -> int:
    """Count the processors we are bound to, or as many as a container's limit is worth where that is less.

    Parameters
    ----------
    quota : Path
    """
    bound = len(os.sched_getaffinity(0))
    try:
        allowed, period = quota.read_text(encoding="ascii").split()
        return min(bound, max(1, math.ceil(int(allowed) / int(period))))
    except (OSError, ValueError):  # no such file, or ``max``
        return bound
