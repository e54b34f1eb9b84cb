"""Photometry as the pipelines measure it, never catalogue totals.

Rubin: the flux of a point source forced at the alert's position on the template, sum(I P) / sum(P^2), for the
alert's own band and the bands of its history. ZTF: magnitudes of the nearest PS1 source, and its distance.
"""

from dataclasses import dataclass

import numpy as np

from broker.alert import BANDS
from broker.photometry import PS1_BANDS
from encoder.simulate.colours import AB_ZERO_POINT_NJY, FloatArray
from encoder.simulate.components import Scene
from encoder.simulate.visits import LSST_SKY_NOISE, Conditions

NO_HISTORY, OWN_BAND_ONLY, ALL_BANDS = 0.10, 0.42, 0.18
"""Shares of alerts with no known template flux, that of their own band alone, of all bands; others have a
random subset. Early alerts have little history; the real sample (schema 9.0) has one band each."""

PS1_LIMITS = {"g": 23.3, "r": 23.2, "i": 23.1, "z": 22.3}
"""Five sigma of the stacks (Chambers et al. 2016, arXiv:1612.05560)."""

PS1_UNKNOWN = -999.0
"""As ZTF writes it."""

PS1_SEARCH_RADIUS = 30.0
"""Arcsec; ZTF lists no source beyond."""

PS1_NO_COVERAGE = 0.12
"""Alerts south of -30 degrees or in holes of the catalogue: no source at all."""

PS1_ABSENT = {"g": 0.10, "r": 0.05, "i": 0.02, "z": 0.06}
"""Sources whose magnitude in a band is -999 although they are bright enough."""

EXTENDED_ERROR = 0.08
"""Magnitudes: PS1's stack photometry of extended sources against totals."""


def forced_flux(image: FloatArray, psf: FloatArray) -> float:
    """Flux of a point source forced on an image: sum(I P) / sum(P^2), both of one shape."""
    return float(np.sum(image * psf) / np.sum(psf**2))


def known_bands(band: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Bands in which the packet and its history know the template flux; the alert's own is first."""
    u = rng.uniform()
    if u < NO_HISTORY:
        return ()
    if u < NO_HISTORY + OWN_BAND_ONLY:
        return (band,)
    others = [int(b) for b in rng.permutation(len(BANDS)) if b != band]
    if u > 1 - ALL_BANDS:
        return (band, *others)
    return (band, *others[: int(rng.integers(1, len(others)))])


def template_fluxes(
    noiseless: FloatArray, conditions: Conditions, psf: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Add noise and calibration errors to forced template fluxes, nJy.

    Parameters
    ----------
    noiseless : FloatArray, shape (6,)
        Forced on the model of the template.
    conditions : Conditions
    psf : FloatArray, shape (h, w)
        The template's, at the alert's position.
    rng : numpy.random.Generator

    Returns
    -------
    FloatArray, shape (6,)
    """
    ratio = LSST_SKY_NOISE / LSST_SKY_NOISE[conditions.band]
    sigma = conditions.template_noise * ratio / np.sqrt(np.sum(psf**2))
    # Zero points of coadds are good to about a percent.
    calibration = 1 + rng.normal(0, 0.01, len(BANDS))
    return np.asarray(noiseless * calibration + rng.normal(0, 1, len(BANDS)) * sigma)


@dataclass(frozen=True, slots=True)
class Ps1Source:
    """The nearest PS1 source: AB magnitudes in g, r, i, z and distance in arcsec; -999 where unknown."""

    magnitudes: tuple[float, ...]
    distance: float

    @property
    def by_band(self) -> dict[str, float]:
        """Magnitudes by band."""
        return dict(zip(PS1_BANDS, self.magnitudes, strict=True))


NO_SOURCE = Ps1Source((PS1_UNKNOWN,) * len(PS1_BANDS), PS1_UNKNOWN)


def nearest_ps1_source(scene: Scene, rng: np.random.Generator) -> Ps1Source:
    """Nearest source of the scene that PS1 would have catalogued, as ZTF lists it."""
    host = [(scene.host_fluxes, *scene.host_offset)] if scene.host_fluxes.any() else []
    field = [(p.fluxes, p.x, p.y) for p in scene.points] + [(c.fluxes, c.x, c.y) for c in scene.extended]
    own = len(host) and (scene.host_offset[0], scene.host_offset[1])
    best = NO_SOURCE
    if rng.uniform() < PS1_NO_COVERAGE:
        return best
    nearest = PS1_SEARCH_RADIUS
    for fluxes, x, y in [*host, *field]:
        if own and (x, y) != own and np.hypot(x - own[0], y - own[1]) < 2.0:  # noqa: PLR2004
            continue  # knots and parts of the host are not catalogued by themselves
        distance = float(np.hypot(x + rng.normal(0, 0.1), y + rng.normal(0, 0.1)))
        if distance >= nearest or not _is_detected(fluxes):
            continue
        best, nearest = Ps1Source(_ps1_magnitudes(fluxes, rng), distance), distance
    return best


def _is_detected(fluxes: FloatArray) -> bool:
    i = BANDS.index("i")
    return bool(fluxes[i] > 0 and _magnitude(fluxes[i]) < PS1_LIMITS["i"])


def _magnitude(flux: float) -> float:
    return AB_ZERO_POINT_NJY - 2.5 * float(np.log10(flux))


def _ps1_magnitudes(fluxes: FloatArray, rng: np.random.Generator) -> tuple[float, ...]:
    found = []
    for band in PS1_BANDS:
        true = _magnitude(max(float(fluxes[BANDS.index(band)]), 1e-3))
        error = np.hypot(0.02, 0.2 * 10 ** (0.4 * (true - PS1_LIMITS[band])))
        known = true < PS1_LIMITS[band] and rng.uniform() > PS1_ABSENT[band]
        found.append(true + rng.normal(0, np.hypot(error, EXTENDED_ERROR / 2)) if known else PS1_UNKNOWN)
    return tuple(float(m) for m in found)
