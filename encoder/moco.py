"""MoCo v2+ : a momentum encoder, a queue of keys, and a side task that keeps fluxes in the representation."""

import copy
import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoder.config import Recipe
from encoder.losses import info_nce, known_labels, known_regression, spread
from encoder.world import ALONE, World, computes_in_bf16


class View(Protocol):
    """One view of a batch, whatever it is a view of."""

    def represent(self, encoder: nn.Module) -> tuple[Tensor, Tensor]:
        """Run an encoder: the representation (n, d), and what else the side task may know (n, side)."""


class Batch(NamedTuple):
    """Two views of the same n objects.

    Attributes
    ----------
    query, key : View
    target : Tensor, shape (n, targets)
        What the side task regresses, of the query; NaN where unknown.
    sky_object : Tensor of int64, shape (n,)
        An object's other images in the queue are no negatives of it.
    label : Tensor of int64, shape (n,)
        -1 where unknown; nothing is learned from it unless the recipe gives labels a weight.
    """

    query: View
    key: View
    target: Tensor
    sky_object: Tensor
    label: Tensor

    @classmethod
    def joined(cls, parts: Sequence["Batch"], device: str) -> "Batch":
        """Put parts of a batch together, where the network is."""
        query, key = ([getattr(part, name) for part in parts] for name in ("query", "key"))
        target, sky_object, label = (
            torch.cat([getattr(part, name) for part in parts]).to(device)
            for name in ("target", "sky_object", "label")
        )
        return cls(_joined(query, device), _joined(key, device), target, sky_object, label)


def _joined(views: Sequence[Any], device: str) -> Any:
    entries = [entry.name for entry in fields(views[0])]
    rows = {name: torch.cat([getattr(view, name) for view in views]).to(device) for name in entries}
    return type(views[0])(**rows)


class Projector(nn.Sequential):
    """Two layers, between the representation that is kept and the space in which views are compared."""

    def __init__(self, size_in: int, hidden: int, size_out: int) -> None:
        super().__init__(nn.Linear(size_in, hidden), nn.ReLU(), nn.Linear(hidden, size_out))


class MoCo(nn.Module):
    """Momentum contrast of two views of each object (Chen et al. 2020, arXiv 2003.04297).

    Parameters
    ----------
    config : Recipe
    encoder : nn.Module
        What is trained.
    side : int
        Numbers beside the representation that the side task is given.
    targets : int
        Numbers it regresses.
    classes : int
        Of the labels, where the recipe gives them a weight.
    """

    queue: Tensor
    queue_object: Tensor
    place: Tensor

    def __init__(self, config: Recipe, encoder: nn.Module, side: int, targets: int, classes: int) -> None:
        super().__init__()
        size = config.network.embedding_size
        self.config = config
        self.base_encoder = encoder
        self.base_projector = Projector(size, 2 * config.projection, config.projection)
        self.momentum_encoder = copy.deepcopy(self.base_encoder).requires_grad_(requires_grad=False)
        self.momentum_projector = copy.deepcopy(self.base_projector).requires_grad_(requires_grad=False)
        self.auxiliary = nn.Sequential(
            nn.Linear(size + side, config.network.hidden),
            nn.ReLU(),
            nn.Linear(config.network.hidden, targets),
        )
        self.classifier = nn.Linear(size, classes) if config.label_weight > 0 and classes else None
        self.register_buffer(
            "queue", functional.normalize(torch.randn(config.queue, config.projection), dim=1)
        )
        self.register_buffer("queue_object", torch.full((config.queue,), -1))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    def forward(self, batch: Batch, world: World = ALONE) -> dict[str, Tensor]:
        """Compare two views.

        Parameters
        ----------
        batch : Batch
            This process's share.
        world : World

        Returns
        -------
        dict of str to Tensor
            ``loss``, and its parts ``contrast``, ``auxiliary``, ``spread`` and, where labels have a weight, ``labels``.
            The queue moves on.
        """
        # Only the networks run in bfloat16: its cosines are no finer than 0.004.
        device = self.queue.device.type
        bf16 = self.config.bf16 and computes_in_bf16(device)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
            raw, side = batch.query.represent(self.base_encoder)
            ours = self.base_projector(raw)
            guess = self.auxiliary(torch.cat([raw, side], dim=1))
            with torch.no_grad():
                theirs = self.momentum_projector(batch.key.represent(self.momentum_encoder)[0])
        ours, theirs = (functional.normalize(one.float(), dim=1) for one in (ours, theirs))
        own = batch.sky_object[:, None] == self.queue_object
        parts = {
            "contrast": info_nce(ours, theirs, self.queue.clone(), self.config.temperature, own),
            "auxiliary": known_regression(guess.float(), batch.target, world),
            "spread": spread(world.gather(raw.float())),
        }
        if self.classifier is not None:
            parts["labels"] = known_labels(self.classifier(raw.float()), batch.label, world)
        self._enqueue(world.gather(theirs), world.gather(batch.sky_object))
        weights = {
            "contrast": 1.0,
            "auxiliary": self.config.auxiliary_weight,
            "spread": self.config.spread_weight,
            "labels": self.config.label_weight,
        }
        total = sum(
            (weights[name] * value for name, value in parts.items()), torch.zeros((), device=raw.device)
        )
        return {"loss": total, **{name: value.detach() for name, value in parts.items()}}

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
        rows = (int(self.place) + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[rows] = keys
        self.queue_object[rows] = sky_object
        self.place.fill_(int(rows[-1] + 1) % len(self.queue))
