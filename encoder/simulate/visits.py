"""Conditions under which a scene is seen: band, seeing, depth, sky and detector."""

from dataclasses import dataclass

import numpy as np

from broker.alert import BANDS, Survey
from broker.geometry import NATIVE_SCALE, ZTF_HALF_SIDE
from encoder.simulate.chance import happens
from encoder.simulate.colours import AB_ZERO_POINT_NJY, FloatArray
from encoder.simulate.optics import MOFFAT_BETAS, Psf

BAND_SHARES = {
    Survey.LSST: (0.07, 0.12, 0.22, 0.22, 0.20, 0.17),
    Survey.ZTF: (0.0, 0.43, 0.52, 0.05, 0.0, 0.0),
}
"""Visits per band: Rubin's baseline cadence (PSTN-053), ZTF's public surveys and partnership i."""

LSST_SKY_NOISE: FloatArray = np.array([32.0, 14.0, 21.0, 32.0, 56.0, 125.0])
"""nJy per 0.2 arcsec pixel, one visit at zenith: m5 = 23.8, 24.8, 24.4, 23.9, 23.3, 22.4 (SMTN-002, rounded)
in the noise pixels of 0.8 arcsec seeing."""

LSST_ZERO_POINTS: FloatArray = np.array([26.52, 28.51, 28.36, 28.17, 27.78, 26.82])
"""AB magnitude of one electron a second (SMTN-002 of March 2024, throughputs v1.9)."""

LSST_ELECTRONS: FloatArray = 30.0 * 10 ** (0.4 * (LSST_ZERO_POINTS - AB_ZERO_POINT_NJY))
"""Per nJy in a visit of 30 s: 0.34, 2.1, 1.8, 1.5, 1.1, 0.44."""

DEEP_SHARE = 0.35
"""Of visits as deep as those of the precursor camera and of the deep-drilling fields, of which the real
sample has many: a noise of 0.28 times the nominal one."""

ZTF_ELECTRONS = 6.2
"""Per DN (Bellm et al. 2019, PASP 131, 018002)."""

ZTF_DETECTOR = (3072, 3080)
LSST_LARGEST_STAMP = 102


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the alert stands in its stamps.

    Attributes
    ----------
    shape : tuple of int
        (h, w) in native pixels.
    x, y : float
        0-based position of the alert.
    detector_position : tuple of float or None
        0-based, ZTF only.
    """

    shape: tuple[int, int]
    x: float
    y: float
    detector_position: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """One visit and the template it is compared with.

    Attributes
    ----------
    survey : Survey
    band : int
        Index in BANDS.
    science_psf, template_psf : Psf
    science_noise, template_noise : float
        Sky and read noise per native pixel, in survey units.
    unit : float
        Survey units per nJy: 1 for Rubin.
    zero_point : float
        AB magnitude of one survey unit.
    electrons : float
        Per survey unit in the science exposure.
    depth : float
        Factor by which this visit's noise differs from the nominal one.
    sky : float
        Level left in science and template, survey units.
    frame : Frame
    """

    survey: Survey
    band: int
    science_psf: Psf
    template_psf: Psf
    science_noise: float
    template_noise: float
    unit: float
    zero_point: float
    electrons: float
    depth: float
    sky: float
    frame: Frame

    @property
    def pixel_scale(self) -> float:
        """Arcsec per native pixel."""
        return NATIVE_SCALE[self.survey]


def draw_conditions(survey: Survey, rng: np.random.Generator, band: int | None = None) -> Conditions:
    """Draw a visit, in a given band (index in BANDS) or in any."""
    if band is None:
        band = int(rng.choice(len(BANDS), p=BAND_SHARES[survey]))
    return _lsst(band, rng) if survey is Survey.LSST else _ztf(band, rng)


def _lsst(band: int, rng: np.random.Generator) -> Conditions:
    deep = happens(DEEP_SHARE, rng)
    depth = float(10 ** (rng.normal(-0.55, 0.15) if deep else rng.normal(0.05, 0.1)))
    noise = float(LSST_SKY_NOISE[band]) * depth
    share = float(np.clip(rng.lognormal(np.log(0.35 if deep else 0.2), 0.35), 0.08, 0.8))
    return Conditions(
        survey=Survey.LSST,
        band=band,
        science_psf=draw_psf(Survey.LSST, 0.92, 0.28, (0.55, 2.1), rng),
        template_psf=draw_psf(Survey.LSST, 0.88, 0.16, (0.55, 1.4), rng),
        science_noise=noise,
        template_noise=noise * share,
        unit=1.0,
        zero_point=AB_ZERO_POINT_NJY,
        electrons=float(LSST_ELECTRONS[band]) / depth**2,
        depth=depth,
        sky=0.0,
        frame=_lsst_frame(rng),
    )


def _lsst_frame(rng: np.random.Generator) -> Frame:
    """Draw a square of max(30, bounding box) pixels; three quarters of the real ones have 30."""
    side = 30 if happens(0.76, rng) else min(31 + int(rng.exponential(9.0)), LSST_LARGEST_STAMP)
    x, y = (side - 1) / 2 + rng.uniform(-0.5, 0.5, 2)
    return Frame((side, side), float(x), float(y))


def _ztf(band: int, rng: np.random.Generator) -> Conditions:
    zero_point = float(np.clip(rng.normal(26.25, 0.12), 25.6, 26.5))
    noise = float(np.clip(rng.lognormal(np.log(6.4), 0.38), 4.0, 25.0))
    return Conditions(
        survey=Survey.ZTF,
        band=band,
        science_psf=draw_psf(Survey.ZTF, 2.2, 0.22, (1.5, 4.5), rng),
        template_psf=draw_psf(Survey.ZTF, 2.1, 0.12, (1.6, 3.2), rng),
        science_noise=noise,
        template_noise=noise * float(np.clip(rng.lognormal(np.log(0.23), 0.25), 0.12, 0.6)),
        unit=float(10 ** (-0.4 * (AB_ZERO_POINT_NJY - zero_point))),
        zero_point=zero_point,
        electrons=ZTF_ELECTRONS,
        depth=1.0,
        sky=float(np.clip(rng.lognormal(np.log(165), 0.5), 60, 900)),
        frame=_ztf_frame(rng),
    )


def _ztf_frame(rng: np.random.Generator) -> Frame:
    """31 px to each side of the pixel nearest to the alert, less where the detector ends."""
    limits = np.array(ZTF_DETECTOR)
    position = rng.uniform(60, limits - 60)
    if happens(0.02, rng):  # a little above the share in the public stream
        axis, distance = int(rng.integers(2)), float(rng.uniform(8, 30))
        position[axis] = distance if happens(0.5, rng) else limits[axis] - distance
    nearest = np.rint(position).astype(int)
    low = np.maximum(nearest - ZTF_HALF_SIDE, 0)
    high = np.minimum(nearest + ZTF_HALF_SIDE + 1, limits)
    x, y = position - low
    width, height = high - low
    return Frame((int(height), int(width)), float(x), float(y), (float(position[0]), float(position[1])))


def draw_psf(
    survey: Survey, median: float, scatter: float, limits: tuple[float, float], rng: np.random.Generator
) -> Psf:
    """Draw a PSF: a FWHM in arcsec log-normal about a median, of a survey's pixel."""
    fwhm = float(np.clip(rng.lognormal(np.log(median), scatter), *limits))
    ellipticity, angle = min(rng.rayleigh(0.025), 0.12), rng.uniform(0, 2 * np.pi)
    return Psf(
        fwhm=fwhm,
        beta=float(rng.choice(MOFFAT_BETAS)),
        g1=float(ellipticity * np.cos(angle)),
        g2=float(ellipticity * np.sin(angle)),
        pixel_scale=NATIVE_SCALE[survey],
    )
