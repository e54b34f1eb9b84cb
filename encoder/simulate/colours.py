"""Colours of galaxies, stars and transients in Rubin's six bands.

Galaxies: the four templates of Coleman, Wu & Weedman 1980 (ApJS 43, 393), extended to the ultraviolet and
shipped with GalSim, through the LSST bandpasses GalSim ships. Absorption by the intergalactic medium is not
applied: it dims u above redshift 2.3, where few alerts have a host. ZTF's g, r, i and PS1's g, r, i, z are
taken as Rubin's; the differences are a few hundredths of a magnitude for these spectra.
"""

from functools import lru_cache

import galsim
import numpy as np
from numpy.typing import NDArray

from broker.alert import BANDS, Survey
from encoder.extinction import EXTINCTION

FloatArray = NDArray[np.float64]

SPECTRAL_TYPES = ("E", "Sbc", "Scd", "Im")
"""The CWW templates, red to blue; a type is a float and lies between two of them, or beyond the last."""

Z_GRID: FloatArray = np.arange(0.0, 3.21, 0.04)
"""Redshifts at which colours are tabulated."""

AB_ZERO_POINT_NJY = 31.4
"""AB magnitude of 1 nJy."""


def magnitude_to_njy(magnitude: FloatArray | float) -> FloatArray:
    """Flux in nJy of an AB magnitude."""
    return np.asarray(10.0 ** (0.4 * (AB_ZERO_POINT_NJY - np.asarray(magnitude, dtype=np.float64))))


def _bandpass(band: str) -> galsim.Bandpass:
    return galsim.Bandpass(f"LSST_{band}.dat", wave_type="nm").thin(1e-3).withZeropoint("AB")


def _johnson_b() -> galsim.Bandpass:
    # The luminosity functions are in B; a flat 395 to 490 nm has its effective wavelength (Bessell 1990).
    flat = galsim.LookupTable([395.0, 490.0], [1.0, 1.0], interpolant="linear")
    return galsim.Bandpass(flat, wave_type="nm").withZeropoint("AB")


@lru_cache(maxsize=1)
def magnitude_table() -> FloatArray:
    """Apparent magnitude at distance modulus 0 of a galaxy with rest-frame B = 0 (the K correction included).

    Returns
    -------
    FloatArray, shape (4, len(Z_GRID), 6)
        By spectral type, redshift and band.
    """
    blue = _johnson_b()
    bands = [_bandpass(b) for b in BANDS]
    table = np.empty((len(SPECTRAL_TYPES), len(Z_GRID), len(BANDS)))
    for t, name in enumerate(SPECTRAL_TYPES):
        spectrum = galsim.SED(f"CWW_{name}_ext.sed", wave_type="Ang", flux_type="flambda")
        spectrum = spectrum.withMagnitude(0.0, blue)
        for k, z in enumerate(Z_GRID):
            shifted = spectrum.atRedshift(float(z))
            table[t, k] = [shifted.calculateMagnitude(b) for b in bands]
    return table


def galaxy_magnitudes(spectral_type: float, redshift: float) -> FloatArray:
    """Row of `magnitude_table` for a type between two templates (or carried on beyond the bluest), (6,)."""
    table = magnitude_table()
    low = min(int(spectral_type), len(SPECTRAL_TYPES) - 2)
    weight = spectral_type - low
    k = min(int(np.searchsorted(Z_GRID, redshift, side="right")) - 1, len(Z_GRID) - 2)
    u = (redshift - Z_GRID[k]) / (Z_GRID[k + 1] - Z_GRID[k])
    rows = (1 - u) * table[low : low + 2, k] + u * table[low : low + 2, k + 1]
    return np.asarray((1 - weight) * rows[0] + weight * rows[1])


def star_colours(r_minus_i: float) -> FloatArray:
    """Magnitudes relative to i along the stellar locus, shape (6,).

    g-r from r-i: Juric et al. 2008 (ApJ 673, 864), equation 4; u-g, i-z and z-y: straight lines through the
    median loci of Covey et al. 2007 (AJ 134, 2398) and Tonry et al. 2012 (ApJ 750, 99).
    """
    m = r_minus_i
    g_minus_r = 1.39 * (1.0 - np.exp(-4.9 * m**3 - 2.45 * m**2 - 1.68 * m - 0.05))
    u_minus_g = 0.4 + 1.6 * g_minus_r
    i_minus_z = 0.55 * m - 0.02
    z_minus_y = 0.5 * i_minus_z
    r, g = m, m + g_minus_r
    return np.array([g + u_minus_g, g, r, 0.0, -i_minus_z, -i_minus_z - z_minus_y])


def redden(fluxes: FloatArray, ebv: float, survey: Survey) -> FloatArray:
    """Fluxes (..., 6) behind Galactic dust of the given E(B-V), in a survey's bands."""
    return np.asarray(fluxes * 10.0 ** (-0.4 * np.array(EXTINCTION[survey]) * ebv))
