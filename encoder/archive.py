"""Shards: alerts laid out for training, one NumPy archive for each chunk of at most 2,000.

A shard is an uncompressed ``.npz`` with one array for each field of `Shard` and ``format = 1``. Its pixels lie
in the file as they lie in memory, so that `encoder.stored` reads single rows of them. Pixels are native and in
survey units, sky and noise are found as serving finds them (`broker.geometry`), so that a network learns from
what it will be served.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self, TypeAlias
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from broker import geometry
from broker.alert import BANDS, ROLES, SURVEYS, Alert, Float32Array
from broker.cutouts import Cutout, read_cutout
from broker.errors import CutoutError, SettingsError

BOX_SIDE = 64
"""Native pixels: a grid of 32 pixels turned by any angle needs 60 of Rubin's."""

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Columns:
    """All that is known of alerts but their pixels; n of them.

    Attributes
    ----------
    centre : ndarray of float32, shape (n, 2)
        (x, y) of the alert in the box.
    noise : ndarray of float32, shape (n, 3)
        Standard deviation of a native pixel; 0 where there is no stamp.
    pixel_scale : ndarray of float32, shape (n,)
        Arcsec per native pixel.
    survey : ndarray of int64, shape (n,)
        Index in `broker.alert.SURVEYS`.
    band : ndarray of int64, shape (n,)
        Index in `broker.alert.BANDS`; -1 where unknown.
    psf_fwhm : ndarray of float32, shape (n, 3)
        Arcsec, from the PSF's effective area (`broker.cutouts.effective_fwhm`); NaN where unknown.
    photometry : ndarray of float32, shape (n, 6)
        As `broker.alert.Alert.photometry`.
    label : ndarray of int64, shape (n,)
        Index in ``classes``; -1 where unknown.
    redshift, ebv : ndarray of float32, shape (n,)
        NaN where unknown.
    alert_id : ndarray of int64, shape (n,)
    object_id : ndarray of str, shape (n,)
    classes : tuple of str
    """

    centre: Float32Array
    noise: Float32Array
    pixel_scale: Float32Array
    survey: NDArray[np.int64]
    band: NDArray[np.int64]
    psf_fwhm: Float32Array
    photometry: Float32Array
    label: NDArray[np.int64]
    redshift: Float32Array
    ebv: Float32Array
    alert_id: NDArray[np.int64]
    object_id: NDArray[np.str_]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.alert_id)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Self:
        """Alerts of some rows."""
        taken: dict[str, Any] = {
            f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "classes"
        }
        return replace(self, **taken)


COLUMNS = tuple(f.name for f in fields(Columns) if f.name != "classes")


@dataclass(frozen=True, slots=True)
class Shard(Columns):
    """Alerts as arrays, with their pixels.

    Attributes
    ----------
    box : ndarray of float32, shape (n, 3, 64, 64)
        Science, template, difference: native pixels in nJy (Rubin) or DN (ZTF), sky subtracted, NaN where
        there is no data. The alert lies within half a pixel of (31.5, 31.5).
    """

    box: Float32Array


ARRAYS = (*COLUMNS, "box")


@dataclass(frozen=True, slots=True)
class Box:
    """One alert's pixels in a box; see `Shard`."""

    box: Float32Array
    centre: tuple[float, float]
    noise: Float32Array
    pixel_scale: float
    psf_fwhm: Float32Array


def box_of(alert: Alert, cutouts: Sequence[Cutout | None]) -> Box:
    """Lay stamps into a box without resampling, sky and noise as in serving.

    Parameters
    ----------
    alert : Alert
    cutouts : sequence of (Cutout or None), length 3

    Returns
    -------
    Box
    """
    box = np.full((len(ROLES), BOX_SIDE, BOX_SIDE), np.nan, np.float32)
    noise, fwhm = np.zeros(len(ROLES), np.float32), np.full(len(ROLES), np.nan, np.float32)
    middle = (BOX_SIDE - 1) / 2
    centre, scale = (middle, middle), geometry.native_scale(alert.survey)
    for k, (role, cutout) in enumerate(zip(ROLES, cutouts, strict=True)):
        if cutout is None:
            continue
        valid = np.abs(cutout.image) < geometry.LARGEST_PIXEL
        sky, noise[k] = geometry.sky_and_noise(
            cutout.image, valid, cutout.variance, survey=alert.survey, role=role
        )
        if noise[k] == 0.0:
            continue
        x, y = geometry.centre(alert, cutout)
        column, row = int(np.rint(x - middle)), int(np.rint(y - middle))
        _paste(box[k], np.where(valid, cutout.image - np.float32(sky), np.float32(np.nan)), row, column)
        centre, scale = (x - column, y - row), geometry.native_scale(alert.survey, cutout)
        if cutout.psf_fwhm is not None:
            fwhm[k] = cutout.psf_fwhm * scale
    return Box(box, centre, noise, scale, fwhm)


def _paste(box: Float32Array, stamp: Float32Array, row: int, column: int) -> None:
    """Copy a stamp so that its pixel (row, column) falls on the box's (0, 0)."""
    height, width = stamp.shape
    top, left = max(0, -row), max(0, -column)
    bottom, right = min(BOX_SIDE, height - row), min(BOX_SIDE, width - column)
    box[top:bottom, left:right] = stamp[top + row : bottom + row, left + column : right + column]


def read_box(alert: Alert) -> Box:
    """Read an alert's own stamps into a box; one that cannot be read leaves NaN and a noise of 0."""
    cutouts: list[Cutout | None] = []
    for data in alert.cutouts:
        try:
            cutouts.append(None if data is None else read_cutout(data, survey=alert.survey))
        except CutoutError:
            cutouts.append(None)
    return box_of(alert, cutouts)


def shard_from_alerts(
    alerts: Iterable[Alert],
    *,
    classes: tuple[str, ...] = (),
    labels: Sequence[int] | None = None,
    redshifts: Sequence[float] | None = None,
) -> Shard:
    """Lay alerts out as the broker would read them.

    Parameters
    ----------
    alerts : iterable of Alert
        From `broker.survey`.
    classes : tuple of str
    labels : sequence of int, optional
        Index in ``classes`` for each alert; -1 where unknown.
    redshifts : sequence of float, optional

    Returns
    -------
    Shard
    """
    found = list(alerts)
    boxes = [read_box(alert) for alert in found]
    return stack(boxes, alerts=found, classes=classes, labels=labels, redshifts=redshifts)


def stack(
    boxes: Sequence[Box],
    *,
    alerts: Sequence[Alert],
    classes: tuple[str, ...] = (),
    labels: Sequence[int] | None = None,
    redshifts: Sequence[float] | None = None,
    ebvs: Sequence[float] | None = None,
    psf_fwhm: Sequence[Sequence[float]] | None = None,
) -> Shard:
    """Shard of boxes and the alerts they came from; what is not given is unknown.

    Raises
    ------
    SettingsError
        If there is no alert.
    """
    n = len(boxes)
    if n == 0:
        raise SettingsError("there is no alert to make a shard of; give at least one")
    unknown = np.full(n, np.nan, np.float32)
    widths = np.stack([b.psf_fwhm for b in boxes]) if psf_fwhm is None else np.array(psf_fwhm, np.float32)
    return Shard(
        box=np.stack([b.box for b in boxes]),
        centre=np.array([b.centre for b in boxes], np.float32),
        noise=np.stack([b.noise for b in boxes]),
        pixel_scale=np.array([b.pixel_scale for b in boxes], np.float32),
        survey=np.array([SURVEYS.index(a.survey) for a in alerts], np.int64),
        band=np.array([-1 if a.band is None else BANDS.index(a.band) for a in alerts], np.int64),
        psf_fwhm=widths,
        photometry=np.stack([a.photometry for a in alerts]),
        label=np.full(n, -1, np.int64) if labels is None else np.array(labels, np.int64),
        redshift=unknown if redshifts is None else np.array(redshifts, np.float32),
        ebv=unknown if ebvs is None else np.array(ebvs, np.float32),
        alert_id=np.array([a.alert_id for a in alerts], np.int64),
        object_id=np.array([a.object_id for a in alerts], np.str_),
        classes=classes,
    )


def save_shard(path: Path, shard: Shard) -> None:
    """Write a shard; an interrupted write leaves no file of that name."""
    partial = path.with_name(f".{path.name}.partial")  # no name that a search for shards would find
    arrays = {name: getattr(shard, name) for name in ARRAYS}
    with partial.open("wb") as file:
        np.savez(file, format=np.int64(FORMAT), classes=np.array(shard.classes, np.str_), **arrays)
    partial.replace(path)


def load_shards(paths: Iterable[Path]) -> Shard:
    """Read shards into one.

    Parameters
    ----------
    paths : iterable of Path

    Returns
    -------
    Shard

    Raises
    ------
    SettingsError
        If there is none, one is no shard, or their classes differ.
    """
    shards, classes = _agreeing([_load(path, ARRAYS) for path in paths])
    return Shard(**shards, classes=classes)


def load_columns(paths: Iterable[Path]) -> Columns:
    """Read all but the pixels, of shards as `load_shards` takes them and with its errors."""
    shards, classes = _agreeing([_load(path, COLUMNS) for path in paths])
    return Columns(**shards, classes=classes)


Arrays: TypeAlias = dict[str, NDArray[Any]]


def _agreeing(shards: Sequence[tuple[Arrays, tuple[str, ...]]]) -> tuple[Arrays, tuple[str, ...]]:
    if not shards:
        raise SettingsError("no shard was given; `encoder simulate` makes some")
    named = {classes for _, classes in shards if classes}  # ingested ones have no labels to name
    if len(named) > 1:
        raise SettingsError(f"the shards have different classes: {sorted(named)}")
    joined = {name: np.concatenate([arrays[name] for arrays, _ in shards]) for name in shards[0][0]}
    return joined, next(iter(named), ())


def _load(path: Path, wanted: Sequence[str]) -> tuple[Arrays, tuple[str, ...]]:
    try:
        return _read(path, wanted)
    except (BadZipFile, EOFError, ValueError, OSError) as error:
        raise SettingsError(
            f"{path} cannot be read as a shard: {error}; make it again, or remove it"
        ) from error


def _read(path: Path, wanted: Sequence[str]) -> tuple[Arrays, tuple[str, ...]]:
    # Opened here, as NumPy leaves a file open that is no archive.
    with path.open("rb") as file, np.load(file) as data:
        missing = sorted({*ARRAYS, "classes", "format"} - set(data.files))
        if missing:
            raise SettingsError(f"{path} is no shard: it has {sorted(data.files)} and lacks {missing}")
        if int(data["format"]) != FORMAT:
            raise SettingsError(f"{path} has format {int(data['format'])}; this version reads {FORMAT}")
        return {name: data[name] for name in wanted}, tuple(str(c) for c in data["classes"])
