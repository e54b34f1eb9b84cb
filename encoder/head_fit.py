"""A linear head on a frozen embedding: fitted, and measured by cross-validation grouped by object."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from broker.errors import SettingsError

Kind: TypeAlias = Literal["classification", "regression"]
Weighting: TypeAlias = Literal["balanced", "none"]
Floats: TypeAlias = NDArray[np.float64]

FOLDS = 5
DIVISIONS = 3
"""Into folds, over which held-out predictions are averaged: one division of few labels moves a score by some 0.03."""

TINY = 1e-9
"""Added to probabilities before a logarithm."""

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse regularisation tried, on standardised embeddings."""
DRAWS = 1000
DISTINCT = 10
"""Numbers are taken as a regression from this many distinct ones."""

METRIC = {"classification": "balanced accuracy", "regression": "R2"}
DEFINITION = {
    "classification": "balanced accuracy: mean over classes of the share of their alerts that are recognised",
    "regression": "R2: 1 - squared residuals / squared deviations from the mean; 0 is the mean itself",
}


@dataclass(frozen=True, slots=True)
class Linear:
    """``embedding @ weight + bias``, then a softmax for classes.

    Attributes
    ----------
    kind : Kind
    labels : tuple of str
    weight : Floats, shape (embedding_size, n_labels)
    bias : Floats, shape (n_labels,)
    """

    kind: Kind
    labels: tuple[str, ...]
    weight: Floats
    bias: Floats


@dataclass(frozen=True, slots=True)
class Measured:
    """Cross-validated score with its 95 % interval, and the held-out predictions.

    Attributes
    ----------
    score, low, high : float
    unseen : ndarray, shape (n,)
        Prediction of each alert by a head that has not seen its object.
    probability : Floats, shape (n, classes), or None
        Of the classes in their order; None of a regression.
    """

    score: float
    low: float
    high: float
    unseen: NDArray[Any]
    probability: Floats | None


def kind_of(labels: list[str]) -> Kind:
    """Tell numbers with many distinct values from classes."""
    try:
        distinct = {float(label) for label in labels}
    except ValueError:
        return "classification"
    return "regression" if len(distinct) >= DISTINCT else "classification"


def truth_of(labels: list[str], groups: NDArray[Any], kind: Kind) -> NDArray[Any]:
    """Labels as an array, refused where they cannot be fitted.

    Raises
    ------
    SettingsError
    """
    if kind == "regression":
        try:
            values = np.array(labels, float)
        except ValueError as error:
            raise SettingsError(f"{error}: a regression needs numbers in every label") from error
        if not np.isfinite(values).all() or values.std() == 0 or len(set(groups)) < FOLDS:
            raise SettingsError(f"a regression needs finite numbers that differ, of {FOLDS} objects or more")
        return values
    truth = np.array(labels)
    objects = {str(name): len(set(groups[truth == name])) for name in np.unique(truth)}
    if len(objects) == 1:
        raise SettingsError(f"every label is {next(iter(objects))!r}: label a second class")
    rare = min(objects, key=objects.__getitem__)
    if objects[rare] < FOLDS:
        raise SettingsError(
            f"class {rare!r}: wanted {FOLDS} labelled objects or more, found {objects[rare]}: label more, or leave "
            "it out"
        )
    return truth


def folds(
    truth: NDArray[Any], groups: NDArray[Any], kind: Kind, seed: int = 0
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Training and test rows; no object is on both sides."""
    n = min(FOLDS, len(set(groups)))
    cut = (
        StratifiedGroupKFold(n, shuffle=True, random_state=seed)
        if kind == "classification"
        else GroupKFold(n, shuffle=True, random_state=seed)
    )
    yield from cut.split(np.zeros((len(truth), 1)), truth, groups)


def fit(
    x: NDArray[Any], truth: NDArray[Any], groups: NDArray[Any], kind: Kind, weighting: Weighting = "balanced"
) -> Linear:
    """Fit on every row; the regularisation is chosen by cross-validation grouped by object.

    With a ``weighting`` of ``balanced`` every class counts alike, however rare; with ``none`` every alert.
    """
    cuts = [
        pair
        for pair in folds(truth, groups, kind, seed=1)
        if kind == "regression" or set(truth[pair[0]]) == set(truth)
    ]

    def worth(strength: float) -> float:
        fitted = ((_linear(x[train], truth[train], kind, strength, weighting), test) for train, test in cuts)
        return sum(_worth(one, x[test], truth[test], weighting) for one, test in fitted)

    return _linear(x, truth, kind, max(STRENGTHS, key=worth), weighting)


def _worth(linear: Linear, x: NDArray[Any], truth: NDArray[Any], weighting: Weighting) -> float:
    """Log likelihood of classes, by which few rows choose more steadily than by who is right; R2 of a value."""
    if linear.kind == "regression":
        return score(truth, predict(linear, x), linear.kind)
    place = np.searchsorted(np.array(linear.labels), truth)
    likelihood = np.log(probabilities(linear, x)[np.arange(len(x)), place] + TINY)
    if weighting == "none":
        return float(likelihood.mean())
    return float(np.mean([likelihood[truth == name].mean() for name in np.unique(truth)]))


def _linear(
    x: NDArray[Any], truth: NDArray[Any], kind: Kind, strength: float, weighting: Weighting = "balanced"
) -> Linear:
    centre, width = x.mean(axis=0, dtype=float), x.std(axis=0, dtype=float)
    width[width == 0] = 1.0
    scaled = (x - centre) / width
    labels: tuple[str, ...]
    if kind == "regression":
        ridge = Ridge(alpha=1 / strength).fit(scaled, truth)
        coefficients, intercept, labels = ridge.coef_[None], np.array([ridge.intercept_]), ("value",)
    else:
        model = LogisticRegression(
            C=strength, max_iter=5000, class_weight="balanced" if weighting == "balanced" else None
        ).fit(scaled, truth)
        coefficients, intercept = model.coef_, model.intercept_
        labels = tuple(map(str, model.classes_))
        if len(labels) == 2:  # noqa: PLR2004 -- a sigmoid is the softmax of (0, z)
            coefficients = np.concatenate([np.zeros_like(coefficients), coefficients])
            intercept = np.concatenate([[0.0], intercept])
    weight = (coefficients / width).T
    return Linear(kind, labels, weight, intercept - centre @ weight)


def predict(linear: Linear, x: NDArray[Any]) -> NDArray[Any]:
    """Most probable class of each row, or its value."""
    values = x @ linear.weight + linear.bias
    return values[:, 0] if linear.kind == "regression" else np.array(linear.labels)[values.argmax(axis=1)]


def probabilities(linear: Linear, x: NDArray[Any]) -> Floats:
    """Softmax (n, classes) of each row."""
    values = x @ linear.weight + linear.bias
    values = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(values / values.sum(axis=1, keepdims=True), np.float64)


def cross_validated(
    x: NDArray[Any],
    truth: NDArray[Any],
    groups: NDArray[Any],
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    kind: Kind,
    weighting: Weighting,
) -> tuple[NDArray[Any], Floats | None]:
    """Predictions, and probabilities of classes, of rows that were not fitted on."""
    linear = fit(x[train], truth[train], groups[train], kind, weighting)
    return predict(linear, x[test]), None if kind == "regression" else probabilities(linear, x[test])


def measure(
    x: NDArray[Any],
    truth: NDArray[Any],
    groups: NDArray[Any],
    kind: Kind,
    weighting: Weighting = "balanced",
    seed: int = 0,
) -> Measured:
    """Score of objects that were not fitted on, predictions averaged over divisions; the interval draws objects."""
    labels = np.unique(truth)
    total = np.zeros(len(truth)) if kind == "regression" else np.zeros((len(truth), len(labels)))
    for division in range(DIVISIONS):
        for train, test in folds(truth, groups, kind, seed + division):
            found, likely = cross_validated(x, truth, groups, train, test, kind, weighting)
            total[test] += found if likely is None else likely
    total /= DIVISIONS
    probability = None if kind == "regression" else total
    unseen = total if probability is None else labels[probability.argmax(axis=1)]
    random = np.random.default_rng(seed)
    names, of = np.unique(groups, return_inverse=True)
    rows = [np.flatnonzero(of == n) for n in range(len(names))]
    drawn = []
    for _ in range(DRAWS):
        chosen = np.concatenate([rows[n] for n in random.integers(0, len(rows), len(rows))])
        if kind == "regression" or set(truth[chosen]) == set(truth):
            drawn.append(score(truth[chosen], unseen[chosen], kind))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Measured(score(truth, unseen, kind), float(low), float(high), unseen, probability)


def score(truth: NDArray[Any], found: NDArray[Any], kind: Kind) -> float:
    """Score of predictions; see `DEFINITION`."""
    if kind == "regression":
        return float(r2_score(truth, found))
    return float(np.mean([(found[truth == name] == name).mean() for name in np.unique(truth)]))
