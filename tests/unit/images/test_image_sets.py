"""Sets of images: one layout, whatever they come from; a wrong one says what was found and what was wanted."""

import h5py
import numpy as np
import pytest

from broker.errors import SettingsError
from encoder.images.archive import ARRAYS, ImageSet, Kind, batches, is_image_set, load_images, save_images
from encoder.images.foreign import DISPLAY_BANDS, SDSS_BANDS, edge_noise, read_images

pytestmark = pytest.mark.train

RNG = np.random.default_rng(3)
PICTURES = RNG.integers(0, 255, (7, 20, 24, 3)).astype(np.uint8)
FLUXES = RNG.normal(size=(6, 5, 107, 107)).astype(np.float32)


@pytest.fixture
def npz(tmp_path):
    path = tmp_path / "galaxies.npz"
    np.savez(
        path,
        images=PICTURES,
        objid=np.arange(7) + 1237648720142401611,
        label=np.array([0, 1, 1, 0, 1, -1, 0], np.int8),
        classes=np.array(["elliptical", "spiral"]),
    )
    return path


@pytest.fixture
def hdf5(tmp_path):
    path = tmp_path / "sdss.h5"
    with h5py.File(path, "w") as file:
        file["images"], file["e_bv"] = FLUXES, np.full(6, 0.1)
        file["specz_redshift"] = np.linspace(0, 0.4, 6)
    return path


def test_pictures_keep_their_ids_labels_and_pixels(npz):
    images = read_images(npz)
    assert (images.kind, images.bands, images.classes) == (
        Kind.DISPLAY,
        DISPLAY_BANDS,
        ("elliptical", "spiral"),
    )
    assert images.images.dtype == np.uint8
    np.testing.assert_array_equal(images.images, np.moveaxis(PICTURES, 3, 1))
    assert images.object_id[-1] == 1237648720142401617
    assert images.label.tolist() == [0, 1, 1, 0, 1, -1, 0]
    assert np.isnan(images.redshift).all()


def test_the_published_hdf5_layout(hdf5):
    images = read_images(hdf5)
    assert (images.kind, images.bands) == (Kind.FLUX, SDSS_BANDS)
    np.testing.assert_array_equal(images.images, FLUXES)
    np.testing.assert_allclose(images.redshift, np.linspace(0, 0.4, 6), rtol=1e-6)
    np.testing.assert_allclose(images.ebv, 0.1, rtol=1e-6)


def test_noise_that_is_not_given_is_measured_at_the_edge(hdf5):
    np.testing.assert_allclose(read_images(hdf5).noise, 1.0, atol=0.15)


def gaps(name):
    """Noise of 1, with something missing."""
    pixels = RNG.normal(size=(1, 1, 60, 60))
    if name == "one NaN":
        pixels[..., 0, 3] = np.nan
    if name == "one infinity":
        pixels[..., 0, 3] = np.inf
    if name == "a padded side":
        pixels[..., :20, :] = 0
    if name == "a padded edge":
        pixels[..., :20, :] = pixels[..., -20:, :] = pixels[..., :20] = pixels[..., -20:] = 0
    if name == "all but a corner of the edge padded":
        pixels[..., :20, :] = pixels[..., -20:, :] = pixels[..., :20] = pixels[..., -20:] = 0
        pixels[..., :2, :2] = 1e-6 * np.arange(4).reshape(2, 2)
    return pixels


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "one NaN",
        "one infinity",
        "a padded side",
        "a padded edge",
        "all but a corner of the edge padded",
    ],
)
def test_gaps_and_padding_leave_the_noise_as_it_is(name):
    np.testing.assert_allclose(edge_noise(gaps(name)), 1.0, atol=0.15)


def test_what_varies_has_a_noise_and_what_does_not_is_missing():
    counts = np.zeros((1, 4, 24, 24), np.float32)
    counts[0, 0, 12, 12] = 7
    counts[0, 1] = np.nan
    counts[0, 2] = 0.1
    counts[0, 3] = np.where(np.arange(24) % 2, 0, 1)
    found = edge_noise(counts)[0]
    assert (found[[0, 3]] > 0).all()
    assert found[[1, 2]].tolist() == [0, 0]


def test_ids_that_are_not_given_stay_with_their_image(tmp_path):
    for name, rows in (("all", np.arange(7)), ("some", np.array([5, 2, 2]))):
        np.savez(tmp_path / f"{name}.npz", images=PICTURES[rows])
    whole, some = (read_images(tmp_path / f"{name}.npz").object_id for name in ("all", "some"))
    assert some.tolist() == whole[[5, 2, 2]].tolist()
    assert len(set(whole.tolist())) == 7
    assert (whole >= 0).all()


def test_what_was_written_is_read(npz, tmp_path):
    images, path = read_images(npz), tmp_path / "set.hdf5"
    assert not is_image_set(npz)
    save_images(path, images)
    assert is_image_set(path)
    for found in (load_images(path), read_images(path)):
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(found, name), getattr(images, name))
        assert (found.kind, found.bands, found.classes) == (images.kind, images.bands, images.classes)
    assert [len(batch) for batch in batches(path, 3)] == [3, 3, 1]
    assert [path.name for path in tmp_path.glob("*partial*")] == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"pictures": PICTURES}, r"holds \['pictures'\]; wanted 'images' \(n, h, w, bands\)"),
        ({"images": PICTURES[0]}, r"shape \(20, 24, 3\); wanted \(n, h, w, bands\)"),
        ({"images": np.moveaxis(PICTURES, 3, 1)}, r"shape \(7, 3, 20, 24\); wanted \(n, h, w, bands\)"),
        ({"images": PICTURES[:0]}, r"shape \(0, 20, 24, 3\)"),
        ({"images": PICTURES.astype(np.int32)}, "are int32; wanted uint8"),
        ({"images": PICTURES, "label": np.zeros(3)}, "label has 3 rows, where there are 7 images"),
    ],
)
def test_a_wrong_npz_says_what_was_found_and_wanted(tmp_path, content, said):
    np.savez(tmp_path / "wrong.npz", **content)
    with pytest.raises(SettingsError, match=said):
        read_images(tmp_path / "wrong.npz")


def test_a_wrong_hdf5_says_what_was_found_and_wanted(tmp_path):
    with h5py.File(tmp_path / "wrong.h5", "w") as file:
        file["images"], file["redshift"] = FLUXES, np.zeros(6)
    with pytest.raises(SettingsError, match=r"\['images', 'redshift'\]; wanted \['specz_redshift', 'e_bv'\]"):
        read_images(tmp_path / "wrong.h5")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "wrong.npz").write_bytes(content)
    with pytest.raises(SettingsError, match=r"cannot be read as \.npz"):
        read_images(tmp_path / "wrong.npz")


def test_a_missing_file_and_one_of_another_layout_are_refused(tmp_path, hdf5):
    with pytest.raises(SettingsError, match="is no file"):
        read_images(tmp_path / "none.npz")
    with pytest.raises(SettingsError, match=r"which is no set of images .*encoder ingest"):
        load_images(hdf5)


def test_arrays_of_other_lengths_are_refused():
    with pytest.raises(SettingsError, match="redshift has 2 rows"):
        ImageSet.of(FLUXES, kind=Kind.FLUX, bands=SDSS_BANDS, redshift=np.zeros(2))
