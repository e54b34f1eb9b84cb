"""How unusual an alert is: distance in the embedding, calibrated within its survey."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from broker.alert import SURVEYS
from broker.errors import SettingsError
from encoder.config import NetworkConfig

ELBOW = 0.9
"""Share of the reference up to which the score is resolved evenly, and beyond which finely."""

ELSEWHERE = 1e6
"""Added to the squared distance to prototypes of another survey, so that none is ever the nearest."""


class AnomalyScore(nn.Module):
    """Distance to the nearest prototype of the survey, as a quantile of the reference population.

    Distances are taken in the whitened embedding, where a direction in which alerts rarely differ counts as
    much as one in which they always do. The table turns a distance into the fraction of the reference
    population that lies nearer to its prototype; beyond the farthest of the reference the fraction goes on
    towards 1 as its tail does, so that no two alerts tie for being stranger than all.
    """

    centre: Tensor
    whiten: Tensor
    prototypes: Tensor
    prototype_survey: Tensor
    table: Tensor
    levels: Tensor
    tail: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        size, count = config.embedding_size, config.prototypes
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("whiten", torch.eye(size))
        self.register_buffer("prototypes", torch.zeros(count, size))
        self.register_buffer("prototype_survey", torch.arange(count) % len(SURVEYS))
        self.register_buffer("table", torch.linspace(0, 2, config.quantiles).repeat(len(SURVEYS), 1))
        self.register_buffer("levels", levels(config.quantiles, 1000).repeat(len(SURVEYS), 1))
        self.register_buffer("tail", torch.ones(len(SURVEYS)))

    def distance(self, embedding: Tensor, survey: Tensor) -> Tensor:
        """Distance (n,) of embeddings (n, size) to the nearest prototype of their survey."""
        white = (embedding - self.centre) @ self.whiten
        squares = (white * white).sum(1, keepdim=True) + (self.prototypes * self.prototypes).sum(1)
        squared = squares - 2 * white @ self.prototypes.T
        elsewhere = (survey[:, None] != self.prototype_survey).to(embedding.dtype)
        return torch.sqrt((squared + ELSEWHERE * elsewhere).amin(dim=1).clamp(min=0))

    def forward(self, embedding: Tensor, survey: Tensor) -> Tensor:
        """Fraction (n,) of the survey's reference population that is less unusual."""
        knots, level = self.table[survey], self.levels[survey]
        low, high = knots[:, :-1], knots[:, 1:]
        distance = self.distance(embedding, survey)[:, None]
        # Each segment is passed by a share between 0 and 1: piecewise linear, monotone whatever the table.
        passed = ((distance - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
        within = (passed * (level[:, 1:] - level[:, :-1])).sum(dim=1)
        beyond = ((distance - high[:, -1:]) / self.tail[survey][:, None]).clamp(min=0)[:, 0]
        return within + (1 - level[:, -1]) * (1 - torch.exp(-beyond))

    def fit(self, embedding: Tensor, survey: Tensor, calibration: Tensor, seed: int) -> None:
        """Place prototypes and calibrate the table.

        Parameters
        ----------
        embedding : Tensor, shape (n, size)
            Of the reference population: usual alerts only.
        survey : Tensor of int64, shape (n,)
        calibration : Tensor of bool, shape (n,)
            Rows kept for the table; the others place the prototypes, which lie nearer to their own rows than
            to new ones.
        seed : int

        Raises
        ------
        SettingsError
            A survey has too few rows for its prototypes or its table.
        """
        placed = embedding[~calibration]
        self.centre.copy_(placed.mean(0))
        self.whiten.copy_(whitening(placed))
        rng = np.random.default_rng(seed)
        for index, name in enumerate(SURVEYS):
            mine = self.prototype_survey == index
            rows = placed[survey[~calibration] == index]
            kept = calibration & (survey == index)
            if len(rows) < int(mine.sum()) or not kept.any():
                raise SettingsError(
                    f"{len(rows)} reference alerts of {name.value} for {int(mine.sum())} prototypes and "
                    f"{int(kept.sum())} for the table: simulate more, or lower network.prototypes"
                )
            white = (rows - self.centre) @ self.whiten
            self.prototypes[mine] = k_means(white, int(mine.sum()), rng)
        for index in range(len(SURVEYS)):
            kept = calibration & (survey == index)
            self._calibrate(index, self.distance(embedding[kept], survey[kept]))

    def _calibrate(self, index: int, distance: Tensor) -> None:
        """Take one survey's table from the distances of its calibration rows."""
        level = levels(self.table.shape[1], len(distance))
        self.levels[index] = level
        # The farthest of n stands for the level n / (n + 1), the nearest for 0.
        self.table[index] = torch.quantile(distance, level / level[-1])
        steep = torch.log((1 - ELBOW * level[-1]) / (1 - level[-1]))
        self.tail[index] = (distance.max() - torch.quantile(distance, ELBOW)) / steep


def levels(count: int, rows: int) -> Tensor:
    """Fractions of the reference at which its distances are kept, shape (count,).

    Even at first, then ever closer towards ``rows / (rows + 1)``, as subscribers cut where it is high.
    """
    top = rows / (rows + 1)
    even = torch.linspace(0, ELBOW * top, count // 2 + 1)
    close = 1 - torch.logspace(math.log10(1 - ELBOW * top), math.log10(1 - top), count - count // 2)
    return torch.cat([even, close[1:]])


def whitening(rows: Tensor, floor: float = 1e-3) -> Tensor:
    """Matrix (size, size) that turns the covariance of (n, size) into the identity.

    Directions with less than ``floor`` of the largest variance are held there: they are rounding, not sky.
    """
    centred = (rows - rows.mean(0)).double()
    variance, axes = torch.linalg.eigh(centred.T @ centred / max(len(rows) - 1, 1))
    spread = variance.clamp(min=float(variance.max()) * floor).clamp(min=1e-12).sqrt()
    matrix: Tensor = (axes / spread).to(rows.dtype)
    return matrix


def k_means(rows: Tensor, count: int, rng: np.random.Generator, rounds: int = 20) -> Tensor:
    """Centres (count, size) by Lloyd's iteration from distinct rows; an empty cell keeps its centre."""
    centres = rows[torch.as_tensor(rng.choice(len(rows), count, replace=False))].clone()
    for _ in range(rounds):
        nearest = torch.cdist(rows, centres).argmin(dim=1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, rows)
        sizes = torch.bincount(nearest, minlength=count)[:, None]
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
    return centres
