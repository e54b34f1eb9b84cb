"""Native boxes around alerts and their stamps on the common grid, as torch tensors."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from broker.alert import SURVEYS
from broker.contract import Grid
from broker.geometry import LARGEST_PIXEL
from encoder.archive import Columns, Shard
from encoder.stored import StoredPixels

DRAWS = 2**32
"""Objects are split by the first 32 bits of a digest of their name."""


@dataclass(frozen=True, slots=True)
class BoxColumns:
    """All that is known of boxes but their pixels; n of them.

    Attributes
    ----------
    centre : Tensor, shape (n, 2)
        (x, y) of the alert in 0-based box pixels.
    noise : Tensor, shape (n, 3)
        Standard deviation of a native pixel; 0 or NaN where the stamp is missing.
    ratio : Tensor, shape (n,)
        Grid scale over native scale.
    survey, band : Tensor of int64, shape (n,)
    psf_fwhm : Tensor, shape (n, 3)
        Grid pixels; NaN where unknown.
    photometry : Tensor, shape (n, 6)
        nJy; NaN where unknown.
    ebv : Tensor, shape (n,)
        E(B-V) of our Galaxy's dust, magnitudes; 0 where unknown.
    sky_object : Tensor of int64, shape (n,)
        Alerts of one object on the sky, visits of it, share a number.
    """

    centre: Tensor
    noise: Tensor
    ratio: Tensor
    survey: Tensor
    band: Tensor
    psf_fwhm: Tensor
    photometry: Tensor
    ebv: Tensor
    sky_object: Tensor

    def __len__(self) -> int:
        return len(self.survey)

    def digest(self) -> str:
        """Hex SHA-256 of what tells these alerts, in their order, from others; pixels are left out."""
        return digest_of(self.columns(slice(None)).values())

    def columns(self, rows: Tensor | slice) -> dict[str, Tensor]:
        """All but the pixels of some rows, by name."""
        return {entry.name: getattr(self, entry.name)[rows] for entry in fields(BoxColumns)}


@dataclass(frozen=True, slots=True)
class Boxes(BoxColumns):
    """Boxes of native pixels, large enough that any rotation of the grid stays within.

    Attributes
    ----------
    box : Tensor, shape (n, 3, side, side)
        Survey units, sky subtracted; NaN where invalid.
    """

    box: Tensor

    @classmethod
    def of(cls, shards: Shard, grid: Grid) -> Self:
        """Take shards as they were read; pixels are not copied."""
        return cls(**_columns(shards, grid), box=torch.from_numpy(shards.box))

    def __getitem__(self, rows: Tensor | slice) -> Self:
        return type(self)(**self.columns(rows), box=self.box[rows])

    def pixels(self) -> tuple[Tensor, Tensor]:
        """Fluxes with 0 where invalid, and 1 where valid; both (n, 3, side, side)."""
        valid = self.box.abs() < LARGEST_PIXEL  # False for NaN
        return torch.where(valid, self.box, torch.zeros(())), valid.to(self.box.dtype)


@dataclass(frozen=True, slots=True)
class StoredBoxes(BoxColumns):
    """Boxes whose pixels stay in their shards until rows of them are wanted.

    Attributes
    ----------
    stored : StoredPixels
    """

    stored: StoredPixels

    @classmethod
    def of(cls, columns: Columns, stored: StoredPixels, grid: Grid) -> Self:
        """Take shards as `encoder.stored.open_shards` gives them."""
        return cls(**_columns(columns, grid), stored=stored)

    def take(self, rows: Tensor | slice) -> Self:
        """Choose rows; no pixel is read."""
        return type(self)(**self.columns(rows), stored=self.stored.take(self._numbers(rows)))

    def __getitem__(self, rows: Tensor | slice) -> Boxes:
        pixels = torch.from_numpy(self.stored.read(self._numbers(rows)))
        return Boxes(**self.columns(rows), box=pixels)

    def _numbers(self, rows: Tensor | slice) -> NDArray[np.int64]:
        return torch.arange(len(self))[rows].numpy()


BoxSource: TypeAlias = Boxes | StoredBoxes
"""What gives boxes by rows, from memory or from shards: the same to the bit."""


def _columns(shards: Columns, grid: Grid) -> dict[str, Tensor]:
    scale = np.array([grid.pixel_scale[survey.value] for survey in SURVEYS])[shards.survey]
    return {
        "centre": _float(shards.centre),
        "noise": _float(np.nan_to_num(shards.noise)),
        "ratio": _float(scale / shards.pixel_scale),
        "survey": torch.from_numpy(shards.survey.astype(np.int64)),
        "band": torch.from_numpy(shards.band.astype(np.int64)),
        "psf_fwhm": _float(shards.psf_fwhm / scale[:, None]),
        "photometry": _float(shards.photometry),
        "ebv": _float(np.nan_to_num(shards.ebv)),
        "sky_object": torch.from_numpy(np.unique(shards.object_id, return_inverse=True)[1].reshape(-1)),
    }


@dataclass(frozen=True, slots=True)
class Laid:
    """Stamps on the common grid: what the network is given, and what the views need to know.

    Attributes
    ----------
    stamps, mask : Tensor, shape (n, 3, size, size)
    noise : Tensor, shape (n, 3)
        Standard deviation of a grid pixel; 0 where the stamp is missing.
    survey, band : Tensor of int64, shape (n,)
    psf_fwhm : Tensor, shape (n, 3)
        Grid pixels; NaN where unknown.
    photometry : Tensor, shape (n, 6)
    ebv : Tensor, shape (n,)
    step : Tensor, shape (n,)
        Native pixels per grid pixel.
    grain : Tensor, shape (n, 3, size, size)
        Noise of unit variance with the correlation of the grid's pixels, still to be used by views; 0 as
        served.
    kept : Tensor, shape (n, 3)
        Standard deviation of the noise in the pixels over the stated one: views take noise away.
    fading : Tensor, shape (n, 6)
        By which a view dimmed each band.
    """

    stamps: Tensor
    mask: Tensor
    noise: Tensor
    survey: Tensor
    band: Tensor
    psf_fwhm: Tensor
    photometry: Tensor
    ebv: Tensor
    step: Tensor
    grain: Tensor
    kept: Tensor
    fading: Tensor

    def network_inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the inputs of the graph in the order of `broker.contract.INPUTS`, with one band."""
        return (
            self.stamps[:, None],
            self.mask[:, None],
            self.noise[:, None],
            self.survey,
            self.band[:, None],
            self.photometry,
        )

    def represent(self, encoder: nn.Module) -> tuple[Tensor, Tensor]:
        """Run an encoder: the representation (n, d), and how the alert was seen (n, side)."""
        stamps, mask, noise, survey, band, _ = self.network_inputs()
        seen = encoder(stamps, mask, noise, band)
        which = (survey[:, None] == torch.arange(len(SURVEYS), device=survey.device)).to(seen.context.dtype)
        return seen.raw, torch.cat([seen.context, which], dim=1)


def split_by_object(object_id: NDArray[np.str_], share: float, seed: int) -> NDArray[np.bool_]:
    """Choose objects, never single alerts of one: True for about ``share`` of them.

    Parameters
    ----------
    object_id : NDArray of str, shape (n,)
    share : float
    seed : int
        Another seed chooses other objects.

    Returns
    -------
    NDArray of bool, shape (n,)
        The same object is always on the same side, whatever else is in the set.
    """
    names, inverse = np.unique(np.asarray(object_id).astype(str), return_inverse=True)
    draws = [hashlib.sha256(f"{seed}:{name}".encode()).digest()[:4] for name in names]
    chosen = np.array([int.from_bytes(draw, "big") < share * DRAWS for draw in draws], dtype=bool)
    return np.asarray(chosen[inverse])


def digest_of(told: Iterable[Tensor]) -> str:
    """Hex SHA-256 of tensors in their order: what tells a training set from others."""
    return hashlib.sha256(b"".join(one.numpy().tobytes() for one in told)).hexdigest()


def _float(values: NDArray[np.floating[Any]]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
