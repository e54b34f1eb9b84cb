"""`encoder pretrain`."""

import os
from pathlib import Path
from typing import Annotated

import torch
import typer
from pydantic import ValidationError

from broker.errors import SettingsError
from encoder.cli.labelled import load_labelled
from encoder.cli.options import Data, Output, Threads, command, console
from encoder.config import PretrainConfig
from encoder.fit import held_out_objects
from encoder.train import CHECKPOINT
from encoder.train import pretrain as run_pretraining

app = command()


def _show_recipe(*, wanted: bool) -> None:
    if wanted:
        typer.echo(PretrainConfig().model_dump_json(indent=2))
        raise typer.Exit


@app.command(
    epilog="Examples: `encoder pretrain --data shards --output runs/pretrain --max-minutes 15`, "
    "`encoder pretrain --show-recipe > recipe.json`, which `--config recipe.json` takes when edited"
)
def pretrain(
    data: Data,
    output: Output,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="JSON with other values for the recipe's fields; those left out stay."),
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop after so long; the same command goes on.")
    ] = None,
    threads: Threads = 0,
    show_recipe: Annotated[  # noqa: ARG001 - answered before
        bool,
        typer.Option(
            "--show-recipe",
            callback=_show_recipe,
            is_eager=True,
            help="Print every field of the recipe, and end.",
        ),
    ] = False,
) -> None:
    """Pretrain the encoder without labels, or go on with the run found in the output folder."""
    torch.set_num_threads(threads or os.cpu_count() or 1)
    recipe = _recipe(config)
    alerts, _ = load_labelled(data)
    seen = alerts.take(~held_out_objects(recipe, alerts.object_id))
    console.print(f"{len(seen)} of {len(alerts)} alerts; the others are held out")
    run = run_pretraining(recipe, seen.boxes, seen.label, output, max_minutes=max_minutes, console=console)
    console.print(
        f"{run.step} steps in {run.seconds / 60:.1f} minutes. "
        f"Next: encoder fit-heads --data {data} --checkpoint {output / CHECKPOINT} --output runs/heads"
    )


def _recipe(path: Path | None) -> PretrainConfig:
    if path is None:
        return PretrainConfig()
    try:
        return PretrainConfig.model_validate_json(path.read_text())
    except OSError as error:
        raise SettingsError(f"{path} is no recipe: {error}") from error
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        ]
        raise SettingsError(
            f"{path} is no recipe: {'; '.join(faults)}: `encoder pretrain --show-recipe` prints one"
        ) from error
