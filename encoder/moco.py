"""MoCo v2+ : a momentum encoder, a queue of keys, and a side task that keeps fluxes in the representation."""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from broker.alert import BANDS, ROLES, SURVEYS, Survey
from encoder.augment import as_served
from encoder.backbone import Encoder, Representation
from encoder.boxes import Boxes, Laid
from encoder.config import PretrainConfig
from encoder.heads import asinh_magnitude, survey_one_hot
from encoder.losses import info_nce, known_regression, spread

APERTURES = (2.5, 7.0)
"""Radii in grid pixels: the alert itself and its host (three pixels are one nominal seeing FWHM)."""

APERTURE_SOFTENING = {Survey.LSST: 100.0, Survey.ZTF: 15.0}
"""nJy and DN: about the noise of one visit within the smaller aperture, below which fluxes count linearly."""

MEASURED = len(APERTURES) * len(ROLES) + len(BANDS)
"""Clean aperture fluxes of each stamp, the packet's photometry."""

TARGETS = len(APERTURES) * len(ROLES) + len(BANDS) + (len(BANDS) - 1)
"""Aperture fluxes of each stamp, magnitudes of the packet's photometry, its colours."""


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
    queue_object: Tensor
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
        self.register_buffer("queue_object", torch.full((config.queue,), -1))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))
        self.register_buffer("target_mean", torch.zeros(TARGETS))
        self.register_buffer("target_spread", torch.ones(TARGETS))

    def forward(self, query: Laid, key: Laid, measured: Tensor, sky_object: Tensor) -> dict[str, Tensor]:
        """Compare two views.

        Parameters
        ----------
        query, key : Laid
            Two views of the same n alerts, or of two visits of the same objects.
        measured : Tensor, shape (n, MEASURED)
            Of the query's alerts, as `measure` gives it.
        sky_object : Tensor of int64, shape (n,)
            An object's other visits in the queue are no negatives of it.

        Returns
        -------
        dict of str to Tensor
            ``loss``, and its parts ``contrast``, ``auxiliary`` and ``spread``. The queue moves on.
        """
        # Only the networks run in bfloat16: its cosines are no finer than 0.004.
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.config.bf16):
            seen = _represent(self.base_encoder, query)
            ours = self.base_projector(seen.raw)
            guess = self.auxiliary(torch.cat([seen.raw, seen.context, survey_one_hot(query.survey)], dim=1))
            with torch.no_grad():
                theirs = self.momentum_projector(_represent(self.momentum_encoder, key).raw)
        ours, theirs = (functional.normalize(one.float(), dim=1) for one in (ours, theirs))
        own = sky_object[:, None] == self.queue_object
        target = (targets(measured, query) - self.target_mean) / self.target_spread
        parts = {
            "contrast": info_nce(ours, theirs, self.queue.clone(), self.config.temperature, own),
            "auxiliary": known_regression(guess.float(), target),
            "spread": spread(seen.raw.float()),
        }
        self._enqueue(theirs, sky_object)
        weights = {
            "contrast": 1.0,
            "auxiliary": self.config.auxiliary_weight,
            "spread": self.config.spread_weight,
        }
        total = sum((weights[name] * value for name, value in parts.items()), torch.zeros(()))
        return {"loss": total, **{name: value.detach() for name, value in parts.items()}}

    def fit_targets(self, measured: Tensor, boxes: Boxes) -> None:
        """Take mean and spread of the targets of alerts as served; ``measured`` is (n, MEASURED)."""
        targets = _targets(measured, boxes.survey)
        known = torch.isfinite(targets)
        count = known.sum(0).clamp(min=1)
        filled = torch.where(known, targets, torch.zeros(()))
        mean = filled.sum(0) / count
        variance = (torch.where(known, targets - mean, torch.zeros(())) ** 2).sum(0) / count
        self.target_mean.copy_(mean)
        self.target_spread.copy_(torch.where(variance > 1e-6, variance.sqrt(), torch.ones(())))  # noqa: PLR2004

    @torch.no_grad()
    def follow(self, progress: float) -> None:
        """Move the momentum encoder towards the base encoder, after the optimiser's step.

        Parameters
        ----------
        progress : float
            Share of the run that is done: the momentum rises from the first to the last of the recipe.
        """
        first, last = self.config.momentum
        momentum = last - (last - first) * 0.5 * (1 + math.cos(math.pi * progress))
        for ours, theirs in (
            (self.base_encoder, self.momentum_encoder),
            (self.base_projector, self.momentum_projector),
        ):
            torch._foreach_lerp_(list(theirs.parameters()), list(ours.parameters()), 1 - momentum)

    @torch.no_grad()
    def _enqueue(self, keys: Tensor, sky_object: Tensor) -> None:
        rows = (int(self.place) + torch.arange(len(keys))) % len(self.queue)
        self.queue[rows] = keys
        self.queue_object[rows] = sky_object
        self.place.fill_(int(rows[-1] + 1) % len(self.queue))


def _represent(encoder: Encoder, laid: Laid) -> Representation:
    found: Representation = encoder(
        laid.stamps[:, None], laid.mask[:, None], laid.noise[:, None], laid.band[:, None]
    )
    return found


def measure(boxes: Boxes, size: int, chunk: int = 512) -> Tensor:
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
    Tensor, shape (n, MEASURED)
        Flux of each aperture and stamp in survey units, photometry in nJy; NaN where unknown.
    """
    parts = [_measure(boxes[slice(start, start + chunk)], size) for start in range(0, len(boxes), chunk)]
    return torch.cat(parts)


def _measure(boxes: Boxes, size: int) -> Tensor:
    laid = as_served(boxes, size)
    axis = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    radius = torch.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2)
    columns = []
    for aperture in APERTURES:
        inside = laid.mask * (radius <= aperture)
        flux = (laid.stamps * inside).sum((2, 3))
        columns.append(torch.where(inside.sum((2, 3)) > 0, flux, torch.full((), torch.nan)))
    return torch.cat([*columns, laid.photometry], dim=1)


def targets(measured: Tensor, view: Laid) -> Tensor:
    """Targets of a view: what was measured, behind the dust the view put in front.

    Parameters
    ----------
    measured : Tensor, shape (n, MEASURED)
    view : Laid

    Returns
    -------
    Tensor, shape (n, TARGETS)
        arcsinh of the aperture fluxes, asinh magnitudes and colours; NaN where unknown.
    """
    own = view.fading.gather(1, view.band.clamp(min=0)[:, None])
    apertures = len(APERTURES) * len(ROLES)
    dimmed = torch.cat([measured[:, :apertures] * own, measured[:, apertures:] * view.fading], dim=1)
    return _targets(dimmed, view.survey)


def _targets(measured: Tensor, survey: Tensor) -> Tensor:
    softening = torch.tensor([APERTURE_SOFTENING[one] for one in SURVEYS])[survey][:, None]
    flux, photometry = torch.split(measured, [len(APERTURES) * len(ROLES), len(BANDS)], dim=1)
    magnitude = asinh_magnitude(photometry)
    return torch.cat([torch.asinh(flux / softening), magnitude, magnitude[:, :-1] - magnitude[:, 1:]], dim=1)
