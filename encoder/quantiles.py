"""A measure as a quantile: the fraction of a survey's reference population that has less of it."""

import math

import torch
from torch import Tensor, nn

from broker.alert import SURVEYS

ELBOW = 0.9
"""Share of the reference up to which the measure is resolved evenly, and beyond which finely."""


class Quantiles(nn.Module):
    """Turns a measure into the fraction of the reference population of the alert's survey that has less of it.

    Beyond the largest of the reference the fraction goes on towards 1 as the reference's tail does, so that no
    two alerts tie for having more than all.

    Parameters
    ----------
    count : int
        Entries of the table, for each survey.
    """

    table: Tensor
    levels: Tensor
    tail: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("table", torch.linspace(0, 2, count).repeat(len(SURVEYS), 1))
        self.register_buffer("levels", levels(count, 1000).repeat(len(SURVEYS), 1))
        self.register_buffer("tail", torch.ones(len(SURVEYS)))

    def forward(self, value: Tensor, survey: Tensor) -> Tensor:
        """Fraction (n,) of the reference with less than each value (n,)."""
        return 1 - self.survival(value, survey)

    def survival(self, value: Tensor, survey: Tensor) -> Tensor:
        """Fraction (n,) of the reference with as much as each value (n,) or more; exact where it is small."""
        knots, level = self.table[survey], self.levels[survey]
        low, high = knots[:, :-1], knots[:, 1:]
        # Each segment is passed by a share between 0 and 1: piecewise linear, monotone whatever the table.
        passed = ((value[:, None] - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
        ahead = ((1 - passed) * (level[:, 1:] - level[:, :-1])).sum(dim=1)
        beyond = ((value - knots[:, -1]) / self.tail[survey]).clamp(min=0)
        return ahead + (1 - level[:, -1]) * torch.exp(-beyond)

    def fit(self, value: Tensor, survey: Tensor) -> None:
        """Take the tables from values (n,) of the reference; every survey must be among them."""
        for index in range(len(SURVEYS)):
            mine = value[survey == index]
            level = levels(self.table.shape[1], len(mine))
            self.levels[index] = level
            # The largest of n stands for the level n / (n + 1), the smallest for 0.
            self.table[index] = torch.quantile(mine, level / level[-1])
            steep = torch.log((1 - ELBOW * level[-1]) / (1 - level[-1]))
            # A population all of one value has no tail: what lies beyond it is beyond all of it.
            self.tail[index] = ((mine.max() - torch.quantile(mine, ELBOW)) / steep).clamp(min=1e-6)


def levels(count: int, rows: int) -> Tensor:
    """Fractions of the reference at which its values are kept, shape (count,).

    Even at first, then ever closer towards ``rows / (rows + 1)``, as subscribers cut where it is high.
    """
    top = rows / (rows + 1)
    even = torch.linspace(0, ELBOW * top, count // 2 + 1)
    close = 1 - torch.logspace(math.log10(1 - ELBOW * top), math.log10(1 - top), count - count // 2)
    return torch.cat([even, close[1:]])
