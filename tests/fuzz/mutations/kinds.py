"""What a mutation is, and what most of them need."""

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

import numpy as np

from ..anatomy import Anatomy, Spot
from ..seeds import Seed

Random: TypeAlias = np.random.Generator
Mutation: TypeAlias = Callable[[Seed, Random, Sequence[Seed]], bytes]
"""Of a packet, a source of chance and the other packets: the mutated bytes."""

Picked = TypeVar("Picked")


def pick(items: Sequence[Picked], random: Random) -> Picked:
    """One of several."""
    return items[int(random.integers(len(items)))]


def pick_spot(parts: Anatomy, random: Random, *kinds: str) -> Spot | None:
    """One of a packet's values of these kinds: a field by name first, so that histories do not drown the rest."""
    spots = parts.of_kind(*kinds)
    if not spots:
        return None
    path = pick(sorted({spot.path for spot in spots}), random)
    return pick([spot for spot in spots if spot.path == path], random)


def pick_role(parts: Anatomy, random: Random) -> str | None:
    """One of the stamps that are not null."""
    roles = list(parts.stamps)
    return pick(roles, random) if roles else None
