"""Events that happen with a stated probability."""

import numpy as np


def happens(probability: float, rng: np.random.Generator) -> bool:
    """Whether an event of the given probability happens this time."""
    return bool(rng.uniform() < probability)
