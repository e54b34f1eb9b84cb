"""Pixels of shards, read by rows: a set of any size is trained on in the memory of a batch.

The member ``box.npy`` of an uncompressed ``.npz`` is an array of C order at a fixed place of the file: a row is
one read at a known offset. Measured against HDF5, Arrow and Parquet in `benchmarks/loader.py`. The file is read
rather than mapped: pages of a map count as the process's own, so that a long run would seem to grow with its set.
"""

import os
import struct
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from numpy.typing import NDArray

from broker.alert import ROLES, Float32Array
from broker.errors import SettingsError
from encoder.archive import BOX_SIDE, Columns, load_columns

MEMBER = "box.npy"

BOX_SHAPE = (len(ROLES), BOX_SIDE, BOX_SIDE)

PIXEL = np.dtype("<f4")

ROW_BYTES = int(np.prod(BOX_SHAPE)) * PIXEL.itemsize

LOCAL_HEADER_SIZE = 30
"""Bytes of a ZIP local file header; its last two words are the lengths of name and extra field (APPNOTE 4.3.7)."""

AT_ONCE = 256
"""Rows asked for together; at worst each lies in a file of its own, and processes may open 1,024 by default."""


@dataclass(frozen=True, slots=True)
class Member:
    """Where the pixels of one shard lie.

    Attributes
    ----------
    path : Path
    offset : int
        Byte of the file at which the first row begins.
    rows : int
    """

    path: Path
    offset: int
    rows: int

    @classmethod
    def of(cls, path: Path) -> "Member":
        """Find the pixels of a shard.

        Raises
        ------
        SettingsError
            They cannot be read by rows: compressed, of another type, order or shape, or cut off.
        """
        with path.open("rb") as file, ZipFile(file) as archive:
            entry = archive.getinfo(MEMBER)
            if entry.compress_type != ZIP_STORED:
                raise SettingsError(
                    f"{path} is compressed, and its pixels cannot be read by rows: load it with `load_shards` and "
                    "write it with `save_shard` (both of encoder.archive), or make it again"
                )
            file.seek(entry.header_offset + LOCAL_HEADER_SIZE - 4)
            name, extra = struct.unpack("<HH", file.read(4))
            file.seek(name + extra, os.SEEK_CUR)
            shape = _header(file, path)
            return cls(path, file.tell(), shape[0])

    def open(self) -> FileIO:
        """Open the shard for `announce` and `read`.

        Raises
        ------
        SettingsError
            It is gone.
        """
        try:
            return FileIO(self.path)
        except OSError as error:
            raise SettingsError(f"{self.path} cannot be read any more: {error}") from error

    def announce(self, file: FileIO, row: int) -> None:
        """Say that a row will be read: a disk that knows of many fetches them together, about four times as fast."""
        if sys.platform == "linux":
            os.posix_fadvise(file.fileno(), self._start(row), ROW_BYTES, os.POSIX_FADV_WILLNEED)

    def read(self, file: FileIO, row: int, pixels: Float32Array) -> None:
        """Read a row into an array of the shape of a row.

        Raises
        ------
        SettingsError
            The shard has become shorter, or its disk fails.
        """
        try:
            got = os.preadv(file.fileno(), [pixels.data], self._start(row))
        except OSError as error:
            raise SettingsError(f"{self.path} cannot be read any more: {error}") from error
        if got != ROW_BYTES:
            raise SettingsError(
                f"{self.path} ends within row {row} of {self.rows}: it was changed, or its copy was interrupted; "
                "make it again, or remove it"
            )

    def _start(self, row: int) -> int:
        return self.offset + row * ROW_BYTES


def _header(file: BinaryIO, path: Path) -> tuple[int, ...]:
    """Read the header of an array, and leave the file at its first row."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, columns_first, dtype = read(file)
    if columns_first or dtype != PIXEL or shape[1:] != BOX_SHAPE:
        raise SettingsError(
            f"{path} has pixels of {dtype}{shape}{' in Fortran order' if columns_first else ''}; they must be "
            f"{PIXEL}(n, {', '.join(map(str, BOX_SHAPE))}) in C order"
        )
    return tuple(shape)


class StoredPixels:
    """Pixels of many shards as one array of rows, none of which is held.

    Parameters
    ----------
    members : iterable of Member
    rows : ndarray of int64, shape (n,), optional
        Rows of all members taken together that are this array's; by default all, in their order.
    """

    def __init__(self, members: Iterable[Member], rows: NDArray[np.int64] | None = None) -> None:
        self._members = tuple(members)
        counts = np.array([member.rows for member in self._members], np.int64)
        self._ends = np.cumsum(counts)
        self._starts = self._ends - counts
        self._rows = np.arange(self._ends[-1], dtype=np.int64) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, rows: NDArray[np.int64]) -> "StoredPixels":
        """Choose rows; nothing is read."""
        return StoredPixels(self._members, self._rows[rows])

    def read(self, rows: NDArray[np.int64]) -> Float32Array:
        """Read rows in the order they are given in.

        Parameters
        ----------
        rows : ndarray of int64, shape (m,)

        Returns
        -------
        ndarray of float32, shape (m, 3, 64, 64)

        Raises
        ------
        SettingsError
            A shard is gone or has become shorter since it was opened.
        """
        wanted = self._rows[rows]
        pixels = np.empty((len(wanted), *BOX_SHAPE), PIXEL)
        order = np.argsort(wanted, kind="stable")  # a disk likes rows in its own order
        for start in range(0, len(order), AT_ONCE):
            places = order[start : start + AT_ONCE]
            self._read(wanted[places], places, pixels)
        return pixels

    def _read(self, wanted: NDArray[np.int64], places: NDArray[np.int64], pixels: Float32Array) -> None:
        """Read rows that were not chosen from, into their places."""
        holders = np.searchsorted(self._ends, wanted, side="right")
        with ExitStack() as stack:
            files = {
                number: stack.enter_context(self._members[number].open())
                for number in np.unique(holders).tolist()
            }
            found = [
                (self._members[number], files[number], row)
                for number, row in zip(
                    holders.tolist(), (wanted - self._starts[holders]).tolist(), strict=True
                )
            ]
            for member, file, row in found:
                member.announce(file, row)
            for (member, file, row), place in zip(found, places.tolist(), strict=True):
                member.read(file, row, pixels[place])


def open_shards(paths: Iterable[Path]) -> tuple[Columns, StoredPixels]:
    """Read all but the pixels of shards, and find where these are.

    Parameters
    ----------
    paths : iterable of Path

    Returns
    -------
    Columns
    StoredPixels
        With the same rows.

    Raises
    ------
    SettingsError
        If there is none, one is no shard or cannot be read by rows, or their classes differ.
    """
    found = list(paths)
    columns = load_columns(found)
    return columns, StoredPixels([Member.of(path) for path in found])
