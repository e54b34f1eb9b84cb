"""Images of several bands to a representation."""

import torch
from torch import Tensor, nn

from encoder.backbone import SOFTENING, Representation, Trunk, arcsinh, unit
from encoder.images.archive import Kind
from encoder.images.config import ImageNetworkConfig

DISPLAY_MIDDLE, DISPLAY_SPREAD = 20.0, 33.0
"""Of 255: bring a stretched picture of a galaxy, mostly dark sky, to order one."""


class ImageEncoder(nn.Module):
    """Several bands, seen together, to one representation; rows never see each other.

    Parameters
    ----------
    config : ImageNetworkConfig
        Fluxes are scaled by their noise, with a channel for each band that says whether it was seen; display
        values are only centred.
    """

    def __init__(self, config: ImageNetworkConfig) -> None:
        super().__init__()
        self.kind = config.kind
        channels = config.bands * (2 if config.kind is Kind.FLUX else 1)
        self.backbone = Trunk(channels, config.size, config.widths, config.blocks, config.groups)
        self.feature_size = self.backbone.feature_size
        self.context_size = 2 * config.bands
        self.norm = nn.LayerNorm(self.feature_size)
        self.project = nn.Linear(self.feature_size, config.embedding_size)

    def forward(self, pixels: Tensor, noise: Tensor) -> Representation:
        """Represent images.

        Parameters
        ----------
        pixels : Tensor, shape (n, bands, size, size)
            Flux per pixel, or display values from 0 to 255.
        noise : Tensor, shape (n, bands)
            Standard deviation of a pixel; 0 where a band is missing. Display pictures have ones.

        Returns
        -------
        Representation
        """
        features = self.backbone.pooled(self.scaled(pixels, noise))
        raw = self.project(self.norm(features))
        present = (noise > 0).to(noise.dtype)
        depth = torch.log10(torch.where(noise > 0, noise, torch.ones_like(noise)))
        return Representation(features, torch.cat([depth, present], dim=1), raw, unit(raw))

    def scaled(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """Pixels as the first layer sees them, and behind them, of fluxes, whether each band was seen."""
        if self.kind is Kind.DISPLAY:
            return (pixels - DISPLAY_MIDDLE) / DISPLAY_SPREAD
        present = (noise > 0).to(pixels.dtype)[..., None, None]
        per_noise = 1 / (SOFTENING * torch.where(noise > 0, noise, torch.ones_like(noise)))
        return torch.cat(
            [arcsinh(pixels * per_noise[..., None, None]) * present, present.expand_as(pixels)], dim=1
        )
