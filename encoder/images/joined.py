"""Two sets of images learned from as one: galaxies whose labels nobody looks at, beside others that have some."""

from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from broker.errors import SettingsError
from encoder.images.archive import COLUMNS, ImageColumns, Pixels, StoredImageSet


@dataclass(frozen=True, slots=True)
class JoinedImageSet(ImageColumns):
    """Rows of one stored set behind those of another; see `joined`.

    Attributes
    ----------
    parts : tuple of two StoredImageSet
    side : int
        Pixels of an image are the middle ones, as many as the smallest part has.
    """

    parts: tuple[StoredImageSet, StoredImageSet] = field(kw_only=True)
    side: int = field(kw_only=True)

    def read(self, rows: NDArray[np.int64]) -> Pixels:
        """Read the pixels of rows, in the order they are given in."""
        beyond = rows >= len(self.parts[0])
        found = [
            _middle(part.read(rows[mine] - start), self.side)
            for part, mine, start in zip(self.parts, (~beyond, beyond), (0, len(self.parts[0])), strict=True)
        ]
        place = np.argsort(np.argsort(beyond, kind="stable"), kind="stable")
        pixels = np.concatenate(found)[place]
        return cast("Pixels", pixels)


StoredRows: TypeAlias = StoredImageSet | JoinedImageSet
"""Images whose pixels stay in their files until rows of them are wanted."""


def joined(known: StoredImageSet, images: StoredImageSet) -> JoinedImageSet:
    """Join two sets of one kind.

    Parameters
    ----------
    known : StoredImageSet
        Its labels are kept, and its classes are those of the whole.
    images : StoredImageSet
        Its labels are forgotten.

    Raises
    ------
    SettingsError
        The sets differ in what their pixels are, or share an object.
    """
    mine, other = (known.kind, known.bands), (images.kind, images.bands)
    if mine != other:
        raise SettingsError(
            f"{known.path} holds {_told(mine)}, {images.path} {_told(other)}: wanted one kind and bands"
        )
    if shared := np.intersect1d(known.object_id, images.object_id).tolist():
        raise SettingsError(
            f"{known.path} and {images.path} share {len(shared)} object ids, {shared[0]} among them: wanted other "
            "objects, whose labels are not those of --data"
        )
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(known, name), getattr(images, name)]) for name in COLUMNS
    }
    columns["label"] = np.concatenate([known.label, np.full(len(images), -1, np.int64)])
    return JoinedImageSet(
        **columns,
        kind=known.kind,
        bands=known.bands,
        classes=known.classes,
        parts=(known, images),
        side=min(*known.size, *images.size),
    )


def _told(of: tuple[str, tuple[str, ...]]) -> str:
    return f"{of[0]} images of {', '.join(of[1])}"


def _middle(pixels: Pixels, side: int) -> Pixels:
    high, wide = ((length - side) // 2 for length in pixels.shape[2:])
    return pixels[:, :, high : high + side, wide : wide + side]
