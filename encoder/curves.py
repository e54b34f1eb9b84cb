"""The course of a training run as a picture."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

PANELS = (("contrast", "auxiliary", "spread", "labels"), ("rank_me",), ("knn",), ("learning_rate",))
"""What stands together in one panel, where a run has it."""


def draw_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw the history of a run, one panel for each of `PANELS`.

    Parameters
    ----------
    history : sequence of mapping
        One entry an epoch, with ``epoch`` and the names of `PANELS`.
    path : Path
        PNG; written at once.
    """
    figure = Figure(figsize=(3.2 * len(PANELS), 2.8), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes, names in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        shown = [name for name in names if name in history[-1]]
        for name in shown:
            axes.plot([entry["epoch"] for entry in history], [entry[name] for entry in history], label=name)
        axes.set_xlabel("epoch")
        axes.set_title(", ".join(shown), fontsize=9)
        axes.grid(alpha=0.3)
        if len(shown) > 1:
            axes.legend(fontsize=8)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    canvas.print_figure(partial, format="png", dpi=120)
    partial.replace(path)
