"""Two models on the same simulated alerts, which neither was trained on: is the new one as good, and where not.

Every metric of the model card, of both, and the difference with its interval over resampled objects (the same draws
for both). Both models are run as the broker runs them, from their ONNX files.

    encoder simulate --output runs/unseen --count 4000 --visits 2 --seed 9
    git show HEAD~1:broker/models/default.onnx > before.onnx
    python benchmarks/models.py before.onnx broker/models/default.onnx --data runs/unseen --json compared.json
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
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
from encoder.evaluate import DEFINITIONS, Measured, measure
from encoder.evaluation.result import Evaluation, Section, Source, digest_of
from encoder.fit import Labelled
from encoder.scores import (
    Metric,
    Metrics,
    anomaly_metrics,
    calibration_metrics,
    class_metrics,
    recall_metrics,
    redshift_metrics,
)

CHUNK = 256
"""Alerts laid at a time."""

RECALL = "share of the alerts of this class whose most probable class it is"

METHOD = (
    "Both models run as the broker runs them, on the same {rows:,} simulated alerts of {objects:,} objects, on which "
    "neither may have been trained. Brackets: 95 % of {resamples} draws of objects, the same draws for both, so that "
    "the difference is of pairs. One training run each: the spread between runs is not in them."
)

Outputs: TypeAlias = Mapping[str, NDArray[np.float32]]
Asked: TypeAlias = dict[str, tuple[NDArray[np.int64], Metrics]]
"""By table: which alerts it is about, and its metrics over these."""


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


def metrics_of(model: Model, alerts: Labelled) -> Asked:
    """Give every metric of the card that needs no other network."""
    contract, lit = model.contract, outputs_of(model, alerts)
    dark = outputs_of(model, alerts, dark=True)
    return {
        **dict(_morphology(contract, alerts, lit)),
        **dict(_redshift(contract, alerts, lit, "")),
        **dict(_redshift(contract, alerts, dark, ", photometry withheld")),
        **dict(_anomaly(contract, alerts, lit)),
    }


Answer: TypeAlias = Iterator[tuple[str, tuple[NDArray[np.int64], Metrics]]]


def _morphology(contract: ModelContract, alerts: Labelled, outputs: Outputs) -> Answer:
    rows = np.flatnonzero(alerts.label.numpy() >= 0)
    truth, probability = alerts.label.numpy()[rows], outputs["morphology"][rows].astype(np.float64)
    guess = probability.argmax(axis=1)
    yield "morphology", (rows, class_metrics(truth, guess) | calibration_metrics(truth, probability))
    yield "recall", (rows, recall_metrics(truth, guess, contract.morphology_classes))


def _redshift(contract: ModelContract, alerts: Labelled, outputs: Outputs, how: str) -> Answer:
    redshift, survey = alerts.redshift.numpy(), alerts.boxes.survey.numpy()
    for index, one in enumerate(SURVEYS):
        rows = np.flatnonzero((redshift < contract.z_max) & (survey == index))
        pdf = outputs["photoz_pdf"][rows].astype(np.float64)
        metrics = redshift_metrics(redshift[rows].astype(float), pdf, contract.z_max)
        yield f"redshift, {one.value}{how}", (rows, metrics)


def _anomaly(contract: ModelContract, alerts: Labelled, outputs: Outputs) -> Answer:
    names = np.array(contract.morphology_classes)
    strange = np.append(names == ARTEFACT, False)[alerts.label.numpy()]  # -1, unknown, is the last
    survey = alerts.boxes.survey.numpy()
    for index, one in enumerate(SURVEYS):
        rows = np.flatnonzero(survey == index)
        for view in ("anomaly", *(view for view in ANOMALY_VIEWS if view in outputs)):
            score = outputs[view][rows].astype(np.float64)
            yield f"anomaly, {one.value}, {view}", (rows, anomaly_metrics(score, strange[rows]))


def compare(
    before: Asked, after: Asked, object_id: NDArray[Any], resamples: int, names: Sequence[str] = ()
) -> Section:
    """Measure both and their difference, over the same resampled objects; ``names`` say which models they are."""
    tables = {}
    for table in track([name for name in before if name in after], "measuring", transient=True):
        rows, old = before[table]
        if not np.array_equal(rows, after[table][0]):
            raise SystemExit(f"{table}: the models are asked about different alerts, their z_max differ")
        new, objects = after[table][1], object_id[rows]
        sides = {
            "before": old,
            "after": new,
            "after - before": {name: _gap(old[name], new[name]) for name in old},
        }
        tables[table] = {
            side: {name: measure(metric, objects, 1, resamples) for name, metric in metrics.items()}
            for side, metrics in sides.items()
        }
    defined = DEFINITIONS | dict.fromkeys(tables.get("recall", {}).get("before", {}), RECALL)
    words = METHOD.format(rows=len(object_id), objects=len(np.unique(object_id)), resamples=resamples)
    return Section(title="Two models", method=words, tables=tables, definitions=defined, remarks=tuple(names))


def _gap(one: Metric, other: Metric) -> Metric:
    return lambda rows: other(rows) - one(rows)


def show(section: Section, console: Console) -> None:
    """Print one line a metric; a star where the interval of the difference leaves out zero."""
    table = Table("", "metric", "before", "after", "after - before")
    for title, sides in section.tables.items():
        for metric in sides["before"]:
            old, new, gap = (sides[side][metric] for side in ("before", "after", "after - before"))
            table.add_row(title, metric, str(old), str(new), f"{gap}{' *' if _told_apart(gap) else ''}")
    for line in (section.method, *section.remarks):
        console.print(line)
    console.print(table)


def _told_apart(difference: Measured) -> bool:
    return difference.low > 0 or difference.high < 0


def main(
    before: Annotated[Path, typer.Argument(help="An ONNX file.")],
    after: Annotated[Path, typer.Argument(help="Another.")],
    data: Annotated[Path, typer.Option(help="Labelled shards that neither model was trained on.")],
    resamples: Annotated[int, typer.Option(min=10, help="Of the objects, for intervals.")] = 400,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every number there, as `encoder evaluate` does.")
    ] = None,
) -> None:
    """Compare two models on the same held-out simulation."""
    alerts, classes = load_labelled(data)
    models = [Model.load(path) for path in (before, after)]
    for path, model in zip((before, after), models, strict=True):
        if model.contract.morphology_classes != classes:
            raise SystemExit(f"{path} has classes {model.contract.morphology_classes}, {data} has {classes}")
    names = [
        f"{side}: {model.contract.name} {model.contract.version}, {model.contract.mmac:.1f} MMAC, weights "
        f"{model.contract.weights_digest[:12]}"
        for side, model in zip(("before", "after"), models, strict=True)
    ]
    asked = [metrics_of(model, alerts) for model in models]
    section = compare(*asked, alerts.object_id, resamples, names)
    show(section, Console(width=140))
    if json_file is not None:
        evaluation = Evaluation(
            encoder=after.name,
            weights_digest=models[1].contract.weights_digest,
            version=version("nightjar"),
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            sources=(Source(name=data.name, content="shards", rows=len(alerts), digest=digest_of(data)),),
            sections=(section,),
        )
        json_file.write_text(evaluation.model_dump_json(indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
