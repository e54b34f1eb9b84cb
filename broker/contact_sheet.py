"""A contact sheet: the stamps of many alerts on one page (extra ``plot``)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpecFromSubplotSpec, SubplotSpec
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

PAGE, INK, FAINT, ACCENT = "#0d1017", "#e8e6e1", "#8b93a3", "#f2b84b"
DPI = 150
ROW_INCHES, COLUMN_INCHES = 0.93, 6.3
HEAD_INCHES, FOOT_INCHES = 1.15, 0.55

SOFTENING = 2.0
"""Noise levels up to which the arcsinh stretch is linear."""

FLOOR, CEILING = -3.0, 12.0
"""Darkest and, at least, brightest level shown, in noise levels from the sky."""


LINE_LENGTH = 56
"""Characters of small text that fit beside the stamps."""


@dataclass(frozen=True, slots=True)
class Triplet:
    """One alert on the sheet.

    Attributes
    ----------
    stamps : sequence of 3 arrays of shape (h, w), or None
        Science, template, difference in native pixels; None where there is none to show.
    pixel_scale : float
        Arcsec per pixel.
    headline, lines : str, tuple of str
        What stands beside the stamps: large, and small below it.
    """

    stamps: Sequence[NDArray[np.floating] | None]
    pixel_scale: float
    headline: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A titled column of the sheet."""

    title: str
    triplets: Sequence[Triplet]


def draw_contact_sheet(path: Path, title: str, subtitle: str, columns: Sequence[Column]) -> None:
    """Write the sheet as a PNG file.

    Science and template of an alert share one scale: arcsinh of the light above the sky in units of the
    science stamp's noise. The difference has a scale of its own that is even about zero, and the sign that
    its survey gave it.

    Parameters
    ----------
    path : Path
    title, subtitle : str
    columns : sequence of Column
    """
    n_rows = max(1, *(len(column.triplets) for column in columns))
    height = HEAD_INCHES + n_rows * ROW_INCHES + FOOT_INCHES
    figure = Figure(figsize=(COLUMN_INCHES * len(columns), height), facecolor=PAGE)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        n_rows,
        len(columns),
        left=0.022,
        right=0.985,
        top=1 - HEAD_INCHES / height,
        bottom=FOOT_INCHES / height,
        wspace=0.04,
        hspace=0.10,
    )
    _write_frame(figure, height, title, subtitle)
    for c, column in enumerate(columns):
        _write_column_head(figure, grid[0, c], height, column.title)
        for r, triplet in enumerate(column.triplets):
            _draw_row(figure, grid[r, c], triplet)
    figure.savefig(path, dpi=DPI, facecolor=PAGE)


def _write_frame(figure: Figure, height: float, title: str, subtitle: str) -> None:
    figure.text(0.022, 1 - 0.36 / height, title, color=INK, size=17, weight="bold", va="center")
    figure.text(0.978, 1 - 0.36 / height, subtitle, color=FAINT, size=9.5, ha="right", va="center")
    caption = (
        "Left to right: science, template, difference. Science and template share one arcsinh stretch in "
        "units of the noise; in the difference red is positive, blue negative. ZTF turns the sign of what has faded."
    )
    figure.text(0.022, 0.24 / height, caption, color=FAINT, size=8.5, va="center")


def _write_column_head(figure: Figure, first: SubplotSpec, height: float, title: str) -> None:
    box = first.get_position(figure)
    figure.text(box.x0, 1 - 0.88 / height, title, color=ACCENT, size=12, weight="bold", va="center")


def _draw_row(figure: Figure, place: SubplotSpec, triplet: Triplet) -> None:
    cells = GridSpecFromSubplotSpec(1, 4, place, width_ratios=(1, 1, 1, 3.55), wspace=0.04)
    axes = [figure.add_subplot(cells[0, i]) for i in range(4)]
    noise = _sky(triplet.stamps[0])[1]
    top = max([CEILING, *(_bright(stamp, noise) for stamp in triplet.stamps[:2])])
    for axis, stamp in zip(axes[:2], triplet.stamps[:2], strict=True):
        _draw_stamp(axis, stamp, noise, (FLOOR, top), "gray")
    difference = triplet.stamps[2]
    noise = _sky(difference)[1]
    extreme = max(CEILING, _bright(difference, noise))
    _draw_stamp(axes[2], difference, noise, (-extreme, extreme), "berlin")
    _draw_scale_bar(axes[0], triplet)
    _write_caption(axes[3], triplet)


def _sky(stamp: NDArray[np.floating] | None) -> tuple[float, float]:
    """Level and noise of the empty pixels: median, and its distance to the 16th percentile."""
    if stamp is None or not np.isfinite(stamp).any():
        return 0.0, 1.0
    low, level = np.nanpercentile(stamp, (16, 50))
    return float(level), float(level - low) or 1.0


def _bright(stamp: NDArray[np.floating] | None, noise: float) -> float:
    """How far the brightest pixels stand above the sky, in noise levels."""
    if stamp is None or not np.isfinite(stamp).any():
        return 0.0
    return float(np.nanpercentile(np.abs(stamp - _sky(stamp)[0]), 99.7) / noise)


def _draw_stamp(
    axis: Axes, stamp: NDArray[np.floating] | None, noise: float, limits: tuple[float, float], colours: str
) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_facecolor("#161b25")
    for spine in axis.spines.values():
        spine.set_visible(False)
    if stamp is None:
        axis.set_aspect("equal")
        axis.text(
            0.5, 0.5, "no stamp", color=FAINT, size=7, ha="center", va="center", transform=axis.transAxes
        )
        return
    low, high = np.arcsinh(np.array(limits) / SOFTENING)
    stretched = np.arcsinh((stamp - _sky(stamp)[0]) / noise / SOFTENING)
    axis.imshow(stretched, cmap=colours, vmin=low, vmax=high, origin="lower", interpolation="nearest")


def _draw_scale_bar(axis: Axes, triplet: Triplet) -> None:
    stamp = triplet.stamps[0]
    if stamp is None:
        return
    side = stamp.shape[1]
    arcsec = 1 if side * triplet.pixel_scale < 15 else 10  # noqa: PLR2004 -- an inch of sheet is 6 or 60 arcsec
    length = arcsec / triplet.pixel_scale
    x, y = 0.06 * side, 0.07 * side
    axis.plot([x, x + length], [y, y], color=ACCENT, linewidth=1.6, solid_capstyle="butt")
    label = axis.text(x, y + 0.035 * side, f'{arcsec}"', color=ACCENT, size=6.5, weight="bold", va="bottom")
    label.set_path_effects([withStroke(linewidth=1.5, foreground=PAGE)])


def _shortened(line: str) -> str:
    return line if len(line) <= LINE_LENGTH else line[: LINE_LENGTH - 2].rstrip(" ,") + " …"


def _write_caption(axis: Axes, triplet: Triplet) -> None:
    axis.axis("off")
    axis.text(
        0.03, 0.97, triplet.headline, color=INK, size=10.5, weight="bold", va="top", transform=axis.transAxes
    )
    axis.text(
        0.03,
        0.70,
        "\n".join(_shortened(line) for line in triplet.lines),
        color=FAINT,
        size=8,
        va="top",
        linespacing=1.45,
        transform=axis.transAxes,
    )
