"""Stamps to a representation: scaling, a small residual network, pooling of several layers."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from broker.alert import BANDS, ROLES
from encoder.config import NetworkConfig

SOFTENING = 3.0
"""Pixels are scaled as arcsinh(flux / (3 noise)): linear where noise rules, logarithmic in the cores of
bright sources (Lupton, Gunn and Szalay 1999, AJ 118, 1406)."""

CENTRE_WIDTH = 0.25
"""Sigma of the central weight, as a share of half the side: the alert itself against its surroundings."""


class Scaling(nn.Module):
    """Fluxes to numbers of order one, with the mask as further channels.

    Takes ``stamps`` and ``mask`` (n, 3, size, size) and ``noise`` (n, 3); returns (n, 6, size, size). A stamp
    without noise is a missing one and gives zeros.
    """

    def forward(self, stamps: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
        """Scale; see the class."""
        present = (noise > 0).to(stamps.dtype)
        per_noise = present / (SOFTENING * torch.where(noise > 0, noise, torch.ones_like(noise)))
        seen = mask * present[..., None, None]
        scaled = arcsinh(stamps * per_noise[..., None, None])
        return torch.cat([scaled * seen, seen], dim=1)


def arcsinh(values: Tensor) -> Tensor:
    """Written out, as ONNX Runtime has a vectorised logarithm but no vectorised arcsinh."""
    size = values.abs()
    return torch.sign(values) * torch.log(size + torch.sqrt(size * size + 1))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each normalised within its own row, around a shortcut.

    GroupNorm, never BatchNorm: statistics over the batch leak between the rows of a contrastive batch, and
    make an alert's embedding depend on its neighbours.
    """

    def __init__(self, width_in: int, width: int, stride: int, groups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width_in, width, 3, stride, 1, bias=False),
            nn.GroupNorm(groups, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.GroupNorm(groups, width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride, bias=False), nn.GroupNorm(groups, width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, width_in, h, w) to (n, width, h / stride, w / stride)."""
        activated: Tensor = torch.relu(self.body(x) + self.shortcut(x))
        return activated


def _central_weight(side: int) -> Tensor:
    axis = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
    profile = torch.exp(-0.5 * (axis / (CENTRE_WIDTH * side / 2)) ** 2)
    weight = profile[:, None] * profile[None, :]
    return (weight / weight.sum()).reshape(-1, 1)


class Trunk(nn.Module):
    """Residual network whose every stage is pooled, over the whole image and around its centre.

    Shallow stages keep what a deep one gives up (profiles, noise), which matters where pretraining is short.

    Parameters
    ----------
    channels : int
    size : int
        Side of the input.
    widths : sequence of int
        Channels of each stage; every stage after the first halves the side, the stem does so before.
    blocks, groups : int
        Residual blocks a stage, groups of each normalisation.
    """

    def __init__(self, channels: int, size: int, widths: Sequence[int], blocks: int, groups: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 5, 2, 2)
        stages: list[nn.Module] = []
        width_in, side = widths[0], -(-size // 2)
        for i, width in enumerate(widths):
            stride = 1 if i == 0 else 2
            side = -(-side // stride)
            first = ResidualBlock(width_in, width, stride, groups)
            rest = [ResidualBlock(width, width, 1, groups) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(first, *rest))
            self.register_buffer(f"central_{i}", _central_weight(side), persistent=False)
            width_in = width
        self.stages = nn.ModuleList(stages)
        self.feature_size = 2 * sum(widths)

    def pooled(self, x: Tensor) -> Tensor:
        """Shape (n, channels, size, size) to (n, feature_size)."""
        x = self.stem(x)
        found = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            flat = x.flatten(2)
            found += [flat.mean(dim=2), (flat @ self.get_buffer(f"central_{i}").to(flat.dtype)).squeeze(2)]
        return torch.cat(found, dim=1)


class Backbone(Trunk):
    """The trunk on an alert's three stamps and their masks."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(2 * len(ROLES), config.size, config.widths, config.blocks, config.groups)
        self.scaling = Scaling()

    def forward(self, stamps: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
        """Shapes (n, 3, size, size), the same, (n, 3); returns (n, feature_size)."""
        return self.pooled(self.scaling(stamps, mask, noise))


class Representation(NamedTuple):
    """What the network knows of an alert.

    Attributes
    ----------
    features : Tensor, shape (n, feature_size)
        Pooled layers, averaged over the bands that were seen.
    context : Tensor, shape (n, context_size)
        How it was seen: band, noise and presence of each stamp.
    raw : Tensor, shape (n, embedding_size)
        The embedding before it is brought to unit length.
    embedding : Tensor, shape (n, embedding_size)
    """

    features: Tensor
    context: Tensor
    raw: Tensor
    embedding: Tensor


def unit(raw: Tensor) -> Tensor:
    """Rows (n, d) at unit length; 0 stays 0."""
    return raw / torch.sqrt((raw * raw).sum(dim=1, keepdim=True) + 1e-12)


class Encoder(nn.Module):
    """Stamps of one or several bands to one representation; rows never see each other."""

    context_size = len(BANDS) + 2 * len(ROLES)

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.backbone = Backbone(config)
        self.feature_size = self.backbone.feature_size
        self.norm = nn.LayerNorm(self.feature_size)
        self.project = nn.Linear(self.feature_size, config.embedding_size)
        self.register_buffer("bands", torch.arange(len(BANDS)), persistent=False)

    def forward(self, stamps: Tensor, mask: Tensor, noise: Tensor, band: Tensor) -> Representation:
        """Represent alerts.

        Parameters
        ----------
        stamps, mask : Tensor, shape (n, bands, 3, size, size)
        noise : Tensor, shape (n, bands, 3)
        band : Tensor of int64, shape (n, bands)

        Returns
        -------
        Representation
        """
        features = self.backbone(stamps.flatten(0, 1), mask.flatten(0, 1), noise.flatten(0, 1))
        by_band = features.unflatten(0, band.shape)
        seen = ((mask.amax(dim=(3, 4)) * (noise > 0)).amax(dim=2) > 0).to(by_band.dtype)
        weight = seen / seen.sum(dim=1, keepdim=True).clamp(min=1)
        averaged = (by_band * weight[..., None]).sum(dim=1)
        context = (self._context(noise, band) * weight[..., None]).sum(dim=1)
        raw = self.project(self.norm(averaged))
        return Representation(averaged, context, raw, unit(raw))

    def _context(self, noise: Tensor, band: Tensor) -> Tensor:
        which = (band[..., None] == self.get_buffer("bands")).to(noise.dtype)
        present = (noise > 0).to(noise.dtype)
        depth = torch.log10(torch.where(noise > 0, noise, torch.ones_like(noise)))
        return torch.cat([which, depth, present], dim=-1)
