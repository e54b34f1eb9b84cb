"""What is measured of predictions: each metric as a function of the rows it is taken over.

So one metric serves for a value, for its interval over resampled objects, and for the difference of two models on
the same rows.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from encoder import evaluate
from encoder.evaluate import Floats, Ints

Bools: TypeAlias = NDArray[np.bool_]
Metric: TypeAlias = Callable[[Ints], float]
Metrics: TypeAlias = dict[str, Metric]

HIGH_SCORE = 0.9
"""What an alert of the top tenth of the usual ones has, where the calibration holds."""


def class_metrics(truth: Ints, guess: Ints) -> Metrics:
    """Accuracy and macro-F1 of guessed classes (n,)."""
    return {
        "accuracy": lambda rows: evaluate.accuracy(truth[rows], guess[rows]),
        "macro_f1": lambda rows: evaluate.macro_f1(truth[rows], guess[rows]),
    }


def calibration_metrics(truth: Ints, probability: Floats) -> Metrics:
    """Give the expected calibration error of probabilities (n, classes)."""
    return {"ece": lambda rows: evaluate.expected_calibration_error(truth[rows], probability[rows])}


def recall_metrics(truth: Ints, guess: Ints, classes: Sequence[str]) -> Metrics:
    """Share of each class that is recognised, of the classes that occur."""
    present = [index for index in range(len(classes)) if (truth == index).any()]
    return {classes[index]: _recall(truth, guess, index) for index in present}


def redshift_metrics(truth: Floats, pdf: Floats, z_max: float) -> Metrics:
    """Metrics of redshift PDFs.

    Parameters
    ----------
    truth : Floats, shape (n,)
        Below ``z_max``.
    pdf : Floats, shape (n, bins)
    z_max : float
        Upper edge of the last bin.

    Returns
    -------
    dict of str to callable
    """
    point = pdf @ evaluate.bin_centres(z_max, pdf.shape[1])
    errors = evaluate.scaled_errors(truth, point)
    scores = evaluate.crps(truth, pdf, np.linspace(0, z_max, pdf.shape[1] + 1))
    low, high = evaluate.central_interval(pdf, z_max)
    inside = (low <= truth) & (truth <= high)
    return {
        "sigma_mad": lambda rows: evaluate.sigma_mad(errors[rows]),
        "bias": lambda rows: float(errors[rows].mean()),
        "outliers_0.15": lambda rows: evaluate.outlier_share(errors[rows]),
        "crps": lambda rows: float(scores[rows].mean()),
        "coverage_68": lambda rows: float(inside[rows].mean()),
    }


def anomaly_metrics(score: Floats, strange: Bools) -> Metrics:
    """Metrics of an anomaly score (n,), where ``strange`` rows are those that are in no reference."""
    return {
        "auc_bogus": lambda rows: evaluate.auc(score[rows][strange[rows]], score[rows][~strange[rows]]),
        "usual_above_0.9": _high_share(score, ~strange),
        "bogus_above_0.9": _high_share(score, strange),
    }


def _recall(truth: Ints, guess: Ints, index: int) -> Metric:
    def metric(rows: Ints) -> float:
        mine = truth[rows] == index
        return float((guess[rows] == index)[mine].mean()) if mine.any() else float("nan")

    return metric


def _high_share(score: Floats, mine: Bools) -> Metric:
    def share(rows: Ints) -> float:
        chosen = score[rows][mine[rows]]
        return float((chosen > HIGH_SCORE).mean()) if len(chosen) else float("nan")

    return share
