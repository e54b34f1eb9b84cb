"""Every number a pretraining run on images depends on."""

from typing import Self

from pydantic import Field, model_validator

from encoder.config import Frozen, Recipe, Shape
from encoder.images.archive import Kind


class ImageNetworkConfig(Shape):
    """Shape of the network for images.

    Attributes
    ----------
    kind : Kind
        What the pixels are.
    bands : int
        Channels of an image.
    size : int
        Side of what the network sees, in pixels of its own.
    field : int
        Side of what it sees, in pixels of the image: finer where smaller than ``size``, coarser where larger. A galaxy
        that fills a third of the picture is best seen with the field cut to twice its size.
    """

    kind: Kind = Kind.DISPLAY
    bands: int = Field(default=3, ge=1)
    size: int = Field(default=48, ge=8)
    field: int = Field(default=36, ge=8)
    embedding_size: int = Field(default=128, ge=2)


class ImageViewConfig(Frozen):
    """Which views of an image are taken to show the same galaxy.

    Attributes
    ----------
    rotation : bool
        Any angle, and flips.
    jitter : float
        Largest shift of the centre along each axis, in pixels of the image (Hayat et al. 2021: 7 of 107).
    zoom : tuple of float
        Smallest and largest factor by which the sky is enlarged, both axes alike; (1, 1) is off.
    noise_probability, noise_factor : float
        How often noise is added, and at most how much in units of each band's own. Fluxes only.
    blur_probability, blur_factor : float
        How often the PSF grows, and at most by which factor. Fluxes only, where the PSF is known.
    reddening_probability, reddening : float
        How often dust is put in front of the de-reddened galaxy, E(B-V) ~ U(0, reddening). Fluxes only.
    band_dropout : float
        How often a band is withheld; never all of them. Fluxes only.
    """

    rotation: bool = True
    jitter: float = Field(default=2.0, ge=0)
    zoom: tuple[float, float] = (0.9, 1.11)
    noise_probability: float = Field(default=0.5, ge=0, le=1)
    noise_factor: float = Field(default=1.5, ge=0)
    blur_probability: float = Field(default=0.5, ge=0, le=1)
    blur_factor: float = Field(default=1.5, ge=1)
    reddening_probability: float = Field(default=0.5, ge=0, le=1)
    reddening: float = Field(default=0.3, ge=0)
    band_dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _zoom_is_a_range(self) -> Self:
        low, high = self.zoom
        if not 0 < low <= high:
            raise ValueError(f"zoom {self.zoom} is not a range of positive factors")
        return self


class ImagePretrainConfig(Recipe):
    """One pretraining run on images.

    Attributes
    ----------
    network : ImageNetworkConfig
    views : ImageViewConfig
    """

    network: ImageNetworkConfig = ImageNetworkConfig()
    views: ImageViewConfig = ImageViewConfig()
    epochs: int = Field(default=150, ge=1)
    batch_size: int = Field(default=192, ge=2)
    queue: int = Field(default=512, ge=1)
    momentum: tuple[float, float] = (0.99, 0.999)
