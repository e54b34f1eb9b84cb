"""How unusual an alert is: distance in the embedding, calibrated within its survey."""

import numpy as np
import torch
from torch import Tensor, nn

from broker.alert import SURVEYS
from broker.errors import SettingsError
from encoder.config import NetworkConfig
from encoder.quantiles import Quantiles

ARTEFACT = "bogus"
"""Class that stands for artefacts; it is kept out of the reference population."""

ELSEWHERE = 1e6
"""Added to the squared distance to prototypes of another survey, so that none is ever the nearest."""

LEAST = 1e-12
"""Interest is resolved so near to 1, far beyond what any reference population tells apart."""


class AnomalyScore(nn.Module):
    """Distance to the nearest prototype of the survey, as a quantile of the reference population.

    Distances are taken in the whitened embedding, where a direction in which alerts rarely differ counts as
    much as one in which they always do.
    """

    centre: Tensor
    whiten: Tensor
    prototypes: Tensor
    prototype_survey: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        size, count = config.embedding_size, config.prototypes
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("whiten", torch.eye(size))
        self.register_buffer("prototypes", torch.zeros(count, size))
        self.register_buffer("prototype_survey", torch.arange(count) % len(SURVEYS))
        self.quantiles = Quantiles(config.quantiles)

    def distance(self, embedding: Tensor, survey: Tensor) -> Tensor:
        """Distance (n,) of embeddings (n, size) to the nearest prototype of their survey."""
        white = (embedding - self.centre) @ self.whiten
        squares = (white * white).sum(1, keepdim=True) + (self.prototypes * self.prototypes).sum(1)
        squared = squares - 2 * white @ self.prototypes.T
        elsewhere = (survey[:, None] != self.prototype_survey).to(embedding.dtype)
        return torch.sqrt((squared + ELSEWHERE * elsewhere).amin(dim=1).clamp(min=0))

    def forward(self, embedding: Tensor, survey: Tensor) -> Tensor:
        """Fraction (n,) of the survey's reference population that is less unusual."""
        return 1 - self.survival(embedding, survey)

    def survival(self, embedding: Tensor, survey: Tensor) -> Tensor:
        """Fraction (n,) of the survey's reference population that is as unusual or more."""
        return self.quantiles.survival(self.distance(embedding, survey), survey)

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
        kept, of = embedding[calibration], survey[calibration]
        self.quantiles.fit(self.distance(kept, of), of)


class AnomalyViews(nn.Module):
    """Two views of an anomaly: as something interesting, and as an artefact.

    Both are fractions of the survey's reference population, which holds no artefacts. Interesting is what is
    unusual *and* no artefact: the anomaly times the probability of not being an artefact. Artefact is the
    probability of being one. Each is calibrated on the reference, where 0.9 is exceeded by a tenth.

    Parameters
    ----------
    config : NetworkConfig
    artefact : int
        Index of the class that stands for artefacts.
    """

    def __init__(self, config: NetworkConfig, artefact: int) -> None:
        super().__init__()
        self.artefact = artefact
        self.interesting = Quantiles(config.quantiles)
        self.artificial = Quantiles(config.quantiles)

    def forward(self, survival: Tensor, logits: Tensor, survey: Tensor) -> tuple[Tensor, Tensor]:
        """Give both views.

        Parameters
        ----------
        survival : Tensor, shape (n,)
            Of `AnomalyScore`.
        logits : Tensor, shape (n, classes)
            Of the morphology head.
        survey : Tensor of int64, shape (n,)

        Returns
        -------
        interesting, artefact : Tensor, shape (n,)
        """
        odds = self.log_odds(logits)
        return self.interesting(interest(survival, odds), survey), self.artificial(odds, survey)

    def log_odds(self, logits: Tensor) -> Tensor:
        """Logarithm (n,) of the odds of an artefact: what no probability near 0 or 1 can round away."""
        others = torch.cat([logits[:, : self.artefact], logits[:, self.artefact + 1 :]], dim=1)
        return logits[:, self.artefact] - torch.logsumexp(others, dim=1)

    def fit(self, survival: Tensor, logits: Tensor, survey: Tensor) -> None:
        """Calibrate on the reference population; see `forward`."""
        odds = self.log_odds(logits)
        self.interesting.fit(interest(survival, odds), survey)
        self.artificial.fit(odds, survey)


def interest(survival: Tensor, log_odds: Tensor) -> Tensor:
    """Anomaly times the probability of no artefact, as -log(1 - product), which resolves products near 1."""
    chance = torch.sigmoid(log_odds)
    return -torch.log((survival + (1 - survival) * chance).clamp(min=LEAST))


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
