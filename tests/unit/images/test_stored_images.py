"""Images by rows: the same bits as from memory, in the memory of a batch."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from broker.errors import SettingsError
from encoder.images.archive import COLUMNS, ImageSet, Kind, load_images, open_images, save_images
from encoder.images.config import ImagePretrainConfig
from encoder.images.task import ImageTask, pretrain_images
from encoder.images.views import Images, StoredImages

pytestmark = pytest.mark.train

RECIPE = ImagePretrainConfig.model_validate(
    {
        "network": {
            "size": 24, "field": 32, "widths": (8, 16), "blocks": 1, "groups": 4, "hidden": 8, "embedding_size": 16,
        },
        "epochs": 2,
        "batch_size": 16,
        "queue": 8,
        "projection": 8,
        "bf16": False,
        "checkpoint_seconds": 1e-3,
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    rng = np.random.default_rng(4)
    images = rng.integers(0, 255, (60, 3, 36, 36)).astype(np.uint8)
    made = tmp_path_factory.mktemp("images") / "noise.hdf5"
    known = {"label": np.arange(60) % 2, "photometry": rng.uniform(10, 1000, (60, 3))}
    save_images(made, ImageSet.of(images, kind=Kind.DISPLAY, bands=("red", "green", "blue"), **known))
    return made


def test_rows_are_those_of_memory_in_any_order_and_any_number(path):
    memory, stored = load_images(path), open_images(path)
    for rows in ([], [3], [59, 0, 3, 3, 17, 0]):
        wanted = np.array(rows, np.int64)
        np.testing.assert_array_equal(stored.read(wanted), memory.images[wanted])
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(stored, name), getattr(memory, name))


@pytest.mark.parametrize("chosen", [np.arange(60) % 3 == 0, np.array([40, 2, 9]), slice(5, 11)])
def test_rows_of_chosen_rows(path, chosen):
    memory, stored = load_images(path).take(chosen), open_images(path).take(chosen)
    assert len(memory) == len(stored)
    rows = torch.tensor([2, 0, 1])
    one, other = Images.of(memory)[rows], StoredImages.of(stored)[rows]
    assert torch.equal(one.pixels, other.pixels)
    assert torch.equal(one.photometry, other.photometry)


def test_batches_are_those_of_memory(path):
    rows = torch.tensor([3, 50, 1, 17, 2, 40])
    one, other = (
        ImageTask(RECIPE, images).batch(rows, torch.Generator().manual_seed(7))
        for images in (load_images(path), open_images(path))
    )
    assert torch.equal(one.query.pixels, other.query.pixels)
    assert torch.equal(one.key.pixels, other.key.pixels)
    assert torch.equal(one.target, other.target)


def test_a_run_begun_in_memory_and_killed_goes_on_from_the_file_to_the_bit(path, tmp_path):
    whole = pretrain_images(RECIPE, load_images(path), tmp_path / "whole")
    pretrain_images(RECIPE, load_images(path), tmp_path / "moved", max_minutes=0)
    moved = pretrain_images(RECIPE, open_images(path), tmp_path / "moved")
    assert moved.step == whole.step == 6
    for one, other in zip(whole.moco.state_dict().values(), moved.moco.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_file_that_is_gone_is_named(path, tmp_path):
    moved = tmp_path / "moved.hdf5"
    moved.write_bytes(path.read_bytes())
    stored = open_images(moved)
    moved.unlink()
    with pytest.raises(SettingsError, match=r"moved\.hdf5 cannot be read as HDF5"):
        stored.read(np.array([1]))


READ = """
import sys
from pathlib import Path
import numpy as np
from encoder.images.archive import load_images, open_images

path = Path(sys.argv[2])
images = open_images(path) if sys.argv[1] == "stored" else load_images(path)
read = images.read if sys.argv[1] == "stored" else images.images.__getitem__
for rows in np.array_split(np.random.default_rng(0).permutation(len(images)), len(images) // 50):
    assert len(read(rows)) == 50
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak(how, path):
    """Most memory, in bytes, that a process of its own took to read every image in shuffled batches."""
    ran = subprocess.run(
        [sys.executable, "-c", READ, how, str(path)], capture_output=True, text=True, check=True
    )
    return 1024 * int(ran.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_ten_times_the_images_take_no_more_memory(tmp_path):
    few, many = tmp_path / "few.hdf5", tmp_path / "many.hdf5"
    for made, count in ((few, 200), (many, 2000)):
        pixels = np.zeros((count, 5, 64, 64), np.float32)
        save_images(made, ImageSet.of(pixels, kind=Kind.FLUX, bands=tuple("ugriz")))
        with h5py.File(made) as file:
            assert file["images"].id.get_storage_size() == pixels.nbytes
    more = 1800 * pixels[0].nbytes
    assert peak("memory", many) - peak("memory", few) > 0.9 * more
    assert peak("stored", many) - peak("stored", few) < 0.1 * more
