"""Sets of images as others keep them: NumPy archives, and the HDF5 layout of Hayat et al. 2021."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import h5py
import numpy as np
from numpy.typing import NDArray

from broker.errors import SettingsError
from encoder.evaluate import MAD_TO_SIGMA
from encoder.images.archive import ImageSet, Kind, is_image_set, load_images

SDSS_BANDS = ("u", "g", "r", "i", "z")
SDSS_PIXEL = 0.396
"""Arcsec (Gunn et al. 1998, AJ 116, 3040)."""

DISPLAY_BANDS = ("red", "green", "blue")
DIMENSIONS = 4
EDGE = 12
"""The edge is as deep as the side over this: far from the galaxy in the middle."""

EDGE_KNOWN = 0.25
"""Share of the edge that must be sky: of fewer pixels, the scatter is chance."""

MOST_BANDS = 12
"""An axis longer than this is no axis of bands."""

RENAMED = {"objid": "object_id", "e_bv": "ebv", "specz_redshift": "redshift", "z": "redshift"}
"""Names others use for what `ImageSet` names differently."""

TAKEN = ("label", "redshift", "ebv", "noise", "psf_fwhm", "photometry", "photometry_error", "object_id")


def read_images(path: Path) -> ImageSet:
    """Read a set of images in any layout that is known.

    Parameters
    ----------
    path : Path
        One of ours, an ``.npz`` with ``images`` (n, h, w, bands), or an HDF5 file with ``images``
        (n, bands, h, w), ``specz_redshift`` and ``e_bv``. Of an ``.npz`` also ``label``, ``classes``,
        ``objid`` and what else `ImageSet` has are taken, where they are there.

    Returns
    -------
    ImageSet
        8-bit values are taken as a display picture, others as fluxes. Where no ids are given, they are of the
        pixels: the same for the same image, wherever it stands.

    Raises
    ------
    SettingsError
        Says which keys or shapes were found, and which were wanted.
    """
    if not path.is_file():
        raise SettingsError(f"{path} is no file: give an .npz or HDF5 file of images")
    if h5py.is_hdf5(path):
        return load_images(path) if is_image_set(path) else _read_hdf5(path)
    return _read_npz(path)


def _read_npz(path: Path) -> ImageSet:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except (BadZipFile, ValueError, OSError, EOFError) as error:
        raise SettingsError(f"{path} cannot be read as .npz: {str(error).splitlines()[0]}") from error
    images = _images(path, found, "(n, h, w, bands)", bands_axis=3)
    return _set_of(path, np.moveaxis(images, 3, 1), found, tuple(f"band{k}" for k in range(images.shape[3])))


def _read_hdf5(path: Path) -> ImageSet:
    with h5py.File(path, "r") as file:
        found = {name: file[name][()] for name in file if isinstance(file[name], h5py.Dataset)}
    wanted = [name for name in ("images", "specz_redshift", "e_bv") if name not in found]
    if wanted:
        raise SettingsError(f"{path} holds {sorted(found)}; wanted {wanted} beside them")
    images = _images(path, found, "(n, bands, h, w)", bands_axis=1)
    if images.shape[1] != len(SDSS_BANDS):
        raise SettingsError(f"{path}: 'images' have {images.shape[1]} bands; wanted {', '.join(SDSS_BANDS)}")
    return _set_of(path, images, found, SDSS_BANDS)


def _images(path: Path, found: Mapping[str, NDArray[Any]], wanted: str, *, bands_axis: int) -> NDArray[Any]:
    if "images" not in found:
        raise SettingsError(f"{path} holds {sorted(found)}; wanted 'images' {wanted}")
    images = found["images"]
    if images.ndim != DIMENSIONS or not 1 <= images.shape[bands_axis] <= MOST_BANDS or len(images) == 0:
        raise SettingsError(f"{path}: 'images' has the shape {images.shape}; wanted {wanted}")
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise SettingsError(f"{path}: 'images' are {images.dtype}; wanted uint8 (display) or float (fluxes)")
    return images


def _set_of(
    path: Path, images: NDArray[Any], found: Mapping[str, NDArray[Any]], bands: tuple[str, ...]
) -> ImageSet:
    display = images.dtype == np.uint8
    known = {RENAMED.get(name, name): values for name, values in found.items()}
    if display and len(bands) == len(DISPLAY_BANDS):
        bands = DISPLAY_BANDS
    if not display and "noise" not in known:
        known["noise"] = edge_noise(images)
    pixels = np.ascontiguousarray(images if display else images.astype(np.float32))
    known.setdefault("object_id", pixel_ids(pixels))
    try:
        return ImageSet.of(
            pixels,
            kind=Kind.DISPLAY if display else Kind.FLUX,
            bands=tuple(map(str, known.get("bands", bands))),
            classes=tuple(map(str, known.get("classes", ()))),
            pixel_scale=SDSS_PIXEL if bands == SDSS_BANDS else float("nan"),
            **{name: known[name] for name in TAKEN if name in known},
        )
    except ValueError as error:
        raise SettingsError(f"{path}: {error}") from error


def pixel_ids(images: NDArray[Any]) -> NDArray[np.int64]:
    """Make ids of the images' pixels, so that none depends on the order of rows or on what else is in the set.

    Parameters
    ----------
    images : ndarray, shape (n, bands, h, w)

    Returns
    -------
    ndarray of int64, shape (n,)
        The first 63 bits of each image's SHA-256.
    """
    digests = [hashlib.sha256(image.tobytes()).digest()[:8] for image in images]
    return np.array([int.from_bytes(digest, "big") >> 1 for digest in digests], np.int64)


def edge_noise(images: NDArray[Any]) -> NDArray[np.float64]:
    """Measure the noise of each band by the scatter of the pixels along the edge, robustly.

    Parameters
    ----------
    images : ndarray of float, shape (n, bands, h, w)

    Returns
    -------
    ndarray of float64, shape (n, bands)
        1.4826 times the median absolute deviation. Where pixels of the edge are not finite, or 0 as padding is, of
        the others; where too few are left or they do not differ, of the whole image. 0 where nothing varies.
    """
    depth = max(1, min(images.shape[2:]) // EDGE)
    sides = (images[:, :, :depth], images[:, :, -depth:], images[:, :, :, :depth], images[:, :, :, -depth:])
    edge = np.concatenate([side.reshape(*images.shape[:2], -1) for side in sides], axis=2)
    sky = np.isfinite(edge) & (edge != 0)
    noise = np.zeros(edge.shape[:2])
    whole = sky.all(axis=2)
    noise[whole] = _scatter(edge[whole])
    for image, band in np.argwhere(noise == 0):
        noise[image, band] = _noise_in_gaps(edge[image, band], images[image, band])
    return noise


def _scatter(pixels: NDArray[Any]) -> NDArray[np.float64]:
    """Robust standard deviation over the last axis."""
    deviation = np.abs(pixels - np.median(pixels, axis=-1, keepdims=True))
    return np.asarray(MAD_TO_SIGMA * np.median(deviation, axis=-1), np.float64)


def _noise_in_gaps(edge: NDArray[Any], image: NDArray[Any]) -> float:
    for pixels, least in ((edge, EDGE_KNOWN), (image, 0.0)):
        sky = pixels[np.isfinite(pixels) & (pixels != 0)].astype(np.float64)
        if len(sky) > least * pixels.size and (found := float(_scatter(sky))) > 0:
            return found
    known = image[np.isfinite(image)].astype(np.float64)
    return float(known.std()) if known.size and known.min() < known.max() else 0.0
