"""Two processes take the steps that one takes: `torchrun` as people call it, and what it must refuse."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

from broker.errors import SettingsError
from encoder.images.archive import ImageSet, Kind, save_images
from encoder.losses import known_regression
from encoder.world import World, computes_in_bf16

pytestmark = pytest.mark.train

RECIPE = {
    "network": {"size": 16, "field": 24, "widths": [8, 16], "blocks": 1, "groups": 4, "hidden": 8, "embedding_size": 8},
    "views": {"band_dropout": 0.2},
    "epochs": 6,
    "batch_size": 48,
    "queue": 16,
    "projection": 8,
    "pieces": 4,
    "bf16": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def galaxies(tmp_path_factory):
    """Fluxes of which some lack a band, some have photometry, and one object was seen twice."""
    folder, rng = tmp_path_factory.mktemp("world"), np.random.default_rng(4)
    noise = np.where(rng.random((90, 3)) < 0.2, 0.0, 5.0)
    photometry = np.where(rng.random((90, 3)) < 0.5, np.nan, rng.uniform(100, 9000, (90, 3)))
    number = np.arange(90)
    number[1] = 0
    images = ImageSet.of(
        rng.normal(0, 5, (90, 3, 30, 30)).astype(np.float32)
        + rng.uniform(0, 50, (90, 1, 1, 1)).astype(np.float32),
        kind=Kind.FLUX,
        bands=("g", "r", "i"),
        noise=noise,
        photometry=photometry,
        object_id=number,
    )
    save_images(folder / "galaxies.hdf5", images)
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    return folder


def pretrain(folder, output, processes):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    arguments = [
        "pretrain",
        "--data",
        "galaxies.hdf5",
        "--output",
        output,
        "--config",
        "recipe.json",
        "--threads",
        "1",
    ]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", "encoder.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)


def test_two_processes_take_the_steps_of_one(galaxies):
    """A step an epoch, so that the log has the loss of every step."""
    for name, processes in (("one", 1), ("two", 2)):
        done = pretrain(galaxies, name, processes)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("6 steps in") == 1  # the leader speaks, the others are silent
    one, two = (json.loads((galaxies / name / "log.json").read_text())["history"] for name in ("one", "two"))
    for first, second in zip(one, two, strict=True):
        for part in ("loss", "contrast", "auxiliary", "spread"):
            assert second[part] == pytest.approx(first[part], abs=1e-5)
    weights = [torch.load(galaxies / name / "last.pt", weights_only=True)["moco"] for name in ("one", "two")]
    for name in weights[0]:
        torch.testing.assert_close(weights[1][name], weights[0][name], atol=1e-5, rtol=1e-4)


def test_the_pieces_of_all_are_the_batch():
    assert [list(World(rank, 2).share(4)) for rank in (0, 1)] == [[0, 1], [2, 3]]
    with pytest.raises(
        SettingsError, match="a batch of 4 pieces cannot be shared by 3 processes: start as many as divide it"
    ):
        World(0, 3).share(4)


def test_unknown_targets_count_over_the_whole_batch(monkeypatch):
    """The mean over processes of what each returns is that of one process, however unknowns are spread."""
    generator = torch.Generator().manual_seed(0)
    predicted, target = torch.randn(8, 3, generator=generator), torch.randn(8, 3, generator=generator)
    target[:3] = torch.nan
    target[6, 1] = torch.nan
    whole = known_regression(predicted, target)
    known = torch.isfinite(target)
    assert float(whole) == pytest.approx(
        float(functional.smooth_l1_loss(predicted[known], target[known])), rel=1e-6
    )
    monkeypatch.setattr(World, "total", lambda _self, _value: known.sum())
    halves = [
        known_regression(predicted[rows], target[rows], World(rank, 2))
        for rank, rows in enumerate((slice(0, 4), slice(4, 8)))
    ]
    assert float(sum(halves) / 2) == pytest.approx(float(whole), rel=1e-6)


@pytest.mark.parametrize("instruction", ["avx512_bf16", "amx_bf16", "bf16", "sve_bf16"])
def test_bfloat16_is_used_where_there_are_instructions_for_it(monkeypatch, instruction):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {instruction: True})
    assert computes_in_bf16("cpu")


def test_bfloat16_is_not_emulated(monkeypatch):
    """A step of the default recipe took 14.3 s by emulation where float32 takes 0.9."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    assert not computes_in_bf16("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": True})
    assert computes_in_bf16("cpu")
    assert not computes_in_bf16("xpu"), "nothing is known of it"
