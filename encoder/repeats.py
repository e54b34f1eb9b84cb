"""Which alerts show one object at several visits: views that no augmentation draws."""

import torch
from torch import Generator, Tensor


class Repeats:
    """Finds other visits of each alert's object.

    Parameters
    ----------
    sky_object : Tensor of int64, shape (n,)
        Alerts of one object share a number.
    """

    def __init__(self, sky_object: Tensor) -> None:
        self._order = torch.argsort(sky_object, stable=True)
        _, inverse, counts = torch.unique(sky_object, return_inverse=True, return_counts=True)
        first = torch.cumsum(counts, 0) - counts
        self._first, self._count = first[inverse], counts[inverse]
        self._place = torch.empty_like(self._order)
        self._place[self._order] = torch.arange(len(self._order))

    def another(self, rows: Tensor, generator: Generator) -> Tensor:
        """Draw another visit of the object of each row; the row itself where there is none.

        Parameters
        ----------
        rows : Tensor of int64, shape (m,)
        generator : Generator

        Returns
        -------
        Tensor of int64, shape (m,)
        """
        first, count = self._first[rows], self._count[rows]
        others = (count - 1).clamp(min=1)
        step = 1 + (torch.rand(len(rows), generator=generator) * others).long().clamp(max=others - 1)
        return self._order[first + (self._place[rows] - first + step) % count]

    def one_each(self, limit: int) -> Tensor:
        """First rows of up to ``limit`` objects, in the order of rows."""
        firsts = self._order[torch.unique(self._first)]
        return torch.sort(firsts).values[:limit]
