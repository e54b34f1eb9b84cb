"""Display pictures: like real ones where that was tuned, colours that a stretch keeps, runs that go on."""

import numpy as np
import pytest

pytest.importorskip("h5py")

from broker.errors import SettingsError
from encoder import cli
from encoder.images.archive import Kind, load_images
from encoder.simulate.pictures import (
    BALANCE,
    PICTURE_CLASSES,
    SIDE,
    SKY_LEVEL,
    PictureDrawing,
    simulate_picture,
    simulate_pictures,
    stretch,
)

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def pictures():
    return PictureDrawing(160, 1).draw(range(160))


def test_the_same_numbers_give_the_same_picture():
    one, other, third = simulate_picture(2, 7), simulate_picture(2, 7), simulate_picture(2, 8)
    assert np.array_equal(one.image, other.image)
    assert one.object_id == other.object_id != third.object_id
    assert not np.array_equal(one.image, third.image)


def test_sky_noise_and_middles_are_as_in_real_pictures(pictures):
    """Of 3,223 real ones: sky 3 to 4, its scatter 3, middles 173, 140, 99 in the median."""
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    sky = pictures.images[:, :, np.hypot(x, y) > 28].astype(float)
    level = np.median(sky, axis=2, keepdims=True)
    assert np.median(level) == pytest.approx(SKY_LEVEL, abs=1)
    assert 1.4826 * np.median(np.abs(sky - level)) == pytest.approx(3, abs=1.6)
    half = SIDE // 2
    middle = pictures.images[:, :, half - 2 : half + 2, half - 2 : half + 2].mean(axis=(2, 3))
    red, green, blue = np.median(middle, axis=0)
    assert 120 < red < 220
    assert 100 < green < 180
    assert 60 < blue < 150
    assert red > green > blue


def test_an_edge_on_disk_is_thin_and_a_smooth_galaxy_is_not(pictures):
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    inside = np.hypot(x, y) < 12

    def flattening(image):
        light = np.where(inside, image.mean(0) - SKY_LEVEL, 0).clip(min=0)
        a, b, c = ((light * m).sum() / light.sum() for m in (x * x, y * y, x * y))
        small, large = np.linalg.eigvalsh([[a, c], [c, b]])
        return np.sqrt(small / large)

    ratio = {
        name: np.median(
            [flattening(one) for one in pictures.images[pictures.label == PICTURE_CLASSES.index(name)]]
        )
        for name in ("edge_on", "smooth")
    }
    assert ratio["edge_on"] < 0.7 * ratio["smooth"]


def test_a_stretch_keeps_colours_and_dims_what_is_too_bright():
    white = np.ones((3, 1, 2)) / BALANCE[:, None, None] * np.array([0.05, 1000.0])
    shown = stretch(white).astype(int)
    assert np.ptp(shown[:, 0, 0]) <= 1, "light of average colour is white"
    assert (shown[:, 0, 1] == 255).all()
    red = stretch(np.array([300.0, 30.0, 3.0])[:, None, None]).astype(int).ravel()
    assert red[0] == 255
    assert red[1] < 60, "too bright a pixel keeps its colour"
    assert stretch(np.zeros((3, 1, 1))).ravel().tolist() == [4, 4, 4]


def test_the_command_makes_a_labelled_set_the_same_for_any_number_of_processes(tmp_path, monkeypatch, capfd):
    path = tmp_path / "pictures.hdf5"
    command = ["encoder", "simulate", "--pictures", "5", "--processes", "2", "--output", str(path)]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert (stopped.value.code or 0) == 0
    assert "--beside" in " ".join(capfd.readouterr().out.split())
    simulate_pictures(5, 1, tmp_path / "again.hdf5")
    images, again = load_images(path), load_images(tmp_path / "again.hdf5")
    assert np.array_equal(images.images, again.images)
    assert (images.kind, images.classes, images.bands) == (
        Kind.DISPLAY,
        PICTURE_CLASSES,
        ("red", "green", "blue"),
    )
    assert images.images.shape == (5, 3, SIDE, SIDE)
    assert (images.label >= 0).all()
    with pytest.raises(SettingsError, match="exists already"):
        simulate_pictures(5, 1, path)
