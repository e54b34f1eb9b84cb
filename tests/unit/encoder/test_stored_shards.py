"""Pixels of shards by rows: the same bits as from memory, in the memory of a batch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import SettingsError
from encoder.archive import COLUMNS, load_shards, save_shard
from encoder.stored import BOX_SHAPE, ROW_BYTES, open_shards

COUNTS = (7, 1, 12)


@pytest.fixture(scope="module")
def paths(tmp_path_factory, write):
    return write(tmp_path_factory.mktemp("shards"), COUNTS)


@given(rows=st.lists(st.integers(0, sum(COUNTS) - 1), max_size=40))
def test_rows_are_those_of_memory_in_any_order_and_any_number(paths, rows):
    _, stored = open_shards(paths)
    wanted = np.array(rows, np.int64)
    assert stored.read(wanted).tobytes() == load_shards(paths).box[wanted].tobytes()


def test_rows_of_chosen_rows(paths):
    _, stored = open_shards(paths)
    chosen = stored.take(np.array([19, 3, 8, 7]))
    assert len(chosen) == 4
    np.testing.assert_array_equal(
        chosen.read(np.array([2, 0, 2])), load_shards(paths).box[np.array([8, 19, 8])]
    )


def test_the_columns_are_those_of_memory(paths):
    columns, stored = open_shards(paths)
    whole = load_shards(paths)
    assert len(columns) == len(stored) == len(whole) == sum(COUNTS)
    assert columns.classes == whole.classes
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(columns, name), getattr(whole, name))


def test_a_compressed_shard_says_how_it_can_be_read(tmp_path, synthetic):
    path = tmp_path / "small.npz"
    save_shard(path, synthetic(3, 0))
    with np.load(path) as data:
        arrays = {name: data[name] for name in data.files}
    np.savez_compressed(path, **arrays)
    with pytest.raises(SettingsError, match=r"small\.npz is compressed.*save_shard"):
        open_shards([path])
    save_shard(path, load_shards([path]))
    assert len(open_shards([path])[1]) == 3


@pytest.mark.parametrize(
    ("box", "said"),
    [
        (np.zeros((3, *BOX_SHAPE), np.float64), r"float64\(3, 3, 64, 64\); they must be float32"),
        (np.zeros((3, 3, 48, 48), np.float32), r"\(3, 3, 48, 48\); they must be float32\(n, 3, 64, 64\)"),
        (np.asfortranarray(np.zeros((3, *BOX_SHAPE), np.float32)), "in Fortran order; they must be"),
    ],
)
def test_pixels_laid_otherwise_are_refused(box, said, tmp_path, synthetic):
    path = tmp_path / "other.npz"
    save_shard(path, synthetic(3, 0))
    with np.load(path) as data:
        arrays = {name: data[name] for name in data.files}
    np.savez(path, **{**arrays, "box": box})
    with pytest.raises(SettingsError, match=said):
        open_shards([path])


def test_a_shard_that_was_cut_off_or_removed_is_named(tmp_path, write):
    (path,) = write(tmp_path, [5])
    _, stored = open_shards([path])
    with path.open("r+b") as file:
        file.truncate(3 * ROW_BYTES)
    with pytest.raises(SettingsError, match=r"synthetic-00000\.npz ends within row 4 of 5"):
        stored.read(np.array([0, 4]))
    path.unlink()
    with pytest.raises(SettingsError, match=r"synthetic-00000\.npz cannot be read any more"):
        stored.read(np.array([0]))


def test_shards_of_different_classes_are_no_set(tmp_path, synthetic):
    one, other = tmp_path / "one.npz", tmp_path / "other.npz"
    save_shard(one, synthetic(2, 0))
    save_shard(other, synthetic(2, 1, classes=("star",)))
    with pytest.raises(SettingsError, match="different classes"):
        open_shards([one, other])


READ = """
import sys
from pathlib import Path
import numpy as np
from encoder.archive import load_shards
from encoder.stored import open_shards

paths = sorted(Path(sys.argv[2]).glob("*.npz"))
read = open_shards(paths)[1].read if sys.argv[1] == "stored" else load_shards(paths).box.__getitem__
for rows in np.array_split(np.random.default_rng(0).permutation(100 * len(paths)), 2 * len(paths)):
    assert read(rows).shape == (50, 3, 64, 64)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak(how, folder):
    """Most memory, in bytes, that a process of its own took to read every row of a folder in shuffled batches."""
    ran = subprocess.run(
        [sys.executable, "-c", READ, how, str(folder)], capture_output=True, text=True, check=True
    )
    return 1024 * int(ran.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_ten_times_the_alerts_take_no_more_memory(tmp_path, synthetic):
    few, many = tmp_path / "few", tmp_path / "many"
    for folder, shards in ((few, 3), (many, 30)):
        folder.mkdir()
        for seed in range(shards):
            save_shard(folder / f"{seed:05d}.npz", synthetic(100, seed))
    more = 27 * 100 * ROW_BYTES
    assert peak("memory", many) - peak("memory", few) > 0.9 * more
    assert peak("stored", many) - peak("stored", few) < 0.05 * more
