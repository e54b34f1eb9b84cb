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
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Generator, Tensor

from broker.errors import SettingsError
from encoder.augment import Views, as_served
from encoder.boxes import Boxes, Laid
from encoder.config import PretrainConfig
from encoder.curves import draw_curves
from encoder.losses import knn_score, rank_me
from encoder.moco import MoCo, measure
from encoder.repeats import Repeats

CHECKPOINT = "last.pt"
LOG = "log.json"
CURVES = "curves.png"

WATCHED = 2048
"""Objects on which rank and neighbours are watched, by one alert each."""

COLLAPSED = 4.0
"""Effective rank under which the representation says next to nothing."""


class TrainError(SettingsError):
    """A run that cannot start or go on; the text says what to do."""


@dataclass
class Run:
    """Where a run stands.

    Attributes
    ----------
    config : PretrainConfig
    moco : MoCo
    optimizer : torch.optim.Optimizer
    data : str
        Digest of the alerts it learns from.
    step : int
        Steps done.
    history : list of dict
        One entry an epoch.
    sums : dict of str to float
        Of the losses since the epoch began.
    seconds : float
        Time spent, over every resumption.
    """

    config: PretrainConfig
    moco: MoCo
    optimizer: torch.optim.Optimizer
    data: str
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def pretrain(
    config: PretrainConfig,
    boxes: Boxes,
    labels: Tensor,
    output: Path,
    *,
    max_minutes: float | None = None,
    console: Console | None = None,
) -> Run:
    """Pretrain without labels, or go on with the run found in ``output``.

    Parameters
    ----------
    config : PretrainConfig
    boxes : Boxes
        The training set.
    labels : Tensor of int64, shape (n,)
        Only watched (nearest-neighbour score), never trained on; -1 where unknown.
    output : Path
        Folder of checkpoint, log and curves.
    max_minutes : float, optional
        Stop after so long; the same command goes on from there.
    console : Console, optional
        Where the progress bar goes.

    Returns
    -------
    Run

    Raises
    ------
    TrainError
        The set is too small for the queue or a batch, or ``output`` holds another run.
    """
    _check_sizes(config, len(boxes), len(torch.unique(boxes.sky_object)))
    output.mkdir(parents=True, exist_ok=True)
    measured = measure(boxes, config.network.size)
    run = _resume(config, boxes, output / CHECKPOINT) or _start(config, boxes, measured)
    views, repeats = Views(config.views, config.network.size), Repeats(boxes.sky_object)
    watched = repeats.one_each(WATCHED)
    steps_per_epoch = len(boxes) // config.batch_size
    total = config.epochs * steps_per_epoch
    started, saved = time.monotonic() - run.seconds, time.monotonic()
    with _progress(console, run.step, total) as advance:
        while run.step < total:
            epoch, place = divmod(run.step, steps_per_epoch)
            rows = _order(config.seed, epoch, len(boxes))[place * config.batch_size :][: config.batch_size]
            generator = Generator().manual_seed(_seed(config.seed, "step", run.step))
            others = repeats.another(rows, generator) if config.views.other_visits else rows
            query, key = views(boxes[rows], generator), views(boxes[others], generator)
            parts = _train_step(run, (query, key, measured[rows], boxes.sky_object[rows]), total)
            for name, value in parts.items():
                run.sums[name] = run.sums.get(name, 0.0) + value
            run.seconds = time.monotonic() - started
            if run.step % steps_per_epoch == 0:
                run.history.append(_epoch_entry(run, boxes[watched], labels[watched], steps_per_epoch, total))
                _report(run, output, console)
                run.sums = {}
            out_of_time = max_minutes is not None and run.seconds > 60 * max_minutes
            if run.step == total or out_of_time or time.monotonic() - saved > config.checkpoint_seconds:
                save_checkpoint(run, output / CHECKPOINT)
                saved = time.monotonic()
            advance(run, parts)
            if out_of_time:
                break
    return run


def _train_step(run: Run, batch: tuple[Laid, Laid, Tensor, Tensor], total: int) -> dict[str, float]:
    config = run.config
    rate = learning_rate(config, run.step / total)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    parts = run.moco(*batch)
    run.optimizer.zero_grad(set_to_none=True)
    parts["loss"].backward()
    run.optimizer.step()
    run.moco.follow(run.step / total)
    run.step += 1
    values = {name: float(value.detach()) for name, value in parts.items()}
    if not math.isfinite(values["loss"]):
        raise TrainError(
            f"the loss is {values['loss']} at step {run.step}: lower learning_rate (now {rate:.2g})"
        )
    return values


def learning_rate(config: PretrainConfig, progress: float) -> float:
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


def _check_sizes(config: PretrainConfig, alerts: int, objects: int) -> None:
    if alerts < config.batch_size:
        raise TrainError(
            f"{alerts} alerts make no batch of {config.batch_size}: simulate more, or give a --config with a "
            f'smaller one: {{"batch_size": {max(2, alerts // 4)}, "queue": {max(1, objects // 4)}}}'
        )
    if config.queue > objects // 4:
        raise TrainError(
            f"a queue of {config.queue} is more than a quarter of {objects} objects, which would meet "
            f'themselves in it: simulate more, or give a --config with {{"queue": {objects // 4}}} or less'
        )


def new_moco(config: PretrainConfig) -> MoCo:
    """Build the network with the weights of the configuration's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return MoCo(config)


def _optimizer(config: PretrainConfig, moco: MoCo) -> torch.optim.Optimizer:
    trained = [parameter for parameter in moco.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
    )


def _start(config: PretrainConfig, boxes: Boxes, measured: Tensor) -> Run:
    moco = new_moco(config)
    moco.fit_targets(measured, boxes)
    return Run(config, moco, _optimizer(config, moco), boxes.digest())


def save_checkpoint(run: Run, path: Path) -> None:
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


def load_checkpoint(path: Path) -> Run:
    """Read a checkpoint.

    Raises
    ------
    TrainError
        The file is missing, or is no checkpoint of `pretrain`.
    """
    try:
        content: Mapping[str, Any] = torch.load(path, weights_only=True)
        config = PretrainConfig.model_validate_json(content["config"])
    except FileNotFoundError as error:
        raise TrainError(f"no checkpoint at {path}: run `encoder pretrain` first") from error
    except (RuntimeError, KeyError, EOFError, OSError, ValueError, UnpicklingError) as error:
        raise TrainError(
            f"{path} is no checkpoint of `encoder pretrain`: {str(error).splitlines()[0]}"
        ) from error
    moco = new_moco(config)
    moco.load_state_dict(content["moco"])
    optimizer = _optimizer(config, moco)
    optimizer.load_state_dict(content["optimizer"])
    rest = (content[name] for name in ("data", "step", "history", "sums", "seconds"))
    return Run(config, moco, optimizer, *rest)


def _resume(config: PretrainConfig, boxes: Boxes, path: Path) -> Run | None:
    if not path.exists():
        return None
    run = load_checkpoint(path)
    for what, made, now in (
        ("another configuration", run.config.digest(), config.digest()),
        ("other alerts", run.data, boxes.digest()),
    ):
        if made != now:
            raise TrainError(
                f"{path} was made with {what}: give another --output, or remove it to start anew"
            )
    return run


def _epoch_entry(run: Run, boxes: Boxes, labels: Tensor, steps: int, total: int) -> dict[str, float]:
    raw, embedding = embed(run.moco, boxes)
    return {
        "epoch": float(len(run.history) + 1),
        **{name: value / steps for name, value in run.sums.items()},
        "rank_me": rank_me(raw),
        "knn": knn_score(embedding, labels),
        "learning_rate": learning_rate(run.config, run.step / total),
        "seconds": run.seconds,
    }


@torch.no_grad()
def embed(moco: MoCo, boxes: Boxes, chunk: int = 256) -> tuple[Tensor, Tensor]:
    """Embeddings (n, d) of alerts as served, before and after they are brought to unit length."""
    found = []
    for start in range(0, len(boxes), chunk):
        stamps, mask, noise, _, band, _ = as_served(
            boxes[slice(start, start + chunk)], moco.config.network.size
        ).network_inputs()
        found.append(moco.base_encoder(stamps, mask, noise, band))
    return torch.cat([one.raw for one in found]), torch.cat([one.embedding for one in found])


def _report(run: Run, output: Path, console: Console | None) -> None:
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
) -> Iterator[Callable[[Run, Mapping[str, float]], None]]:
    columns = (
        TextColumn("pretrain"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=console is None) as bar:
        task = bar.add_task("pretrain", total=total, completed=done, state="")

        def advance(run: Run, parts: Mapping[str, float]) -> None:
            last = run.history[-1] if run.history else {}
            state = (
                f"loss {parts['loss']:.3f}  kNN {last.get('knn', math.nan):.3f}  "
                f"RankMe {last.get('rank_me', math.nan):.1f}  lr {run.optimizer.param_groups[0]['lr']:.1e}"
            )
            bar.update(task, completed=run.step, state=state)

        yield advance
