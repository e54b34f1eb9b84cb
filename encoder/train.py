"""Pretraining: one loop, resumable to the bit.

Every step draws from a generator seeded by the run's seed and the step's number, every epoch shuffles by its
own: where a run stands is told by one number, and a run that was killed goes on as if it had not been.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Generator, Tensor

from broker.errors import SettingsError
from encoder.config import Recipe
from encoder.curves import draw_curves
from encoder.losses import knn_score, rank_me
from encoder.moco import Batch, MoCo
from encoder.world import ALONE, World

CHECKPOINT = "last.pt"
LOG = "log.json"
CURVES = "curves.png"

Configured = TypeVar("Configured", bound=Recipe)

COLLAPSED = 4.0
"""Effective rank under which the representation says next to nothing."""


class TrainError(SettingsError):
    """A run that cannot start or go on; the text says what to do."""


class Watched(NamedTuple):
    """Some objects without any view, by which a run is watched.

    Attributes
    ----------
    raw, embedding : Tensor, shape (n, d)
        Before and after it is brought to unit length.
    label : Tensor of int64, shape (n,)
        -1 where unknown.
    """

    raw: Tensor
    embedding: Tensor
    label: Tensor


class Task(Protocol[Configured]):
    """What is learned from: alerts, or images of galaxies.

    Attributes
    ----------
    config : Recipe
    objects : int
        Different objects among the rows.
    """

    config: Configured
    objects: int

    def __len__(self) -> int:
        """Rows of the training set."""

    def digest(self) -> str:
        """Tell the training set from others."""

    def new_moco(self) -> MoCo:
        """Build the network with the weights of the recipe's seed."""

    def batch(self, rows: Tensor, generator: Generator) -> Batch:
        """Draw two views of some rows."""

    def watch(self, moco: MoCo) -> Watched:
        """Embed some objects."""


@dataclass
class Run(Generic[Configured]):
    """Where a run stands.

    Attributes
    ----------
    config : Recipe
    moco : MoCo
    optimizer : torch.optim.Optimizer
    data : str
        Digest of the set it learns from.
    step : int
        Steps done.
    history : list of dict
        One entry an epoch.
    sums : dict of str to float
        Of the losses since the epoch began.
    seconds : float
        Time spent, over every resumption.
    """

    config: Configured
    moco: MoCo
    optimizer: torch.optim.Optimizer
    data: str
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def train(
    task: Task[Configured],
    output: Path,
    *,
    max_minutes: float | None = None,
    console: Console | None = None,
    world: World = ALONE,
) -> Run[Configured]:
    """Pretrain without labels, or go on with the run found in ``output``.

    Parameters
    ----------
    task : Task
    output : Path
        Folder of checkpoint, log and curves.
    max_minutes : float, optional
        Stop after so long; the same command goes on from there.
    console : Console, optional
        Where the progress bar goes.
    world : World
        Processes that share the work; every one is given the same set.

    Returns
    -------
    Run

    Raises
    ------
    TrainError
        The set is too small for the queue or a batch, or ``output`` holds another run.
    """
    config = task.config
    _check_sizes(config, len(task), task.objects)
    output.mkdir(parents=True, exist_ok=True)
    run = _resume(task, output / CHECKPOINT) or _start(task)
    run.moco.to(world.device)
    _follow_device(run.optimizer, world.device)
    steps_per_epoch = len(task) // config.batch_size
    total = config.epochs * steps_per_epoch
    started, saved = time.monotonic() - run.seconds, time.monotonic()
    with _progress(console if world.leads else None, run.step, total) as advance:
        while run.step < total:
            parts = _train_step(run, _batch(task, run.step, steps_per_epoch, world), total, world)
            for name, value in parts.items():
                run.sums[name] = run.sums.get(name, 0.0) + value
            run.seconds = time.monotonic() - started
            if run.step % steps_per_epoch == 0 and world.leads:
                run.history.append(_epoch_entry(run, task.watch(run.moco), steps_per_epoch, total))
                _report(run, output, console)
                run.sums = {}
            out_of_time = world.decides(decision=max_minutes is not None and run.seconds > 60 * max_minutes)
            due = run.step == total or out_of_time or time.monotonic() - saved > config.checkpoint_seconds
            if due and world.leads:
                save_checkpoint(run, output / CHECKPOINT)
                saved = time.monotonic()
            advance(run, parts)
            if out_of_time:
                break
    return run


def _batch(task: Task[Configured], step: int, steps_per_epoch: int, world: World) -> Batch:
    epoch, place = divmod(step, steps_per_epoch)
    config = task.config
    rows = _order(config.seed, epoch, len(task))[place * config.batch_size :][: config.batch_size]
    pieces = torch.split(rows, config.batch_size // config.pieces)
    parts = [
        task.batch(pieces[piece], Generator().manual_seed(_seed(config.seed, "step", step, piece)))
        for piece in world.share(config.pieces)
    ]
    return Batch.joined(parts, world.device)


def _follow_device(optimizer: torch.optim.Optimizer, device: str) -> None:
    """Bring what a resumed optimiser remembers to where its parameters are."""
    for state in optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.ndim:
                state[name] = value.to(device)


def _train_step(run: Run[Configured], batch: Batch, total: int, world: World) -> dict[str, float]:
    config = run.config
    rate = learning_rate(config, run.step / total)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    parts = run.moco(batch, world)
    run.optimizer.zero_grad(set_to_none=True)
    parts["loss"].backward()
    world.average_gradients(run.moco.parameters())
    run.optimizer.step()
    run.moco.follow(run.step / total)
    run.step += 1
    values = {name: float(world.total(value.detach())) / world.size for name, value in parts.items()}
    if not math.isfinite(values["loss"]):
        raise TrainError(
            f"the loss is {values['loss']} at step {run.step}: lower learning_rate (now {rate:.2g})"
        )
    return values


def learning_rate(config: Recipe, progress: float) -> float:
    """Learning rate after a share ``progress`` of the run: a linear rise, then half a cosine to zero."""
    if progress < config.warmup:
        return config.learning_rate * (progress / config.warmup + 1e-3)
    return (
        config.learning_rate
        * 0.5
        * (1 + math.cos(math.pi * (progress - config.warmup) / (1 - config.warmup)))
    )


def _seed(*parts: int | str) -> int:
    generator = 14695981039346656037  # FNV-1a: neighbouring steps get unrelated seeds
    for byte in ":".join(map(str, parts)).encode():
        generator = (generator ^ byte) * 1099511628211 % 2**64
    return generator >> 1


def _order(seed: int, epoch: int, count: int) -> Tensor:
    return torch.randperm(count, generator=Generator().manual_seed(_seed(seed, "epoch", epoch)))


def _check_sizes(config: Recipe, rows: int, objects: int) -> None:
    if rows < config.batch_size:
        raise TrainError(
            f"{rows} rows make no batch of {config.batch_size}: simulate or ingest more, or give a --config with a "
            f"smaller one: {json.dumps(_smaller(config, rows, objects))}"
        )
    if config.queue > objects // 4:
        raise TrainError(
            f"a queue of {config.queue} is more than a quarter of {objects} objects, which would meet "
            f'themselves in it: simulate more, or give a --config with {{"queue": {objects // 4}}} or less'
        )


def _smaller(config: Recipe, rows: int, objects: int) -> dict[str, int]:
    """Fields of a recipe that a small set can be trained with: pieces divide the batch."""
    most = max(2, rows // 4)
    pieces = min(config.pieces, most)
    smaller = {"batch_size": most - most % pieces, "queue": max(1, objects // 4)}
    return smaller if pieces == config.pieces else smaller | {"pieces": pieces}


def _optimizer(config: Recipe, moco: MoCo) -> torch.optim.Optimizer:
    trained = [parameter for parameter in moco.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
    )


def _start(task: Task[Configured]) -> Run[Configured]:
    moco = task.new_moco()
    return Run(task.config, moco, _optimizer(task.config, moco), task.digest())


def save_checkpoint(run: Run[Configured], path: Path) -> None:
    """Write where a run stands; a reader finds the old checkpoint or the new one, whole."""
    content = {
        "config": run.config.model_dump_json(),
        "moco": run.moco.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "data": run.data,
        "step": run.step,
        "history": run.history,
        "sums": run.sums,
        "seconds": run.seconds,
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    torch.save(content, partial)
    partial.replace(path)


def read_checkpoint(
    path: Path, recipe: type[Configured], build: Callable[[Configured, int], MoCo]
) -> Run[Configured]:
    """Read a checkpoint.

    Parameters
    ----------
    path : Path
    recipe : type of Recipe
        Of the task it was made for.
    build : callable
        From a recipe and the number of classes to the network.

    Raises
    ------
    TrainError
        The file is missing, or is no checkpoint of such a task.
    """
    try:
        content: Mapping[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        config = recipe.model_validate_json(content["config"])
    except FileNotFoundError as error:
        raise TrainError(f"no checkpoint at {path}: run `encoder pretrain` first") from error
    except (RuntimeError, KeyError, EOFError, OSError, ValueError, UnpicklingError) as error:
        raise TrainError(
            f"{path} is no checkpoint of `encoder pretrain`: {str(error).splitlines()[0]}"
        ) from error
    weight = content["moco"].get("classifier.weight")
    moco = build(config, 0 if weight is None else len(weight))
    try:
        moco.load_state_dict(content["moco"])
    except RuntimeError as error:
        raise TrainError(
            f"{path} was made by a version of this software whose network had other layers: pretrain anew, or use that "
            f"version ({str(error).splitlines()[-1].strip()})"
        ) from error
    optimizer = _optimizer(config, moco)
    optimizer.load_state_dict(content["optimizer"])
    rest = (content[name] for name in ("data", "step", "history", "sums", "seconds"))
    return Run(config, moco, optimizer, *rest)


def _resume(task: Task[Configured], path: Path) -> Run[Configured] | None:
    if not path.exists():
        return None
    run = read_checkpoint(path, type(task.config), lambda _, __: task.new_moco())
    for what, made, now in (
        ("another configuration", run.config.digest(), task.config.digest()),
        ("other data", run.data, task.digest()),
    ):
        if made != now:
            raise TrainError(
                f"{path} was made with {what}: give another --output, or remove it to start anew"
            )
    return run


def _epoch_entry(run: Run[Configured], watched: Watched, steps: int, total: int) -> dict[str, float]:
    return {
        "epoch": float(len(run.history) + 1),
        **{name: value / steps for name, value in run.sums.items()},
        "rank_me": rank_me(watched.raw),
        "knn": knn_score(watched.embedding, watched.label),
        "learning_rate": learning_rate(run.config, run.step / total),
        "seconds": run.seconds,
    }


def _report(run: Run[Configured], output: Path, console: Console | None) -> None:
    partial = output / f".{LOG}.{os.getpid()}.partial"
    partial.write_text(json.dumps({"config": run.config.model_dump(), "history": run.history}, indent=1))
    partial.replace(output / LOG)
    draw_curves(run.history, output / CURVES)
    if console is not None and run.history[-1]["rank_me"] < COLLAPSED:
        console.print(
            f"[yellow]epoch {len(run.history)}: effective rank {run.history[-1]['rank_me']:.1f}: collapsed; "
            "raise spread_weight or the learning rate's warm-up"
        )


@contextmanager
def _progress(
    console: Console | None, done: int, total: int
) -> Iterator[Callable[[Run[Any], Mapping[str, float]], None]]:
    columns = (
        TextColumn("pretrain"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=console is None) as bar:
        task = bar.add_task("pretrain", total=total, completed=done, state="")

        def advance(run: Run[Any], parts: Mapping[str, float]) -> None:
            last = run.history[-1] if run.history else {}
            state = (
                f"loss {parts['loss']:.3f}  kNN {last.get('knn', math.nan):.3f}  "
                f"RankMe {last.get('rank_me', math.nan):.1f}  lr {run.optimizer.param_groups[0]['lr']:.1e}"
            )
            bar.update(task, completed=run.step, state=state)

        yield advance
