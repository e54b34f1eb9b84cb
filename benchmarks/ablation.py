"""What each part of the recipe brings: short pretraining runs that differ in one thing, beside the recipe itself.

Every run sees the same alerts in the same order for the same number of epochs, with one seed. The frozen encoder is
then read by probes on objects that no training saw: morphology from few labels, redshift with the packet's photometry.
With --real, shards of real alerts (`encoder ingest`), and --labels, their scores (`encoder evaluate`), probes on the
sky stand beside those on simulation. Brackets: 95 % bootstrap over objects, of differences paired with the recipe's.
What was run before is not run again: delete a folder to have it anew.

    python benchmarks/ablation.py --data shards --output runs/ablation
    python benchmarks/ablation.py --data shards --output runs/ablation --only recipe --only hybrid --epochs 2
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from broker.alert import ROLES
from broker.contract import COMMON_GRID
from encoder.alert_task import new_moco, pretrain
from encoder.archive import load_shards
from encoder.backbone import Encoder
from encoder.boxes import Boxes
from encoder.config import PretrainConfig
from encoder.evaluate import Floats, Measured, auc, measure, scaled_errors, sigma_mad
from encoder.evaluation import efficiency
from encoder.evaluation.efficiency import mean_f1
from encoder.evaluation.page import page
from encoder.evaluation.probes import QUESTIONS, numbers, probe, read_columns
from encoder.evaluation.result import Evaluation, Section, Source, digest_of
from encoder.evaluation.simulated import SimulatedAlerts, described, encoder_of
from encoder.heads import PhotometryFeatures

Options: TypeAlias = Mapping[str, Any]

RECIPE = "recipe"
VARIATIONS: dict[str, Options] = {
    RECIPE: {},
    "random weights": {"epochs": 0},
    "no rotation": {"views": {"rotation": False}},
    "no jitter": {"views": {"jitter": 0.0}},
    "no size scaling": {"views": {"size_scaling": (1.0, 1.0)}},
    "no blur": {"views": {"blur_probability": 0.0}},
    "no noise": {"views": {"noise_probability": 0.0}},
    "no reddening": {"views": {"reddening_probability": 0.0}},
    "no other visits": {"views": {"other_visits": False}},
    "role dropout 0.2": {"views": {"role_dropout": 0.2}},
    "no side task": {"auxiliary_weight": 0.0},
    "no spread": {"spread_weight": 0.0},
    "temperature 0.1": {"temperature": 0.1},
    "temperature 0.4": {"temperature": 0.4},
    "queue 512": {"queue": 512},
    "hybrid": {"label_weight": 1.0},
    "two blocks a stage": {"network": {"blocks": 2}},
    "half the width": {"network": {"widths": (16, 32, 64)}},
    "grid of 24": {"network": {"size": 24}},
    "grid of 48, thinner": {"network": {"size": 48, "widths": (24, 48, 96)}},
    "embedding of 128": {"network": {"embedding_size": 128}},
    "recipe, another seed": {"seed": 1},
    "hybrid, another seed": {"label_weight": 1.0, "seed": 1},
}
"""What differs from the default recipe."""

LABELS, SEEDS, RESAMPLES = (200, 1000), 3, 1000
CHUNK = 256
Z_MAX = 2.0
STRENGTHS = tuple(10.0**power for power in range(-1, 5))


class Row(BaseModel):
    """One run and its scores; see the module."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    recipe: str = ""
    options: dict[str, Any]
    epochs: int
    seconds: float
    mmac: float
    rank_me: float
    scores: dict[str, Measured]
    against_recipe: dict[str, Measured] = {}


class Bench:
    """Simulated alerts, split once for all runs, and real ones.

    Parameters
    ----------
    data : Path
        Folder of shards.
    real, labels : Path or None
    """

    def __init__(self, data: Path, real: Path | None, labels: Path | None) -> None:
        self.alerts = SimulatedAlerts(data, PretrainConfig())
        self.seen = torch.from_numpy(~self.alerts.held_out)
        photometry = PhotometryFeatures()(self.alerts.boxes.photometry)
        self._photometry = np.asarray(photometry.numpy(), np.float64)
        self._real = Sky(real, labels) if real and labels else None

    def scores(self, encoder: Encoder, size: int) -> tuple[dict[str, Measured], dict[str, NDArray[Any]]]:
        """Read a frozen encoder by every probe: scores, and predictions to pair runs by."""
        features, _ = described(encoder, self.alerts.boxes, size)
        scores, said = self._morphology(features)
        for name, (score, errors) in self._redshift(features).items():
            scores[name], said[name] = score, errors
        if self._real:
            scores |= self._real.scores(encoder, size)
        return scores, said

    def differences(self, said: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Measured]:
        """First minus second on the same held-out alerts: paired bootstrap over objects."""
        truth, objects = (
            self.alerts.split.label[self.alerts.split.test],
            self.alerts.object_id[self.alerts.split.test],
        )
        found = {}
        for name in (f"macro_f1 {number}" for number in LABELS):
            mine, theirs = said[name], other[name]
            found[name] = measure(
                lambda rows, a=mine, b=theirs: mean_f1(truth, a)(rows) - mean_f1(truth, b)(rows),
                objects,
                0,
                RESAMPLES,
            )
        for name in ("sigma_mad lsst", "sigma_mad ztf"):
            mine, theirs = said[name], other[name]
            objects = self.alerts.object_id[self._tested(name)]
            found[name] = measure(
                lambda rows, a=mine, b=theirs: sigma_mad(a[rows]) - sigma_mad(b[rows]), objects, 0, RESAMPLES
            )
        return found

    def _morphology(
        self, features: NDArray[np.float32]
    ) -> tuple[dict[str, Measured], dict[str, NDArray[Any]]]:
        fit, split = efficiency.linear(features, self.alerts.split), self.alerts.split
        truth, objects = split.label[split.test], self.alerts.object_id[split.test]
        scores, said = {}, {}
        for number in LABELS:
            seen = np.array([fit(split.draw(number, seed), seed) for seed in range(SEEDS)])
            said[f"macro_f1 {number}"] = seen
            scores[f"macro_f1 {number}"] = measure(mean_f1(truth, seen), objects, 0, RESAMPLES)
        return scores, said

    def _tested(self, name: str) -> NDArray[np.int64]:
        survey = self.alerts.boxes.survey.numpy() == ("lsst", "ztf").index(name.rsplit(maxsplit=1)[-1])
        return np.flatnonzero(self.alerts.held_out & survey & self._with_redshift())

    def _with_redshift(self) -> NDArray[np.bool_]:
        return np.isfinite(self.alerts.redshift) & (self.alerts.redshift < Z_MAX)

    def _redshift(self, features: NDArray[np.float32]) -> dict[str, tuple[Measured, Floats]]:
        x = StandardScaler().fit_transform(np.hstack([features, self._photometry]))
        found = {}
        for name in ("sigma_mad lsst", "sigma_mad ztf"):
            test = self._tested(name)
            survey = self.alerts.boxes.survey.numpy() == self.alerts.boxes.survey.numpy()[test[0]]
            train = np.flatnonzero(~self.alerts.held_out & survey & self._with_redshift())
            fitted = RidgeCV(STRENGTHS).fit(x[train], np.log1p(self.alerts.redshift[train]))
            errors = scaled_errors(self.alerts.redshift[test], np.expm1(fitted.predict(x[test])))
            found[name] = (
                measure(lambda rows, e=errors: sigma_mad(e[rows]), self.alerts.object_id[test], 0, RESAMPLES),
                errors,
            )
        return found


class Sky:
    """Real alerts and what is known of them."""

    def __init__(self, real: Path, labels: Path) -> None:
        shard, known = load_shards(sorted(real.glob("*.npz"))), read_columns(labels)
        rows = np.array([int(one) in known for one in shard.alert_id])
        self._boxes = Boxes.of(shard, COMMON_GRID)[torch.from_numpy(rows)]
        self._object_id = shard.object_id[rows]
        told = [known[int(one)] for one in shard.alert_id[rows]]
        self._columns = {name: numbers(told, name) for name in told[0]}

    def scores(self, encoder: Encoder, size: int) -> dict[str, Measured]:
        """Area under the curve of the probes of `encoder evaluate` on the embedding."""
        _, embedding = described(encoder, self._boxes, size)
        found = {}
        for question in QUESTIONS:
            first, second = question.classes(self._columns)
            rows = np.flatnonzero(first | second)
            truth, objects = first[rows], self._object_id[rows]
            score = probe(embedding[rows].astype(np.float64), truth, objects)
            found[f"auc {question.name}"] = measure(
                lambda some, s=score, t=truth: auc(s[some][t[some]], s[some][~t[some]]), objects, 0, RESAMPLES
            )
        return found


def mmac(config: PretrainConfig) -> float:
    """Million multiply-accumulates of the encoder, for one alert in one band."""
    count = [0]

    def add(layer: nn.Module, _: Any, output: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            count[0] += output.numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.Linear):
            count[0] += output.numel() * layer.in_features

    encoder = encoder_of(new_moco(config))
    for layer in encoder.modules():
        layer.register_forward_hook(add)
    side = config.network.size
    stamps = torch.zeros(1, 1, len(ROLES), side, side)
    encoder(stamps, stamps, torch.ones(1, 1, len(ROLES)), torch.zeros(1, 1, dtype=torch.int64))
    return count[0] / 1e6


def run(name: str, bench: Bench, output: Path, epochs: int, console: Console) -> Row:
    """Pretrain one variation and score it; what is there already is read.

    Parameters
    ----------
    name : str
        Of `VARIATIONS`.
    bench : Bench
    output : Path
        Folder of this run.
    epochs : int
    console : Console
    """
    options, trained, config = recipe_of(name, epochs)
    if trained:
        done = pretrain(
            config, bench.alerts.boxes[bench.seen], bench.alerts.label[bench.seen], output, console=console
        )
        encoder, last = encoder_of(done.moco), done.history[-1]
    else:
        encoder, last = encoder_of(new_moco(config)), {"seconds": 0.0, "rank_me": float("nan")}
    scores, said = bench.scores(encoder, config.network.size)
    output.mkdir(parents=True, exist_ok=True)
    np.savez(output / "said.npz", **said)
    row = Row(
        name=name,
        recipe=config.digest(),
        options=options,
        epochs=trained,
        seconds=round(last["seconds"], 1),
        mmac=round(mmac(config), 2),
        rank_me=round(last["rank_me"], 1) if trained else 0.0,
        scores=scores,
    )
    (output / "row.json").write_text(row.model_dump_json(indent=1))
    return row


def recipe_of(name: str, epochs: int) -> tuple[dict[str, Any], int, PretrainConfig]:
    """Give what a variation changes, how many epochs it takes, and its whole recipe."""
    options = dict(VARIATIONS[name])
    trained = options.pop("epochs", epochs)
    return options, trained, PretrainConfig.model_validate({**options, "epochs": max(1, trained)})


def read(path: Path, config: PretrainConfig) -> Row:
    """Read what a run found, which must be one of this recipe."""
    row = Row.model_validate_json(path.read_text())
    if row.recipe != config.digest():
        raise SystemExit(f"{path} was made with another recipe: remove its folder, or give another --output")
    return row


def compared(rows: Sequence[Row], bench: Bench, output: Path) -> Iterator[Row]:
    """Rows with their differences to the recipe, where that was run."""
    first = output / _folder(RECIPE) / "said.npz"
    for row in rows:
        if row.name == RECIPE or not first.exists():
            yield row
            continue
        with np.load(output / _folder(row.name) / "said.npz") as mine, np.load(first) as theirs:
            yield row.model_copy(update={"against_recipe": bench.differences(mine, theirs)})


def evaluation(rows: Sequence[Row], bench: Bench, data: Path) -> Evaluation:
    """Put rows into the form of `encoder evaluate`: values, and differences to the recipe with their intervals."""
    named = {_told(row): row for row in rows}
    section = Section(
        title="Ablation of the alerts' recipe",
        method=(
            f"Each row pretrains the recipe with one thing changed ({_counted(rows)}), one seed, the same alerts in "
            f"the same order, and is read by probes on {len(bench.alerts.split.test)} alerts of objects that no "
            "training saw, and on the real alerts given. Rows name the change, MMAC an alert and RankMe at the end."
        ),
        tables={
            "scores": {name: row.scores for name, row in named.items()},
            "difference to the recipe": {
                name: row.against_recipe for name, row in named.items() if row.against_recipe
            },
        },
        definitions={
            "macro_f1 N": "F1 averaged over seven classes, probe on the frozen features, N labels of the simulation",
            "sigma_mad": "redshift by ridge regression on features and photometry, simulation, by survey",
            "auc": "probe on the embedding of real alerts, as in `encoder evaluate`",
        },
        remarks=(
            "One seed each: a difference smaller than that between two seeds says nothing, whatever its interval.",
            "With label_weight the encoder was told the simulation's labels: its macro_f1 is not of N labels alone.",
        ),
    )
    return Evaluation(
        encoder="proxies",
        weights_digest="",
        version=version("nightjar"),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        sources=(Source(name=data.name, content="shards", rows=len(bench.alerts), digest=digest_of(data)),),
        sections=(section,),
    )


def _told(row: Row) -> str:
    rank = f", rank {row.rank_me:.0f}" if row.rank_me else ""
    return f"{row.name} ({row.mmac:.0f} MMAC{rank})"


def _counted(rows: Sequence[Row]) -> str:
    epochs = sorted({row.epochs for row in rows if row.epochs})
    return f"{', '.join(map(str, epochs))} epochs"


def _folder(name: str) -> str:
    return name.replace(" ", "_")


def main(
    data: Annotated[Path, typer.Option(help="Folder of shards, of `encoder simulate --visits 2`.")],
    output: Annotated[Path, typer.Option(help="Folder for runs, report.html and report.json.")],
    only: Annotated[list[str] | None, typer.Option(help="Variations; repeatable. Default: all.")] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 3,
    threads: Annotated[int, typer.Option(min=0, help="0: every core.")] = 0,
    real: Annotated[Path | None, typer.Option(help="Folder of shards of real alerts.")] = None,
    labels: Annotated[Path | None, typer.Option(help="CSV of scores of the real alerts.")] = None,
) -> None:
    """Run every variation, then print the table; a killed run goes on with the same command."""
    torch.set_num_threads(threads or os.cpu_count() or 1)
    console = Console()
    names = only or list(VARIATIONS)
    if strange := set(names) - set(VARIATIONS):
        raise typer.BadParameter(f"{sorted(strange)}: there are {', '.join(VARIATIONS)}")
    bench, rows = Bench(data, real, labels), []
    for name in names:
        console.print(f"{len(rows) + 1} of {len(names)}: {name}")
        known = output / _folder(name) / "row.json"
        if known.exists():
            rows.append(read(known, recipe_of(name, epochs)[2]))
            if name != names[-1]:
                continue
        else:
            rows.append(run(name, bench, output / _folder(name), epochs, console))
        found = evaluation(list(compared(rows, bench, output)), bench, data)
        (output / "report.json").write_text(found.model_dump_json(indent=1) + "\n")
        (output / "report.html").write_text(page(found), encoding="utf-8")
    console.print(f"{output / 'report.html'} and report.json written", markup=False)


if __name__ == "__main__":
    typer.run(main)
