"""Whether a host can be told in a template: labels are given only where the pixels can give them."""

import numpy as np

from encoder.simulate.colours import FloatArray
from encoder.simulate.scenes import Candidate
from encoder.simulate.visits import Conditions

SEEN, UNSEEN = 20.0, 3.0
"""Signal-to-noise in the template above which a host gives its class, below which an alert is hostless."""

RESOLVED = 0.7
"""Half-light radius over the half width at half maximum of the template's PSF below which a galaxy is taken
for a star, whatever its class."""

PARTED = 0.8
"""Distance of a merger's nuclei over the FWHM of the template's PSF below which it is taken for one galaxy."""


def shows_its_class(host: Candidate, conditions: Conditions) -> bool:
    """Whether the template is deep and sharp enough to tell a host's class, or that it is a star."""
    if template_significance(host.fluxes, host.size, conditions) <= SEEN:
        return False
    fwhm = conditions.template_psf.fwhm
    if host.separation is not None:
        return host.separation > PARTED * fwhm
    return host.size == 0 or host.size > RESOLVED * fwhm / 2


def template_significance(fluxes: FloatArray, half_light_radius: float, conditions: Conditions) -> float:
    """Signal-to-noise of a host in the template, through an aperture of its size and the seeing."""
    pixels = conditions.template_psf.noise_pixels
    pixels += np.pi * (half_light_radius / conditions.pixel_scale) ** 2
    flux = float(fluxes[conditions.band]) * conditions.unit
    return flux / (conditions.template_noise * float(np.sqrt(pixels)))
