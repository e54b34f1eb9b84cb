"""How unusual an alert is: distance in the embedding, calibrated within its survey."""

import numpy as np
import torch
from torch import Tensor, nn

from broker.alert import SURVEYS
from encoder.config import NetworkConfig

ELSEWHERE = 1e6
"""Added to the squared distance to prototypes of another survey, so that none is ever the nearest."""


class AnomalyScore(nn.Module):
    """Distance to the nearest prototype of the survey, as a quantile of the reference population.

    Distances are taken in the whitened embedding, where a direction in which alerts rarely differ counts as
    much as one in which they always do. The table turns a distance into the fraction of the reference
    population that lies nearer to its prototype.
    """

    centre: Tensor
    whiten: Tensor
    prototypes: Tensor
    prototype_survey: Tensor
    table: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        size, count = config.embedding_size, config.prototypes
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("whiten", torch.eye(size))
        self.register_buffer("prototypes", torch.zeros(count, size))
        self.register_buffer("prototype_survey", torch.arange(count) % len(SURVEYS))
        self.register_buffer("table", torch.linspace(0, 2, config.quantiles).repeat(len(SURVEYS), 1))

    def distance(self, embedding: Tensor, survey: Tensor) -> Tensor:
        """Distance (n,) of embeddings (n, size) to the nearest prototype of their survey."""
        white = (embedding - self.centre) @ self.whiten
        squares = (white * white).sum(1, keepdim=True) + (self.prototypes * self.prototypes).sum(1)
        squared = squares - 2 * white @ self.prototypes.T
        elsewhere = (survey[:, None] != self.prototype_survey).to(embedding.dtype)
        return torch.sqrt((squared + ELSEWHERE * elsewhere).amin(dim=1).clamp(min=0))

    def forward(self, embedding: Tensor, survey: Tensor) -> Tensor:
        """Fraction (n,) of the survey's reference population that is less unusual."""
        knots = self.table[survey]
        low, high = knots[:, :-1], knots[:, 1:]
        # Each segment is passed by a share between 0 and 1: piecewise linear, monotone whatever the table.
        passed = ((self.distance(embedding, survey)[:, None] - low) / (high - low).clamp(min=1e-6)).clamp(
            0, 1
        )
        return passed.mean(dim=1)

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
        ValueError
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
                raise ValueError(
                    f"{len(rows)} reference alerts of {name.value} for {int(mine.sum())} prototypes and "
                    f"{int(kept.sum())} for the table: simulate more, or lower network.prototypes"
                )
            white = (rows - self.centre) @ self.whiten
            self.prototypes[mine] = k_means(white, int(mine.sum()), rng)
        levels = torch.linspace(0, 1, self.table.shape[1])
        for index in range(len(SURVEYS)):
            kept = calibration & (survey == index)
            self.table[index] = torch.quantile(self.distance(embedding[kept], survey[kept]), levels)


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
