"""`encoder`: simulate, pretrain, fit heads, export, inspect."""

import os
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from broker.contract import COMMON_GRID, ModelContract
from broker.errors import ConfigurationError, SettingsError
from broker.inference import Model
from encoder.archive import load_shards
from encoder.boxes import Boxes
from encoder.card import model_card
from encoder.config import HeadsConfig, PretrainConfig
from encoder.export import export as export_model
from encoder.fit import Labelled, held_out_objects
from encoder.fitted import fit, load_fitted, save_fitted
from encoder.report import Report
from encoder.simulate import simulate as simulate_shards
from encoder.simulate.packets import LABELS_FILE, simulate_packets
from encoder.train import CHECKPOINT, load_checkpoint
from encoder.train import pretrain as run_pretraining

CARD = "MODEL_CARD.md"

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Simulate alerts, learn from them without labels, fit heads, export one ONNX file.",
)
console = Console()

Output = Annotated[Path, typer.Option("--output", help="Where it goes.")]
Data = Annotated[
    Path, typer.Option("--data", help="A shard, or a folder of shards made by `encoder simulate`.")
]


@app.command(
    epilog="Examples: `encoder simulate --output shards --count 2000 --seed 3`, "
    "`encoder simulate --packets packets --count 200`"
)
def simulate(
    output: Annotated[Path | None, typer.Option("--output", help="Folder for shards.")] = None,
    packets: Annotated[
        Path | None, typer.Option("--packets", help="Folder for packets as the surveys send them.")
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, help="Objects, half of each survey, all classes alike.")
    ] = 16_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same alerts.")] = 1,
    processes: Annotated[int, typer.Option(min=0, help="For shards; 0 uses every core.")] = 0,
    visits: Annotated[int, typer.Option(min=1, help="Alerts of each object.")] = 1,
) -> None:
    """Simulate labelled alerts of both surveys: shards to train on, packets to replay, or both."""
    if output is None and packets is None:
        raise SettingsError("nowhere to write to: give --output for shards, --packets for packets, or both")
    if output is not None:
        shards = simulate_shards(
            count, seed, output, processes=processes or os.cpu_count() or 1, visits=visits
        )
        console.print(
            f"{len(shards)} shards in {output}. Next: encoder pretrain --data {output} --output runs/pretrain"
        )
    if packets is not None:
        written = simulate_packets(count, seed, packets, visits=visits)
        console.print(
            f"{len(written)} packets and {LABELS_FILE} in {packets}. "
            f"Next: broker-replay {packets} --topic alerts"
        )


@app.command(epilog="Example: `encoder pretrain --data shards --output runs/pretrain --max-minutes 15`")
def pretrain(
    data: Data,
    output: Output,
    config: Annotated[
        Path | None, typer.Option("--config", help="JSON with other values for the recipe's fields.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop after so long; the same command goes on.")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="0 uses every core.")] = 0,
) -> None:
    """Pretrain the encoder without labels, or go on with the run found in the output folder."""
    torch.set_num_threads(threads or os.cpu_count() or 1)
    recipe = _recipe(config)
    alerts, _ = _load(data)
    seen = alerts.take(~held_out_objects(recipe, alerts.object_id))
    console.print(f"{len(seen)} of {len(alerts)} alerts; the others are held out")
    run = run_pretraining(recipe, seen.boxes, seen.label, output, max_minutes=max_minutes, console=console)
    console.print(
        f"{run.step} steps in {run.seconds / 60:.1f} minutes. "
        f"Next: encoder fit-heads --data {data} --checkpoint {output / CHECKPOINT} --output runs/heads"
    )


@app.command(
    "fit-heads",
    epilog="Example: `encoder fit-heads --data shards --checkpoint pretrain/last.pt --output heads`",
)
def fit_heads(
    data: Data,
    checkpoint: Annotated[Path, typer.Option("--checkpoint", help="Made by `encoder pretrain`.")],
    output: Output,
    seed: Annotated[int, typer.Option(help="Of the heads' weights and views.")] = HeadsConfig().seed,
    threads: Annotated[int, typer.Option(min=0, help="0 uses every core.")] = 0,
) -> None:
    """Fit morphology, redshift and anomaly on the frozen encoder and measure them on held-out objects."""
    torch.set_num_threads(threads or os.cpu_count() or 1)
    run = load_checkpoint(checkpoint)
    alerts, classes = _load(data)
    with console.status("fitting and measuring the heads"):
        fitted = fit(run, alerts, classes, HeadsConfig(seed=seed))
    save_fitted(fitted, output)
    _print_report(fitted.report)
    console.print(f"Next: encoder export --heads {output} --output model.onnx")


@app.command(epilog="Example: `encoder export --heads runs/heads --output model.onnx`")
def export(
    heads: Annotated[Path, typer.Option("--heads", help="Folder made by `encoder fit-heads`.")],
    output: Output,
) -> None:
    """Write one ONNX file and, beside it, its model card."""
    fitted = load_fitted(heads)
    with console.status("exporting"):
        contract = export_model(fitted.model, fitted.provenance, output)
    card = output.with_name(CARD)
    card.write_text(model_card(contract, fitted.report))
    console.print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, {contract.mmac:.1f} MMAC; card: {card}")


@app.command(epilog="Example: `encoder inspect model.onnx`")
def inspect(file: Annotated[Path, typer.Argument(help="An ONNX file.")]) -> None:
    """Say what is in a model file; refuse one that the broker would refuse."""
    model = Model.load(file)
    _print_contract(file, model.contract, model.file_digest)


def _recipe(path: Path | None) -> PretrainConfig:
    if path is None:
        return PretrainConfig()
    try:
        return PretrainConfig.model_validate_json(path.read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} is no recipe: {error}") from error


def _load(data: Path) -> tuple[Labelled, tuple[str, ...]]:
    paths = sorted(data.glob("*.npz")) if data.is_dir() else [data]
    if not paths or not all(path.exists() for path in paths):
        raise SettingsError(f"no shards (*.npz) at {data}: make some with `encoder simulate --output {data}`")
    shard = load_shards(paths)
    return Labelled(
        Boxes.of(shard, COMMON_GRID),
        torch.from_numpy(shard.label),
        torch.from_numpy(shard.redshift),
        shard.object_id,
    ), shard.classes


def _print_report(report: Report) -> None:
    for title, rows in report.tables.items():
        metrics = list(dict.fromkeys(name for row in rows.values() for name in row))
        table = Table("", *metrics, title=f"{title}, held out")
        for name, row in rows.items():
            table.add_row(name, *(str(row.get(metric, "")) for metric in metrics))
        console.print(table)


def _print_contract(file: Path, contract: ModelContract, digest: str) -> None:
    table = Table("field", "value", title=str(file), show_header=False)
    table.add_row("file SHA-256", digest)
    for name, value in contract.model_dump(exclude={"check_outputs"}).items():
        table.add_row(name, str(value))
    console.print(table)
    if not contract.trained:
        console.print("[yellow]untrained: random weights, for tests only")


def main() -> None:
    """Run the program: exit 2 with one line where what was given cannot work."""
    try:
        app()
    except ConfigurationError as error:
        Console(stderr=True).print(f"encoder: {error}", style="red", highlight=False, markup=False)
        raise SystemExit(2) from error
