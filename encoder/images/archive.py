"""Sets of images in one HDF5 layout, read whole or by rows.

Every array of `ImageSet` is a dataset of the file; what describes them all is an attribute. Rows are chunks
of their own, so that a file of any size is read a batch at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from broker.alert import Float32Array
from broker.errors import SettingsError

FORMAT = 1
"""Version of the layout, written into each file as attribute ``nightjar_images``."""

MARK = "nightjar_images"

Pixels: TypeAlias = NDArray[np.float32] | NDArray[np.uint8]


class Kind(StrEnum):
    """What the pixels are."""

    FLUX = "flux"
    """Linear fluxes: noise, PSF and dust can be told in physical units."""

    DISPLAY = "display"
    """Stretched pictures: only geometry is true of them."""


@dataclass(frozen=True, slots=True)
class ImageColumns:
    """All that is known of images but their pixels; n of them.

    Attributes
    ----------
    label : ndarray of int64, shape (n,)
        Index in ``classes``; -1 where unknown.
    redshift, ebv : ndarray of float32, shape (n,)
        E(B-V) of our Galaxy in magnitudes. NaN where unknown.
    noise, psf_fwhm : ndarray of float32, shape (n, bands)
        Standard deviation of a pixel; FWHM in pixels. NaN where unknown.
    photometry, photometry_error : ndarray of float32, shape (n, bands)
        nJy; NaN where unknown.
    object_id : ndarray of int64, shape (n,)
    kind : Kind
    bands : tuple of str
    classes : tuple of str
    pixel_scale : float
        Arcsec; NaN where unknown.
    """

    label: NDArray[np.int64]
    redshift: Float32Array
    ebv: Float32Array
    noise: Float32Array
    psf_fwhm: Float32Array
    photometry: Float32Array
    photometry_error: Float32Array
    object_id: NDArray[np.int64]
    kind: Kind
    bands: tuple[str, ...]
    classes: tuple[str, ...] = ()
    pixel_scale: float = float("nan")

    def __len__(self) -> int:
        return len(self.label)

    def columns(self, rows: NDArray[Any] | slice) -> dict[str, Any]:
        """All but the pixels of some rows, by name."""
        return {name: getattr(self, name)[rows] for name in COLUMNS}


COLUMNS = tuple(
    f.name for f in fields(ImageColumns) if f.name not in {"kind", "bands", "classes", "pixel_scale"}
)


@dataclass(frozen=True, slots=True)
class ImageSet(ImageColumns):
    """Images and what is known of them; n of them.

    Attributes
    ----------
    images : ndarray of float32 or uint8, shape (n, bands, h, w)
        Flux per pixel, or 8-bit display values.
    """

    images: Pixels = field(kw_only=True)

    def take(self, rows: NDArray[Any] | slice) -> "ImageSet":
        """Images of some rows."""
        return replace(self, **self.columns(rows), images=self.images[rows])

    @classmethod
    def of(
        cls,
        images: Pixels,
        *,
        kind: Kind,
        bands: tuple[str, ...],
        classes: tuple[str, ...] = (),
        pixel_scale: float = float("nan"),
        **known: NDArray[Any],
    ) -> "ImageSet":
        """Make a set of what is known; the rest is unknown, and objects are numbered.

        Parameters
        ----------
        images : ndarray, shape (n, bands, h, w)
        kind, bands, classes, pixel_scale
            As the attributes.
        **known : ndarray
            Other attributes by name.
        """
        count, width = images.shape[:2]
        arrays: dict[str, NDArray[Any]] = {
            "label": np.full(count, -1, np.int64),
            "object_id": np.arange(count, dtype=np.int64),
            **{name: np.full(count, np.nan, np.float32) for name in ("redshift", "ebv")},
            **{
                name: np.full((count, width), np.nan, np.float32)
                for name in ("noise", "psf_fwhm", "photometry", "photometry_error")
            },
        }
        for name, values in known.items():
            arrays[name] = np.asarray(values).astype(arrays[name].dtype)
            if arrays[name].shape[:1] != (count,):
                raise SettingsError(f"{name} has {len(values)} rows, where there are {count} images")
        return cls(images=images, kind=kind, bands=bands, classes=classes, pixel_scale=pixel_scale, **arrays)


ARRAYS = ("images", *COLUMNS)


@dataclass(frozen=True, slots=True)
class StoredImageSet(ImageColumns):
    """A set whose pixels stay in their file until rows of them are wanted.

    Attributes
    ----------
    path : Path
    rows : ndarray of int64, shape (n,)
        Rows of the file.
    size : tuple of int
        (h, w) of an image.
    """

    path: Path = field(kw_only=True)
    rows: NDArray[np.int64] = field(kw_only=True)
    size: tuple[int, int] = field(kw_only=True)

    def take(self, rows: NDArray[Any] | slice) -> "StoredImageSet":
        """Choose rows; no pixel is read."""
        return replace(self, **self.columns(rows), rows=self.rows[rows])

    def read(self, rows: NDArray[np.int64]) -> Pixels:
        """Read the pixels of rows, in the order they are given in.

        Raises
        ------
        SettingsError
            The file is gone, or is no such set any more.
        """
        wanted = self.rows[rows]
        with _opened(self.path) as file:
            stored = file["images"]
            pixels: Pixels = np.empty((len(wanted), *stored.shape[1:]), stored.dtype)
            for place in np.argsort(wanted, kind="stable").tolist():
                pixels[place] = stored[wanted[place]]  # a list of rows takes h5py thirty times as long
        return pixels


def save_images(path: Path, images: ImageSet) -> None:
    """Write a set; an interrupted write leaves no file of that name."""
    partial = path.with_name(f".{path.name}.partial")
    with h5py.File(partial, "w") as file:
        file.attrs.update({MARK: FORMAT, "kind": images.kind.value, "pixel_scale": images.pixel_scale})
        file.attrs["bands"] = list(images.bands)
        file.attrs["classes"] = list(images.classes)
        for name in ARRAYS:
            values = getattr(images, name)
            row = (1, *values.shape[1:]) if name == "images" else None
            file.create_dataset(name, data=values, chunks=row)
    partial.replace(path)


def load_images(path: Path, rows: slice = slice(None)) -> ImageSet:
    """Read a set, or a run of its rows.

    Raises
    ------
    SettingsError
        The file is missing or is no such set.
    """
    with _opened(path) as file:
        return ImageSet(**_columns(file, rows), images=file["images"][rows])


def open_images(path: Path) -> StoredImageSet:
    """Open a set of any size: pixels are read by rows, as they are wanted.

    Raises
    ------
    SettingsError
        The file is missing or is no such set.
    """
    with _opened(path) as file:
        count, _, *size = file["images"].shape
        rows = np.arange(count, dtype=np.int64)
        return StoredImageSet(**_columns(file, slice(None)), path=path, rows=rows, size=(size[0], size[1]))


def _columns(file: h5py.File, rows: slice) -> dict[str, Any]:
    return {
        **{name: file[name][rows] for name in COLUMNS},
        "kind": Kind(file.attrs["kind"]),
        "bands": tuple(file.attrs["bands"]),
        "classes": tuple(file.attrs["classes"]),
        "pixel_scale": float(file.attrs["pixel_scale"]),
    }


def count_images(path: Path) -> int:
    """How many images a file holds."""
    with _opened(path) as file:
        return len(file["images"])


def batches(path: Path, size: int) -> Iterator[ImageSet]:
    """Read a set in runs of at most ``size`` rows."""
    for start in range(0, count_images(path), size):
        yield load_images(path, slice(start, start + size))


def is_image_set(path: Path) -> bool:
    """Tell whether a file is such a set."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    with h5py.File(path, "r") as file:
        return MARK in file.attrs


def _opened(path: Path) -> h5py.File:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise SettingsError(f"{path} cannot be read as HDF5: {error}") from error
    missing = [name for name in ARRAYS if name not in file]
    if MARK not in file.attrs or missing:
        found = sorted(file)
        file.close()
        raise SettingsError(
            f"{path} holds {found}, which is no set of images (missing: {missing or MARK}); "
            "`encoder ingest` makes one"
        )
    return file
