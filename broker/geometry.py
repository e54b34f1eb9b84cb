"""Stamps on the common grid: the one geometry of serving and of training.

The rule. Pixel (i, j) of the grid sits at the offset ((j - c) s, (i - c) s) arcsec from the alert's
position, with c = (size - 1) / 2 and s the grid's scale; in the native stamp that is
``centre + offset / native_scale``. There the valid pixels m are interpolated bilinearly,
value = W(m x) / W(m), and the pixel counts where W(m) >= 0.5; beyond the stamp nothing is valid. Times
(s / native_scale)^2 the value is flux per grid pixel. W is separable, so it is two small matrices: rows
(size, h) and columns (size, w).

The grid keeps the stamp's own axes: the sky's orientation is not applied, the network is trained on all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from broker import flags
from broker.alert import ROLES, Alert, Float32Array, Survey
from broker.contract import Grid
from broker.cutouts import Cutout, read_cutout
from broker.errors import CutoutError

BoolArray: TypeAlias = NDArray[np.bool_]

NATIVE_SCALE: Final = {Survey.LSST: 0.2, Survey.ZTF: 1.01}
"""Arcseconds per native pixel: LSSTCam (LSE-30), ZTF (Dekany et al. 2020, PASP 132, 038001). Rubin stamps
state their own, which for precursor cameras differs by up to a quarter."""

SCALE_TOLERANCE: Final = 2.0
"""A stamp that states more than twice or less than half the nominal scale has a broken WCS."""

ZTF_HALF_SIDE: Final = 31
"""A ZTF stamp reaches 31 px to each side of the pixel nearest to the alert; less at the detector's edge."""

LARGEST_PIXEL: Final = 1e30
"""nJy or DN; what lies beyond is no measurement, and would overflow float32 when summed."""

VALID_WEIGHT: Final = 0.5
"""A grid pixel counts where at least half of its interpolation weight fell on valid pixels."""

BILINEAR_NOISE: Final = 2.0 / 3.0
"""Bilinear interpolation averages: of white noise it leaves a variance of (1 - f)^2 + f^2 per axis, whose
mean over all fractions f is 2/3, thus 2/3 of the standard deviation in two axes."""

NAN_FRACTION: Final = 0.05
"""``nan_pixels`` is raised where more than this share of a stamp's own pixels has no data."""

HOST_RADIUS: Final = 3.0
"""Grid pixels: one nominal seeing FWHM around the alert."""

HOST_SIGNIFICANCE: Final = 5.0
"""Template light at the position below this many standard deviations is no visible host."""


@dataclass(frozen=True, slots=True)
class Stamps:
    """The stamps of one alert on the common grid.

    Attributes
    ----------
    image : Float32Array, shape (3, size, size)
        Flux per grid pixel (nJy or DN), sky subtracted; 0 where masked.
    mask : Float32Array, shape (3, size, size)
        1 where the pixel is valid, else 0.
    noise : Float32Array, shape (3,)
        Standard deviation of a grid pixel in the units of ``image``; 0 where there is no stamp.
    psf_fwhm : float or None
        Arcseconds, of the science stamp; None where the packet does not say.
    valid_fraction : Float32Array, shape (3,)
        Mean of ``mask``.
    flags : tuple of str
        Of `broker.flags.VOCABULARY`.
    """

    image: Float32Array
    mask: Float32Array
    noise: Float32Array
    psf_fwhm: float | None
    valid_fraction: Float32Array
    flags: tuple[str, ...]


def lay(alert: Alert, grid: Grid) -> Stamps:
    """Lay the stamps of an alert on the common grid.

    Parameters
    ----------
    alert : Alert
    grid : Grid

    Returns
    -------
    Stamps
        Whole or not: a stamp that is null or cannot be read leaves zeros and a flag.
    """
    cutouts: list[Cutout | None] = []
    words: list[str] = []
    for role, data in zip(ROLES, alert.cutouts, strict=True):
        cutout = None
        if data is None:
            words.append(flags.of_stamp(flags.CUTOUT_NULL, role))
        else:
            try:
                cutout = read_cutout(data, survey=alert.survey, psf=role == "science")
            except CutoutError:
                words.append(flags.of_stamp(flags.CUTOUT_UNREADABLE, role))
        cutouts.append(cutout)
    stamps = lay_cutouts(alert, cutouts, grid)
    if _no_host(alert, stamps):
        words.append(flags.NO_HOST)
    return Stamps(
        stamps.image,
        stamps.mask,
        stamps.noise,
        stamps.psf_fwhm,
        stamps.valid_fraction,
        (*words, *stamps.flags),
    )


def lay_cutouts(alert: Alert, cutouts: Sequence[Cutout | None], grid: Grid) -> Stamps:
    """Lay stamps that are already read; what `lay` does after reading.

    Parameters
    ----------
    alert : Alert
        Gives survey, position and detector; its own cutouts are not looked at.
    cutouts : sequence of (Cutout or None), length 3
        In the order of `broker.alert.ROLES`.
    grid : Grid

    Returns
    -------
    Stamps
    """
    size, scale = grid.size, grid.pixel_scale[alert.survey.value]
    image = np.zeros((len(ROLES), size, size), np.float32)
    mask = np.zeros_like(image)
    noise = np.zeros(len(ROLES), np.float32)
    words: list[str] = []
    groups: dict[tuple[tuple[int, ...], tuple[float, float], float], list[int]] = {}
    prepared: dict[int, tuple[Float32Array, BoolArray]] = {}
    for index, (role, cutout) in enumerate(zip(ROLES, cutouts, strict=True)):
        if cutout is None:
            continue
        valid = np.abs(cutout.image) < LARGEST_PIXEL
        words += _pixel_flags(role, alert, cutout, valid)
        sky, native_noise = sky_and_noise(
            cutout.image, valid, cutout.variance, survey=alert.survey, role=role
        )
        if native_noise == 0.0:
            words.append(flags.of_stamp(flags.NOISE_UNKNOWN, role))
            continue
        middle, native = centre(alert, cutout), native_scale(alert.survey, cutout)
        noise[index] = grid_noise(native_noise, native, scale)
        prepared[index] = (cutout.image - np.float32(sky) if sky else cutout.image, valid)
        groups.setdefault((cutout.image.shape, middle, native), []).append(index)
    for (_, middle, native), members in groups.items():
        image[members], mask[members] = resample(
            np.stack([prepared[index][0] for index in members]),
            np.stack([prepared[index][1] for index in members]),
            middle,
            native,
            scale,
            size,
        )
    science = cutouts[0]
    width = None if science is None else science.psf_fwhm
    return Stamps(
        image=image,
        mask=mask,
        noise=noise,
        psf_fwhm=None if science is None or width is None else width * native_scale(alert.survey, science),
        valid_fraction=mask.mean(axis=(1, 2)),
        flags=tuple(dict.fromkeys(words)),
    )


def native_scale(survey: Survey, cutout: Cutout | None = None) -> float:
    """Arcseconds per native pixel.

    Parameters
    ----------
    survey : Survey
    cutout : Cutout, optional
        Its own scale is used where it states a plausible one.

    Returns
    -------
    float
    """
    nominal = NATIVE_SCALE[survey]
    stated = None if cutout is None else cutout.pixel_scale
    if stated is None or not nominal / SCALE_TOLERANCE <= stated <= nominal * SCALE_TOLERANCE:
        return nominal
    return stated


def centre(alert: Alert, cutout: Cutout) -> tuple[float, float]:
    """Where the alert lies in a stamp.

    Rubin stamps say so themselves. ZTF cuts 31 px to each side of the pixel nearest to the alert, and
    less where the detector ends, so the position on the detector tells how much is missing on the low side.

    Parameters
    ----------
    alert : Alert
    cutout : Cutout

    Returns
    -------
    tuple of float
        0-based (x, y) in native pixels; the stamp's middle where nothing says better.
    """
    height, width = cutout.image.shape
    if alert.survey is Survey.LSST:
        found = cutout.centre
    elif alert.position is None:
        found = None
    else:
        found = (_behind_edge(alert.position[0]), _behind_edge(alert.position[1]))
    if found is None or not (_is_inside(found[0], width) and _is_inside(found[1], height)):
        return (width - 1) / 2, (height - 1) / 2
    return found


def _is_inside(coordinate: float, length: int) -> bool:
    return 0.0 <= coordinate + 0.5 <= length


def _behind_edge(position: float) -> float:
    """0-based coordinate in a ZTF stamp of a 0-based detector coordinate."""
    return position - max(0.0, float(np.rint(position)) - ZTF_HALF_SIDE)


def sky_and_noise(
    image: Float32Array, valid: BoolArray, variance: Float32Array | None, *, survey: Survey, role: str
) -> tuple[float, float]:
    """Sky level to subtract and noise of a native pixel.

    Rubin subtracts the sky itself and publishes the variance; the noise is the root of its mean.
    ZTF leaves the sky in science and template (median), and the noise must come from the pixels: the
    distance from the 16th percentile to the median, on the side that sources do not reach.

    Parameters
    ----------
    image : Float32Array, shape (h, w)
    valid : BoolArray, shape (h, w)
    variance : Float32Array, shape (h, w), or None
    survey : Survey
    role : str
        One of `broker.alert.ROLES`.

    Returns
    -------
    sky, noise : float
        In the units of ``image``; a noise of 0 means it cannot be told.
    """
    if variance is not None:
        known = (variance > 0.0) & (variance < LARGEST_PIXEL)
        everything = known.all()
        if everything or known.any():
            return 0.0, float((variance if everything else variance[known]).mean(dtype=np.float64)) ** 0.5
    values = image.ravel() if valid.all() else image[valid]
    if values.size == 0:
        return 0.0, 0.0
    low, middle = (int(q * (values.size - 1)) for q in (0.16, 0.5))
    ordered = np.partition(values, (low, middle))
    noise = float(ordered[middle]) - float(ordered[low])
    sky = float(ordered[middle]) if survey is Survey.ZTF and role != "difference" else 0.0
    return sky, noise


def grid_noise(native_noise: float, native_scale: float, grid_scale: float) -> float:
    """Noise of a grid pixel from that of a native pixel.

    Parameters
    ----------
    native_noise : float
        Standard deviation of a native pixel.
    native_scale, grid_scale : float
        Arcseconds per pixel.

    Returns
    -------
    float
        Standard deviation of a grid pixel in flux per grid pixel: the area's ratio times `BILINEAR_NOISE`.
    """
    return native_noise * (grid_scale / native_scale) ** 2 * BILINEAR_NOISE


def resample(  # noqa: PLR0917
    image: Float32Array,
    mask: BoolArray | Float32Array,
    centre: tuple[float, float],
    native_scale: float,
    grid_scale: float,
    size: int,
) -> tuple[Float32Array, Float32Array]:
    """Interpolate stamps of one geometry onto the grid.

    Parameters
    ----------
    image : Float32Array, shape (n, h, w)
        What it holds where masked does not matter.
    mask : BoolArray or Float32Array, shape (n, h, w)
        True or 1 where a pixel is valid.
    centre : tuple of float
        0-based (x, y) of the alert in native pixels.
    native_scale, grid_scale : float
        Arcseconds per pixel.
    size : int
        Side of the grid.

    Returns
    -------
    image, mask : Float32Array, shape (n, size, size)
        Flux per grid pixel, 0 where masked; 1 where valid, else 0.
    """
    count, height, width = image.shape
    ratio = grid_scale / native_scale
    rows = weights(height, centre[1], ratio, size)
    columns = weights(width, centre[0], ratio, size)
    if mask.all():
        total = _apply(rows, image, columns)
        weight = np.multiply.outer(rows.sum(axis=1), columns.sum(axis=1))
        weight = np.broadcast_to(weight, (count, size, size))
    else:
        chosen = mask.astype(bool)
        both = np.concatenate([np.where(chosen, image, np.float32(0.0)), chosen.astype(np.float32)])
        total, weight = np.split(_apply(rows, both, columns), 2)
    covered = weight >= VALID_WEIGHT
    laid = np.zeros((count, size, size), np.float32)
    np.divide(total, weight, out=laid, where=covered)
    laid *= np.float32(ratio * ratio)
    return laid, covered.astype(np.float32)


def weights(length: int, centre: float, ratio: float, size: int) -> Float32Array:
    """Bilinear weights along one axis.

    Parameters
    ----------
    length : int
        Native pixels along the axis.
    centre : float
        0-based native coordinate of the alert.
    ratio : float
        Grid scale over native scale.
    size : int
        Side of the grid.

    Returns
    -------
    Float32Array, shape (size, length)
        A tent of half-width one native pixel around each grid pixel; rows sum to less than 1 at the stamp's
        edge and to 0 beyond it.
    """
    positions = centre + (np.arange(size) - (size - 1) / 2) * ratio
    distance = np.abs(positions[:, None] - np.arange(length))
    tent: Float32Array = np.maximum(1.0 - distance, 0.0).astype(np.float32)
    return tent


def _apply(rows: Float32Array, stack: Float32Array, columns: Float32Array) -> Float32Array:
    """Interpolate along both axes: rows @ stamp @ columns.T for each of the stack."""
    count, height, width = stack.shape
    across = stack.reshape(count * height, width) @ columns.T
    result: Float32Array = rows @ across.reshape(count, height, len(columns))
    return result


def _pixel_flags(role: str, alert: Alert, cutout: Cutout, valid: BoolArray) -> list[str]:
    """Raise the flags that need the native pixels."""
    words = []
    if not valid.all():
        if 1.0 - valid.mean() > NAN_FRACTION:
            words.append(flags.of_stamp(flags.NAN_PIXELS, role))
        border = (valid[0], valid[-1], valid[:, 0], valid[:, -1])
        if role == "science" and not all(side.any() for side in border):
            words.append(flags.EDGE)
    if alert.survey is Survey.ZTF and min(valid.shape) < 2 * ZTF_HALF_SIDE + 1:
        words.append(flags.EDGE)
    if alert.survey is Survey.LSST and (
        cutout.pixel_scale != native_scale(alert.survey, cutout) or cutout.centre != centre(alert, cutout)
    ):
        words.append(flags.WCS_IMPLAUSIBLE)
    return words


def _no_host(alert: Alert, stamps: Stamps) -> bool:
    """Whether neither a catalogue nor the template shows light at the position."""
    catalogued = alert.survey is Survey.ZTF and bool(np.isfinite(alert.photometry).any())
    template = ROLES.index("template")
    noise = float(stamps.noise[template])
    if catalogued or noise == 0.0:
        return False
    size = stamps.image.shape[-1]
    reach = int(HOST_RADIUS)
    near = slice(size // 2 - reach, size - size // 2 + reach)
    pixels = float(stamps.mask[template, near, near].sum())
    light = float(stamps.image[template, near, near].sum())
    return pixels > 0.0 and light < HOST_SIGNIFICANCE * noise * pixels**0.5
