"""Views of one galaxy: geometry for every image, and the physics of light where pixels are fluxes.

Display pictures are stretched and cut at 255: noise, PSF and dust in physical units do not apply to them, so
they get geometric views only.
"""

from dataclasses import dataclass, fields, replace
from typing import TypeAlias

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from broker.cutouts import FWHM_PER_SIGMA
from encoder.augment import Placement, gaussian_kernel, noise_left
from encoder.extinction import extinction_of
from encoder.images.archive import ImageColumns, ImageSet, Kind
from encoder.images.config import ImageNetworkConfig, ImageViewConfig
from encoder.images.joined import StoredRows


@dataclass(frozen=True, slots=True)
class ImageTensors:
    """All that is known of images but their pixels.

    Attributes
    ----------
    noise : Tensor, shape (n, bands)
        0 where a band is missing; ones of a display picture.
    psf_fwhm : Tensor, shape (n, bands)
        Pixels of the image; NaN where unknown.
    photometry : Tensor, shape (n, bands)
        nJy; NaN where unknown.
    dust : Tensor, shape (n, bands)
        Extinction by our Galaxy in magnitudes; 0 where unknown.
    """

    noise: Tensor
    psf_fwhm: Tensor
    photometry: Tensor
    dust: Tensor

    def __len__(self) -> int:
        return len(self.noise)

    def columns(self, rows: Tensor | slice) -> dict[str, Tensor]:
        """All but the pixels of some rows, by name."""
        return {entry.name: getattr(self, entry.name)[rows] for entry in fields(ImageTensors)}


@dataclass(frozen=True, slots=True)
class Images(ImageTensors):
    """Images as tensors.

    Attributes
    ----------
    pixels : Tensor, shape (n, bands, h, w)
        As in the set: uint8 or float32.
    """

    pixels: Tensor

    @classmethod
    def of(cls, images: ImageSet) -> "Images":
        """Take a set as it was read; pixels are not copied."""
        return cls(**_tensors(images), pixels=torch.from_numpy(images.images))

    def __getitem__(self, rows: Tensor | slice) -> "Images":
        return Images(**self.columns(rows), pixels=self.pixels[rows])


@dataclass(frozen=True, slots=True)
class StoredImages(ImageTensors):
    """Images whose pixels stay in their file until rows of them are wanted.

    Attributes
    ----------
    stored : StoredRows
    """

    stored: StoredRows

    @classmethod
    def of(cls, images: StoredRows) -> "StoredImages":
        """Take a set as it was opened."""
        return cls(**_tensors(images), stored=images)

    def __getitem__(self, rows: Tensor | slice) -> Images:
        pixels = self.stored.read(torch.arange(len(self))[rows].numpy())
        return Images(**self.columns(rows), pixels=torch.from_numpy(pixels))


ImageSource: TypeAlias = Images | StoredImages
"""What gives images by rows, from memory or from a file: the same to the bit."""


def _tensors(images: ImageColumns) -> dict[str, Tensor]:
    noise = torch.from_numpy(images.noise)
    if images.kind is Kind.DISPLAY:
        noise = torch.ones_like(noise)
    coefficients = torch.from_numpy(extinction_of(images.bands))
    ebv = torch.nan_to_num(torch.from_numpy(images.ebv))
    return {
        "noise": torch.nan_to_num(noise),
        "psf_fwhm": torch.from_numpy(images.psf_fwhm),
        "photometry": torch.from_numpy(images.photometry),
        "dust": ebv[:, None] * coefficients,
    }


@dataclass(frozen=True, slots=True)
class ImageView:
    """What the network is given, and what the views need to know.

    Attributes
    ----------
    pixels : Tensor, shape (n, bands, size, size)
    noise, psf_fwhm, kept, fading : Tensor, shape (n, bands)
        As in `encoder.boxes.Laid`, with bands in place of roles.
    step : Tensor, shape (n,)
        Pixels of the image to one of the network.
    grain : Tensor, shape (n, bands, size, size)
    """

    pixels: Tensor
    noise: Tensor
    psf_fwhm: Tensor
    step: Tensor
    grain: Tensor
    kept: Tensor
    fading: Tensor

    def represent(self, encoder: nn.Module) -> tuple[Tensor, Tensor]:
        """Run an encoder: the representation (n, d), and depth and presence of each band (n, 2 bands)."""
        seen = encoder(self.pixels, self.noise)
        return seen.raw, seen.context


def lay_images(
    images: Images,
    placement: Placement,
    network: ImageNetworkConfig,
    white: Tensor | None = None,
) -> ImageView:
    """Lay images on the network's grid with one bilinear interpolation around their middles.

    Fluxes stay fluxes: a value is multiplied by the area of a pixel. Beyond its edge an image is mirrored.

    Parameters
    ----------
    images : Images
    placement : Placement
        Shifts are in pixels of the network.
    network : ImageNetworkConfig
    white : Tensor, shape (n, bands, h, w), optional
        Noise of unit variance, from which the grain is made.
    """
    axis = torch.arange(network.size, dtype=torch.float32) - (network.size - 1) / 2
    offset = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)
    step = network.field / network.size / placement.magnification
    moved = (offset[None] + placement.shift[:, None, None]) @ placement.turn.transpose(1, 2)[:, None]
    extent = torch.tensor([images.pixels.shape[-1], images.pixels.shape[-2]], dtype=torch.float32)
    native = (extent - 1) / 2 + step[:, None, None, None] * moved
    place = 2 * native / (extent - 1) - 1
    pixels = torch.nan_to_num(images.pixels.float())
    layers = pixels if white is None else torch.cat([pixels, white], 1)
    sampled = functional.grid_sample(layers, place, align_corners=True, padding_mode="reflection")
    count = images.pixels.shape[1]
    area = (step * step)[:, None] if network.kind is Kind.FLUX else torch.ones(len(images), 1)
    left = noise_of_interpolation(native)[:, None]
    noise = images.noise * area * left if network.kind is Kind.FLUX else images.noise
    present = (images.noise > 0)[..., None, None]
    return ImageView(
        pixels=sampled[:, :count] * area[..., None, None] * present,
        noise=noise,
        psf_fwhm=images.psf_fwhm / step[:, None],
        step=step,
        grain=sampled[:, count:] / left[..., None, None] if white is not None else torch.zeros_like(sampled),
        kept=torch.ones_like(noise),
        fading=torch.ones_like(noise),
    )


def noise_of_interpolation(native: Tensor) -> Tensor:
    """Noise (n,) that bilinear interpolation at positions (n, h, w, 2) leaves of independent pixels' noise of 1.

    Two thirds where positions fall anywhere between pixels, 1 where each falls on one, as in an image that is laid
    pixel by pixel.
    """
    part = native - torch.floor(native)
    kept = (1 - part) ** 2 + part**2
    return (kept[..., 0] * kept[..., 1]).mean((1, 2)).sqrt()


def as_given(images: Images, network: ImageNetworkConfig) -> ImageView:
    """Lay images as they are: no view at all. Dust of our Galaxy is taken away where it is known."""
    laid = lay_images(images, Placement.identity(len(images)), network)
    return laid if network.kind is Kind.DISPLAY else redden(laid, -images.dust)


def redden(view: ImageView, magnitudes: Tensor) -> ImageView:
    """Dim each band by (n, bands) magnitudes; negative ones take dust away, from the noise too."""
    fading = 10 ** (-0.4 * magnitudes)
    # The sky's noise does not fade behind dust, but grows with the flux when dust is taken away.
    grown = fading.clamp(min=1)
    return replace(
        view,
        pixels=view.pixels * fading[..., None, None],
        noise=view.noise * grown,
        kept=view.kept * fading / grown,
        fading=view.fading * fading,
    )


class ImageViews:
    """Draws one view of each image.

    Parameters
    ----------
    config : ImageViewConfig
    network : ImageNetworkConfig
    bands : tuple of str
    """

    def __init__(self, config: ImageViewConfig, network: ImageNetworkConfig, bands: tuple[str, ...]) -> None:
        self._config, self._network = config, network
        self._coefficients = torch.from_numpy(extinction_of(bands))

    def __call__(self, images: Images, generator: Generator) -> ImageView:
        """Draw a view of every row."""
        placement = self._placement(len(images), generator)
        if self._network.kind is Kind.DISPLAY:
            return lay_images(images, placement, self._network)
        white = torch.randn(images.pixels.shape, generator=generator)
        view = lay_images(images, placement, self._network, white)
        view = redden(self._blurred(view, generator), self._dust(images, generator))
        return self._withheld(restored(self._noisier(view, generator)), generator)

    def _placement(self, count: int, generator: Generator) -> Placement:
        config = self._config
        jitter = config.jitter * self._network.size / self._network.field
        return Placement.drawn(config.rotation, jitter, config.zoom, count, generator)

    def _dust(self, images: Images, generator: Generator) -> Tensor:
        ebv = self._config.reddening * torch.rand(len(images), 1, generator=generator)
        ebv = torch.where(self._chosen(images, self._config.reddening_probability, generator), ebv, 0.0)
        return ebv * self._coefficients - images.dust

    def _blurred(self, view: ImageView, generator: Generator) -> ImageView:
        growth = 1 + (self._config.blur_factor - 1) * torch.rand(len(view.pixels), 1, generator=generator)
        growth = torch.where(self._chosen(view.pixels, self._config.blur_probability, generator), growth, 1.0)
        sigma = torch.nan_to_num(view.psf_fwhm / FWHM_PER_SIGMA * torch.sqrt(growth**2 - 1))
        kernel = gaussian_kernel(sigma, view.pixels.shape[-1])
        # Beyond the edge there is nothing: what a kernel lacks there is made up for, or blurred views had dark borders.
        weight = kernel @ torch.ones_like(view.pixels) @ kernel
        return replace(
            view,
            pixels=kernel @ view.pixels @ kernel / weight,
            psf_fwhm=view.psf_fwhm * growth,
            kept=view.kept * noise_left(kernel, view.step),
        )

    def _noisier(self, view: ImageView, generator: Generator) -> ImageView:
        factor = self._config.noise_factor * torch.rand(len(view.pixels), 1, generator=generator)
        factor = torch.where(
            self._chosen(view.pixels, self._config.noise_probability, generator), factor, 0.0
        )
        growth = torch.sqrt(1 + factor**2)
        return replace(view, noise=view.noise * growth, kept=view.kept / growth)

    def _withheld(self, view: ImageView, generator: Generator) -> ImageView:
        draw = torch.rand(view.noise.shape, generator=generator)
        kept = ((draw >= self._config.band_dropout) | (draw == draw.amax(1, keepdim=True))).float()
        return replace(view, pixels=view.pixels * kept[..., None, None], noise=view.noise * kept)

    @staticmethod
    def _chosen(rows: Tensor | Images, probability: float, generator: Generator) -> Tensor:
        return torch.rand(len(rows), 1, generator=generator) < probability


def restored(view: ImageView) -> ImageView:
    """Add the noise that views took away or ask for, correlated between pixels as the image's is."""
    lacking = view.noise * torch.sqrt((1 - view.kept**2).clamp(min=0))
    return replace(
        view, pixels=view.pixels + view.grain * lacking[..., None, None], kept=torch.ones_like(view.kept)
    )
