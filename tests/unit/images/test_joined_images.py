"""Two sets learned from as one: rows, pixels and labels of both, and what is refused."""

import numpy as np
import pytest

pytest.importorskip("torch")

from broker.errors import SettingsError
from encoder import cli
from encoder.images.archive import ImageSet, Kind, open_images, save_images
from encoder.images.config import ImageNetworkConfig, ImagePretrainConfig
from encoder.images.joined import joined
from encoder.images.task import load_image_checkpoint

pytestmark = pytest.mark.train


def stored(path, count, side, first_id, classes=("a", "b"), **changed):
    rng = np.random.default_rng(first_id)
    options = {"kind": Kind.DISPLAY, "bands": ("red", "green", "blue"), **changed}
    pixels = rng.integers(0, 255, (count, len(options["bands"]), side, side)).astype(np.uint8)
    label = rng.integers(0, len(classes), count)
    ids = np.arange(first_id, first_id + count)
    save_images(path, ImageSet.of(pixels, classes=classes, label=label, object_id=ids, **options))
    return open_images(path)


def test_rows_of_both_in_any_order_with_their_middle_pixels(tmp_path):
    known, others = stored(tmp_path / "k.hdf5", 5, 8, 100), stored(tmp_path / "o.hdf5", 4, 12, 200)
    both = joined(known, others)
    assert len(both) == 9
    rows = np.array([8, 0, 5, 4, 0])
    pixels = both.read(rows)
    assert pixels.shape == (5, 3, 8, 8)
    first, second = known.read(np.arange(5)), others.read(np.arange(4))[:, :, 2:10, 2:10]
    for pixel, row in zip(pixels, rows, strict=True):
        assert np.array_equal(pixel, first[row] if row < 5 else second[row - 5])
    assert both.object_id.tolist() == [*range(100, 105), *range(200, 204)]


def test_labels_are_those_of_the_known_set_alone(tmp_path):
    known, others = (
        stored(tmp_path / "k.hdf5", 5, 8, 100),
        stored(tmp_path / "o.hdf5", 4, 8, 200, ("x", "y", "z")),
    )
    both = joined(known, others)
    assert both.label.tolist() == [*known.label.tolist(), -1, -1, -1, -1]
    assert both.classes == ("a", "b")


def test_other_kinds_and_shared_objects_are_refused(tmp_path):
    known = stored(tmp_path / "k.hdf5", 5, 8, 100)
    with pytest.raises(SettingsError, match="display images of g, r: wanted one kind"):
        joined(known, stored(tmp_path / "o.hdf5", 4, 8, 200, bands=("g", "r")))
    with pytest.raises(SettingsError, match="share 2 object ids, 103 among them"):
        joined(known, stored(tmp_path / "s.hdf5", 4, 8, 103))


def test_the_command_learns_from_both(tmp_path, monkeypatch, capfd):
    stored(tmp_path / "k.hdf5", 80, 16, 100)
    stored(tmp_path / "o.hdf5", 100, 20, 1000)
    network = ImageNetworkConfig(size=16, field=16, widths=(8,), blocks=1, embedding_size=8)
    config = ImagePretrainConfig(network=network, epochs=1, batch_size=32, queue=16, label_weight=1.0)
    recipe = tmp_path / "recipe.json"
    recipe.write_text(config.model_dump_json())
    arguments = ["--data", tmp_path / "o.hdf5", "--beside", tmp_path / "k.hdf5", "--config", recipe]
    command = [
        "encoder",
        "pretrain",
        *map(str, arguments),
        "--output",
        str(tmp_path / "run"),
        "--threads",
        "1",
    ]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert (stopped.value.code or 0) == 0
    assert "80 images beside them, whose labels are learned too" in " ".join(capfd.readouterr().out.split())
    entry = load_image_checkpoint(tmp_path / "run" / "last.pt").history[-1]
    assert entry["labels"] > 0


def test_beside_is_refused_where_the_data_are_no_images(tmp_path, monkeypatch, capfd):
    (tmp_path / "shards").mkdir()
    arguments = ["--data", tmp_path / "shards", "--beside", tmp_path / "k.hdf5", "--output", tmp_path / "run"]
    monkeypatch.setattr("sys.argv", ["encoder", "pretrain", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert "no set of images" in " ".join(capfd.readouterr().err.split())


def test_a_weight_for_labels_that_nobody_has_is_refused(tmp_path, monkeypatch, capfd):
    images = ImageSet.of(
        np.zeros((80, 3, 16, 16), np.uint8), kind=Kind.DISPLAY, bands=("red", "green", "blue")
    )
    save_images(tmp_path / "o.hdf5", images)
    recipe = tmp_path / "recipe.json"
    recipe.write_text('{"label_weight": 1.0, "batch_size": 16, "queue": 16}')
    arguments = ["--data", tmp_path / "o.hdf5", "--config", recipe, "--output", tmp_path / "run"]
    monkeypatch.setattr("sys.argv", ["encoder", "pretrain", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert "none of" in capfd.readouterr().err
