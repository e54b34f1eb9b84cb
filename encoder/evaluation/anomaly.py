"""Finding the rare: how many anomalies stand first in a pool, alone and after a person has voted."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from encoder.anomaly import whitening
from encoder.evaluate import Floats, Ints, Measured, measure
from encoder.evaluation.result import Section, Target
from encoder.evaluation.unexplained import Unexplained

NEIGHBOURS = 10
LOF_NEIGHBOURS = 20
"""scikit-learn's default, after Breunig et al. 2000 (SIGMOD 29, 93)."""

TREES = 300
SHARE = 0.01
"""Of the pool that is looked at."""

VOTES = (10, 30, 100)
ROUND = 10
"""Votes between two fits."""

FIRST = 100
"""How many of those not voted on yet are judged after the votes."""

RESAMPLES = 200
NORMAL = 1.96
SEEDS = 3
ENOUGH = 20_000
FACTOR, RECALL, PRECISION = 1.5, 0.9, 0.9
EMBEDDING, UNEXPLAINED = "embedding, neighbours", "structure that light does not explain"
PIXELS = "PCA of pixels"
FOREST, LOF = f"isolation forest, {PIXELS}", f"LOF, {PIXELS}"
CEILING = "one layer that knows every label, cross-validated"
LOUDEST = 6.0
"""Residuals beyond are cut before votes: one layer would follow a few images otherwise."""

BESIDE = 0.3
"""Weight of the embedding beside residuals, for one layer to read."""

FOLDS, STRENGTH = 4, 0.003
"""Of the layer that knows every label."""

DEFINITIONS = {
    "recall_at_1_percent": "share of the anomalies among the first 1 % of the pool, the highest scores first",
    "auprc": "area under the precision-recall curve (average precision)",
    "precision_100": "share of anomalies among the first 100 that nobody has voted on; no more than are left can be",
    "found": "share of all anomalies that are among those voted on or the first 100 of the others",
}

Bools = NDArray[np.bool_]


def neighbour_distance(embedding: Floats) -> Floats:
    """Mean distance (n,) to the nearest rows of the pool itself, in the whitened embedding."""
    tensor = torch.as_tensor(embedding, dtype=torch.float32)
    white = ((tensor - tensor.mean(0)) @ whitening(tensor)).numpy()
    distance, _ = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(white).kneighbors(white)
    return np.asarray(distance[:, 1:].mean(axis=1), np.float64)


def baselines(pixels: Floats) -> dict[str, Floats]:
    """Scores (n,) of detectors that know the pool's pixels only, as principal components (n, d)."""
    forest = IsolationForest(n_estimators=TREES, random_state=0).fit(pixels)
    lof = LocalOutlierFactor(n_neighbors=LOF_NEIGHBOURS).fit(pixels)
    return {
        FOREST: np.asarray(-forest.score_samples(pixels)),
        LOF: np.asarray(-lof.negative_outlier_factor_),
    }


def recall_at(score: Floats, anomaly: Bools, share: float = SHARE) -> float:
    """Share of the anomalies among the highest ``share`` of the scores; NaN where there is none."""
    count = max(1, round(share * len(score)))
    first = np.argsort(-score, kind="stable")[:count]
    return float(anomaly[first].sum() / anomaly.sum()) if anomaly.any() else float("nan")


def voted(features: Floats, score: Floats, anomaly: Bools, seed: int) -> dict[int, tuple[float, float]]:
    """Let a voter look: the highest scores first, then what one layer on the votes thinks is most anomalous.

    Parameters
    ----------
    features : Floats, shape (n, d)
        See `standard`.
    score : Floats, shape (n,)
        The order before any vote.
    anomaly : Bools, shape (n,)
        What the voter says when asked.
    seed : int
        Breaks ties and shuffles the rows taken as usual ones.

    Returns
    -------
    dict of int to (float, float)
        After so many votes: precision among the first 100 not voted on, and the share of anomalies found by then.
    """
    x = features
    rng = np.random.default_rng(seed)
    asked = np.zeros(len(x), bool)
    order, found = np.argsort(-score, kind="stable"), {}
    for votes in range(ROUND, VOTES[-1] + 1, ROUND):
        asked[_first(order, asked, ROUND)] = True
        layer = _one_layer(x, anomaly, asked, rng)
        # Who has seen no anomaly yet, or nothing else, goes on down the list.
        order = np.argsort(-(score if layer is None else layer), kind="stable")
        if votes in VOTES:
            shown = anomaly[_first(order, asked, FIRST)]
            found[votes] = float(shown.mean()), float((anomaly[asked].sum() + shown.sum()) / anomaly.sum())
    return found


def standard(features: Floats) -> Floats:
    """Features (n, d) of mean 0 and standard deviation 1, as one layer wants them."""
    return np.asarray((features - features.mean(0)) / (features.std(0) + 1e-9))


def ceiling(features: Floats, anomaly: Bools) -> Floats:
    """Score every row by one layer that knows the labels of all others: what no number of votes can pass."""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    layer = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=500)
    return np.asarray(cross_val_predict(layer, features, anomaly, cv=folds, method="decision_function"))


def _precision(score: Floats, anomaly: Bools) -> float:
    return float(anomaly[np.argsort(-score, kind="stable")[:FIRST]].mean())


def _first(order: Ints, asked: Bools, count: int) -> Ints:
    return order[~asked[order]][:count]


def _one_layer(x: Floats, anomaly: Bools, asked: Bools, rng: np.random.Generator) -> Floats | None:
    """Score by a logistic layer on the votes; rows nobody saw stand for usual ones, as nearly all are."""
    unseen = rng.choice(np.flatnonzero(~asked), min(10 * VOTES[-1], int((~asked).sum())), replace=False)
    rows = np.concatenate([np.flatnonzero(asked), unseen])
    truth = anomaly[rows] & asked[rows]
    if truth.all() or not truth.any():
        return None
    weight = np.where(asked[rows], 1.0, asked.sum() / len(unseen))
    layer = LogisticRegression(C=0.01, class_weight="balanced", max_iter=500)
    return np.asarray(layer.fit(x[rows], truth, sample_weight=weight).decision_function(x))


def evaluate_anomalies(
    embedding: Floats,
    pixels: Floats,
    anomaly: Bools,
    what: str,
    told: Callable[[str], None],
    *,
    left: Unexplained | None = None,
    objects: Ints | None = None,
) -> Section:
    """Compare the embedding, and what light leaves unexplained, with detectors on pixels, in one pool.

    Parameters
    ----------
    embedding : Floats, shape (n, d)
    pixels : Floats, shape (n, p)
        Principal components of the pixels.
    anomaly : Bools, shape (n,)
    what : str
        Of the pool.
    told : callable
        Told of each step.
    left : Unexplained, optional
        Where the images are fluxes; the targets are then asked of it, and of the embedding otherwise.
    objects : Ints, shape (n,), optional
        Which object each row shows.
    """
    if objects is None:
        objects = np.arange(len(anomaly))
    told("detectors")
    mine = EMBEDDING if left is None else UNEXPLAINED
    features = {EMBEDDING: standard(embedding), PIXELS: standard(pixels)}
    scores = {EMBEDDING: neighbour_distance(embedding), **baselines(pixels)}
    if left is not None:
        seen = np.abs(left.residual).clip(max=LOUDEST)
        features = {UNEXPLAINED: np.hstack([standard(seen), BESIDE * standard(embedding)]), **features}
        scores = {UNEXPLAINED: left.score, **scores}
    table = {
        name: {
            "recall_at_1_percent": _measured(recall_at, s, anomaly, objects),
            "auprc": _measured(_average_precision, s, anomaly, objects),
        }
        for name, s in scores.items()
    }
    told("a layer that knows every label")
    known = {
        CEILING: {"precision_100": _measured(_precision, ceiling(features[mine], anomaly), anomaly, objects)}
    }
    told("votes")
    after = _after_votes(features, {**scores, PIXELS: scores[FOREST]}, anomaly)
    return Section(
        title=f"Anomalies: {what}",
        method=_method(anomaly, left is not None),
        tables={"before any vote": table, "after votes": after, "with every label": known},
        targets=_targets(table, after, len(anomaly), mine),
        definitions=DEFINITIONS,
        remarks=() if len(anomaly) >= ENOUGH else (f"The pool is smaller than the {ENOUGH:,} aimed for.",),
    )


def _after_votes(
    features: Mapping[str, Floats], scores: Mapping[str, Floats], anomaly: Bools
) -> dict[str, dict[str, Measured]]:
    votes = {
        name: [voted(seen, scores[name], anomaly, seed) for seed in range(SEEDS)]
        for name, seen in features.items()
    }
    return {
        f"{name}, after {count} votes": {
            "precision_100": _share([one[count][0] for one in runs], FIRST),
            "found": _share([one[count][1] for one in runs], int(anomaly.sum())),
        }
        for name, runs in votes.items()
        for count in VOTES
    }


def _method(anomaly: Bools, fluxes: bool) -> str:
    residuals = (
        f"{UNEXPLAINED.capitalize()}: residuals of each ring's structure given the light of all rings, and of the "
        "light given that of the inner rings, by a polynomial fitted to the pool itself; votes read them and the "
        "embedding. "
    )
    return (
        f"A pool of {len(anomaly):,} with {int(anomaly.sum())} anomalies that were not named to anyone. "
        f"Embedding: mean distance to the {NEIGHBOURS} nearest of the pool, whitened. {residuals if fluxes else ''}"
        f"Isolation forest of {TREES} trees and LOF with {LOF_NEIGHBOURS} neighbours on principal components of the "
        f"pixels. Votes: {ROUND} at a time, the highest first, then one logistic layer. {CEILING.capitalize()}: "
        f"{FOLDS} folds of the pool. Brackets: 95 % bootstrap over objects; of votes, whose "
        f"{SEEDS} seeds hardly differ, Wilson's interval of so many draws."
    )


def _average_precision(score: Floats, anomaly: Bools) -> float:
    return float(average_precision_score(anomaly, score)) if anomaly.any() else float("nan")


def _measured(
    metric: Callable[[Floats, Bools], float], score: Floats, anomaly: Bools, objects: Ints
) -> Measured:
    return measure(lambda rows: metric(score[rows], anomaly[rows]), objects, 0, RESAMPLES)


def _share(values: list[float], of: int) -> Measured:
    """Mean of shares over seeds, and the interval that so many draws leave (Wilson 1927, JASA 22, 209)."""
    share = float(np.mean(values))
    middle, width = (
        share + NORMAL**2 / 2 / of,
        NORMAL * np.sqrt((share * (1 - share) + NORMAL**2 / 4 / of) / of),
    )
    low, high = ((middle + sign * width) / (1 + NORMAL**2 / of) for sign in (-1, 1))
    return Measured(value=share, low=max(0.0, float(low)), high=min(1.0, float(high)), n=of)


def _targets(
    table: Mapping[str, Mapping[str, Measured]],
    after: Mapping[str, Mapping[str, Measured]],
    count: int,
    asked: str,
) -> tuple[Target, ...]:
    mine, forest = (table[name]["recall_at_1_percent"].value for name in (asked, FOREST))
    precision = after[f"{asked}, after {VOTES[-1]} votes"]["precision_100"].value
    enough = count >= ENOUGH
    return (
        Target(
            text=(
                f"{asked}: recall at 1 % at least {FACTOR} times the isolation forest's, or {RECALL}, in {ENOUGH:,} or "
                "more"
            ),
            reached=enough and (mine >= RECALL or mine >= FACTOR * forest > 0),
            found=f"{mine:.3f}, isolation forest {forest:.3f}",
        ),
        Target(
            text=f"{asked}: precision among the first {FIRST} at least {PRECISION} after {VOTES[-1]} votes",
            reached=enough and precision >= PRECISION,
            found=f"{precision:.3f}",
        ),
    )
