"""When alerts are published: at a rate, or in bursts as a camera makes them."""

from dataclasses import dataclass
from typing import Protocol

from broker.errors import SettingsError

RUBIN_PERIOD_SECONDS = 37.0
"""Between two visits of Rubin, the shorter end of what is planned: 37 to 39 s, some 10,000 alerts each."""


class Cadence(Protocol):
    """Says when."""

    def due(self, number: int) -> float:
        """Seconds after the first alert at which the alert of a number, counted from 0, is due."""


@dataclass(frozen=True, slots=True)
class Steady:
    """So many a second.

    Attributes
    ----------
    rate : float
    """

    rate: float

    def due(self, number: int) -> float:
        """As `Cadence`."""
        return number / self.rate


@dataclass(frozen=True, slots=True)
class Visits:
    """So many at once, again and again.

    Attributes
    ----------
    size : int
        Alerts of a visit.
    period_seconds : float
        From the first of a visit to the first of the next.
    burst_seconds : float
        Over which a visit is published.
    speed : float
        How much faster than that all of it goes.
    """

    size: int
    period_seconds: float = RUBIN_PERIOD_SECONDS
    burst_seconds: float = 0.0
    speed: float = 1.0

    def __post_init__(self) -> None:
        if self.burst_seconds > self.period_seconds:
            raise SettingsError(
                f"--burst {self.burst_seconds:g} is longer than --visit-period {self.period_seconds:g}: a visit "
                "must end before the next begins"
            )

    def due(self, number: int) -> float:
        """As `Cadence`."""
        visit, within = divmod(number, self.size)
        return (visit * self.period_seconds + within / self.size * self.burst_seconds) / self.speed
