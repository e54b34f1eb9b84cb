"""Real alerts: what a linear probe reads off the embedding, and how the model's own outputs do."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from broker.errors import SettingsError
from encoder.evaluate import DEFINITIONS, Floats, Measured, auc, measure, scaled_errors, sigma_mad
from encoder.evaluation.plain import plain_features
from encoder.evaluation.result import Section, Target
from encoder.labels import whole_id

Bools = NDArray[np.bool_]

FOLDS, INNER_FOLDS, SEEDS, RESAMPLES = 10, 5, 3, 1000
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse regularisation among which each training fold chooses, by folds of its own."""

NEAREST = 1.5
"""Arcsec: farther, and the catalogue's nearest source is not what the alert is."""

STAR, GALAXY = 0.8, 0.2
"""Star/galaxy score of Tachibana and Miller 2018 (PASP 130, 128001) beyond which it is taken as a label."""

REAL, BOGUS = 0.9, 0.2
"""braai's score (Duev et al. 2019, MNRAS 489, 3582) beyond which it is taken as a label."""

FEWEST = 20
"""Alerts of a class below which a probe says nothing."""

PROBE, WITH_OUTPUTS = "probe on the embedding", "probe on embedding and outputs"
ID_COLUMNS = ("candid", "alert_id", "diaSourceId")
TINY = 1e-6
"""Probability below which differences are rounding."""

SCORE = {
    "auc": "area under the ROC curve: probability that one of the first class scores above one of the second",
    "coverage_68": DEFINITIONS["coverage_68"],
    "sigma_mad": DEFINITIONS["sigma_mad"],
}


@dataclass(frozen=True, slots=True)
class Question:
    """Two classes by columns of the label file.

    Attributes
    ----------
    name : str
    columns : tuple of str
        Which it needs.
    first, second : str
        Class whose score is high, and the other.
    output : str
        The model's own probability that answers it.
    sign : float
        -1 where that probability is the second class's.
    target : float
        Area that is aimed for.
    """

    name: str
    columns: tuple[str, ...]
    first: str
    second: str
    output: str
    sign: float
    target: float

    def classes(self, labels: Mapping[str, Floats]) -> tuple[Bools, Bools]:
        """Rows of the first and of the second class."""
        if self.name == "star/galaxy":
            near = labels["distpsnr1"] < NEAREST
            score = labels["sgscore1"]
            return near & (score > STAR), near & (score >= 0) & (score < GALAXY)  # -999 is unknown
        return labels["drb"] > REAL, labels["drb"] < BOGUS


QUESTIONS = (
    Question(
        "real/bogus",
        ("drb",),
        f"real (drb > {REAL})",
        f"bogus (drb < {BOGUS})",
        "p_bogus",
        -1.0,
        0.97,
    ),
    Question(
        "star/galaxy",
        ("sgscore1", "distpsnr1"),
        f"star (sgscore1 > {STAR} within {NEAREST} arcsec)",
        f"galaxy (sgscore1 < {GALAXY})",
        "p_star",
        1.0,
        0.95,
    ),
)


def read_columns(path: Path) -> dict[int, dict[str, str]]:
    """Rows of a CSV by alert id, every column as it stands.

    Raises
    ------
    SettingsError
        No such file, no column of ids, an id that is missing, no whole number or there twice, or a row with more
        fields than there are columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            names = rows.fieldnames or ()
            key = next((name for name in ID_COLUMNS if name in names), None)
            if key is None:
                raise SettingsError(
                    f"{path} has the columns {', '.join(names)}: wanted one of {', '.join(ID_COLUMNS)}"
                )
            return _by_id(path, rows, key)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"{path} cannot be read as labels by alert id: {error}") from error


def _by_id(path: Path, rows: "csv.DictReader[str]", key: str) -> dict[int, dict[str, str]]:
    known: dict[int, dict[str, str]] = {}
    for row in rows:
        where = f"{path} line {rows.line_num}"
        if None in row:  # where csv puts the fields beyond the last column
            raise SettingsError(
                f"{where} has more than the {len(rows.fieldnames or ())} fields of the first line: take the last comma "
                "away, or put what holds one in quotes"
            )
        alert_id = whole_id(where, row[key] or "")
        if alert_id in known:
            raise SettingsError(f"{where}: alert {alert_id} has a row above already: keep one")
        known[alert_id] = row
    return known


def numbers(rows: Sequence[Mapping[str, str]], column: str) -> Floats:
    """One column as numbers; NaN where there is none."""
    return np.array([_number(row.get(column)) for row in rows], np.float64)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def evaluate_alerts(rows: Sequence[Mapping[str, Any]], known: Mapping[int, Mapping[str, str]]) -> Section:
    """Measure every question that the label file has the columns for.

    Parameters
    ----------
    rows : sequence of mapping
        Of `encoder.features.alert_row`: ids, embedding, outputs; with those of `encoder.evaluation.plain.plain_row`,
        baselines stand beside.
    known : mapping
        Of `read_columns`.

    Returns
    -------
    Section

    Raises
    ------
    SettingsError
        No alert has both an embedding and a label, or no column is known.
    """
    joined = [row for row in rows if row["embedding"] is not None and row["alert_id"] in known]
    if not joined:
        raise SettingsError(f"none of {len(rows)} alerts has a row in --labels: give their own labels")
    labels = [known[row["alert_id"]] for row in joined]
    columns = {name: numbers(labels, name) for name in labels[0]}
    tables, targets, remarks = {}, [], []
    for question in QUESTIONS:
        if not set(question.columns) <= set(columns):
            remarks.append(f"No {question.name}: the labels lack {', '.join(question.columns)}.")
            continue
        first, second = question.classes(columns)
        if min(first.sum(), second.sum()) < FEWEST:
            remarks.append(
                f"No {question.name}: {first.sum()} and {second.sum()} alerts, wanted {FEWEST} of each."
            )
            continue
        table = _ask(question, joined, first, second)
        counts = f"{first.sum()} against {second.sum()}"
        tables[f"{question.name}: {question.first} against {question.second}, {counts}"] = table
        # The aim is asked of one method that is named beforehand, not of the best on what is tested.
        asked = WITH_OUTPUTS if WITH_OUTPUTS in table else PROBE
        area = table[asked]["auc"]
        targets.append(
            Target(
                text=f"{question.name}: AUC at least {question.target}, {asked}",
                reached=area.value >= question.target,
                found=str(area),
            )
        )
    redshift = _redshift(joined, columns.get("spec_z", columns.get("redshift")))
    if redshift:
        tables["redshift of alerts with a spectrum"] = redshift
    if not tables:
        raise SettingsError(
            f"nothing can be measured by --labels, which has {', '.join(columns)} (wanted are drb, or sgscore1 and "
            f"distpsnr1, or spec_z), on {len(joined)} alerts: {' '.join(remarks) or f'fewer than {FEWEST} spectra'}"
        )
    return Section(
        title="Real alerts",
        method=(
            f"{len(joined)} alerts with labels. Probes: logistic regression on the frozen embedding, "
            f"{FOLDS}-fold cross-validation grouped by object, strength chosen in {INNER_FOLDS} folds of each training "
            f"part alone; scores are means over {SEEDS} divisions into folds. Brackets: 95 % bootstrap over objects. "
            "The labels are scores of other classifiers, not of people."
        ),
        tables=tables,
        targets=tuple(targets),
        definitions=SCORE,
        remarks=tuple(remarks),
    )


def _ask(
    question: Question, rows: Sequence[Mapping[str, Any]], first: Bools, second: Bools
) -> dict[str, dict[str, Measured]]:
    chosen = [int(i) for i in np.flatnonzero(first | second)]
    truth = first[chosen]
    groups = np.array([rows[i]["object_id"] for i in chosen])
    embedding = np.array([rows[i]["embedding"] for i in chosen], np.float64)
    scores = {PROBE: probe(embedding, truth, groups)}
    outputs = sorted(name for name in rows[0] if name.startswith("p_"))
    if outputs:
        said = np.log(np.array([[rows[i][name] for name in outputs] for i in chosen], np.float64) + TINY)
        scores[WITH_OUTPUTS] = probe(np.hstack([embedding, said]), truth, groups)
        scores[f"the model's own {question.output}, no label used"] = (
            question.sign * said[:, outputs.index(question.output)]
        )
    for name, plain in plain_features([rows[i] for i in chosen]).items():
        scores[name] = probe(plain, truth, groups)
    return {name: {"auc": _area(score, truth, groups)} for name, score in scores.items()}


def _area(score: Floats, truth: Bools, groups: NDArray[np.str_]) -> Measured:
    return measure(
        lambda rows: auc(score[rows][truth[rows]], score[rows][~truth[rows]]), groups, 0, RESAMPLES
    )


def probe(x: Floats, truth: Bools, groups: NDArray[Any]) -> Floats:
    """Score each row by a linear probe that has seen neither it nor its object.

    Parameters
    ----------
    x : Floats, shape (n, d)
    truth : Bools, shape (n,)
    groups : ndarray, shape (n,)
        Object of each row.

    Returns
    -------
    Floats, shape (n,)
        Log odds, which folds share a scale of as probabilities of rare classes do not; mean over `SEEDS` divisions.
    """
    total = np.zeros(len(truth))
    for seed in range(SEEDS):
        outer = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
        for train, test in outer.split(x, truth, groups):
            search = GridSearchCV(
                make_pipeline(
                    StandardScaler(), LogisticRegression(max_iter=5000, class_weight="balanced", tol=1e-3)
                ),
                {"logisticregression__C": STRENGTHS},
                scoring="roc_auc",
                cv=StratifiedGroupKFold(INNER_FOLDS, shuffle=True, random_state=seed),
            )
            search.fit(x[train], truth[train], groups=groups[train])
            total[test] += search.decision_function(x[test])
    return total / SEEDS


def _redshift(
    rows: Sequence[Mapping[str, Any]], spectroscopic: Floats | None
) -> dict[str, dict[str, Measured]]:
    if spectroscopic is None:
        return {}
    kept = [
        i for i, z in enumerate(spectroscopic) if np.isfinite(z) and rows[i].get("redshift_low") is not None
    ]
    if len(kept) < FEWEST:
        return {}
    truth = spectroscopic[kept]
    low, high, point = (
        np.array([rows[i][name] for i in kept], np.float64)
        for name in ("redshift_low", "redshift_high", "redshift")
    )
    groups = np.array([rows[i]["object_id"] for i in kept])
    inside = (low <= truth) & (truth <= high)
    errors = scaled_errors(truth, point)
    return {
        "the model's redshift": {
            "coverage_68": measure(lambda some: float(inside[some].mean()), groups, 0, RESAMPLES),
            "sigma_mad": measure(lambda some: sigma_mad(errors[some]), groups, 0, RESAMPLES),
        }
    }
