"""Redshift densities from photometry and, where there is one, an embedding: a small ensemble of networks.

Each member reads colours, magnitudes and errors and says a probability for each bin of ln(1 + z). With an embedding
there is a second ensemble that reads it too, and rows that no member was trained on say how far that one is believed:
with few redshifts an embedding misleads more than it tells. The same rows calibrate the mean by the distribution of
its probability integral transform.
"""

import copy
import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional

from broker.errors import SettingsError
from encoder.config import Frozen
from encoder.evaluate import Floats
from encoder.heads import Standardise

SHARES = np.linspace(0, 1, 21)
"""Shares of the members that read the embedding, among which one is chosen."""

TINY = 1e-9
"""Added to probabilities before a logarithm."""

FEWEST = 50
"""Rows below which no density can be fitted and calibrated."""


class DensityConfig(Frozen):
    """How densities are fitted.

    Attributes
    ----------
    z_max : float
        End of the last bin; what lies beyond is taken as in it.
    bins : int
        Even in ln(1 + z), as errors grow with 1 + z.
    hidden, layers : int
    dropout, weight_decay : float
    learning_rate : float
        Peak of one cycle.
    epochs, least_steps, batch_size : int
    smoothing : float
        Standard deviation in ln(1 + z) by which a true redshift is spread over bins.
    members : int
        Networks, each with other rows to choose its epoch by.
    validation : float
        Share of the rows that choose the epoch and calibrate.
    smear : float
        Noise put on inputs in training, in units of the magnitudes' own errors.
    seed : int
    """

    z_max: float = Field(default=3.5, gt=0)
    bins: int = Field(default=300, ge=10)
    hidden: int = Field(default=192, ge=8)
    layers: int = Field(default=3, ge=1)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    weight_decay: float = Field(default=5e-2, ge=0)
    learning_rate: float = Field(default=2e-3, gt=0)
    epochs: int = Field(default=80, ge=1)
    least_steps: int = Field(default=800, ge=1)
    batch_size: int = Field(default=256, ge=2)
    smoothing: float = Field(default=0.02, gt=0)
    members: int = Field(default=4, ge=2)
    validation: float = Field(default=0.2, gt=0, lt=1)
    smear: float = Field(default=0.5, ge=0)
    seed: int = 20261124


@dataclass(frozen=True, slots=True)
class Inputs:
    """What densities are read off; n rows.

    Attributes
    ----------
    magnitude, error : Tensor, shape (n, bands)
        NaN where not detected.
    embedding : Tensor or None, shape (n, d)
    """

    magnitude: Tensor
    error: Tensor
    embedding: Tensor | None = None

    @classmethod
    def of(cls, magnitude: Floats, error: Floats, embedding: Floats | None = None) -> "Inputs":
        """Take arrays."""
        found = [
            None if values is None else torch.as_tensor(values, dtype=torch.float32)
            for values in (magnitude, error, embedding)
        ]
        assert found[0] is not None
        assert found[1] is not None
        return cls(found[0], found[1], found[2])

    def __len__(self) -> int:
        return len(self.magnitude)

    def __getitem__(self, rows: Tensor) -> "Inputs":
        embedding = None if self.embedding is None else self.embedding[rows]
        return Inputs(self.magnitude[rows], self.error[rows], embedding)

    def without_embedding(self) -> "Inputs":
        """Photometry alone."""
        return Inputs(self.magnitude, self.error)

    def smeared(self, factor: float, generator: Generator) -> "Inputs":
        """Add noise to the magnitudes, ``factor`` of their errors."""
        noise = torch.randn(self.magnitude.shape, generator=generator)
        return Inputs(self.magnitude + factor * self.error * noise, self.error, self.embedding)


def describe(inputs: Inputs) -> Tensor:
    """Colours of neighbouring bands, magnitudes, errors in dex, and what was seen: shape (n, 4 bands - 1 + d)."""
    seen = torch.isfinite(inputs.magnitude)
    zero = torch.zeros(())
    magnitude = torch.where(seen, inputs.magnitude, zero)
    both = seen[:, :-1] & seen[:, 1:]
    colour = torch.where(both, magnitude[:, :-1] - magnitude[:, 1:], zero)
    error = torch.where(seen, torch.log10(inputs.error.clamp(min=1e-3)), zero)
    parts = [colour, magnitude, error, seen.float()]
    if inputs.embedding is not None:
        parts.append(inputs.embedding)
    return torch.cat(parts, dim=1)


class Member(nn.Module):
    """One network from a description to logits of the bins."""

    def __init__(self, size: int, config: DensityConfig) -> None:
        super().__init__()
        self.standardise = Standardise(size)
        widths = [size] + [config.hidden] * config.layers
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.GELU(), nn.Dropout(config.dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(config.hidden, config.bins))

    def forward(self, description: Tensor) -> Tensor:
        """Logits (n, bins) of (n, size)."""
        logits: Tensor = self.layers(self.standardise(description))
        return logits


class Density:
    """Calibrated redshift densities.

    Parameters
    ----------
    config : DensityConfig
    """

    def __init__(self, config: DensityConfig | None = None) -> None:
        self.config = DensityConfig() if config is None else config
        self._alone: list[Member] = []
        self._joined: list[Member] = []
        self._share = 0.0
        self._levels: dict[bool, Floats] = {}

    @property
    def edges(self) -> Floats:
        """Edges (bins + 1,) of the bins, in redshift."""
        return np.expm1(np.linspace(0, math.log1p(self.config.z_max), self.config.bins + 1))

    def fit(self, inputs: Inputs, redshift: Floats) -> None:
        """Train the members and calibrate their mean.

        Each row chooses the epoch of one member and is calibrated by that member alone, which has not
        been trained on it: all rows are trained on, and none is judged by who knows it.

        Parameters
        ----------
        inputs : Inputs
        redshift : Floats, shape (n,)
            Spectroscopic or true.

        Raises
        ------
        SettingsError
            Fewer than `FEWEST` rows.
        """
        if len(inputs) < FEWEST:
            raise SettingsError(f"{len(inputs)} rows with a redshift: wanted at least {FEWEST}")
        place = torch.as_tensor(np.log1p(redshift), dtype=torch.float32)
        place = place.clamp(0, math.log1p(self.config.z_max) - 1e-6)
        order = torch.randperm(len(inputs), generator=Generator().manual_seed(self.config.seed))
        count = max(1, round(self.config.validation * len(inputs)))
        judges = []
        for index in range(self.config.members):
            judge = order.roll(-index * count)[:count]
            learn = order.roll(-index * count)[count:]
            judges.append(judge)
            seed = self.config.seed + index
            self._alone.append(self._train(inputs.without_embedding(), place, learn, judge, seed))
            if inputs.embedding is not None:
                self._joined.append(self._train(inputs, place, learn, judge, seed))
        # Each member says what it thinks of the rows it was not trained on.
        alone = self._apart(self._alone, inputs.without_embedding(), judges)
        joined = self._apart(self._joined, inputs, judges) if self._joined else alone
        truth = redshift[torch.cat(judges).numpy()]
        self._share = self._believed(alone, joined, truth) if self._joined else 0.0
        mixed = (1 - self._share) * alone + self._share * joined
        for seeing, said in ((False, alone), (True, mixed)):
            self._levels[seeing] = levels_of(transform(said, self.edges, truth))

    def pdf(self, inputs: Inputs) -> Floats:
        """Probability (n, bins) of each bin, calibrated; with inputs that have an embedding, and without."""
        probability = self._probability(self._alone, inputs.without_embedding())
        seeing = inputs.embedding is not None and bool(self._joined)
        if seeing:
            joined = self._probability(self._joined, inputs)
            probability = (1 - self._share) * probability + self._share * joined
        return recalibrated(probability, self._levels[seeing])

    @torch.no_grad()
    def _probability(self, members: list[Member], inputs: Inputs) -> Floats:
        description = describe(inputs)
        found = torch.stack([torch.softmax(member(description), 1) for member in members]).mean(0)
        return np.asarray(found.double().numpy())

    def _apart(self, members: list[Member], inputs: Inputs, judges: list[Tensor]) -> Floats:
        return np.concatenate(
            [self._probability([member], inputs[rows]) for member, rows in zip(members, judges, strict=True)]
        )

    def _believed(self, alone: Floats, joined: Floats, redshift: Floats) -> float:
        """Choose the share of the members with an embedding by the likelihood of the redshifts."""
        bins = (np.searchsorted(self.edges, redshift, side="right") - 1).clip(0, self.config.bins - 1)
        rows = np.arange(len(bins))
        one, other = alone[rows, bins], joined[rows, bins]
        scores = [float(np.log((1 - share) * one + share * other + TINY).mean()) for share in SHARES]
        return float(SHARES[int(np.argmax(scores))])

    def _train(self, inputs: Inputs, place: Tensor, learn: Tensor, judge: Tensor, seed: int) -> Member:
        config, generator = self.config, Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            description = describe(inputs)
            member = Member(description.shape[1], config)
            member.standardise.fit(description[learn])
            optimizer = torch.optim.AdamW(
                member.parameters(), config.learning_rate, weight_decay=config.weight_decay
            )
            per_epoch = max(1, len(learn) // config.batch_size)
            epochs = max(config.epochs, math.ceil(config.least_steps / per_epoch))
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, config.learning_rate, total_steps=epochs * per_epoch + 1
            )
            target = self._spread(place)
            best, kept = math.inf, copy.deepcopy(member.state_dict())
            every = max(1, epochs // 40)
            for epoch in range(epochs):
                member.train()
                shuffled = learn[torch.randperm(len(learn), generator=generator)]
                for rows in torch.split(shuffled, -(-len(learn) // per_epoch)):
                    some = describe(inputs[rows].smeared(config.smear, generator))
                    loss = functional.cross_entropy(member(some), target[rows])
                    optimizer.zero_grad(set_to_none=True)
                    torch.autograd.backward(loss)
                    optimizer.step()
                    schedule.step()
                if epoch % every == every - 1 or epoch == epochs - 1:
                    found = self._loss(member, description[judge], target[judge])
                    if found < best:
                        best, kept = found, copy.deepcopy(member.state_dict())
            member.load_state_dict(kept)
        return member.eval()

    @torch.no_grad()
    def _loss(self, member: Member, description: Tensor, target: Tensor) -> float:
        member.eval()
        return float(functional.cross_entropy(member(description), target))

    def _spread(self, place: Tensor) -> Tensor:
        """Target (n, bins): a Gaussian around each ln(1 + z)."""
        edges = torch.linspace(0, math.log1p(self.config.z_max), self.config.bins + 1)
        scaled = (edges[None] - place[:, None]) / (self.config.smoothing * math.sqrt(2))
        share = torch.erf(scaled).diff(dim=1)
        return share / share.sum(1, keepdim=True)


def transform(probability: Floats, edges: Floats, redshift: Floats) -> Floats:
    """Probability integral transform (n,): the CDF at the truth; even from 0 to 1 where densities are calibrated.

    Parameters
    ----------
    probability : Floats, shape (n, bins)
    edges : Floats, shape (bins + 1,)
    redshift : Floats, shape (n,)
    """
    cdf = np.concatenate([np.zeros((len(probability), 1)), np.cumsum(probability, axis=1)], axis=1)
    return np.array([np.interp(z, edges, row) for z, row in zip(redshift, cdf, strict=True)])


def recalibrated(probability: Floats, levels: Floats) -> Floats:
    """Map the CDF of each row (n, bins) by `levels_of` rows that were not trained on."""
    cdf = np.concatenate([np.zeros((len(probability), 1)), np.cumsum(probability, axis=1)], axis=1)
    mapped = np.interp(cdf.clip(0, 1), np.linspace(0, 1, len(levels)), levels)
    return np.diff(mapped / mapped[:, -1:], axis=1)


def levels_of(transforms: Floats) -> Floats:
    """Distribution of probability integral transforms at even steps, by which later ones are made even."""
    # Smoothed, as few rows would else make steps of their own: quantiles at as many levels as rows bear.
    count = int(np.clip(len(transforms) // 40, 2, 20))
    knots = np.concatenate([[0.0], np.quantile(transforms, np.arange(1, count) / count), [1.0]])
    return np.interp(np.linspace(0, 1, 101), _increasing(knots), np.linspace(0, 1, count + 1))


def _increasing(knots: Floats) -> Floats:
    return np.asarray(np.maximum.accumulate(knots + np.arange(len(knots)) * 1e-9))
