"""Photometric redshifts: densities against gradient boosting with quantiles, on the same rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold, cross_val_score

from broker.errors import SettingsError
from encoder.density import Density, DensityConfig, Inputs, levels_of, recalibrated, transform
from encoder.evaluate import Floats, Ints, Measured, crps, measure, scaled_errors, sigma_mad
from encoder.evaluation.catalogue import Catalogue
from encoder.evaluation.result import Curve, Section, Target

NUMBERS = (500, 1000, 2000, 4000, 8000)
FOLDS = 5
RESAMPLES = 200
QUANTILES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
SETTINGS: tuple[dict[str, float], ...] = (
    {"learning_rate": 0.06, "max_leaf_nodes": 31},
    {"learning_rate": 0.06, "max_leaf_nodes": 8, "min_samples_leaf": 10},
    {"learning_rate": 0.15, "max_leaf_nodes": 16},
    {"learning_rate": 0.06, "max_leaf_nodes": 16, "l2_regularization": 10.0},
)
"""Of boosting, among which it chooses on its own rows."""

TUNING_FOLDS = 3
ITERATIONS = 500
"""Trees of boosting at most; it stops early by rows it keeps apart."""

OURS, BOOSTING = "density network", "boosting with quantiles"
SEEING = "density network, with images"
PIT_TARGET = 0.03
ENOUGH = 10_000
"""Rows below which the Kolmogorov-Smirnov distance of the transform scatters by itself."""

DEFINITIONS = {
    "sigma_mad": "1.4826 median(|dz - median dz|), dz = (z_phot - z_true) / (1 + z_true), z_phot the PDF's median",
    "bias_mean": "mean of dz",
    "bias_median": "median of dz",
    "outliers_0.05": "share with |dz| > 0.05",
    "outliers_0.15": "share with |dz| > 0.15",
    "crps": "continuous ranked probability score, integral over z of (CDF - step at z_true)^2; mean",
    "cde_loss": "conditional density estimation loss: mean of the integral of p^2 minus twice p(z_true); its constant "
    "is left out, lower is better (Izbicki and Lee 2017, EJS 11, 2800)",
    "pit_ks": "Kolmogorov-Smirnov distance of the probability integral transforms from evenness",
    "difference": "the network's minus boosting's, same rows (paired bootstrap): below 0 the network is better",
}


@dataclass(frozen=True, slots=True)
class Scored:
    """Rows of one method and number, each seen by a fit that was not trained on it.

    Attributes
    ----------
    error : Floats, shape (n,)
        Scaled redshift error.
    crps, cde, pit : Floats, shape (n,)
    """

    error: Floats
    crps: Floats
    cde: Floats
    pit: Floats

    @classmethod
    def of(cls, truth: Floats, pdf: Floats, edges: Floats) -> "Scored":
        """Score densities (n, bins)."""
        width = np.diff(edges)
        place = np.clip(np.searchsorted(edges, truth, side="right") - 1, 0, len(width) - 1)
        density = pdf / width
        cde = (pdf * density).sum(1) - 2 * density[np.arange(len(truth)), place]
        return cls(
            scaled_errors(truth, median(pdf, edges)),
            crps(truth, pdf, edges),
            cde,
            transform(pdf, edges, truth),
        )

    @classmethod
    def joined(cls, parts: "Sequence[Scored]") -> "Scored":
        """Put folds together."""
        return cls(
            *(np.concatenate([getattr(p, name) for p in parts]) for name in ("error", "crps", "cde", "pit"))
        )


METRICS: dict[str, Callable[[Scored, Ints], float]] = {
    "sigma_mad": lambda s, rows: sigma_mad(s.error[rows]),
    "bias_mean": lambda s, rows: float(s.error[rows].mean()),
    "bias_median": lambda s, rows: float(np.median(s.error[rows])),
    "outliers_0.05": lambda s, rows: float((np.abs(s.error[rows]) > 0.05).mean()),  # noqa: PLR2004 - its name
    "outliers_0.15": lambda s, rows: float((np.abs(s.error[rows]) > 0.15).mean()),  # noqa: PLR2004 - its name
    "crps": lambda s, rows: float(s.crps[rows].mean()),
    "cde_loss": lambda s, rows: float(s.cde[rows].mean()),
    "pit_ks": lambda s, rows: unevenness(s.pit[rows]),
}

COMPARED = ("sigma_mad", "outliers_0.15", "crps")


def median(pdf: Floats, edges: Floats) -> Floats:
    """Median (n,) of each row's binned PDF."""
    cdf = np.concatenate([np.zeros((len(pdf), 1)), np.cumsum(pdf, axis=1)], axis=1)
    return np.array([np.interp(0.5, row, edges) for row in cdf])


def unevenness(transforms: Floats) -> float:
    """Kolmogorov-Smirnov distance of values from an even distribution on (0, 1)."""
    ordered = np.sort(transforms)
    n = len(ordered)
    above = (np.arange(1, n + 1) / n - ordered).max()
    below = (ordered - np.arange(n) / n).max()
    return float(max(above, below))


def boosted(train: Floats, redshift: Floats, test: Floats, edges: Floats, seed: int) -> Floats:
    """Densities (n, bins) of gradient boosting: one model a quantile of ln(1 + z), crossings sorted.

    What the density network has, it has too: settings chosen on its own rows by cross-validation, and a calibration
    of its probability integral transform, on a fifth that the models behind it were not trained on.

    Parameters
    ----------
    train, test : Floats, shape (n, d)
        NaN where not detected, which the trees split on.
    redshift : Floats, shape (n,)
    edges : Floats, shape (bins + 1,)
    seed : int
    """
    place = np.log1p(redshift)
    setting = _chosen(train, place, seed)
    order = np.random.default_rng(seed).permutation(len(train))
    judge, learn = order[: len(order) // FOLDS], order[len(order) // FOLDS :]
    apart = _binned(_quantiles(train[learn], place[learn], train[judge], setting, seed), edges)
    levels = levels_of(transform(apart, edges, redshift[judge]))
    return recalibrated(_binned(_quantiles(train, place, test, setting, seed), edges), levels)


def _booster(quantile: float, setting: dict[str, float], seed: int) -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(
        loss="quantile",
        quantile=quantile,
        max_iter=ITERATIONS,
        early_stopping=True,
        random_state=seed,
        **setting,
    )


def _chosen(train: Floats, place: Floats, seed: int) -> dict[str, float]:
    """Choose the setting whose medians are nearest, by cross-validation."""
    folds = KFold(TUNING_FOLDS, shuffle=True, random_state=seed)
    losses = [
        -cross_val_score(
            _booster(0.5, setting, seed), train, place, cv=folds, scoring="neg_mean_absolute_error"
        ).mean()
        for setting in SETTINGS
    ]
    return SETTINGS[int(np.argmin(losses))]


def _quantiles(train: Floats, place: Floats, test: Floats, setting: dict[str, float], seed: int) -> Floats:
    """Quantiles (n, quantiles) of ln(1 + z), in order."""
    found = [_booster(q, setting, seed).fit(train, place).predict(test) for q in QUANTILES]
    return np.sort(np.stack(found, axis=1), axis=1)


def _binned(quantiles: Floats, edges: Floats) -> Floats:
    """Densities (n, bins): straight between quantiles of ln(1 + z)."""
    first, last = np.log1p(edges[[0, -1]])
    inside = quantiles.clip(first + 1e-6, last - 1e-6)
    levels = np.array([0.0, *QUANTILES, 1.0])
    # The tails go on as far again as the outermost quantiles lie from their neighbours.
    low = np.maximum(first, 2 * inside[:, :1] - inside[:, 1:2])
    high = np.minimum(last, 2 * inside[:, -1:] - inside[:, -2:-1])
    knots = np.maximum.accumulate(np.hstack([low, inside, high]), axis=1) + np.arange(len(levels)) * 1e-7
    at = np.log1p(edges)
    return np.stack([np.diff(np.interp(at, row, levels, left=0, right=1)) for row in knots])


def features(catalogue: Catalogue) -> Floats:
    """Magnitudes, colours of neighbouring bands and errors, shape (n, 3 bands - 1)."""
    colours = catalogue.magnitude[:, :-1] - catalogue.magnitude[:, 1:]
    return np.hstack([catalogue.magnitude, colours, catalogue.error])


def evaluate_catalogue(
    catalogue: Catalogue,
    what: str,
    told: Callable[[str], None],
    *,
    embedding: Floats | None = None,
    numbers: Sequence[int] = NUMBERS,
    config: DensityConfig | None = None,
) -> Section:
    """Compare on every row of a catalogue, each scored by fits that have not seen it.

    Parameters
    ----------
    catalogue : Catalogue
    what : str
        Its name.
    told : callable
        Told of each fit.
    embedding : Floats, shape (n, d), optional
        Of an image of each galaxy: a second network reads it beside the photometry.
    numbers : sequence of int
        Rows to train on; those that the catalogue does not allow are left out.
    config : DensityConfig, optional

    Raises
    ------
    SettingsError
        The catalogue is too small for any of them.
    """
    config = DensityConfig() if config is None else config
    fold = folds_of(catalogue.object_id, config.seed)
    kept = [n for n in numbers if n <= len(catalogue) * (FOLDS - 1) // FOLDS]
    if not kept:
        raise SettingsError(f"{len(catalogue)} rows: wanted at least {numbers[0] * FOLDS // (FOLDS - 1) + 1}")
    names = (OURS, BOOSTING) if embedding is None else (SEEING, OURS, BOOSTING)
    scored: dict[str, dict[int, Scored]] = {name: {} for name in names}
    for number in kept:
        parts: dict[str, list[Scored]] = {name: [] for name in names}
        for index in range(FOLDS):
            told(f"{number} rows, fold {index + 1} of {FOLDS}")
            for name, one in _fold(catalogue, embedding, fold == index, (index, number), config).items():
                parts[name].append(one)
        for name, some in parts.items():
            scored[name][number] = Scored.joined(some)
    order = np.concatenate([np.flatnonzero(fold == index) for index in range(FOLDS)])
    return _section(scored, what, catalogue.object_id[order])


def folds_of(object_id: Ints, seed: int) -> Ints:
    """Fold (n,) of each row; images of one galaxy share it."""
    _, galaxy = np.unique(object_id, return_inverse=True)
    return np.asarray(np.random.default_rng(seed).permutation(int(galaxy.max()) + 1)[galaxy] % FOLDS)


def _fold(
    catalogue: Catalogue,
    embedding: Floats | None,
    held: NDArray[np.bool_],
    draw: tuple[int, int],
    config: DensityConfig,
) -> dict[str, Scored]:
    index, number = draw
    test = np.flatnonzero(held)
    train = np.random.default_rng([config.seed, index]).permutation(np.flatnonzero(~held))[:number]
    truth, x = catalogue.redshift, features(catalogue)
    inputs = Inputs.of(catalogue.magnitude, catalogue.error, embedding)
    own = config.model_copy(update={"seed": config.seed + 100 * index})
    edges = Density(own).edges
    inside = truth[test].clip(edges[0] + 1e-6, edges[-1] - 1e-6)
    found = {BOOSTING: Scored.of(inside, boosted(x[train], truth[train], x[test], edges, index), edges)}
    density, asked = Density(own), _rows(inputs, test)
    density.fit(_rows(inputs, train), truth[train])
    found[OURS] = Scored.of(inside, density.pdf(asked.without_embedding()), edges)
    if embedding is not None:
        found[SEEING] = Scored.of(inside, density.pdf(asked), edges)
    return found


def _rows(inputs: Inputs, rows: Ints) -> Inputs:
    return inputs[torch.from_numpy(rows)]


def _section(scored: dict[str, dict[int, Scored]], what: str, objects: Ints) -> Section:
    count = len(objects)
    table = {
        f"{name}, N = {number}": {
            metric: measure(_metric(metric, one), objects, 0, RESAMPLES) for metric in METRICS
        }
        for name, by_number in scored.items()
        for number, one in by_number.items()
    }
    gaps: dict[str, dict[str, Measured]] = {}
    best = next(iter(scored))
    for number, ours in scored[best].items():
        other = scored[BOOSTING][number]
        gaps[f"N = {number}"] = {
            metric: measure(_gap(metric, ours, other), objects, 0, RESAMPLES) for metric in COMPARED
        }
    curves = {
        metric: {name: _curve(table, name, by_number, metric) for name, by_number in scored.items()}
        for metric in COMPARED
    }
    return Section(
        title=f"Photometric redshifts: {what}",
        method=(
            f"{count} galaxies in {FOLDS} folds: each is scored by fits on N rows drawn from the other folds, so every "
            "number rests on all of them. The network: members, calibration and settings as `encoder.density` has "
            "them, the same for every file (they were chosen on draws of DC2). Boosting: one "
            f"HistGradientBoostingRegressor for each of {len(QUANTILES)} quantiles of ln(1 + z), on magnitudes, "
            f"colours and errors of the same rows, early stopping, one of {len(SETTINGS)} settings chosen by "
            f"{TUNING_FOLDS}-fold cross-validation of these rows, calibrated like the network. Brackets: 95 % "
            "bootstrap over galaxies; the scatter between draws of rows is in the folds, not in the brackets."
        ),
        tables={"by number of rows": table, f"difference, {best} minus {BOOSTING}": gaps},
        curves=curves,
        targets=_targets(table, gaps, count, best),
        definitions=DEFINITIONS,
    )


def _targets(
    table: dict[str, dict[str, Measured]], gaps: dict[str, dict[str, Measured]], count: int, best: str
) -> tuple[Target, ...]:
    better = {metric: [name for name, row in gaps.items() if row[metric].value > 0] for metric in COMPARED}
    worst = max(row["pit_ks"].value for name, row in table.items() if name.startswith(f"{best},"))
    return (
        *(
            Target(
                text=f"{metric} not worse than boosting at every N",
                reached=not worse,
                found=f"worse at {', '.join(worse)}" if worse else "better at every N",
            )
            for metric, worse in better.items()
        ),
        Target(
            text=f"PIT-KS at most {PIT_TARGET}, on at least {ENOUGH:,} galaxies",
            reached=worst <= PIT_TARGET and count >= ENOUGH,
            found=f"at most {worst:.3f} on {count:,}",
        ),
    )


def _metric(name: str, scored: Scored) -> Callable[[Ints], float]:
    return lambda rows: METRICS[name](scored, rows)


def _gap(name: str, ours: Scored, other: Scored) -> Callable[[Ints], float]:
    return lambda rows: METRICS[name](ours, rows) - METRICS[name](other, rows)


def _curve(
    table: dict[str, dict[str, Measured]], name: str, by_number: dict[int, Scored], metric: str
) -> Curve:
    found = [table[f"{name}, N = {number}"][metric] for number in by_number]
    return Curve(
        labels=tuple(by_number),
        mean=tuple(one.value for one in found),
        low=tuple(one.low for one in found),
        high=tuple(one.high for one in found),
    )
