"""Metrics of the heads, each with a bootstrap interval over objects."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DEFINITIONS = {
    "accuracy": "share of alerts whose most probable class is the true one",
    "macro_f1": "F1 of each class, averaged over the classes that occur",
    "ece": "expected calibration error: |accuracy - confidence| in 15 even bins, weighted by count; "
    "resampling can only add to it, so the value may lie below its interval",
    "sigma_mad": "1.4826 median(|dz - median dz|), dz = (z_phot - z_true) / (1 + z_true), z_phot the PDF's mean",
    "bias": "mean of dz",
    "outliers_0.15": "share of alerts with |dz| > 0.15",
    "crps": "continuous ranked probability score, integral over z of (CDF - step at z_true)^2; mean",
    "coverage_68": "share of true redshifts between the PDF's 16th and 84th percentile",
    "auc_bogus": "area under the ROC curve of the score: bogus, not in the reference, against the others; low is good "
    "for interesting, high for artefact",
    "usual_above_0.9": "share of the others with a score above 0.9; 0.1 where the calibration holds",
    "bogus_above_0.9": "share of bogus alerts with a score above 0.9",
}
"""What each metric is; the model card prints them."""

CALIBRATION_BINS = 15

MAD_TO_SIGMA = 1.4826
"""Standard deviation over median absolute deviation, of a Gaussian."""

OUTLIER = 0.15
"""|dz| beyond which a redshift counts as an outlier (Hildebrandt et al. 2010, A&A 523, A31)."""


class Measured(BaseModel):
    """One number with its interval.

    Attributes
    ----------
    value : float
    low, high : float
        95 % bootstrap interval, resampled by object.
    n : int
        Alerts it rests on.
    """

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def measure(
    metric: Callable[[Ints], float], objects: Sequence[object] | NDArray[Any], seed: int, resamples: int
) -> Measured:
    """Measure on all rows, and on resampled objects for the interval.

    Parameters
    ----------
    metric : callable
        From row indices to a number.
    objects : sequence, length n
        Object of each row; alerts of one object are drawn together, as they are no independent evidence.
    seed : int
    resamples : int

    Returns
    -------
    Measured
    """
    _, inverse = np.unique(np.asarray(objects), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    size = np.bincount(inverse)
    start = np.cumsum(size) - size

    def rows(chosen: Ints) -> Ints:
        """Rows of objects, one object after the other; a Python loop over many objects would take minutes."""
        count = size[chosen]
        first = np.repeat(start[chosen] - (np.cumsum(count) - count), count)
        return np.asarray(order[first + np.arange(int(count.sum()))])

    rng = np.random.default_rng(seed)
    drawn = [metric(rows(rng.integers(0, len(size), len(size)))) for _ in range(resamples)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Measured(value=metric(np.arange(len(inverse))), low=float(low), high=float(high), n=len(inverse))


def accuracy(truth: Ints, predicted: Ints) -> float:
    """Share of hits."""
    return float((truth == predicted).mean())


def macro_f1(truth: Ints, predicted: Ints) -> float:
    """F1 averaged over the classes in ``truth``."""
    scores = []
    for one in np.unique(truth):
        hits = float(((truth == one) & (predicted == one)).sum())
        scores.append(2 * hits / float((truth == one).sum() + (predicted == one).sum()))
    return float(np.mean(scores))


def expected_calibration_error(truth: Ints, probability: Floats) -> float:
    """Mean gap between confidence and accuracy; ``probability`` is (n, classes)."""
    confidence, hit = probability.max(axis=1), probability.argmax(axis=1) == truth
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, hit - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(truth))


def bin_centres(z_max: float, bins: int) -> Floats:
    """Middles of even redshift bins from 0."""
    return (np.arange(bins) + 0.5) * z_max / bins


def scaled_errors(truth: Floats, point: Floats) -> Floats:
    """Redshift errors over 1 + z."""
    return np.asarray((point - truth) / (1 + truth))


def sigma_mad(errors: Floats) -> float:
    """Robust scatter of scaled errors."""
    return float(MAD_TO_SIGMA * np.median(np.abs(errors - np.median(errors))))


def outlier_share(errors: Floats) -> float:
    """Share of scaled errors beyond `OUTLIER`."""
    return float((np.abs(errors) > OUTLIER).mean())


def crps(truth: Floats, pdf: Floats, edges: Floats) -> Floats:
    """Continuous ranked probability score of each row's binned PDF, exact for a PDF constant within bins.

    Parameters
    ----------
    truth : Floats, shape (n,)
        Within the bins.
    pdf : Floats, shape (n, bins)
        Probability of each bin.
    edges : Floats, shape (bins + 1,)

    Returns
    -------
    Floats, shape (n,)
    """
    width = np.diff(edges)
    after = np.cumsum(pdf, axis=1)
    before = after - pdf
    # In a bin the CDF runs from a to b; the step divides one bin at the share u of its width.
    u = np.clip((truth[:, None] - edges[:-1]) / width, 0, 1)
    at = before + u * pdf
    under = u * (before**2 + before * at + at**2) / 3
    over = (1 - u) * ((1 - at) ** 2 + (1 - at) * (1 - after) + (1 - after) ** 2) / 3
    return np.asarray(((under + over) * width).sum(axis=1))


def central_interval(pdf: Floats, z_max: float) -> tuple[Floats, Floats]:
    """16th and 84th percentile of each row's binned PDF."""
    edges = np.linspace(0, z_max, pdf.shape[1] + 1)
    cdf = np.concatenate([np.zeros((len(pdf), 1)), np.cumsum(pdf, axis=1)], axis=1)
    found = np.array([np.interp([0.16, 0.84], row, edges) for row in cdf])
    return found[:, 0], found[:, 1]


def auc(positive: Floats, negative: Floats) -> float:
    """Probability that a positive scores above a negative, ties counted half."""
    if len(positive) == 0 or len(negative) == 0:
        return float("nan")
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left")
    tied = np.searchsorted(ordered, positive, side="right") - below
    return float((below + tied / 2).mean() / len(negative))
