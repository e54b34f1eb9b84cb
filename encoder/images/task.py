"""Images of galaxies as pretraining sees them."""

from pathlib import Path

import torch
from rich.console import Console
from torch import Generator, Tensor

from broker.errors import SettingsError
from encoder.alert_task import WATCHED, spread_of_known
from encoder.backbone import Representation
from encoder.boxes import digest_of
from encoder.heads import asinh_magnitude
from encoder.images.archive import ImageSet, Kind
from encoder.images.config import ImageNetworkConfig, ImagePretrainConfig
from encoder.images.joined import StoredRows
from encoder.images.network import ImageEncoder
from encoder.images.shape import shape_of, shapes
from encoder.images.views import Images, ImageSource, ImageViews, StoredImages, as_given
from encoder.moco import Batch, MoCo
from encoder.repeats import Repeats
from encoder.train import Run, Watched, read_checkpoint, train
from encoder.world import ALONE, World

APERTURES = (0.12, 0.35)
"""Radii as shares of the side: a galaxy's middle, and most of its light."""


class ImageTask:
    """Learning from images; see `encoder.train.Task`.

    Parameters
    ----------
    config : ImagePretrainConfig
    images : ImageSet or StoredRows
        The training set, in memory or in files; labels are watched, and trained on only where the recipe gives
        them a weight.
    """

    def __init__(self, config: ImagePretrainConfig, images: ImageSet | StoredRows) -> None:
        found, wanted = (images.kind, images.noise.shape[1]), (config.network.kind, config.network.bands)
        if found != wanted:
            raise SettingsError(
                f"the images are {found[0]} of {found[1]} bands, the recipe is for {wanted[0]} of {wanted[1]}: give "
                f'a --config with {{"network": {{"kind": "{found[0]}", "bands": {found[1]}}}}}'
            )
        self.config, self._kind = config, config.network.kind
        self._images: ImageSource = (
            Images.of(images) if isinstance(images, ImageSet) else StoredImages.of(images)
        )
        self._views = ImageViews(config.views, config.network, images.bands)
        _, inverse = torch.unique(torch.from_numpy(images.object_id), return_inverse=True)
        self._sky_object = inverse
        self.objects = int(inverse.max()) + 1
        self._label = torch.from_numpy(images.label)
        self._conditions = torch.from_numpy(images.ebv), torch.from_numpy(images.psf_fwhm)
        self._measured = measure(self._images, config.network)
        self._mean, self._spread = spread_of_known(self._targets(self._measured, torch.ones(())))

    def __len__(self) -> int:
        return len(self._images)

    def digest(self) -> str:
        """Hex SHA-256 of what tells these images, in their order, from others; labels only where they are learned."""
        learned = (self._label,) if self.config.label_weight > 0 else ()
        return digest_of((self._measured, self._sky_object, *self._conditions, *learned))

    def new_moco(self) -> MoCo:
        """Build the network with the weights of the recipe's seed."""
        return new_moco(self.config, int(self._label.max()) + 1)

    def batch(self, rows: Tensor, generator: Generator) -> Batch:
        """Draw two views of each row."""
        images = self._images[rows]
        query, key = self._views(images, generator), self._views(images, generator)
        target = (self._targets(self._measured[rows], query.fading) - self._mean) / self._spread
        return Batch(query, key, target, self._sky_object[rows], self._label[rows])

    def watch(self, moco: MoCo) -> Watched:
        """Embed images spread over the whole set as they are, one of each object."""
        rows = self._watched_rows()
        seen = represent(moco.base_encoder, self._images[rows], self.config.network)
        return Watched(seen.raw, seen.embedding, self._label[rows])

    def _watched_rows(self) -> Tensor:
        firsts = Repeats(self._sky_object).one_each(len(self))
        count = min(WATCHED, len(firsts))
        return firsts[torch.arange(count) * len(firsts) // count]

    def _targets(self, measured: Tensor, fading: Tensor) -> Tensor:
        bands = self.config.network.bands
        light, photometry, shape = torch.split(
            measured, [len(APERTURES) * bands, bands, shapes(self._kind, bands)], dim=1
        )
        apertures = light.reshape(len(measured), len(APERTURES), bands)
        if self._kind is Kind.FLUX:
            apertures = torch.asinh(apertures * (fading[:, None] if fading.ndim else fading))
        magnitude = asinh_magnitude(photometry * fading)
        return torch.cat(
            [apertures.flatten(1), magnitude, magnitude[:, :-1] - magnitude[:, 1:], shape], dim=1
        )


def measure(images: ImageSource, network: ImageNetworkConfig, chunk: int = 512) -> Tensor:
    """Measure what the side task regresses, on images without dust: free labels.

    Returns
    -------
    Tensor, shape (n, 3 bands + shapes)
        Light within each aperture, in units of the noise of its pixels or display values a pixel; photometry
        without dust; shape (`encoder.images.shape.shape_of`).
    """
    axis = torch.arange(network.size, dtype=torch.float32) - (network.size - 1) / 2
    radius = torch.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2)
    parts = []
    for start in range(0, len(images), chunk):
        some = images[slice(start, start + chunk)]
        laid = as_given(some, network)
        columns = []
        for share in APERTURES:
            inside = (radius <= share * network.size).float()
            scatter = laid.noise * inside.sum().sqrt() if network.kind is Kind.FLUX else inside.sum()
            light = (laid.pixels * inside).sum((2, 3)) / scatter
            columns.append(torch.where(laid.noise > 0, light, torch.full((), torch.nan)))
        columns.append(some.photometry * 10 ** (0.4 * some.dust))
        columns.append(shape_of(laid, network.kind))
        parts.append(torch.cat(columns, 1))
    return torch.cat(parts)


@torch.no_grad()
def represent(
    encoder: torch.nn.Module, images: ImageSource, network: ImageNetworkConfig, chunk: int = 256
) -> Representation:
    """Represent images as they are."""
    found, device = [], next(encoder.parameters()).device
    for start in range(0, len(images), chunk):
        laid = as_given(images[slice(start, start + chunk)], network)
        seen = encoder(laid.pixels.to(device), laid.noise.to(device))
        found.append(Representation(*(one.cpu() for one in seen)))
    return Representation(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def new_moco(config: ImagePretrainConfig, classes: int = 0) -> MoCo:
    """Build the network for images with the weights of the recipe's seed."""
    bands = config.network.bands
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder = ImageEncoder(config.network)
        targets = len(APERTURES) * bands + 2 * bands - 1 + shapes(config.network.kind, bands)
        return MoCo(config, encoder, encoder.context_size, targets, classes)


def pretrain_images(
    config: ImagePretrainConfig,
    images: ImageSet | StoredRows,
    output: Path,
    *,
    max_minutes: float | None = None,
    console: Console | None = None,
    world: World = ALONE,
) -> Run[ImagePretrainConfig]:
    """Pretrain on images without labels, or go on with the run found in ``output``; see `encoder.train.train`."""
    return train(ImageTask(config, images), output, max_minutes=max_minutes, console=console, world=world)


def load_image_checkpoint(path: Path) -> Run[ImagePretrainConfig]:
    """Read a checkpoint of `pretrain_images`; see `encoder.train.read_checkpoint`."""
    return read_checkpoint(path, ImagePretrainConfig, new_moco)
