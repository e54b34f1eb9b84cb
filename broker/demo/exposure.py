"""One visit to a scene: the three stamps a survey would cut, and the photometry it would measure on them."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from broker.alert import BANDS, Survey
from broker.demo.optics import MARGIN, OVERSAMPLING, Canvas, FloatArray, Seeing
from broker.demo.sky import AB_ZERO_POINT_NJY, Scene
from broker.testing.stamps import Stamp

LSST_SKY_NOISE = np.array([32.0, 14.0, 21.0, 32.0, 56.0, 125.0])
"""nJy per pixel of 0.2 arcsec in one visit: 5 sigma depths of SMTN-002 in seeing of 0.8 arcsec."""

LSST_ELECTRONS = np.array([0.34, 2.1, 1.8, 1.5, 1.1, 0.44])
"""Per nJy in 30 s: zero points of 26.52, 28.51, 28.36, 28.17, 27.78, 26.82 (SMTN-002 of March 2024)."""

LSST_BAND_SHARES = (0.05, 0.17, 0.24, 0.24, 0.18, 0.12)
ZTF_BAND_SHARES = (0.0, 0.45, 0.5, 0.05, 0.0, 0.0)

ZTF_ELECTRONS = 6.2
"""Per DN (Bellm et al. 2019, PASP 131, 018002)."""

MEDIAN_SEEING = {Survey.LSST: 0.82, Survey.ZTF: 2.1}
"""FWHM in arcsec; by their effective areas, as surveys state seeing, these are a fifth wider."""

PIXEL_SCALE = {Survey.LSST: 0.2, Survey.ZTF: 1.01}
ZTF_SIDE = 63
LSST_SIDES = (30, 30, 30, 30, 34, 40, 52)
"""Most real stamps have the smallest side."""

LSST_PSF_SIDE = 41

SUBTRACTION_ERROR = 0.006
"""Share of the static light left in the difference: kernels are never perfect."""

ARTEFACTS = ("cosmic_ray", "dipole", "trail", "bad_column")


@dataclass(frozen=True)
class Conditions:
    """What a visit is like; noise and sky in survey units (nJy, or DN for ZTF).

    Attributes
    ----------
    survey : Survey
    band : int
        Index in BANDS.
    science, template : Seeing
    science_noise, template_noise : float
        Standard deviation of an empty pixel.
    unit : float
        Survey units per nJy.
    electrons : float
        Per survey unit.
    sky : float
    canvas : Canvas
    """

    survey: Survey
    band: int
    science: Seeing
    template: Seeing
    science_noise: float
    template_noise: float
    unit: float
    electrons: float
    sky: float
    canvas: Canvas

    @property
    def zero_point(self) -> float:
        """AB magnitude of one survey unit."""
        return float(AB_ZERO_POINT_NJY + 2.5 * np.log10(self.unit))

    @classmethod
    def draw(cls, survey: Survey, rng: np.random.Generator) -> Self:
        """Draw a visit of a survey."""
        science, template = (
            Seeing(float(MEDIAN_SEEING[survey] * np.exp(rng.normal(0, s)))) for s in (0.16, 0.1)
        )
        if survey is Survey.LSST:
            band, side = int(rng.choice(len(BANDS), p=LSST_BAND_SHARES)), int(rng.choice(LSST_SIDES))
            depth = float(np.exp(rng.normal(0, 0.15)))
            noise, unit, sky = float(LSST_SKY_NOISE[band]) * depth, 1.0, 0.0
            electrons = float(LSST_ELECTRONS[band])
        else:
            band, side = int(rng.choice(len(BANDS), p=ZTF_BAND_SHARES)), ZTF_SIDE
            noise, sky = (
                float(np.clip(np.exp(rng.normal(1.85, 0.3)), 4, 18)),
                float(np.exp(rng.normal(5.1, 0.35))),
            )
            unit, electrons = (
                float(10 ** (-0.4 * (AB_ZERO_POINT_NJY - rng.normal(26.25, 0.08)))),
                ZTF_ELECTRONS,
            )
        x, y = (side - 1) / 2 + rng.uniform(-0.5, 0.5, 2)
        canvas = Canvas(side, PIXEL_SCALE[survey], float(x), float(y))
        faint = noise * float(rng.uniform(0.18, 0.35))
        return cls(survey, band, science, template, noise, faint, unit, electrons, sky, canvas)


@dataclass(frozen=True)
class Exposure:
    """Stamps of one alert and what was measured on them.

    Attributes
    ----------
    stamps : tuple of Stamp
        Science, template, difference.
    psf_flux, psf_flux_error, science_flux : float
        Forced at the position on science minus template and on science, nJy.
    brightened : bool
        Whether `psf_flux` is positive: ZTF's ``isdiffpos``. Where it is not, ZTF's difference is template minus
        science: its stamps are bright where the alert is (Bellm, community.lsst.org/t/10619).
    template_fluxes : FloatArray, shape (6,)
        Forced on templates of all bands, nJy; NaN for ZTF, whose packets have none.
    """

    stamps: tuple[Stamp, Stamp, Stamp]
    psf_flux: float
    psf_flux_error: float
    science_flux: float
    brightened: bool
    template_fluxes: FloatArray = field(repr=False)


def expose(
    scene: Scene,
    conditions: Conditions,
    signal_to_noise: float,
    artefact: str | None,
    rng: np.random.Generator,
) -> Exposure:
    """Take the exposure.

    Parameters
    ----------
    scene : Scene
    conditions : Conditions
    signal_to_noise : float
        Of the new light at the alert's position; negative where it has faded.
    artefact : str or None
        One of `ARTEFACTS` in place of new light.
    rng : numpy.random.Generator

    Returns
    -------
    Exposure
    """
    c, canvas = conditions, conditions.canvas
    static = _light(scene, canvas, c.band) * c.unit
    psf = c.science.point(canvas)
    error = float(np.hypot(c.science_noise, c.template_noise) / np.sqrt(np.sum(psf**2)))
    before, after = c.science.blur(canvas, static), c.template.blur(canvas, static)
    new = signal_to_noise * error * psf if artefact is None else _artefact(artefact, c, error, rng)
    residual = SUBTRACTION_ERROR * rng.normal() * before
    science_noise = _noise(before + np.maximum(new, 0), c.science_noise, c.electrons, rng)
    # A template is the mean of many visits: more electrons per unit by the ratio of the variances.
    depth = (c.science_noise / c.template_noise) ** 2
    template_noise = _noise(after, c.template_noise, c.electrons * depth, rng)
    planes = (before + new + science_noise + c.sky, after + template_noise + c.sky)
    difference = new + residual + science_noise - template_noise
    variances = (
        c.science_noise**2 + before / c.electrons,
        c.template_noise**2 + after / (c.electrons * depth),
    )
    fluxes = _template_fluxes(scene, c, rng)
    flux = _forced(difference, psf)
    if c.survey is Survey.ZTF and flux < 0:
        difference = -difference
    return Exposure(
        _stamps((*planes, difference), (*variances, variances[0] + variances[1]), c),
        flux / c.unit,
        error / c.unit,
        _forced(planes[0] - c.sky, psf) / c.unit,
        flux >= 0,
        fluxes,
    )


def _light(scene: Scene, canvas: Canvas, band: int) -> FloatArray:
    """Everything that does not change, on the fine grid, in nJy."""
    size = canvas.axes[0].size
    fine = np.zeros((size, size))
    for layer in scene.layers:
        fine += layer.fluxes[band] * layer.image
    for point in scene.points:
        _add_point(fine, canvas, point.x, point.y, float(point.fluxes[band]))
    return fine


def _add_point(fine: FloatArray, canvas: Canvas, x: float, y: float, flux: float) -> None:
    """Share a point's light among the four fine pixels about it, in place."""
    column = (canvas.x + x / canvas.pixel_scale + MARGIN + 0.5) * OVERSAMPLING - 0.5
    row = (canvas.y + y / canvas.pixel_scale + MARGIN + 0.5) * OVERSAMPLING - 0.5
    j, i = int(np.floor(column)), int(np.floor(row))
    if not (0 <= i < fine.shape[0] - 1 and 0 <= j < fine.shape[1] - 1):
        return
    across, along = np.array([1 - (column - j), column - j]), np.array([1 - (row - i), row - i])
    fine[i : i + 2, j : j + 2] += flux * np.outer(along, across)


def _noise(light: FloatArray, sky_noise: float, electrons: float, rng: np.random.Generator) -> FloatArray:
    return rng.normal(0.0, 1.0, light.shape) * np.sqrt(sky_noise**2 + light / electrons)


def _forced(image: FloatArray, psf: FloatArray) -> float:
    """Flux of a point source forced at the position."""
    return float(np.sum(image * psf) / np.sum(psf**2))


def _template_fluxes(scene: Scene, conditions: Conditions, rng: np.random.Generator) -> FloatArray:
    """Measure forced fluxes in all bands, in nJy, with the noise that their templates would have."""
    c = conditions
    if c.survey is Survey.ZTF:
        return np.full(len(BANDS), np.nan)
    psf = c.template.point(c.canvas)
    share = c.template_noise / c.science_noise
    noise = share * LSST_SKY_NOISE / np.sqrt(np.sum(psf**2))
    found = [_forced(c.template.blur(c.canvas, _light(scene, c.canvas, b)), psf) for b in range(len(BANDS))]
    return np.asarray(np.array(found) + rng.normal(0.0, 1.0, len(BANDS)) * noise)


def _stamps(
    planes: tuple[FloatArray, ...], variances: tuple[FloatArray, ...], conditions: Conditions
) -> tuple[Stamp, Stamp, Stamp]:
    c = conditions
    if c.survey is Survey.ZTF:
        science, template, difference = (Stamp(p.astype(np.float32)) for p in planes)
        return science, template, difference
    seeings = (c.science, c.template, c.science)
    science, template, difference = (
        Stamp(plane.astype(np.float32), variance, seeing.plane(LSST_PSF_SIDE, 0.2), (c.canvas.x, c.canvas.y))
        for plane, variance, seeing in zip(planes, variances, seeings, strict=True)
    )
    return science, template, difference


def _artefact(kind: str, conditions: Conditions, error: float, rng: np.random.Generator) -> FloatArray:
    """Draw what is in the science exposure and not in the sky; survey units, shape (side, side)."""
    c, canvas = conditions, conditions.canvas
    angle = float(rng.uniform(0, np.pi))
    columns, rows = canvas.axes
    across = np.abs(columns * np.sin(angle) - rows * np.cos(angle))
    along = columns * np.cos(angle) + rows * np.sin(angle)
    if kind == "dipole":
        shift = 0.35 * canvas.pixel_scale
        moved = c.science.point(canvas, shift * np.cos(angle), shift * np.sin(angle))
        return np.asarray(float(rng.uniform(80, 300)) * error * (moved - c.science.point(canvas)))
    if kind == "bad_column":
        column = np.abs(np.arange(canvas.side) - round(canvas.x)) < 1
        return np.asarray(-float(rng.uniform(15, 40)) * c.science_noise * column * np.ones((canvas.side, 1)))
    if kind == "trail":
        width = c.science.fwhm / 2.355
        profile = canvas.bin(np.exp(-0.5 * (across / width) ** 2)) / OVERSAMPLING**2
        return np.asarray(float(rng.uniform(8, 30)) * c.science_noise * profile)
    # A cosmic ray is as sharp as the pixels: no star is.
    length = float(rng.uniform(1.5, 5.0)) * canvas.pixel_scale
    hit = (across < canvas.pixel_scale / 2) & (np.abs(along) < length)
    return np.asarray(
        float(rng.uniform(20, 80)) * c.science_noise * canvas.bin(hit.astype(float)) / OVERSAMPLING**2
    )
