"""The compiled helper, where it was built; without it all is done in Python, with the same results and more slowly.

``NIGHTJAR_PURE=1`` leaves it aside.
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

PURE = "NIGHTJAR_PURE"
"""Variable of the environment that leaves the helper aside."""


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

alert: Callable[..., tuple[float | None, tuple[int, int, int], float, int] | None] | None = getattr(
    _module, "alert", None
)
"""``alert(cutouts, place, nominal, least, most, grid_scale, averaging, size, reach, out, mask, noise)``: see
`broker.geometry`."""
