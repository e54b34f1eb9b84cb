"""The compiled helper and ISA-L, where they are; without them all is done in Python and by zlib, alike and more slowly.

``NIGHTJAR_PURE=1`` leaves both aside.
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

PURE = "NIGHTJAR_PURE"
"""Variable of the environment that leaves the helper aside."""

FUNCTIONS = ("walk", "planes", "stamp", "alert")
"""What it does, by name: each is None here where it was not built."""


def _found() -> Any:
    # The helper copies numbers as they lie in memory, which is how Avro writes them on this kind of machine only.
    if os.environ.get(PURE) or sys.byteorder != "little":
        return None
    try:
        return import_module("broker._native")
    except ImportError:
        return None


_module = _found()

walk: Callable[..., tuple[dict[str, Any], int] | None] | None = getattr(_module, "walk", None)
"""``walk(program, datum, at, paths, listed)``: see `broker.avro.program`."""

stamp: Callable[..., tuple[float, float, int, bool]] | None = getattr(_module, "stamp", None)
"""``stamp(image, variance, height, width, x, y, ratio, size, has_sky, out, mask)``: see `broker.geometry`."""

planes: Callable[..., tuple[Any, ...] | None] | None = getattr(_module, "planes", None)
"""``planes(data, psf)``: see `broker.cutouts`."""

alert: (
    Callable[..., tuple[float | None, float, int, tuple[tuple[int, int, int, bool], ...]] | None] | None
) = getattr(_module, "alert", None)
"""``alert(cutouts, place, nominal, least, most, grid_scale, averaging, size, reach, out, mask, noise)``: see
`broker.geometry`."""


def _inflater() -> Any:
    try:
        return None if os.environ.get(PURE) else import_module("isal.isal_zlib")
    except ImportError:  # there is no wheel for every machine
        return None


isal_zlib: Any = _inflater()
"""ISA-L with the interface of `zlib`: takes a quarter to two fifths less time (docs/performance.md)."""


def in_use() -> str:
    """Say which of the two are in use."""
    helper = (
        "compiled helper" if walk is not None else "Python alone: no helper was built, or it was left aside"
    )
    return f"{helper}; {'ISA-L' if isal_zlib is not None else 'zlib'}"
