"""What a scene is made of.

Positions are in arcsec from the alert's position, x along columns and y along rows; fluxes are in nJy per
band, already behind Galactic dust.
"""

from dataclasses import dataclass, field

import galsim
import numpy as np

from broker.alert import Survey
from encoder.simulate.colours import FloatArray


@dataclass(frozen=True, slots=True)
class Component:
    """Extended light: a profile of unit flux centred at (x, y), and its fluxes (6,)."""

    profile: galsim.GSObject
    fluxes: FloatArray
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class PointSource:
    """A star or a knot at (x, y) with fluxes (6,)."""

    fluxes: FloatArray
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Scene:
    """The static sky around one object.

    Attributes
    ----------
    label : str
    survey : Survey
    redshift : float
        Of the host; NaN without one.
    ebv : float
    extended : tuple of Component
    points : tuple of PointSource
        The object itself first, where it is a star.
    host_fluxes : FloatArray, shape (6,)
        Total light of host or star; zero without one.
    host_size : float
        Half-light radius in arcsec; zero for a star.
    host_offset : tuple of float
        Where the host's nucleus stands.
    nuclear : bool
        Whether the alert stands on it.
    """

    label: str
    survey: Survey
    redshift: float
    ebv: float
    extended: tuple[Component, ...]
    points: tuple[PointSource, ...]
    host_fluxes: FloatArray = field(default_factory=lambda: np.zeros(6))
    host_size: float = 0.0
    host_offset: tuple[float, float] = (np.nan, np.nan)
    nuclear: bool = False
