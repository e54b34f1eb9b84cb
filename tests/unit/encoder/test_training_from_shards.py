"""Pretraining from shards: bit by bit the run that memory would give."""

import json

import pytest
import torch
from typer.testing import CliRunner

from broker.contract import COMMON_GRID
from encoder.alert_task import AlertTask, load_checkpoint, pretrain
from encoder.archive import load_shards
from encoder.boxes import Boxes, StoredBoxes
from encoder.cli.pretrain import app
from encoder.config import NetworkConfig, PretrainConfig
from encoder.fit import held_out_objects
from encoder.stored import open_shards
from encoder.train import CHECKPOINT

pytestmark = pytest.mark.train

CONFIG = PretrainConfig(
    network=NetworkConfig(widths=(8, 16), blocks=1, groups=4, hidden=8, prototypes=8),
    batch_size=16,
    queue=6,
    epochs=2,
    checkpoint_seconds=1e-3,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write):
    path = tmp_path_factory.mktemp("shards")
    write(path, (30, 21, 29))
    return path


@pytest.fixture(scope="module")
def both(folder):
    """The alerts that are not held out: in memory, in shards, and their labels."""
    paths = sorted(folder.glob("*.npz"))
    whole, (columns, stored) = load_shards(paths), open_shards(paths)
    seen = torch.from_numpy(~held_out_objects(CONFIG, whole.object_id))
    memory = Boxes.of(whole, COMMON_GRID)[seen]
    return (
        memory,
        StoredBoxes.of(columns, stored, COMMON_GRID).take(seen),
        torch.from_numpy(whole.label)[seen],
    )


def weights(run):
    return torch.cat([value.flatten().float() for value in run.moco.state_dict().values()])


def test_boxes_of_shards_are_those_of_memory(both):
    memory, stored, _ = both
    assert len(memory) == len(stored)
    assert memory.digest() == stored.digest()
    for rows in (torch.tensor([5, 2, 2, 55]), slice(3, 40), torch.arange(len(memory)) % 3 == 0):
        one, other = memory[rows], stored[rows]
        assert torch.equal(one.box.nan_to_num(-1), other.box.nan_to_num(-1))
        assert torch.equal(one.sky_object, other.sky_object)
        assert torch.equal(one.ratio, other.ratio)


def test_batches_are_those_of_memory(both):
    memory, stored, labels = both
    rows = torch.tensor([3, 55, 1, 17, 2, 40])
    one, other = (
        AlertTask(CONFIG, boxes, labels).batch(rows, torch.Generator().manual_seed(7))
        for boxes in (memory, stored)
    )
    assert torch.equal(one.query.stamps, other.query.stamps)
    assert torch.equal(one.key.stamps, other.key.stamps)
    assert torch.equal(one.key.photometry.nan_to_num(-1), other.key.photometry.nan_to_num(-1))
    assert torch.equal(one.target.nan_to_num(-9), other.target.nan_to_num(-9))


def test_a_killed_run_goes_on_from_shards_to_the_bit(both, tmp_path):
    memory, stored, labels = both
    whole = pretrain(CONFIG, memory, labels, tmp_path / "memory")
    stopped = pretrain(CONFIG, stored, labels, tmp_path / "shards", max_minutes=0)
    assert stopped.step == 1
    resumed = pretrain(CONFIG, stored, labels, tmp_path / "shards")
    assert resumed.step == whole.step == 2 * (len(memory) // 16)
    assert torch.equal(weights(resumed), weights(whole))


def test_a_run_begun_in_memory_goes_on_from_shards(both, tmp_path):
    memory, stored, labels = both
    whole = pretrain(CONFIG, memory, labels, tmp_path / "whole")
    pretrain(CONFIG, memory, labels, tmp_path / "moved", max_minutes=0)
    assert torch.equal(weights(pretrain(CONFIG, stored, labels, tmp_path / "moved")), weights(whole))


def test_the_command_takes_its_pixels_from_shards(both, folder, tmp_path, monkeypatch):
    memory, _, labels = both
    whole = pretrain(CONFIG, memory, labels, tmp_path / "memory")
    recipe = tmp_path / "recipe.json"
    recipe.write_text(CONFIG.model_dump_json())
    monkeypatch.setattr("encoder.cli.labelled.load_shards", None)
    ran = CliRunner().invoke(
        app,
        [
            "--data",
            str(folder),
            "--output",
            str(tmp_path / "shards"),
            "--config",
            str(recipe),
            "--threads",
            str(torch.get_num_threads()),  # sums are ordered by it
        ],
    )
    assert ran.exit_code == 0, ran.output
    assert f"{len(memory)} of 80 alerts" in ran.output
    log = json.loads((tmp_path / "shards" / "log.json").read_text())
    assert len(log["history"]) == CONFIG.epochs
    assert torch.equal(weights(load_checkpoint(tmp_path / "shards" / CHECKPOINT)), weights(whole))
