"""Light of the host or its neighbourhood, per band, from what a packet really holds.

The two surveys do not measure the same thing, and neither gives the host's total light:

- Rubin (schemas 8.0 and later): ``templateFlux``, the flux of a *point source forced at the
  alert's position on the template*. Of a host larger than the seeing it holds the part under
  the PSF. ``scienceFlux`` is measured so too, but contains the transient: not used.
- ZTF: PS1 magnitudes of the catalogued source nearest to the alert, where it lies within
  `PS1_RADIUS`. Farther away it is some other object, or the outskirts of a large galaxy.

Scores of the survey's own pipelines (rb, drb, reliability, sgscore) are never used.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from broker.alert import BANDS, Float32Array

AB_ZERO_POINT: Final = 31.4
"""AB magnitude of 1 nJy: 8.90 for 1 Jy (Oke & Gunn 1983, ApJ 266, 713) + 22.5."""

PS1_RADIUS: Final = 2.0
"""Arcseconds. One ZTF seeing disc (2.0 FWHM, Bellm et al. 2019, PASP 131, 018002): a source within it
cannot be told from one at the position. Chance matches stay rare: half of ZTF's alerts have their nearest PS1
source beyond 3.5 arcsec, and the distances thin out between the two."""

PS1_BANDS: Final = ("g", "r", "i", "z")
"""Bands of ZTF's ``sgmag1``, ``srmag1``, ``simag1``, ``szmag1``."""

PLAUSIBLE_MAGNITUDES: Final = (0.0, 40.0)
"""AB; ZTF writes -999 for a magnitude that is not known."""

PLAUSIBLE_FLUX: Final = 10.0 ** (0.4 * AB_ZERO_POINT)
"""nJy: AB magnitude 0. Nothing brighter, on either side of zero, is a measurement of a host."""


def magnitude(flux: NDArray[np.floating]) -> NDArray[np.floating]:
    """AB magnitude of positive fluxes.

    Parameters
    ----------
    flux : ndarray
        nJy; NaN where not positive or unknown.

    Returns
    -------
    ndarray
        Of the shape of ``flux``; NaN where the flux has no magnitude.
    """
    return AB_ZERO_POINT - 2.5 * np.log10(np.where(flux > 0, flux, np.nan))


def flux(magnitudes: NDArray[np.floating]) -> NDArray[np.floating]:
    """Flux of AB magnitudes.

    Parameters
    ----------
    magnitudes : ndarray

    Returns
    -------
    ndarray
        nJy, of the shape of ``magnitudes``.
    """
    found: NDArray[np.floating] = 10.0 ** (0.4 * (AB_ZERO_POINT - magnitudes))
    return found


def unknown() -> Float32Array:
    """Photometry of an alert that tells nothing.

    Returns
    -------
    Float32Array, shape (6,)
        NaN in every band.
    """
    return np.full(len(BANDS), np.nan, dtype=np.float32)


def forced_template_flux(bands: Sequence[str | None], fluxes: Sequence[float | None]) -> Float32Array:
    """Mean ``templateFlux`` per band over the detections of a Rubin alert.

    Parameters
    ----------
    bands, fluxes : sequence
        Of diaSource and prvDiaSources together; null and NaN fluxes, those beyond `PLAUSIBLE_FLUX` and
        unknown bands do not count.

    Returns
    -------
    Float32Array, shape (6,)
        nJy in the order of `broker.alert.BANDS`; NaN in bands that were not measured.
    """
    sums, counts = dict.fromkeys(BANDS, 0.0), dict.fromkeys(BANDS, 0)
    for band, flux in zip(bands, fluxes, strict=True):
        if band in sums and flux is not None and abs(flux) < PLAUSIBLE_FLUX:
            sums[band] += flux
            counts[band] += 1
    means = [sums[band] / counts[band] if counts[band] else np.nan for band in BANDS]
    return np.array(means, dtype=np.float32)


def ps1_source_flux(magnitudes: Sequence[float | None], distance: float | None) -> Float32Array:
    """Flux of the PS1 source at a ZTF alert's position.

    Parameters
    ----------
    magnitudes : sequence of (float or None), length 4
        AB, in the order of `PS1_BANDS`; null or -999 where unknown.
    distance : float or None
        Arcseconds from the alert; null or -999 where there is no source.

    Returns
    -------
    Float32Array, shape (6,)
        nJy in the order of `broker.alert.BANDS`; NaN in every band where the source lies beyond `PS1_RADIUS`.
    """
    fluxes = unknown()
    if distance is None or not 0.0 <= distance <= PS1_RADIUS:
        return fluxes
    for band, value in zip(PS1_BANDS, magnitudes, strict=True):
        if value is not None and PLAUSIBLE_MAGNITUDES[0] < value < PLAUSIBLE_MAGNITUDES[1]:
            fluxes[BANDS.index(band)] = 10.0 ** (0.4 * (AB_ZERO_POINT - value))
    return fluxes
