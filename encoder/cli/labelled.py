"""Shards from the command line to training data."""

from pathlib import Path

import torch

from broker.contract import COMMON_GRID
from broker.errors import SettingsError
from encoder.archive import load_shards
from encoder.boxes import Boxes
from encoder.fit import Labelled


def load_labelled(data: Path) -> tuple[Labelled, tuple[str, ...]]:
    """Read a shard or a folder of shards: alerts and the names of their classes.

    Raises
    ------
    SettingsError
        If there is none.
    """
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
