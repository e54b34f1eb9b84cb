"""What is read off a representation: morphology and the redshift's PDF."""

import math

import torch
from torch import Tensor, nn

from broker.alert import BANDS, SURVEYS
from encoder.config import NetworkConfig

FLUX_SOFTENING = 100.0
"""nJy: about the depth of one Rubin visit at 1 sigma, below which magnitudes are noise (asinh magnitudes of
Lupton, Gunn and Szalay 1999, AJ 118, 1406)."""

MAGNITUDE_CENTRE, MAGNITUDE_SPREAD = 22.0, 3.0
"""Bring magnitudes of alert hosts to order one."""

AB_ZERO_POINT = 31.4
"""AB magnitude of 1 nJy (Oke and Gunn 1983, ApJ 266, 713; 3631 Jy)."""


class PhotometryFeatures(nn.Module):
    """Fluxes in nJy, some unknown, to asinh magnitudes, colours of neighbouring bands and what is known.

    Takes (n, 6), NaN where unknown; returns (n, `size`). An unknown value is 0 and says so in its mask.
    """

    size = 2 * len(BANDS) + (len(BANDS) - 1)

    def forward(self, photometry: Tensor) -> Tensor:
        """Describe; see the class."""
        unknown = torch.isnan(photometry)
        known = 1 - unknown.to(photometry.dtype)
        flux = torch.where(unknown, torch.zeros_like(photometry), photometry)
        magnitude = asinh_magnitude(flux)
        colour = (magnitude[:, :-1] - magnitude[:, 1:]) * known[:, :-1] * known[:, 1:]
        centred = (magnitude - MAGNITUDE_CENTRE) / MAGNITUDE_SPREAD * known
        return torch.cat([centred, colour, known], dim=1)


def asinh_magnitude(flux: Tensor) -> Tensor:
    """Asinh magnitudes (AB) (n, bands) of fluxes in nJy: defined below zero, Pogson's where bright."""
    ratio = flux / (2 * FLUX_SOFTENING)
    size = ratio.abs()
    arcsinh = torch.sign(ratio) * torch.log(size + torch.sqrt(size * size + 1))
    return AB_ZERO_POINT - 2.5 / math.log(10) * (arcsinh + math.log(FLUX_SOFTENING))


class Standardise(nn.Module):
    """Subtract a mean, divide by a spread; both are fitted, not learned."""

    mean: Tensor
    spread: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("spread", torch.ones(size))

    def fit(self, values: Tensor) -> None:
        """Take mean and spread of (n, size); a constant column keeps a spread of 1."""
        spread = values.std(dim=0, correction=0)
        self.mean.copy_(values.mean(dim=0))
        self.spread.copy_(torch.where(spread > 1e-4, spread, torch.ones_like(spread)))  # noqa: PLR2004

    def forward(self, values: Tensor) -> Tensor:
        """Standardise (n, size); far outliers are held at 10 spreads."""
        return ((values - self.mean) / self.spread).clamp(-10, 10)


class Head(nn.Module):
    """A small network on the description of an alert, whose softmax is calibrated by one temperature."""

    temperature: Tensor

    def __init__(self, size_in: int, hidden: int, size_out: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.standardise = Standardise(size_in)
        self.layers = nn.Sequential(
            nn.Linear(size_in, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, size_out),
        )
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, description: Tensor) -> Tensor:
        """Logits (n, size_out) of (n, size_in), divided by the temperature."""
        logits: Tensor = self.layers(self.standardise(description))
        return logits / self.temperature


def survey_one_hot(survey: Tensor) -> Tensor:
    """Shape (n,) of int64 to (n, surveys) of float32."""
    return (survey[:, None] == torch.arange(len(SURVEYS), device=survey.device)).to(torch.float32)


def morphology_head(
    config: NetworkConfig, features: int, context: int, classes: int, dropout: float = 0.0
) -> Head:
    """Head over features, context and survey."""
    return Head(features + context + len(SURVEYS), config.hidden, classes, dropout)


def redshift_head(config: NetworkConfig, features: int, context: int, dropout: float = 0.0) -> Head:
    """Head over features, context, survey and photometry."""
    return Head(
        features + context + len(SURVEYS) + PhotometryFeatures.size, config.hidden, config.z_bins, dropout
    )
