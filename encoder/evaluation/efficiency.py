"""Label efficiency: how far a few labels go with a pretrained encoder, and without."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from broker.errors import SettingsError
from encoder.config import Recipe
from encoder.evaluate import Ints, Measured, macro_f1, measure
from encoder.evaluation.result import Curve, Section, Target

NUMBERS = (50, 100, 200, 400, 800)
SEEDS = 3
RESAMPLES = 1000
FOLDS = 5
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1)
POWERS = (0.0, 0.5, 1.0)
"""Class weight as count to the minus this: alike, between, balanced."""

COMPONENTS = 50
"""Principal components of the pixels."""

PAIR = 2
"""A pretrained encoder is held against supervision with this many times its labels."""

FROM, TO = 100, 800
"""Numbers of labels between which that is aimed for."""

FEATURES = "pooled stages and embedding, mean and scatter over eight turns"

Fit: TypeAlias = Callable[[Ints, int], NDArray[Any]]
"""From rows with labels and a seed to the predicted class of every test row."""

DEFINITIONS = {
    "macro_f1": "F1 of each class, averaged over the classes of the test set; mean over draws of labels",
    "balanced_accuracy": "share of each class that is recognised, averaged over classes; mean over draws",
    "difference": "macro_f1 of the first minus that of the second, on the same test rows (paired bootstrap)",
}


@dataclass(frozen=True, slots=True)
class Split:
    """Who may be labelled, and who is tested.

    Attributes
    ----------
    pool : Ints
        Rows labels are drawn from.
    test : Ints
    label : Ints, shape (n,)
        Of every row.
    object_id : ndarray, shape (n,)
    classes : tuple of str
    """

    pool: Ints
    test: Ints
    label: Ints
    object_id: NDArray[Any]
    classes: tuple[str, ...]

    def draw(self, number: int, seed: int) -> Ints:
        """Rows of one draw: a smaller one is the beginning of a larger one, and each class occurs twice."""
        order = np.random.default_rng([2026, seed + 1]).permutation(self.pool)
        first = [order[self.label[order] == one][:2] for one in range(len(self.classes))]
        begun = np.concatenate(first)
        return np.concatenate([begun, order[~np.isin(order, begun)]])[:number]


Guess: TypeAlias = Callable[[Ints, int], NDArray[Any]]
"""From rows with labels and a seed to the probability (n, classes) of every test row."""


def probability(features: NDArray[Any], split: Split) -> Guess:
    """Probe frozen features: strength and class weight chosen by cross-validation of the labels at hand."""

    def guess(rows: Ints, seed: int) -> NDArray[Any]:
        mean, spread = features[rows].mean(0), features[rows].std(0) + 1e-6
        x, y = (features - mean) / spread, split.label
        strength, power = max(
            ((c, p) for c in STRENGTHS for p in POWERS),
            key=lambda one: _cross_validated(x[rows], y[rows], seed, *one),
        )
        fitted = _logistic(x[rows], y[rows], strength, power)
        found = np.zeros((len(split.test), len(split.classes)))
        found[:, fitted.classes_] = fitted.predict_proba(x[split.test])
        return found

    return guess


def likeliest(guess: Guess) -> Fit:
    """Take the class of highest probability."""
    return lambda rows, seed: np.asarray(guess(rows, seed).argmax(1), np.int64)


def averaged(*guesses: Guess) -> Guess:
    """Average the probabilities of several methods fitted on the same labels."""
    return lambda rows, seed: np.asarray(np.mean([guess(rows, seed) for guess in guesses], axis=0))


def linear(features: NDArray[Any], split: Split) -> Fit:
    """Classify by `probability`."""
    return likeliest(probability(features, split))


def pixels(images: NDArray[Any], pool: Ints) -> NDArray[Any]:
    """Principal components of the pixels, found on the pool without labels."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    found = PCA(min(COMPONENTS, len(pool)), random_state=0).fit(flat[pool])
    return np.asarray(found.transform(flat))


def _cross_validated(x: NDArray[Any], y: Ints, seed: int, strength: float, power: float) -> float:
    folds = min(FOLDS, int(np.bincount(y)[np.unique(y)].min()))
    if folds < 2:  # noqa: PLR2004
        return 0.0
    found = np.zeros_like(y)
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, y):
        found[test] = _logistic(x[train], y[train], strength, power).predict(x[test])
    return macro_f1(y, found)


def _logistic(x: NDArray[Any], y: Ints, strength: float, power: float) -> LogisticRegression:
    weight = np.maximum(np.bincount(y), 1.0)[y] ** -power
    with warnings.catch_warnings():
        # A probe that stops early is a probe; the strongest of the grid are chosen by score.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=200).fit(x, y, sample_weight=weight / weight.mean())


Found: TypeAlias = dict[str, dict[int, list[NDArray[Any]]]]
"""Predictions by method, number of labels and seed."""


def run(
    methods: Mapping[str, Fit],
    split: Split,
    numbers: Mapping[str, Sequence[int]],
    told: Callable[[str], None],
) -> Found:
    """Fit every method on the same draws of labels.

    Parameters
    ----------
    methods : mapping
    split : Split
    numbers : mapping
        Numbers of labels of each method.
    told : callable
        Told of each fit before it is made.
    """
    found: Found = {}
    for name, fit in methods.items():
        found[name] = {}
        for number in numbers[name]:
            found[name][number] = []
            for seed in range(SEEDS):
                told(f"{name}, {number} labels, draw {seed + 1} of {SEEDS}")
                found[name][number].append(fit(split.draw(number, seed), seed))
    return found


def affordable(split: Split, most: int = TO) -> tuple[int, ...]:
    """Numbers of labels that the pool allows.

    Raises
    ------
    SettingsError
        It allows none.
    """
    numbers = tuple(n for n in NUMBERS if n <= min(len(split.pool), most))
    if not numbers:
        raise SettingsError(f"{len(split.pool)} labelled images to learn from: wanted at least {NUMBERS[0]}")
    return numbers


def section(
    found: Found,
    split: Split,
    what: str,
    pretrained: Sequence[str],
    supervised: str | None,
    features: str = FEATURES,
) -> Section:
    """Tell what was found.

    Parameters
    ----------
    found : Found
    split : Split
    what : str
        Of the images.
    pretrained : sequence of str
        Methods that use the pretrained encoder; the last is the one that the aim is asked of.
    supervised : str or None
        The method they are held against at twice the labels.
    features : str
        What the probes read.
    """
    truth, objects = split.label[split.test], split.object_id[split.test]
    table: dict[str, dict[str, Measured]] = {}
    curves: dict[str, dict[str, Curve]] = {"macro-F1": {}}
    for name, by_number in found.items():
        scores = {n: measure(mean_f1(truth, seen), objects, 0, RESAMPLES) for n, seen in by_number.items()}
        for number, score in scores.items():
            table[f"{name}, N = {number}"] = {
                "macro_f1": score,
                "balanced_accuracy": measure(_mean_recall(truth, by_number[number]), objects, 0, RESAMPLES),
            }
        curves["macro-F1"][name] = Curve(
            labels=tuple(scores),
            mean=tuple(s.value for s in scores.values()),
            low=tuple(s.low for s in scores.values()),
            high=tuple(s.high for s in scores.values()),
        )
    pairs, targets = _pairs(found, truth, objects, pretrained, supervised)
    tables = {"by number of labels": table}
    if pairs:
        tables["pretrained at N against supervised at 2 N"] = pairs
    counts = np.bincount(truth, minlength=len(split.classes))
    return Section(
        title=f"Label efficiency: {what}",
        method=(
            f"Classes {', '.join(f'{n} ({c} tested)' for n, c in zip(split.classes, counts, strict=True))}. "
            f"{len(split.pool)} images to label, {len(split.test)} tested, neither pretraining nor labels saw the "
            f"latter. {SEEDS} draws of labels (each class at least twice; the same draws for every method). Probes: "
            f"logistic regression on what is standardised: {features}; "
            f"strength and class weight chosen by {FOLDS}-fold cross-validation of the labels drawn. Brackets: 95 % "
            "bootstrap over objects, of the mean over draws."
        ),
        tables=tables,
        curves=curves,
        targets=targets,
        definitions=DEFINITIONS,
        remarks=(
            "Rare classes carry much of the macro-F1's scatter: read the intervals before the order of methods.",
        ),
    )


def of_labels(recipe: Recipe) -> tuple[str, ...]:
    """Remark on an encoder that has learned labels itself."""
    if recipe.label_weight == 0:
        return ()
    told = (
        f"The encoder learned labels as a side task (label_weight {recipe.label_weight:g}): of its own training set, "
        "so that N is not all it was told, unless they came from another set by --beside."
    )
    return (told,)


def mean_f1(truth: Ints, seen: Sequence[NDArray[Any]]) -> Callable[[Ints], float]:
    """Macro-F1 of some rows, averaged over draws of labels."""
    return lambda rows: float(np.mean([macro_f1(truth[rows], one[rows]) for one in seen]))


def _mean_recall(truth: Ints, seen: Sequence[NDArray[Any]]) -> Callable[[Ints], float]:
    def score(rows: Ints) -> float:
        classes = np.unique(truth[rows])
        return float(np.mean([[(one[rows][truth[rows] == c] == c).mean() for c in classes] for one in seen]))

    return score


def _pairs(
    found: Found,
    truth: Ints,
    objects: NDArray[Any],
    pretrained: Sequence[str],
    supervised: str | None,
) -> tuple[dict[str, dict[str, Measured]], tuple[Target, ...]]:
    if supervised is None:
        return {}, ()
    rows: dict[str, dict[str, Measured]] = {}
    reached: dict[int, bool] = {}
    for name in pretrained:
        for number, seen in found[name].items():
            other = found[supervised].get(PAIR * number)
            if other is None:
                continue
            mine, theirs = mean_f1(truth, seen), mean_f1(truth, other)
            gap = measure(_difference(mine, theirs), objects, 0, RESAMPLES)
            rows[f"{name} at {number}, {supervised} at {PAIR * number}"] = {"difference": gap}
            if FROM <= number <= TO and name == pretrained[-1]:
                reached[number] = gap.value >= 0
    told = ", ".join(f"N = {n}: {'yes' if yes else 'no'}" for n, yes in sorted(reached.items()))
    target = Target(
        text=f"{pretrained[-1]}: at N labels at least the supervised network at {PAIR} N, N from {FROM} to {TO}",
        reached=bool(reached) and all(reached.values()) and {FROM, TO} <= set(reached),
        found=told or "not measured",
    )
    return rows, (target,)


def _difference(mine: Callable[[Ints], float], theirs: Callable[[Ints], float]) -> Callable[[Ints], float]:
    return lambda rows: mine(rows) - theirs(rows)
