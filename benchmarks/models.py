"""Two models on the same simulated alerts, which neither was trained on: is the new one as good, and where not.

Every metric of the model card, of both, and the difference with its interval over resampled objects (the same draws
for both). Both models are run as the broker runs them, from their ONNX files.

    encoder simulate --output runs/unseen --count 4000 --visits 2 --seed 9
    git show HEAD~1:broker/models/default.onnx > before.onnx
    python benchmarks/models.py before.onnx broker/models/default.onnx --data runs/unseen
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from broker.alert import SURVEYS
from broker.contract import ANOMALY_VIEWS, INPUTS, ModelContract
from broker.inference import Model
from encoder.anomaly import ARTEFACT
from encoder.augment import as_served
from encoder.cli.labelled import load_labelled
from encoder.evaluate import Floats, Ints, Measured, measure
from encoder.fit import Labelled
from encoder.scores import (
    Metric,
    Metrics,
    anomaly_metrics,
    calibration,
    class_metrics,
    recall_metrics,
    redshift_metrics,
)

CHUNK = 256
"""Alerts laid at a time."""

DARK = "photometry withheld"

Outputs = Mapping[str, NDArray[np.float32]]
Named = dict[tuple[str, str], tuple[NDArray[np.int64], Metrics]]
"""By table and row: which alerts a row is about, and its metrics over these."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One metric of both models.

    Attributes
    ----------
    table, row, metric : str
    before, after : Measured
    difference : Measured
        After minus before.
    """

    table: str
    row: str
    metric: str
    before: Measured
    after: Measured
    difference: Measured

    @property
    def told_apart(self) -> bool:
        """Whether the interval of the difference leaves out zero."""
        return self.difference.low > 0 or self.difference.high < 0


def outputs_of(model: Model, alerts: Labelled, *, dark: bool = False) -> Outputs:
    """Run a model on every alert as the broker lays it, its photometry withheld if ``dark``."""
    found: list[Outputs] = []
    starts = range(0, len(alerts), CHUNK)
    for start in track(starts, f"{model.contract.name} {model.contract.version}", transient=True):
        laid = as_served(alerts.boxes[slice(start, start + CHUNK)], model.contract.grid.size)
        inputs = dict(zip(INPUTS, (one.numpy() for one in laid.network_inputs()), strict=True))
        if dark:
            inputs["photometry"] = np.full_like(inputs["photometry"], np.nan)
        found.append(model(inputs))
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def metrics_of(contract: ModelContract, alerts: Labelled, lit: Outputs, dark: Outputs) -> Named:
    """Every metric of the card that needs no other network."""
    named: Named = {}
    named |= dict(_morphology(contract, alerts, lit))
    for name, outputs in (("redshift", lit), (f"redshift, {DARK}", dark)):
        named |= dict(_redshift(contract, alerts, outputs, name))
    named |= dict(_anomaly(contract, alerts, lit))
    return named


Row = tuple[tuple[str, str], tuple[Ints, Metrics]]


def _morphology(contract: ModelContract, alerts: Labelled, outputs: Outputs) -> Iterator[Row]:
    rows = np.flatnonzero(alerts.label.numpy() >= 0)
    truth, probability = alerts.label.numpy()[rows], outputs["morphology"][rows].astype(np.float64)
    guess = probability.argmax(axis=1)
    metrics = class_metrics(truth, guess) | {"ece": calibration(truth, probability)}
    yield ("morphology", "all"), (rows, metrics)
    yield ("recall", "all"), (rows, recall_metrics(truth, guess, contract.morphology_classes))


def _redshift(contract: ModelContract, alerts: Labelled, outputs: Outputs, name: str) -> Iterator[Row]:
    redshift, survey = alerts.redshift.numpy(), alerts.boxes.survey.numpy()
    for index, one in enumerate(SURVEYS):
        rows = np.flatnonzero((redshift < contract.z_max) & (survey == index))
        pdf = outputs["redshift"][rows].astype(np.float64)
        yield (name, one.value), (rows, redshift_metrics(redshift[rows].astype(float), pdf, contract.z_max))


def _anomaly(contract: ModelContract, alerts: Labelled, outputs: Outputs) -> Iterator[Row]:
    strange = alerts.label.numpy() == contract.morphology_classes.index(ARTEFACT)
    survey = alerts.boxes.survey.numpy()
    for index, one in enumerate(SURVEYS):
        rows = np.flatnonzero(survey == index)
        for view in ("anomaly", *(view for view in ANOMALY_VIEWS if view in outputs)):
            score: Floats = outputs[view][rows].astype(np.float64)
            yield ("anomaly", f"{one.value}, {view}"), (rows, anomaly_metrics(score, strange[rows]))


def compare(before: Named, after: Named, object_id: NDArray[Any], resamples: int) -> list[Compared]:
    """Measure both and their difference, over the same resampled objects."""
    found = []
    pairs = [(key, name) for key in before if key in after for name in before[key][1]]
    for (table, row), name in track(pairs, "measuring", transient=True):
        rows, old = before[table, row]
        one, other = old[name], after[table, row][1][name]
        objects = object_id[rows]
        numbers = (measure(metric, objects, 1, resamples) for metric in (one, other, _gap(one, other)))
        found.append(Compared(table, row, name, *numbers))
    return found


def _gap(one: Metric, other: Metric) -> Callable[[Ints], float]:
    return lambda rows: other(rows) - one(rows)


def show(compared: list[Compared], console: Console) -> None:
    """Print one line a metric; a star where the interval of the difference leaves out zero."""
    table = Table("", "metric", "before", "after", "difference")
    for one in compared:
        mark = " *" if one.told_apart else ""
        table.add_row(
            f"{one.table}, {one.row}", one.metric, str(one.before), str(one.after), f"{one.difference}{mark}"
        )
    console.print(table)


def main(
    before: Annotated[Path, typer.Argument(help="An ONNX file.")],
    after: Annotated[Path, typer.Argument(help="Another.")],
    data: Annotated[Path, typer.Option(help="Labelled shards that neither model was trained on.")],
    resamples: Annotated[int, typer.Option(min=10, help="Of the objects, for intervals.")] = 400,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write every number there.")] = None,
) -> None:
    """Compare two models on the same held-out simulation."""
    torch.set_num_threads(2)
    alerts, classes = load_labelled(data)
    named = []
    for path in (before, after):
        model = Model.load(path)
        if model.contract.morphology_classes != classes:
            raise SystemExit(
                f"{path} knows the classes {model.contract.morphology_classes}, {data} has {classes}"
            )
        named.append(
            metrics_of(
                model.contract, alerts, outputs_of(model, alerts), outputs_of(model, alerts, dark=True)
            )
        )
    compared = compare(named[0], named[1], alerts.object_id, resamples)
    console = Console(width=140)
    console.print(f"{len(alerts)} alerts of {len(np.unique(alerts.object_id))} objects, all simulated")
    show(compared, console)
    if json_out is not None:
        json_out.write_text(json.dumps([_plain(one) for one in compared], indent=1) + "\n")


def _plain(one: Compared) -> dict[str, Any]:
    return {
        name: value.model_dump() if isinstance(value, Measured) else value
        for name, value in asdict(one).items()
    }


if __name__ == "__main__":
    typer.run(main)
