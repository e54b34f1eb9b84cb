"""How light is spread over a galaxy: profiles of unit flux and size, and how they lie on the sky."""

from dataclasses import dataclass
from functools import lru_cache

import galsim
import numpy as np

from encoder.simulate.optics import GSPARAMS


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a disk lies on the sky: its axis ratio, and the angle of its major axis in radians."""

    axis_ratio: float
    angle: float

    def place(self, profile: galsim.GSObject, half_light_radius: float) -> galsim.GSObject:
        """Scale a unit profile to a half-light radius along the major axis, flatten and turn it."""
        scaled = profile.dilate(half_light_radius * np.sqrt(self.axis_ratio))
        return scaled.shear(q=self.axis_ratio, beta=self.angle * galsim.radians)

    def on_sky(self, radius: float, azimuth: float) -> tuple[float, float]:
        """Position in the plane of the disk, projected."""
        u, v = radius * np.cos(azimuth), self.axis_ratio * radius * np.sin(azimuth)
        c, s = np.cos(self.angle), np.sin(self.angle)
        return float(c * u - s * v), float(s * u + c * v)


@lru_cache(maxsize=16)
def sersic(index: float) -> galsim.GSObject:
    """Sersic profile of unit half-light radius."""
    if index == 1.0:
        return galsim.Exponential(half_light_radius=1.0, gsparams=GSPARAMS)
    # As SDSS does, light ends at a few half-light radii: real galaxies have no infinite wings.
    return galsim.Sersic(n=index, half_light_radius=1.0, trunc=6.0, gsparams=GSPARAMS)


@lru_cache(maxsize=64)
def inclined(inclination_degrees: int, thickness_hundredths: int) -> galsim.GSObject:
    """Exponential disk of unit half-light radius, its thickness in hundredths of its scale length."""
    return galsim.InclinedExponential(
        inclination=inclination_degrees * galsim.degrees,
        half_light_radius=1.0,
        scale_h_over_r=thickness_hundredths / 100,
        gsparams=GSPARAMS,
    )


@lru_cache(maxsize=64)
def spiral(arms: int, pitch_degrees: int, contrast_tenths: int, handed: int) -> galsim.GSObject:
    """Exponential disk of unit half-light radius with logarithmic arms, seen face-on."""
    side, step = 72, 0.11
    y, x = (np.indices((side, side)) - (side - 1) / 2) * step
    radius = np.hypot(x, y) + 1e-3
    winding = np.log(radius) / np.tan(np.radians(pitch_degrees))
    ridge = np.cos(arms * (handed * np.arctan2(y, x) - winding))
    # Arms set in outside the bulge and are narrower than the gaps between them.
    wave = contrast_tenths / 10 * (1 - np.exp(-((radius / 0.5) ** 2))) * (np.exp(1.2 * (ridge - 1)) * 2 - 0.9)
    light = np.exp(-1.678 * radius) * np.clip(1 + wave, 0.05, None)
    return galsim.InterpolatedImage(
        galsim.Image(light.astype(np.float64), scale=step),
        x_interpolant="linear",
        normalization="flux",
        flux=1.0,
        gsparams=GSPARAMS,
    )
