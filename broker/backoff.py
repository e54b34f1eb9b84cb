"""How long to wait before trying again."""

import random
from collections.abc import Callable, Iterator

FIRST_SECONDS, MOST_SECONDS = 0.1, 10.0


def delays(
    first: float = FIRST_SECONDS, most: float = MOST_SECONDS, draw: Callable[[], float] = random.random
) -> Iterator[float]:
    """Give waits that double up to a limit, each shortened by chance to between half and all of it.

    Chance keeps many consumers that lost the same broker from coming back in step.

    Parameters
    ----------
    first, most : float
        Seconds.
    draw : callable
        Uniform from 0 to 1.

    Yields
    ------
    float
        Seconds.
    """
    wait = first
    while True:
        yield wait * (0.5 + draw() / 2)
        wait = min(2 * wait, most)
