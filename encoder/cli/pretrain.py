"""`encoder pretrain`."""

import os
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from pydantic import ValidationError
from rich.console import Console

from broker.errors import SettingsError
from encoder.alert_task import pretrain as pretrain_alerts
from encoder.cli.labelled import open_alerts
from encoder.cli.options import Data, Output, Threads, command, console
from encoder.config import PretrainConfig, Recipe
from encoder.fit import held_out_objects
from encoder.images.archive import StoredImageSet, is_image_set, open_images
from encoder.images.config import ImagePretrainConfig
from encoder.images.joined import StoredRows
from encoder.images.joined import joined as join
from encoder.images.task import pretrain_images
from encoder.kept_out import refuse_anomalies
from encoder.train import CHECKPOINT, Run
from encoder.world import World, joined

app = command()

Kind = TypeVar("Kind", bound=Recipe)


def _show_recipe(*, wanted: bool) -> None:
    if wanted:
        typer.echo(PretrainConfig().model_dump_json(indent=2))
        raise typer.Exit


def _show_image_recipe(*, wanted: bool) -> None:
    if wanted:
        typer.echo(ImagePretrainConfig().model_dump_json(indent=2))
        raise typer.Exit


@app.command(
    epilog="Examples: `encoder pretrain --data shards --output runs/pretrain --max-minutes 15`, "
    "`encoder pretrain --data galaxies.hdf5 --beside pictures.hdf5 --output runs/galaxies`, "
    "`torchrun --nproc-per-node 2 -m encoder.cli pretrain --data shards --output runs/pretrain`, "
    "`encoder pretrain --show-recipe > recipe.json`, which `--config recipe.json` takes when edited"
)
def pretrain(
    data: Data,
    output: Output,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="JSON with other values for the recipe's fields; those left out stay."),
    ] = None,
    beside: Annotated[
        Path | None,
        typer.Option(
            "--beside",
            help="Another set of images to learn from as well, such as `encoder simulate --pictures`. A recipe's "
            "label_weight is then of its labels; those of --data are not looked at.",
        ),
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
            help="Print every field of the recipe for alerts, and end.",
        ),
    ] = False,
    show_image_recipe: Annotated[  # noqa: ARG001 - answered before
        bool,
        typer.Option(
            "--show-image-recipe",
            callback=_show_image_recipe,
            is_eager=True,
            help="The same for images of galaxies.",
        ),
    ] = False,
) -> None:
    """Pretrain the encoder without labels, or go on with the run found in the output folder.

    Shards of alerts train the broker's encoder; a set of images (see `encoder ingest`) one for such images.
    """
    torch.set_num_threads(threads or os.cpu_count() or 1)
    if beside is not None and not is_image_set(data):
        raise SettingsError(f"--beside is of images, and {data} is no set of images")
    with joined() as world:
        out = console if world.leads else Console(quiet=True)
        if is_image_set(data):
            run = _on_images(data, beside, output, config, max_minutes, out, world)
        else:
            run = _on_alerts(data, output, config, max_minutes, out, world)
    if not world.leads:
        return
    done = len(run.history)
    begun = (
        ""
        if done == run.config.epochs
        else f"{done} of {run.config.epochs} epochs: the same command goes on. "
    )
    console.print(
        f"{run.step} steps in {run.seconds / 60:.1f} minutes. {begun}{_next_step(data, output)}", markup=False
    )


def _next_step(data: Path, output: Path) -> str:
    checkpoint = output / CHECKPOINT
    if is_image_set(data):
        return f"Next: encoder export --checkpoint {checkpoint} --output galaxies.onnx"
    return f"Next: encoder fit-heads --data {data} --checkpoint {checkpoint} --output runs/heads"


def _on_alerts(
    data: Path, output: Path, config: Path | None, max_minutes: float | None, out: Console, world: World
) -> Run[Any]:
    recipe = _recipe(config, PretrainConfig)
    columns, boxes = open_alerts(data)
    refuse_anomalies(columns.classes, data)
    seen = torch.from_numpy(~held_out_objects(recipe, columns.object_id))
    labels = torch.from_numpy(columns.label)[seen]
    _check_labels(recipe, labels.numpy(), data)
    out.print(f"{len(labels)} of {len(columns)} alerts; the others are held out")
    return pretrain_alerts(
        recipe, boxes.take(seen), labels, output, max_minutes=max_minutes, console=out, world=world
    )


def _on_images(
    data: Path,
    beside: Path | None,
    output: Path,
    config: Path | None,
    max_minutes: float | None,
    out: Console,
    world: World,
) -> Run[Any]:
    images = _open(data)
    shape = {"kind": images.kind, "bands": images.noise.shape[1]}
    recipe = _recipe(config, ImagePretrainConfig)
    recipe = recipe.model_copy(update={"network": recipe.network.model_copy(update=shape)})
    seen = images.take(~held_out_objects(recipe, images.object_id.astype(str)))
    out.print(f"{len(seen)} of {len(images)} images; the others are held out")
    learned: StoredRows = seen
    if beside is not None:
        learned = join(_open(beside), seen)
        used = (
            "whose labels are learned too"
            if recipe.label_weight
            else "labels of none are used (label_weight is 0)"
        )
        out.print(f"{len(learned) - len(seen)} images beside them, {used}")
    _check_labels(recipe, learned.label, data if beside is None else beside)
    return pretrain_images(recipe, learned, output, max_minutes=max_minutes, console=out, world=world)


def _check_labels(recipe: Recipe, label: NDArray[np.int64], where: Path) -> None:
    if recipe.label_weight > 0 and not (label >= 0).any():
        raise SettingsError(
            f"the recipe gives labels a weight of {recipe.label_weight:g}, and none of {where} has one: set "
            "label_weight to 0, or give labelled data"
        )


def _open(path: Path) -> StoredImageSet:
    images = open_images(path)
    refuse_anomalies(images.classes, path)
    return images


def _recipe(path: Path | None, kind: type[Kind]) -> Kind:
    if path is None:
        return kind()
    try:
        return kind.model_validate_json(path.read_text())
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
