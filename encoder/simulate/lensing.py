"""A galaxy behind a singular isothermal sphere: arcs, counter-images and Einstein rings, by ray shooting.

Rays go back from the sky to the source, beta = theta - theta_E theta / |theta|, and take its surface
brightness, which lensing does not change (Narayan & Bartelmann 1996, arXiv:astro-ph/9606001, section 3).
"""

from dataclasses import dataclass

import galsim
import numpy as np

from encoder.simulate.colours import FloatArray
from encoder.simulate.optics import GSPARAMS

ISOTHERMAL_RADIUS = 1.15
"""Arcsec: 4 pi (200 km/s / c)^2, the Einstein radius of that dispersion for a source infinitely far behind."""

EXPONENTIAL_SCALE = 1.678
"""Half-light radius of an exponential disk over its scale length."""

LARGEST_SIDE = 160


@dataclass(frozen=True, slots=True)
class Source:
    """The lensed galaxy, as it would be seen without the lens: an exponential disk; angles in theta_E.

    Attributes
    ----------
    offset : float
        From the optical axis.
    half_light_radius : float
        Along its major axis.
    axis_ratio : float
    angle : float
        Of its major axis, radians.
    """

    offset: float
    half_light_radius: float
    axis_ratio: float = 1.0
    angle: float = 0.0

    def brightness(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Surface brightness at places of the source plane, its integral one."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        u, v = x - self.offset, y
        radius = np.hypot(c * u + s * v, (c * v - s * u) / self.axis_ratio) * EXPONENTIAL_SCALE
        norm = EXPONENTIAL_SCALE**2 / (2 * np.pi * self.axis_ratio * self.half_light_radius**2)
        return np.asarray(norm * np.exp(-radius / self.half_light_radius))


def lensed(source: Source) -> tuple[FloatArray, float]:
    """Shoot rays through the lens.

    Parameters
    ----------
    source : Source

    Returns
    -------
    image : FloatArray, shape (side, side)
        Surface brightness on the sky; the lens is in its middle, the source to the right of it.
    step : float
        Pixel in theta_E. The magnification is the image's sum times the square of it.
    """
    reach = 1.0 + source.offset + 4.0 * source.half_light_radius
    step = max(min(source.half_light_radius * source.axis_ratio / 3, 0.06), 2 * reach / LARGEST_SIDE)
    side = 2 * int(np.ceil(reach / step))  # even: no ray through the singular middle
    y, x = (np.indices((side, side)) - (side - 1) / 2) * step
    radius = np.hypot(x, y)
    return source.brightness(x - x / radius, y - y / radius), step


def lensed_profile(source: Source, einstein_radius: float, angle: float) -> galsim.GSObject:
    """Images of a source with unit flux, the source at an angle (radians) from the lens at the origin."""
    image, step = lensed(source)
    profile = galsim.InterpolatedImage(
        galsim.Image(image, scale=step * einstein_radius),
        x_interpolant="linear",
        normalization="sb",
        flux=1.0,
        gsparams=GSPARAMS,
    )
    return profile.rotate(angle * galsim.radians)


def einstein_radius(dispersion: float, lens_distance: float, source_distance: float) -> float:
    """Einstein radius in arcsec of a velocity dispersion in km/s, by comoving distances in a flat universe."""
    behind = max(1.0 - lens_distance / source_distance, 0.0)
    return float(ISOTHERMAL_RADIUS * (dispersion / 200.0) ** 2 * behind)
