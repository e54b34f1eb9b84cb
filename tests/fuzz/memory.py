"""How much memory a batch takes, from what the kernel counts."""

from pathlib import Path
from types import TracebackType
from typing import Self

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""Written to ``clear_refs`` it sets the peak back to what is resident (proc(5))."""

MIB = 1024 * 1024


def resident(entry: str = "VmRSS") -> int:
    """Bytes of the process that are resident; ``VmHWM`` for the most that were."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{entry}:"))
    return int(line.split()[1]) * 1024


class Peak:
    """Measures by how much the process grew at most.

    Attributes
    ----------
    grown : int
        Bytes, known at the end; 0 where the kernel does not let the peak be reset.
    """

    def __init__(self) -> None:
        self.grown = 0
        self._before: int | None = None

    def __enter__(self) -> Self:
        try:
            CLEAR.write_text(RESET_PEAK)
        except OSError:
            return self
        self._before = resident()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            self.grown = max(0, resident("VmHWM") - self._before)
