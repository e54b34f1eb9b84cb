"""Learning from images: it learns, it goes on to the bit, and its features can be had by all."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from broker.errors import SettingsError
from encoder.cli.commands import app
from encoder.images.archive import ImageSet, Kind, save_images
from encoder.images.config import ImageNetworkConfig, ImagePretrainConfig
from encoder.images.task import ImageTask, load_image_checkpoint, pretrain_images
from encoder.train import CHECKPOINT

pytestmark = pytest.mark.train

RECIPE = {
    "network": {
        "size": 24, "field": 32, "widths": (8, 16), "blocks": 1, "groups": 4, "hidden": 8, "embedding_size": 16,
    },
    "epochs": 3,
    "batch_size": 32,
    "queue": 32,
    "projection": 8,
    "bf16": False,
}  # fmt: skip


def spots(count=160, seed=0):
    """Round and long spots of many colours."""
    rng = np.random.default_rng(seed)
    axis = np.arange(36) - 17.5
    label = np.arange(count) % 2
    long = np.where(label == 1, 7.0, 3.0)[:, None, None]
    profile = np.exp(-0.5 * ((axis[None, :, None] / 3.0) ** 2 + (axis[None, None] / long) ** 2))
    colour = rng.uniform(60, 220, (count, 3, 1, 1))
    return (profile[:, None] * colour + rng.uniform(0, 20, (count, 3, 36, 36))).astype(np.uint8), label


def image_set(count=160, kind=Kind.DISPLAY, bands=("red", "green", "blue")):
    images, label = spots(count)
    fluxes = images if kind is Kind.DISPLAY else images.astype(np.float32)
    known = {} if kind is Kind.DISPLAY else {"noise": np.full((count, 3), 6.0)}
    return ImageSet.of(fluxes, kind=kind, bands=bands, label=label, classes=("round", "long"), **known)


@pytest.mark.parametrize("kind", list(Kind))
def test_the_loss_falls_and_nothing_collapses(tmp_path, kind):
    recipe = ImagePretrainConfig(**{**RECIPE, "network": {**RECIPE["network"], "kind": kind}, "epochs": 16})
    run = pretrain_images(recipe, image_set(kind=kind, bands=("g", "r", "i")), tmp_path)
    first, last = run.history[0], run.history[-1]
    # The queue is random at first, and easy to be told from.
    assert last["contrast"] < max(entry["contrast"] for entry in run.history) - 0.2
    # Shapes of these few faint galaxies are mostly noise, which no side task learns.
    assert last["auxiliary"] < 0.97 * first["auxiliary"]
    assert last["rank_me"] > 3


def test_a_run_goes_on_to_the_bit(tmp_path):
    recipe, images = ImagePretrainConfig(**RECIPE), image_set()
    whole = pretrain_images(recipe, images, tmp_path / "whole")
    pretrain_images(recipe, images, tmp_path / "parts", max_minutes=0)
    parts = pretrain_images(recipe, images, tmp_path / "parts")
    for one, other in zip(whole.moco.state_dict().values(), parts.moco.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    again = load_image_checkpoint(tmp_path / "parts" / CHECKPOINT)
    assert again.config == recipe


def test_widths_that_groups_do_not_divide_are_refused_in_words():
    with pytest.raises(ValueError, match=r"widths \[30, 60\] are not multiples of groups = 8"):
        ImageNetworkConfig(widths=(30, 60))


@pytest.mark.parametrize("name", ["ebv", "psf_fwhm"])
def test_what_changes_a_view_changes_the_digest(name):
    recipe, images = ImagePretrainConfig(**RECIPE), image_set()
    other = replace(images, **{name: np.full_like(getattr(images, name), 0.25)})
    assert ImageTask(recipe, other).digest() != ImageTask(recipe, images).digest()


def test_labels_change_the_digest_where_something_is_learned_from_them():
    images = image_set()
    other = replace(images, label=1 - images.label)
    for weight in (0.0, 1.0):
        recipe = ImagePretrainConfig(**RECIPE, label_weight=weight)
        changed = ImageTask(recipe, other).digest() != ImageTask(recipe, images).digest()
        assert changed == (weight > 0)


def test_images_of_the_whole_set_are_watched_one_of_each_object(monkeypatch):
    monkeypatch.setattr("encoder.images.task.WATCHED", 40)
    objects = np.arange(160) // 2
    task = ImageTask(ImagePretrainConfig(**RECIPE), replace(image_set(), object_id=objects))
    rows = task._watched_rows()
    assert len(rows) == len(set(objects[rows].tolist())) == 40
    assert [int(((rows >= start) & (rows < start + 40)).sum()) for start in range(0, 160, 40)] == [10] * 4
    assert len(task.watch(task.new_moco()).label) == 40


def test_images_of_other_bands_are_refused(tmp_path):
    recipe = ImagePretrainConfig(**{**RECIPE, "network": {**RECIPE["network"], "bands": 5}})
    with pytest.raises(
        SettingsError, match=r"display of 3 bands, the recipe is for display of 5.*\"bands\": 3"
    ):
        pretrain_images(recipe, image_set(), tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """From an .npz to a checkpoint, by the commands."""
    folder = tmp_path_factory.mktemp("images")
    images, label = spots()
    np.savez(
        folder / "galaxies.npz", images=np.moveaxis(images, 1, 3), label=label, objid=np.arange(160) + 2**60
    )
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    for arguments in (
        ["ingest", f"{folder}/galaxies.npz", "--output", f"{folder}/galaxies.hdf5"],
        ["pretrain", "--data", f"{folder}/galaxies.hdf5", "--output", f"{folder}/run",
         "--config", f"{folder}/recipe.json", "--threads", "1"],
    ):  # fmt: skip
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    return folder


def test_the_embedding_of_an_archive_in_its_order(trained):
    arguments = ["embed", f"{trained}/galaxies.npz", "--model", f"{trained}/run/last.pt"]
    for name in ("features.parquet", "features.npy"):
        result = CliRunner().invoke(
            app, [*arguments, "--output", f"{trained}/{name}"], catch_exceptions=False
        )
        assert "160 images in" in result.output
    table = pq.read_table(trained / "features.parquet")
    assert table["object_id"].to_pylist() == [n + 2**60 for n in range(160)]
    embedding = np.array(table["embedding"].to_pylist(), np.float32)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(np.load(trained / "features.npy"), embedding)
    assert (trained / "features.ids.csv").read_text().splitlines()[:2] == ["object_id", str(2**60)]


def test_the_packaged_model_is_for_alerts(trained):
    with pytest.raises(SettingsError, match="the packaged model is for alerts"):
        CliRunner().invoke(
            app, ["embed", f"{trained}/galaxies.npz", "--output", f"{trained}/f.npy"], catch_exceptions=False
        )


def test_images_of_another_kind_are_refused(trained):
    fluxes = image_set(kind=Kind.FLUX, bands=("g", "r", "i"))
    save_images(trained / "fluxes.hdf5", fluxes)
    arguments = ["embed", f"{trained}/fluxes.hdf5", "--model", f"{trained}/run/last.pt"]
    with pytest.raises(
        SettingsError, match="flux images of 3 bands; the encoder learned from display images"
    ):
        CliRunner().invoke(app, [*arguments, "--output", f"{trained}/f.npy"], catch_exceptions=False)
    assert [path.name for path in trained.glob("*f.*")] == []
