"""Shards of alerts that cost nothing to make."""

import numpy as np
import pytest

from encoder.archive import Shard, save_shard
from encoder.stored import BOX_SHAPE


def _synthetic(count, seed, classes=("disk", "bulge")):
    """Round sources under noise, a corner of each stamp missing, two visits of each object."""
    rng = np.random.default_rng(seed)
    axis = np.arange(64, dtype=np.float32) - 31.5
    width = rng.uniform(1.5, 4.5, (count, 1, 1, 1)).astype(np.float32)
    shape = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * width**2))
    box = rng.normal(size=(count, *BOX_SHAPE)).astype(np.float32) + 100 * shape
    box[..., :3, :5] = np.nan
    return Shard(
        box=box.astype(np.float32),
        centre=np.full((count, 2), 31.5, np.float32),
        noise=np.ones((count, 3), np.float32),
        pixel_scale=np.full(count, 0.2, np.float32),
        survey=np.zeros(count, np.int64),
        band=rng.integers(0, 6, count),
        psf_fwhm=np.full((count, 3), 0.8, np.float32),
        photometry=rng.uniform(0, 1000, (count, 6)).astype(np.float32),
        label=rng.integers(0, 2, count),
        redshift=rng.uniform(0, 1, count).astype(np.float32),
        ebv=np.zeros(count, np.float32),
        alert_id=1000 * seed + np.arange(count),
        object_id=np.array([f"{seed}-{k // 2}" for k in range(count)]),
        classes=classes,
    )


def _write(folder, counts):
    paths = [folder / f"synthetic-{k:05d}.npz" for k in range(len(counts))]
    for seed, (path, count) in enumerate(zip(paths, counts, strict=True)):
        save_shard(path, _synthetic(count, seed))
    return paths


@pytest.fixture(scope="session")
def synthetic():
    """Make a shard of so many alerts."""
    return _synthetic


@pytest.fixture(scope="session")
def write():
    """Write shards of so many alerts each into a folder."""
    return _write
