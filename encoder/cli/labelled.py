"""Shards from the command line to training data."""

from pathlib import Path

import torch

from broker.contract import COMMON_GRID
from broker.errors import SettingsError
from encoder.archive import Columns, load_shards
from encoder.boxes import Boxes, StoredBoxes
from encoder.fit import Labelled
from encoder.kept_out import refuse_anomalies
from encoder.stored import open_shards


def load_labelled(data: Path) -> tuple[Labelled, tuple[str, ...]]:
    """Read a shard or a folder of shards: alerts and the names of their classes.

    Raises
    ------
    SettingsError
        If there is none, or it holds what is kept out of training.
    """
    shard = load_shards(_shards(data))
    refuse_anomalies(shard.classes, data)
    return Labelled(
        Boxes.of(shard, COMMON_GRID),
        torch.from_numpy(shard.label),
        torch.from_numpy(shard.redshift),
        shard.object_id,
    ), shard.classes


def open_alerts(data: Path) -> tuple[Columns, StoredBoxes]:
    """Open a shard or a folder of shards of any size: pixels are read by rows, as they are wanted.

    Raises
    ------
    SettingsError
        If there is none.
    """
    columns, stored = open_shards(_shards(data))
    return columns, StoredBoxes.of(columns, stored, COMMON_GRID)


def _shards(data: Path) -> list[Path]:
    paths = sorted(data.glob("*.npz")) if data.is_dir() else [data]
    if not paths or not all(path.exists() for path in paths):
        raise SettingsError(f"no shards (*.npz) at {data}: make some with `encoder simulate --output {data}`")
    return paths
