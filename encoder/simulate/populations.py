"""Who is in the sky: classes, apparent magnitudes, redshifts, sizes and shapes.

Redshift and spectral type of a galaxy of given apparent magnitude follow from Schechter functions per type,
evolving with redshift, and the volume of a flat universe; colours and K corrections from the CWW templates.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from broker.alert import BANDS, Survey
from encoder.simulate.colours import (
    SPECTRAL_TYPES,
    Z_GRID,
    FloatArray,
    galaxy_magnitudes,
    magnitude_table,
    magnitude_to_njy,
)

CLASSES = ("disk", "bulge", "star", "edge_on", "merger", "transient", "bogus")
"""``transient``: nothing in the template; ``star``: a variable one; galaxies carry a transient or
variable."""

GALAXIES = ("disk", "bulge", "edge_on", "merger")

HUBBLE_CONSTANT, MATTER = 70.0, 0.3
_C_KM_S = 299_792.458

I_BAND = BANDS.index("i")
REFERENCE_BAND = {Survey.LSST: BANDS.index("i"), Survey.ZTF: BANDS.index("r")}
HOST_MAGNITUDES = {Survey.LSST: (17.0, 25.5), Survey.ZTF: (13.5, 21.0)}
"""AB magnitudes of hosts in i (Rubin) and r (ZTF) between which alerts are made."""

STAR_MAGNITUDES = {Survey.LSST: (16.5, 23.5), Survey.ZTF: (12.5, 20.8)}

HOST_SLOPE = {Survey.LSST: 0.05, Survey.ZTF: -0.02}
STAR_SLOPE = {Survey.LSST: 0.10, Survey.ZTF: -0.02}
"""d log N / dm of what alerts are about. Galaxy counts rise by 0.3 to 0.5 dex a magnitude, the chance of
hosting a transient that is seen falls with the light to the power 0.6 to 1.2 (rates per mass of Li et al.
2011, MNRAS 412, 1473; fainter hosts are farther away). Set so that the host light in packets is distributed
as in real ones."""

BLUEST_TYPE = 3.6
"""Starbursts are bluer than the template of irregulars; the step from Scd to Im is carried on."""

_BRIGHTENING = 1.3
_RED_DENSITY = -0.6
# Schechter functions in rest-frame B (AB, H0 = 70) by CWW type: M* at z = 0, slope, density (1e-3 Mpc^-3), and
# the change of the density in dex per unit z. Measured is the evolution (Faber et al. 2007, ApJ 665, 265): M*
# brightens by 1.3 mag per unit z for red and blue galaxies alike, and red ones are four times fewer at z = 1;
# taken to hold up to z = 1. M*, slopes and densities by type are tuned, between the red and the blue functions
# of that paper, such that redshifts at an apparent magnitude agree with DC2's.
_SCHECHTER = {
    "E": (-20.4, -0.5, 1.6, _RED_DENSITY),
    "Sbc": (-20.5, -0.9, 1.6, 0.0),
    "Scd": (-20.2, -1.2, 1.8, 0.0),
    "Im": (-19.5, -1.4, 1.2, 0.0),
}

_TYPE_SHARE = {
    "bulge": (1.0, 0.12, 0.0, 0.0),
    "disk": (0.03, 1.0, 1.0, 0.7),
    "edge_on": (0.05, 1.0, 1.0, 0.7),
    "merger": (0.15, 0.7, 1.0, 1.0),
}
"""How likely a galaxy of each spectral type belongs to the class, before counts."""

CLASS_SHARE = {"bulge": 1.0, "disk": 0.75, "edge_on": 0.17, "merger": 0.08}
"""Of galaxies of a type that may be of the class. Edge-on: disks inclined by 80 degrees or more, if they lie at
random; mergers: Lotz et al. 2011 (ApJ 742, 103) have 2 to 10 %."""

NUCLEI = (0.9, 2.2)
"""Least and largest distance of a merger's nuclei, in half-light radii."""


@dataclass(frozen=True, slots=True)
class Galaxy:
    """One galaxy as it would be catalogued.

    Attributes
    ----------
    redshift : float
    spectral_type : float
        In [0, 3.6], red to blue (`SPECTRAL_TYPES`).
    magnitudes : FloatArray, shape (6,)
        Total AB, before Galactic dust.
    half_light_radius : float
        Along the major axis, arcsec.
    bulge_fraction : float
        In i.
    separation : float or None
        What has to be resolved to tell the class, arcsec: distance of a merger's nuclei, radius of a ring; None
        for single galaxies.
    source_redshift : float or None
        Of what a lens has behind it.
    """

    redshift: float
    spectral_type: float
    magnitudes: FloatArray
    half_light_radius: float
    bulge_fraction: float
    separation: float | None = None
    source_redshift: float | None = None

    @property
    def fluxes(self) -> FloatArray:
        """Total fluxes in nJy, shape (6,)."""
        return magnitude_to_njy(self.magnitudes)


@lru_cache(maxsize=1)
def distances() -> tuple[FloatArray, FloatArray, FloatArray]:
    """Distance modulus, kpc per arcsec and relative dV/dz on `Z_GRID`; its first cell is at z = 0.005."""
    z = np.maximum(Z_GRID, 0.005)
    fine = np.linspace(0.0, z[-1], 4001)
    inverse = 1.0 / np.sqrt(MATTER * (1 + fine) ** 3 + 1 - MATTER)
    steps = np.concatenate([[0.0], np.cumsum((inverse[1:] + inverse[:-1]) / 2 * np.diff(fine))])
    comoving = _C_KM_S / HUBBLE_CONSTANT * np.interp(z, fine, steps)
    modulus = 5 * np.log10(comoving * (1 + z)) + 25
    kpc_per_arcsec = comoving / (1 + z) * 1e3 * np.pi / 648_000
    return modulus, kpc_per_arcsec, comoving**2 * np.interp(z, fine, inverse)


def _schechter(magnitude: FloatArray, name: str) -> FloatArray:
    m_star, alpha, density, evolution = _SCHECHTER[name]
    z = np.minimum(Z_GRID, 1.0)
    x = 10.0 ** (-0.4 * (magnitude - (m_star - _BRIGHTENING * z)))
    return np.asarray(density * 10.0 ** (evolution * z) * x ** (alpha + 1) * np.exp(-x))


def early_m_star(redshift: float) -> float:
    """M* of the reddest type in rest-frame B at a redshift."""
    return _SCHECHTER["E"][0] - _BRIGHTENING * min(redshift, 1.0)


def class_shares(magnitude: float, band: int) -> FloatArray:
    """Shares of `GALAXIES` among galaxies of an apparent magnitude in a band, shape (4,)."""
    by_type = redshift_and_type(magnitude, band).sum(axis=1)
    shares = np.array([CLASS_SHARE[label] * np.dot(_TYPE_SHARE[label], by_type) for label in GALAXIES])
    return np.asarray(shares / shares.sum())


def redshift_and_type(magnitude: float, band: int) -> FloatArray:
    """Relative number of galaxies of an apparent magnitude by spectral type and redshift, (4, n_z)."""
    modulus, _, volume = distances()
    table = magnitude_table()[:, :, band]
    rest_b = magnitude - modulus[None, :] - table
    return np.array([volume * _schechter(rest_b[t], name) for t, name in enumerate(SPECTRAL_TYPES)])


@lru_cache(maxsize=512)
def _cumulative(tenths: int, band: int, label: str) -> FloatArray:
    share = np.array(_TYPE_SHARE[label])[:, None]
    numbers = (redshift_and_type(tenths / 10, band) * share).ravel()
    return np.asarray(np.cumsum(numbers) / numbers.sum())


def host_magnitude(survey: Survey, rng: np.random.Generator) -> float:
    """Apparent magnitude of an alert's host in the survey's reference band."""
    return _power_law(*HOST_MAGNITUDES[survey], HOST_SLOPE[survey], rng)


def star_magnitude(survey: Survey, rng: np.random.Generator) -> float:
    """Apparent magnitude of an alert's star in the survey's reference band."""
    return _power_law(*STAR_MAGNITUDES[survey], STAR_SLOPE[survey], rng)


def _power_law(low: float, high: float, slope: float, rng: np.random.Generator) -> float:
    first, last = 10.0 ** (slope * low), 10.0 ** (slope * high)
    u = first + (last - first) * rng.uniform()
    return float(np.log10(u) / slope)


def draw_galaxy(label: str, magnitude: float, band: int, rng: np.random.Generator) -> Galaxy:
    """Draw a galaxy of a class with the given apparent magnitude in a band (index in BANDS)."""
    cell = int(np.searchsorted(_cumulative(round(magnitude * 10), band, label), rng.uniform()))
    t, k = divmod(min(cell, len(SPECTRAL_TYPES) * len(Z_GRID) - 1), len(Z_GRID))
    step = Z_GRID[1] - Z_GRID[0]
    redshift = float(abs(Z_GRID[k] + rng.uniform(-0.5, 0.5) * step)) + 0.002
    # Real galaxies lie between and around the templates.
    spectral_type = float(np.clip(t + rng.normal(0, 0.3), 0, BLUEST_TYPE))
    relative = _interpolated(spectral_type, redshift)
    magnitudes = relative - relative[band] + magnitude
    bulge_fraction = _bulge_fraction(label, spectral_type, rng)
    size = _half_light_radius(magnitudes[I_BAND], redshift, spectral_type, label == "bulge", rng)
    separation = size * float(rng.uniform(*NUCLEI)) if label == "merger" else None
    return Galaxy(redshift, spectral_type, magnitudes, size, bulge_fraction, separation)


def _interpolated(spectral_type: float, redshift: float) -> FloatArray:

    return galaxy_magnitudes(spectral_type, min(redshift, float(Z_GRID[-1])))


def _bulge_fraction(label: str, spectral_type: float, rng: np.random.Generator) -> float:
    if label == "bulge":
        return float(rng.uniform(0.65, 1.0))
    # Late types have next to no bulge (Allen et al. 2006, MNRAS 371, 2).
    mean = 0.22 * (1 - min(spectral_type, 3.0) / 3.2)
    return float(np.clip(rng.exponential(mean), 0, 0.45))


def _half_light_radius(
    i_magnitude: float, redshift: float, spectral_type: float, early: bool, rng: np.random.Generator
) -> float:
    """Size from stellar mass and redshift: van der Wel et al. 2014 (ApJ 788, 28), table 1 and equation 3.

    Mass from the i-band luminosity with M/L of a Chabrier population by type, fading as (1+z)^-1.
    """
    modulus, scale, _ = distances()
    k_correction = _interpolated(spectral_type, redshift)[I_BAND] - _interpolated(spectral_type, 0.0)[I_BAND]
    absolute = i_magnitude - np.interp(redshift, Z_GRID, modulus) - k_correction
    ratio = np.interp(spectral_type, [0, 1, 2, 3], [1.9, 1.2, 0.7, 0.35]) / (1 + redshift)
    log_mass = float(np.clip(-0.4 * (absolute - 4.58) + np.log10(ratio), 7.5, 11.8)) - np.log10(5e10)
    if early:
        # Below 2e10 solar masses the early-type relation flattens.
        kpc = 10 ** (0.75 - 1.48 * np.log10(1 + redshift) + max(0.76 * log_mass, -0.45))
        scatter = 0.12
    else:
        kpc = 10 ** (0.95 - 0.75 * np.log10(1 + redshift) + 0.22 * log_mass)
        scatter = 0.17
    radius = kpc / float(np.interp(redshift, Z_GRID, scale)) * 10 ** rng.normal(0, scatter)
    return float(np.clip(radius, 0.05, 25.0))
