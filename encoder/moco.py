"""MoCo v2+ : a momentum encoder, a queue of keys, and a side task that keeps fluxes in the representation."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from broker.alert import BANDS, ROLES, SURVEYS
from encoder.augment import as_served
from encoder.backbone import Encoder, Representation
from encoder.boxes import Boxes, Laid
from encoder.config import PretrainConfig
from encoder.heads import asinh_magnitude, survey_one_hot
from encoder.losses import info_nce, known_regression, spread

APERTURES = (2.5, 7.0)
"""Radii in grid pixels: the alert itself and its host (three pixels are one nominal seeing FWHM)."""

TARGETS = len(APERTURES) * len(ROLES) + len(BANDS) + (len(BANDS) - 1)
"""Clean aperture fluxes of each stamp, magnitudes of the packet's photometry, its colours."""


class Projector(nn.Sequential):
    """Two layers, between the representation that is kept and the space in which views are compared."""

    def __init__(self, size_in: int, hidden: int, size_out: int) -> None:
        super().__init__(nn.Linear(size_in, hidden), nn.ReLU(), nn.Linear(hidden, size_out))


class MoCo(nn.Module):
    """Momentum contrast of two views of each alert (Chen et al. 2020, arXiv 2003.04297).

    Parameters
    ----------
    config : PretrainConfig
    """

    queue: Tensor
    place: Tensor
    target_mean: Tensor
    target_spread: Tensor

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__()
        size = config.network.embedding_size
        self.config = config
        self.base_encoder = Encoder(config.network)
        self.base_projector = Projector(size, 2 * config.projection, config.projection)
        self.momentum_encoder = copy.deepcopy(self.base_encoder).requires_grad_(requires_grad=False)
        self.momentum_projector = copy.deepcopy(self.base_projector).requires_grad_(requires_grad=False)
        self.auxiliary = nn.Sequential(
            nn.Linear(size + Encoder.context_size + len(SURVEYS), config.network.hidden),
            nn.ReLU(),
            nn.Linear(config.network.hidden, TARGETS),
        )
        self.register_buffer(
            "queue", functional.normalize(torch.randn(config.queue, config.projection), dim=1)
        )
        self.register_buffer("place", torch.zeros((), dtype=torch.long))
        self.register_buffer("target_mean", torch.zeros(TARGETS))
        self.register_buffer("target_spread", torch.ones(TARGETS))

    def forward(self, query: Laid, key: Laid, target: Tensor) -> dict[str, Tensor]:
        """Compare two views.

        Parameters
        ----------
        query, key : Laid
            Two views of the same n alerts.
        target : Tensor, shape (n, TARGETS)
            As `clean_targets` gives them.

        Returns
        -------
        dict of str to Tensor
            ``loss``, and its parts ``contrast``, ``auxiliary`` and ``spread``. The queue moves on.
        """
        seen = _represent(self.base_encoder, query)
        ours = functional.normalize(self.base_projector(seen.raw).float(), dim=1)
        with torch.no_grad():
            theirs = self.momentum_projector(_represent(self.momentum_encoder, key).raw)
            theirs = functional.normalize(theirs.float(), dim=1)
        parts = {
            "contrast": info_nce(ours, theirs, self.queue.clone(), self.config.temperature),
            "auxiliary": self._auxiliary_loss(seen, query, target),
            "spread": spread(seen.raw.float()),
        }
        self._enqueue(theirs)
        weights = {
            "contrast": 1.0,
            "auxiliary": self.config.auxiliary_weight,
            "spread": self.config.spread_weight,
        }
        total = sum((weights[name] * value for name, value in parts.items()), torch.zeros(()))
        return {"loss": total, **{name: value.detach() for name, value in parts.items()}}

    def _auxiliary_loss(self, seen: Representation, query: Laid, target: Tensor) -> Tensor:
        given = torch.cat([seen.raw, seen.context, survey_one_hot(query.survey)], dim=1)
        standardised = (target - self.target_mean) / self.target_spread
        return known_regression(self.auxiliary(given).float(), standardised)

    def fit_targets(self, targets: Tensor) -> None:
        """Take mean and spread of clean targets (n, TARGETS), NaN where unknown."""
        known = torch.isfinite(targets)
        count = known.sum(0).clamp(min=1)
        filled = torch.where(known, targets, torch.zeros(()))
        mean = filled.sum(0) / count
        variance = (torch.where(known, targets - mean, torch.zeros(())) ** 2).sum(0) / count
        self.target_mean.copy_(mean)
        self.target_spread.copy_(torch.where(variance > 1e-6, variance.sqrt(), torch.ones(())))  # noqa: PLR2004

    @torch.no_grad()
    def follow(self) -> None:
        """Move the momentum encoder towards the base encoder; call after each optimiser step."""
        for ours, theirs in (
            (self.base_encoder, self.momentum_encoder),
            (self.base_projector, self.momentum_projector),
        ):
            torch._foreach_lerp_(list(theirs.parameters()), list(ours.parameters()), 1 - self.config.momentum)

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        rows = (int(self.place) + torch.arange(len(keys))) % len(self.queue)
        self.queue[rows] = keys[: len(rows)]
        self.place.fill_(int(rows[-1] + 1) % len(self.queue))


def _represent(encoder: Encoder, laid: Laid) -> Representation:
    found: Representation = encoder(
        laid.stamps[:, None], laid.mask[:, None], laid.noise[:, None], laid.band[:, None]
    )
    return found


def clean_targets(boxes: Boxes, size: int, chunk: int = 512) -> Tensor:
    """Measure what the side task regresses: free labels of the alert as it came, before any view.

    Parameters
    ----------
    boxes : Boxes
    size : int
        Side of the grid.
    chunk : int
        Rows laid at a time.

    Returns
    -------
    Tensor, shape (n, TARGETS)
        arcsinh of significance in each aperture and stamp, asinh magnitudes and colours; NaN where unknown.
    """
    parts = [_clean(boxes[slice(start, start + chunk)], size) for start in range(0, len(boxes), chunk)]
    return torch.cat(parts)


def _clean(boxes: Boxes, size: int) -> Tensor:
    laid = as_served(boxes, size)
    axis = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    radius = torch.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2)
    columns = []
    for aperture in APERTURES:
        inside = laid.mask * (radius <= aperture)
        pixels = inside.sum((2, 3))
        significance = (laid.stamps * inside).sum((2, 3)) / (laid.noise * pixels.sqrt())
        columns.append(torch.where(pixels > 0, torch.asinh(significance), torch.full((), torch.nan)))
    magnitude = asinh_magnitude(laid.photometry)
    return torch.cat([*columns, magnitude, magnitude[:, :-1] - magnitude[:, 1:]], dim=1)
