"""Stamps on the common grid: the one geometry of serving and of training.

The rule of the grid stands in `broker.resampling`; here it is decided what goes in.
The grid keeps the stamp's own axes: the sky's orientation is not applied, the network is trained on all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from broker import flags, native
from broker.alert import ROLES, Alert, Float32Array, Survey
from broker.contract import Grid
from broker.cutouts import Cutout, inflate, read_cutout
from broker.errors import CutoutError
from broker.places import (
    NATIVE_SCALE,
    SCALE_TOLERANCE,
    ZTF_HALF_SIDE,
    ZTF_SIDE,
    behind_edge,
    centre,
    native_scale,
)
from broker.resampling import BILINEAR_NOISE, VALID_WEIGHT, BoolArray, grid_noise, resample, weights
from broker.sky import LARGEST_PIXEL, has_bare_side, has_sky, sky_and_noise

__all__ = [
    "BILINEAR_NOISE",
    "LARGEST_PIXEL",
    "NATIVE_SCALE",
    "VALID_WEIGHT",
    "ZTF_HALF_SIDE",
    "Stamps",
    "centre",
    "grid_noise",
    "lay",
    "lay_cutouts",
    "native_scale",
    "resample",
    "sky_and_noise",
    "weights",
]

NAN_FRACTION: Final = 0.05
"""``nan_pixels`` is raised where more than this share of a stamp's own pixels has no data."""

HOST_RADIUS: Final = 3.0
"""Grid pixels: one nominal seeing FWHM around the alert."""

HOST_SIGNIFICANCE: Final = 5.0
"""Template light at the position below this many standard deviations is no visible host."""

TEMPLATE: Final = ROLES.index("template")

_Frame: TypeAlias = tuple[tuple[int, ...], tuple[float, float], float]
"""Shape, centre and scale: stamps that share it are interpolated together."""

_Prepared: TypeAlias = tuple[int, Float32Array, BoolArray]
"""Index of the role, pixels without sky, which of them are valid."""


class _Given(NamedTuple):
    """A stamp that was read: index of its role, and where and how large its native pixels are (arcsec)."""

    role: int
    cutout: Cutout
    centre: tuple[float, float]
    scale: float


class _Found(NamedTuple):
    """Of a stamp: noise of a native pixel, 0 where it cannot be told; invalid pixels; a side without a valid one."""

    noise: float
    invalid: int
    is_bare: bool


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
    return _lay_usual(alert, grid) or _lay_any(alert, grid)


def _lay_usual(alert: Alert, grid: Grid) -> Stamps | None:
    """Lay usual stamps by one call of the compiled helper; None for what is left to `_lay_any`."""
    cutouts = tuple(cutout for cutout in alert.cutouts if cutout is not None)
    place = None
    if native.alert is None or len(cutouts) < len(ROLES):
        return None
    if alert.survey is Survey.ZTF:
        if alert.position is None:
            return None
        place = behind_edge(alert.position[0]), behind_edge(alert.position[1]), ZTF_SIDE
        try:
            cutouts = tuple(map(inflate, cutouts))
        except CutoutError:
            return None
    shape = (len(ROLES), grid.size, grid.size)
    image, mask = (np.empty(shape, np.float32) for _ in range(2))
    noise = np.empty(len(ROLES), np.float32)
    nominal, scale = NATIVE_SCALE[alert.survey], grid.pixel_scale[alert.survey.value]
    limits = nominal, nominal / SCALE_TOLERANCE, nominal * SCALE_TOLERANCE
    reach = int(HOST_RADIUS)
    found = native.alert(cutouts, place, *limits, scale, BILINEAR_NOISE, grid.size, reach, image, mask, noise)
    if found is None:
        return None
    psf_fwhm, light, pixels, stamps = found
    has_no_host = not _is_catalogued(alert) and _is_dark(light, pixels, float(noise[TEMPLATE]))
    words = [flags.NO_HOST] if has_no_host else []
    for role, (_, invalid, size, is_bare) in zip(ROLES, stamps, strict=True):
        if invalid:
            words += _hole_flags(role, invalid, size, is_bare=is_bare)
    valid_fraction = np.array([covered for covered, *_ in stamps], np.float32) / np.float32(grid.size**2)
    return Stamps(image, mask, noise, psf_fwhm, valid_fraction, tuple(words))


def _lay_any(alert: Alert, grid: Grid) -> Stamps:
    """Lay stamps one by one, whatever they lack."""
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
    noise = [0.0] * len(ROLES)
    words: list[str] = []
    there = [
        _Given(role, cutout, centre(alert, cutout), native_scale(alert.survey, cutout))
        for role, cutout in enumerate(cutouts)
        if cutout is not None
    ]
    put = _put_in_numpy if native.stamp is None else _put_compiled
    for given, found in zip(there, put(alert.survey, there, scale, image, mask), strict=True):
        words += _pixel_flags(alert.survey, given, found)
        noise[given.role] = grid_noise(found.noise, given.scale, scale)
    covered = np.add.reduce(mask.reshape(len(ROLES), -1), axis=1)
    for given in there:
        if noise[given.role] == 0.0 or covered[given.role] == 0.0:
            noise[given.role] = 0.0
            words.append(flags.of_stamp(flags.NOISE_UNKNOWN, ROLES[given.role]))
    return Stamps(
        image=image,
        mask=mask,
        noise=np.array(noise, np.float32),
        psf_fwhm=_psf_fwhm(alert, cutouts[0]),
        valid_fraction=covered / np.float32(size * size),
        flags=tuple(dict.fromkeys(words)),
    )


def _put_compiled(
    survey: Survey, there: Sequence[_Given], scale: float, image: Float32Array, mask: Float32Array
) -> list[_Found]:
    """Lay stamps one by one; as `_put_in_numpy` does, but for the last bits."""
    assert native.stamp is not None
    found = []
    for index, cutout, (x, y), own in there:
        pixels = np.ascontiguousarray(cutout.image)
        variance = None if cutout.variance is None else np.ascontiguousarray(cutout.variance)
        is_sky_there = has_sky(survey, ROLES[index])
        _, noise, invalid, is_bare = native.stamp(
            *(pixels, variance, *pixels.shape, x, y, scale / own, image.shape[-1], is_sky_there),
            *(image[index], mask[index]),
        )
        found.append(_Found(noise, invalid, is_bare))
    return found


@np.errstate(over="ignore", invalid="ignore")
def _put_in_numpy(
    survey: Survey, there: Sequence[_Given], scale: float, image: Float32Array, mask: Float32Array
) -> list[_Found]:
    """Lay stamps, those of one frame together."""
    found: list[_Found] = []
    groups: dict[_Frame, list[_Prepared]] = {}
    for index, cutout, middle, own in there:
        valid = np.abs(cutout.image) < LARGEST_PIXEL
        sky, noise = sky_and_noise(cutout.image, valid, cutout.variance, survey=survey, role=ROLES[index])
        found.append(_Found(noise, valid.size - int(np.count_nonzero(valid)), has_bare_side(valid)))
        if noise > 0.0:
            pixels = cutout.image - np.float32(sky) if sky else cutout.image
            groups.setdefault((cutout.image.shape, middle, own), []).append((index, pixels, valid))
    for (_, middle, own), members in groups.items():
        chosen, pixels_of, valid_of = map(list, zip(*members, strict=True))
        image[chosen], mask[chosen] = resample(
            np.array(pixels_of), np.array(valid_of), middle, own, scale, image.shape[-1]
        )
    return found


def _psf_fwhm(alert: Alert, science: Cutout | None) -> float | None:
    """Arcseconds."""
    if science is None or science.psf_fwhm is None:
        return None
    return science.psf_fwhm * native_scale(alert.survey, science)


def _hole_flags(role: str, invalid: int, size: int, *, is_bare: bool) -> list[str]:
    """Raise the flags of so many invalid ones among the pixels of a stamp."""
    words = []
    if invalid > NAN_FRACTION * size:
        words.append(flags.of_stamp(flags.NAN_PIXELS, role))
    if role == "science" and is_bare:
        words.append(flags.EDGE)
    return words


def _pixel_flags(survey: Survey, given: _Given, found: _Found) -> list[str]:
    """Raise the flags that need the native pixels."""
    cutout = given.cutout
    words = _hole_flags(ROLES[given.role], found.invalid, cutout.image.size, is_bare=found.is_bare)
    if survey is Survey.ZTF and min(cutout.image.shape) < ZTF_SIDE:
        words.append(flags.EDGE)
    if survey is Survey.LSST and (cutout.pixel_scale != given.scale or cutout.centre != given.centre):
        words.append(flags.WCS_IMPLAUSIBLE)
    return words


def _no_host(alert: Alert, stamps: Stamps) -> bool:
    """Whether neither a catalogue nor the template shows light at the position."""
    noise = float(stamps.noise[TEMPLATE])
    if _is_catalogued(alert) or noise == 0.0:
        return False
    size = stamps.image.shape[-1]
    reach = int(HOST_RADIUS)
    near = slice(size // 2 - reach, size - size // 2 + reach)
    pixels = float(stamps.mask[TEMPLATE, near, near].sum())
    light = float(stamps.image[TEMPLATE, near, near].sum(dtype=np.float64))
    return _is_dark(light, pixels, noise)


def _is_catalogued(alert: Alert) -> bool:
    return alert.survey is Survey.ZTF and bool(np.isfinite(alert.photometry).any())


def _is_dark(light: float, pixels: float, noise: float) -> bool:
    """Whether so many pixels of that noise show no light."""
    return pixels > 0.0 and light < HOST_SIGNIFICANCE * noise * pixels**0.5
