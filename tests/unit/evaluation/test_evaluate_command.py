"""`encoder evaluate` from the command line: one page, one JSON, and errors that say what to give."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from broker.errors import SettingsError
from encoder.cli.evaluate import app
from encoder.cli.pretrain import app as pretrain
from encoder.images.archive import ImageSet, Kind, load_images, save_images
from encoder.images.config import ImageNetworkConfig, ImagePretrainConfig
from encoder.images.task import pretrain_images

pytestmark = pytest.mark.train

RECIPE = ImagePretrainConfig(
    network=ImageNetworkConfig(size=16, field=20, widths=(8, 16), blocks=1, groups=4, embedding_size=8),
    epochs=1,
    batch_size=32,
    queue=32,
    projection=8,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Pictures of round and long spots, some of them crosses, and an encoder that has seen them once."""
    folder = tmp_path_factory.mktemp("evaluate")
    rng = np.random.default_rng(1)
    label = rng.choice(3, 300, p=[0.5, 0.45, 0.05])
    y, x = np.mgrid[:24, :24] - 11.5
    shapes = np.stack(
        [
            np.exp(-(x**2 + y**2) / 8),
            np.exp(-(x**2) / 8 - y**2 / 60),
            np.maximum(np.exp(-(x**2) / 4 - y**2 / 90), np.exp(-(y**2) / 4 - x**2 / 90)),
        ]
    )
    pixels = 180 * shapes[label][:, None] + rng.uniform(0, 30, (300, 3, 24, 24))
    images = ImageSet.of(
        pixels.astype(np.uint8),
        kind=Kind.DISPLAY,
        bands=("red", "green", "blue"),
        classes=("round", "long", "cross"),
        label=label,
    )
    save_images(folder / "sky.hdf5", images)
    pretrain_images(RECIPE, images, folder / "run")
    return folder


def evaluated(*words):
    found = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(found.exception, SettingsError):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found


def test_images_end_in_a_page_and_a_json(trained, tmp_path):
    evaluated(
        "--encoder",
        trained / "run" / "last.pt",
        "--data",
        trained / "sky.hdf5",
        "--drop",
        "cross",
        "--anomaly",
        "cross",
        "--output",
        tmp_path,
    )
    said = json.loads((tmp_path / "report.json").read_text())
    assert [section["title"] for section in said["sections"]] == [
        "Label efficiency: sky",
        "Anomalies: cross in sky",
    ]
    table = said["sections"][0]["tables"]["by number of labels"]
    assert table["probe of the pretrained net, N = 50"]["macro_f1"]["value"] > 0.8
    assert said["sources"][0]["rows"] == 300
    assert len(said["sources"][0]["digest"]) == 64
    html = (tmp_path / "report.html").read_text()
    assert "isolation forest" in html
    assert html.count("<svg") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nowhere.npz"], "does not exist"),
        (["--data", "SKY"], "takes a checkpoint made by `encoder pretrain`"),
        (["--data", "ALERTS"], "give --labels FILE.csv"),
        (["--data", "SKY", "--encoder", "gone.pt"], "is no file"),
        (["--data", "SKY", "--encoder", "RUN", "--anomaly", "ghost"], "no class"),
    ],
)
def test_what_cannot_work_is_told(trained, tmp_path, words, message):
    (tmp_path / "alerts").mkdir()
    places = {"SKY": trained / "sky.hdf5", "RUN": trained / "run" / "last.pt", "ALERTS": tmp_path / "alerts"}
    with pytest.raises(SettingsError, match=message):
        evaluated(*(places.get(word, word) for word in words), "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_catalogue_that_lacks_bands_is_told(tmp_path):
    path = tmp_path / "sky.hdf5"
    with h5py.File(path, "w") as file:
        file["redshift"] = [0.1]
    with pytest.raises(SettingsError, match="wanted"):
        evaluated("--data", path, "--output", tmp_path / "out")


def test_nothing_is_trained_on_what_is_kept_out(trained, tmp_path):
    images = load_images(trained / "sky.hdf5")
    save_images(tmp_path / "rare.hdf5", replace(images, classes=("disk", "bulge", "lens_arc")))
    words = ["--data", str(tmp_path / "rare.hdf5"), "--output", str(tmp_path / "run")]
    with pytest.raises(SettingsError, match="holds lens_arc: anomalies are kept out of training"):
        CliRunner().invoke(pretrain, words, catch_exceptions=False)
    assert not (tmp_path / "run").exists()
