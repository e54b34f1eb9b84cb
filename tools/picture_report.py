"""Compare simulated display pictures with real ones: the table and the picture of docs/simulation.md.

Run from the root of the project, with the train extra installed::

    python tools/picture_report.py --data galaxies.npz

Without the file only the contact sheet is drawn. No real picture goes into it, only statistics.
"""

import argparse
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

mpl.use("Agg")
import matplotlib.pyplot as plt

from encoder.images.foreign import read_images
from encoder.simulate.pictures import PICTURE_CLASSES, SIDE, PictureDrawing

SHEET = Path("docs/images/simulation_pictures.png")
PERCENTILES = (5, 25, 50, 75, 95)
RINGS = (0, 3, 6, 9, 12, 18)
SKY = 28
"""Pixels from the middle beyond which there is sky."""

MIDDLE = 2
ACROSS = 12


def statistics(pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Measure pictures (n, 3, SIDE, SIDE), one number each."""
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    radius = np.hypot(x, y)
    sky = pictures[:, :, radius > SKY].astype(float)
    level = np.median(sky, axis=2)
    found = {
        "sky, green": level[:, 1],
        "scatter of the sky, green": 1.4826 * np.median(np.abs(sky[:, 1] - level[:, 1:2]), axis=1),
    }
    middle = pictures[:, :, radius < MIDDLE].astype(float).mean(axis=2)
    for k, name in enumerate(("red", "green", "blue")):
        found[f"middle, {name}"] = middle[:, k]
    light = pictures.mean(axis=1) - level.mean(axis=1)[:, None, None]
    for low, high in pairwise(RINGS):
        found[f"light from {low} to {high} pixels"] = light[:, (radius >= low) & (radius < high)].mean(axis=1)
    return found


def table(real: NDArray[np.uint8], simulated: NDArray[np.uint8]) -> Iterable[str]:
    """One row a quantity, percentiles of both."""
    head = " · ".join(map(str, PERCENTILES))
    yield f"| {head}th percentile, of 255 | real ({len(real):,}) | simulated ({len(simulated):,}) |"
    yield "|---|---|---|"
    mine, theirs = statistics(simulated), statistics(real)
    for name in mine:
        cells = [
            " · ".join(f"{p:.0f}" for p in np.percentile(one[name], PERCENTILES)) for one in (theirs, mine)
        ]
        yield f"| {name} | {cells[0]} | {cells[1]} |"


def draw(pictures: NDArray[np.uint8], label: NDArray[np.int64]) -> None:
    """Draw some pictures of each class."""
    figure, axes = plt.subplots(len(PICTURE_CLASSES), ACROSS, figsize=(ACROSS, 1.08 * len(PICTURE_CLASSES)))
    for row, name in enumerate(PICTURE_CLASSES):
        shown = pictures[label == row][:ACROSS]
        for axis, one in zip(axes[row], shown, strict=False):
            axis.imshow(one.transpose(1, 2, 0))
        for axis in axes[row]:
            axis.set_xticks([])
            axis.set_yticks([])
        axes[row, 0].set_ylabel(name)
    figure.subplots_adjust(0.03, 0.01, 0.995, 0.99, wspace=0.04, hspace=0.04)
    figure.savefig(SHEET, dpi=80)


def main() -> None:
    """Draw the sheet, and print the table where there are real pictures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, help="set of real pictures")
    parser.add_argument("--count", type=int, default=600)
    arguments = parser.parse_args()
    simulated = PictureDrawing(arguments.count, 1).draw(range(arguments.count))
    draw(np.asarray(simulated.images, np.uint8), simulated.label)
    if arguments.data is None:
        return
    real = np.asarray(read_images(arguments.data).images, np.uint8)
    edge = (real.shape[2] - SIDE) // 2
    cut = real[:, :, edge : edge + SIDE, edge : edge + SIDE]
    print("\n".join(table(cut, np.asarray(simulated.images, np.uint8))))


if __name__ == "__main__":
    main()
