"""Catalogues of magnitudes and true redshifts, in the HDF5 layout of LSST DESC's training sets."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from broker.alert import BANDS
from broker.errors import SettingsError
from encoder.evaluate import Floats, Ints

GROUP = "photometry"
MAGNITUDE, ERROR, REDSHIFT = "mag_{}_lsst", "mag_err_{}_lsst", "redshift"

FAINT = 40.0
"""Magnitudes beyond this stand for no detection (99 in many catalogues)."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Galaxies in six bands; n of them.

    Attributes
    ----------
    magnitude, error : Floats, shape (n, 6)
        AB, in the order of `broker.alert.BANDS`; NaN where not detected.
    redshift : Floats, shape (n,)
    object_id : ndarray of int64, shape (n,)
        Rows of one galaxy share a number.
    """

    magnitude: Floats
    error: Floats
    redshift: Floats
    object_id: Ints

    @classmethod
    def of(
        cls, magnitude: Floats, error: Floats, redshift: Floats, object_id: Ints | None = None
    ) -> "Catalogue":
        """Take arrays; without ids every row is a galaxy of its own."""
        return cls(magnitude, error, redshift, np.arange(len(redshift)) if object_id is None else object_id)

    def __len__(self) -> int:
        return len(self.redshift)


def is_catalogue(path: Path) -> bool:
    """Tell whether a file has redshifts and magnitudes, and no images."""
    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path, "r") as file:
        return "images" not in file and REDSHIFT in _group(file)


def read_catalogue(path: Path) -> Catalogue:
    """Read a catalogue; rows without a redshift are left out.

    Raises
    ------
    SettingsError
        Columns are missing: says which were found.
    """
    with h5py.File(path, "r") as file:
        group = _group(file)
        wanted = [REDSHIFT, *(name.format(band) for name in (MAGNITUDE, ERROR) for band in BANDS)]
        if missing := [name for name in wanted if name not in group]:
            raise SettingsError(f"{path} holds {sorted(group)}; wanted {missing} as well")
        redshift = np.asarray(group[REDSHIFT][()], np.float64)
        magnitude, error = (
            np.stack([np.asarray(group[name.format(band)][()], np.float64) for band in BANDS], axis=1)
            for name in (MAGNITUDE, ERROR)
        )
    unseen = ~(np.isfinite(magnitude) & np.isfinite(error) & (magnitude < FAINT))
    magnitude[unseen], error[unseen] = np.nan, np.nan
    known = np.isfinite(redshift) & (redshift > 0)
    if not known.any():
        raise SettingsError(f"{path}: none of {len(redshift)} rows has a redshift above 0")
    return Catalogue.of(magnitude[known], error[known], redshift[known])


def _group(file: h5py.File) -> h5py.Group:
    return file.get(GROUP, file)
