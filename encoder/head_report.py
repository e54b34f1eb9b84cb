"""What a head of one's own is worth, for people: pictures, calibration, and what more labels would bring."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder.evaluate import Floats, expected_calibration_error
from encoder.head_fit import FOLDS, METRIC, Kind, Linear, Measured, Weighting, cross_validated, folds, score
from encoder.outputs import whole_text

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the training objects, at which the learning curve is measured."""

MORE = 200
"""Labels more, of which it is said what they would bring."""

SEEDS = 4
"""Draws of each smaller share: their scatter is the error of the curve."""

LEAST_SCATTER = 0.002
"""Of a score: smaller ones are chance."""

POINTS = 2
"""Fewest points that make a curve."""

SURE = 2.0
"""Standard errors by which a curve has to rise before anything is promised."""


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """Cross-validated score against the number of labels it was fitted on.

    Attributes
    ----------
    labels : Floats, shape (points,)
        Labels in a training fold.
    score, error : Floats, shape (points,)
        Mean and standard deviation over draws of objects.
    """

    labels: Floats
    score: Floats
    error: Floats

    def gain(self, more: int = MORE) -> tuple[float, float]:
        """Tell what more labels would bring, and its standard error, where the score rises as log(labels)."""
        if len(self.labels) < POINTS:
            return 0.0, float("inf")
        logs = np.log(self.labels)
        # Draws of all the objects are one and the same: their scatter is that of the other points.
        scatter = max(float(np.sqrt((self.error[:-1] ** 2).mean())), LEAST_SCATTER)
        weight = np.full(len(logs), 1 / scatter**2)
        centred = logs - (weight * logs).sum() / weight.sum()
        slope = (weight * centred * self.score).sum() / (weight * centred**2).sum()
        error = 1 / np.sqrt((weight * centred**2).sum())
        step = np.log(1 + more / self.labels[-1])
        return float(slope * step), float(error * step)

    def sentence(self, metric: str) -> str:
        """Say it in words."""
        gain, error = self.gain()
        if not np.isfinite(error):
            return f"What another {MORE} labels would bring cannot be told from so few of the rarest class."
        if gain < SURE * error:
            return f"What another {MORE} labels would bring cannot be told from these: {gain:+.3f} ± {error:.3f}."
        return f"Another {MORE} labels would bring about {gain:+.3f} ± {error:.3f} of {metric}."


def learning_curve(
    x: NDArray[Any], truth: NDArray[Any], groups: NDArray[Any], kind: Kind, weighting: Weighting
) -> LearningCurve:
    """Measure the score on a share of the training objects, the test objects the same throughout."""
    found: dict[float, list[float]] = {share: [] for share in SHARES}
    for seed in range(SEEDS):
        random = np.random.default_rng(seed)
        names = random.permutation(np.unique(groups))
        for share in SHARES:
            kept = np.isin(groups, names[: max(1, round(share * len(names)))])
            unseen = _unseen(x, truth, groups, kept, kind, weighting)
            if unseen is not None:
                found[share].append(score(truth, unseen, kind))
    known = [share for share in SHARES if found[share]]
    in_fold = np.array([share * len(truth) * 0.8 for share in known])
    return LearningCurve(
        in_fold,
        np.array([np.mean(found[share]) for share in known]),
        np.array([np.std(found[share]) for share in known]),
    )


def _unseen(
    x: NDArray[Any],
    truth: NDArray[Any],
    groups: NDArray[Any],
    kept: NDArray[np.bool_],
    kind: Kind,
    weighting: Weighting,
) -> NDArray[Any] | None:
    unseen = np.empty_like(truth)
    for train, test in folds(truth, groups, kind):
        rows = train[kept[train]]
        if _is_too_small(truth, groups, rows, kind):
            return None
        unseen[test] = cross_validated(x, truth, groups, rows, test, kind, weighting)[0]
    return unseen


def _is_too_small(truth: NDArray[Any], groups: NDArray[Any], rows: NDArray[np.int64], kind: Kind) -> bool:
    if kind == "regression":
        return len(set(groups[rows])) < 2 * FOLDS
    return _rarest(truth[rows], groups[rows], len(set(truth))) < FOLDS


def _rarest(truth: NDArray[Any], groups: NDArray[Any], classes: int) -> int:
    """Objects of the class that has the fewest; 0 where one has none."""
    objects = [len(set(groups[truth == name])) for name in np.unique(truth)]
    return min(objects) if len(objects) == classes else 0


def calibration(measured: Measured, linear: Linear, truth: NDArray[Any]) -> float:
    """Measure the expected calibration error of the cross-validated probabilities."""
    assert measured.probability is not None
    index = np.searchsorted(np.array(linear.labels), truth)
    return expected_calibration_error(index.astype(np.int64), measured.probability)


def recalls(truth: NDArray[Any], unseen: NDArray[Any]) -> dict[str, tuple[float, int]]:
    """Share of each class that is recognised, and how many it has."""
    return {
        str(name): (float((unseen[truth == name] == name).mean()), int((truth == name).sum()))
        for name in np.unique(truth)
    }


def write_held_out(
    path: Path, alert_id: Sequence[int], truth: NDArray[Any], measured: Measured, linear: Linear
) -> None:
    """Write what each labelled alert was taken for by heads that had not seen its object: the mistakes to look at."""
    classes = linear.labels if measured.probability is not None else ()
    with whole_text(path) as file:
        table = csv.writer(file)
        table.writerow(["alert_id", "label", "held_out_prediction", *(f"p_{name}" for name in classes)])
        for row, alert in enumerate(alert_id):
            likely = [] if measured.probability is None else measured.probability[row]
            table.writerow([alert, truth[row], measured.unseen[row], *(f"{one:.6g}" for one in likely)])


def draw(path: Path, truth: NDArray[Any], measured: Measured, kind: Kind, curve: LearningCurve) -> None:
    """Draw the confusion matrix or the residuals, and the learning curve, side by side."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - takes half a second, which only this needs

    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    (_residuals if kind == "regression" else _confusion)(left, truth, measured.unseen)
    right.errorbar(curve.labels, curve.score, curve.error, marker="o", capsize=3)
    right.set(xlabel="labels fitted on", ylabel=METRIC[kind], title="cross-validated by object")
    right.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def _confusion(axes: Any, truth: NDArray[Any], unseen: NDArray[Any]) -> None:
    names = [str(name) for name in np.unique(truth)]
    counts = np.array([[((truth == a) & (unseen == b)).sum() for b in names] for a in names])
    share = counts / counts.sum(axis=1, keepdims=True)
    axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    for (row, column), count in np.ndenumerate(counts):
        dark = share[row, column] > 0.5  # noqa: PLR2004
        axes.text(column, row, str(count), ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="head", ylabel="label", title="alerts; colour: share of the label")


def _residuals(axes: Any, truth: NDArray[Any], unseen: NDArray[Any]) -> None:
    axes.scatter(truth, unseen - truth, s=8, alpha=0.6)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xlabel="label", ylabel="head - label", title="residuals, cross-validated")
