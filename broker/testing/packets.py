"""Whole packets of both surveys from pixels and a few fields: for demonstrations, simulation and tests.

What comes out is what the surveys send: Rubin's Confluent frame of any bundled schema from 7.0 to 11.1,
ZTF's object container of one alert. Fields that nobody states are null or zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from broker.alert import BANDS
from broker.testing.datums import Datum, container, encode, field_names, frame, plain_record
from broker.testing.stamps import Stamp, lsst_fits, ztf_fits

StampLike: TypeAlias = Stamp | bytes | None
"""A stamp to write, a FITS file as it is, or null."""

Values: TypeAlias = Mapping[str, Any]

NOTHING: Values = MappingProxyType({})

JD_OF_MJD = 2400000.5
TAI_AHEAD_SECONDS = 37.0
"""TAI - UTC since 2017."""

ZTF_FILTERS = {"g": 1, "r": 2, "i": 3}
ZTF_UNKNOWN = -999.0

LSST_CUTOUTS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
ZTF_CUTOUTS = LSST_CUTOUTS
ZTF_FILE_NAMES = ("targ_sci", "ref", "targ_refmsci")

OBJECT_ID = 170032915988086813
ALERT_ID = 170032915988086901
CANDID = 2752190655615010066


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What Rubin measured at one visit; all fluxes are PSF fluxes forced at the position, in nJy.

    Attributes
    ----------
    mjd_tai : float
        Mid-exposure, TAI, in days.
    band : str or None
    psf_flux, psf_flux_error : float or None
        On the difference image.
    template_flux, science_flux : float or None
        Schemas before 8.0 have no field for them, and they are left out.
    fields : mapping
        Further fields of the schema's ``diaSource``.
    """

    mjd_tai: float = 61041.22
    band: str | None = "r"
    psf_flux: float | None = 1500.0
    psf_flux_error: float | None = 120.0
    template_flux: float | None = 800.0
    science_flux: float | None = 2300.0
    fields: Values = field(default_factory=dict)


def lsst_packet(
    stamps: Sequence[StampLike] | None = None,
    *,
    schema_id: int = 1101,
    alert_id: int = ALERT_ID,
    object_id: int | None = OBJECT_ID,
    ss_object_id: int | None = None,
    ra: float = 51.909375,
    dec: float = -29.3424,
    visit: Visit | None = None,
    history: Sequence[Visit] | None = None,
    corner: tuple[int, int] = (2036, 1999),
    rotation: float = 77.6,
    fields: Values = NOTHING,
) -> bytes:
    """Write a Rubin packet as it stands on the wire.

    Parameters
    ----------
    stamps : sequence of 3 Stamp, bytes or None
        Science, template, difference. Without them a plain galaxy with a point source on it.
    schema_id : int
        Major version times 100 plus minor, 700 to 1101.
    alert_id : int
        diaSourceId (and alertId, before 8.0).
    object_id : int or None
        diaObjectId; with 0 or None there is no diaObject.
    ss_object_id : int or None
        ssObjectId; given, the packet has the record of a solar-system object. Real ones have object_id 0.
    ra, dec : float
        Degrees.
    visit : Visit or None
        The alert's own measurement.
    history : sequence of Visit or None
        prvDiaSources, oldest first.
    corner : tuple of int
        Detector pixel of the stamps' corner.
    rotation : float
        Degrees from north to the detector's +y.
    fields : mapping
        Further fields of the alert's own ``diaSource``.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        If a field is not one of the schema's.
    """
    form = lsst_form(schema_id)
    visit = visit or Visit()
    stamps = example_stamps() if stamps is None else stamps
    centre = next((s.alert_centre for s in stamps if isinstance(s, Stamp)), (14.5, 14.5))
    source = {
        "diaObjectId": object_id,
        "ssObjectId": ss_object_id or 0,
        "ra": ra,
        "dec": dec,
        "x": corner[0] + centre[0] + 1.0,
        "y": corner[1] + centre[1] + 1.0,
    }
    own = {"diaSourceId": alert_id, **source, **fields}
    past = [
        _dia_source(form, v, {"diaSourceId": alert_id - len(history or ()) + i, **source}, "prvDiaSources")
        for i, v in enumerate(history or ())
    ]
    datum = _known(form, (), {"alertId": alert_id, "diaSourceId": alert_id})
    datum |= _companions(form, object_id, ss_object_id, source, [*(history or ()), visit])
    datum["diaSource"] = _dia_source(form, visit, own, "diaSource")
    datum["prvDiaSources"] = past or None
    turn = rotation if schema_id >= 1000 else None  # noqa: PLR2004 - ROTPA came with 10.0
    for name, stamp in zip(LSST_CUTOUTS, stamps, strict=True):
        if isinstance(stamp, Stamp):
            datum[name] = lsst_fits(stamp, ra=ra, dec=dec, corner=corner, rotation=turn)
        else:
            datum[name] = stamp
    return frame(schema_id, encode(form, plain_record(form, values=datum)))


def lsst_form(schema_id: int) -> str:
    """Name of the bundled form of a Rubin schema id: 1101 is ``lsst.v11_1``."""
    return f"lsst.v{schema_id // 100}_{schema_id % 100}"


def _known(form: str, path: tuple[str, ...], values: Values) -> Datum:
    """Keep what this version of the schema has: versions rename and drop fields."""
    names = field_names(form, *path)
    return {name: value for name, value in values.items() if name in names}


def _dia_source(form: str, visit: Visit, values: Values, where: str) -> Datum:
    measured = {
        "visit": int(visit.mjd_tai * 1e5),
        "detector": 94,
        "midpointMjdTai": visit.mjd_tai,
        "timeProcessedMjdTai": visit.mjd_tai + 0.001,
        "band": visit.band,
        "psfFlux": visit.psf_flux,
        "psfFluxErr": visit.psf_flux_error,
        "snr": _ratio(visit.psf_flux, visit.psf_flux_error),
        "isNegative": visit.psf_flux is not None and visit.psf_flux < 0,
        "psfNdata": 1681,
        "templateFlux": visit.template_flux,
        "scienceFlux": visit.science_flux,
        "bboxSize": 30,
    }
    known = _known(form, (where,), measured)
    return plain_record(form, where, values={**known, **values, **visit.fields})


def _ratio(flux: float | None, error: float | None) -> float | None:
    return abs(flux / error) if flux is not None and error else None


def _companions(
    form: str, object_id: int | None, ss_object_id: int | None, source: Values, visits: Sequence[Visit]
) -> Datum:
    """Describe the object the alert belongs to: a static one, one of the solar system, or none."""
    found: Datum = {}
    if object_id:
        values = {
            "diaObjectId": object_id,
            "ra": source["ra"],
            "dec": source["dec"],
            "nDiaSources": len(visits),
            "validityStartMjdTai": visits[-1].mjd_tai,
            "firstDiaSourceMjdTai": visits[0].mjd_tai,
            "lastDiaSourceMjdTai": visits[-1].mjd_tai,
            **_mean_fluxes(visits),
        }
        values = _known(form, ("diaObject",), values)
        found["diaObject"] = plain_record(form, "diaObject", values=values)
    if ss_object_id:
        name = "ssSource" if "ssSource" in field_names(form) else "ssObject"
        values = _known(form, (name,), {"ssObjectId": ss_object_id})
        found[name] = plain_record(form, name, values=values)
    return found


def _mean_fluxes(visits: Sequence[Visit]) -> Datum:
    means: Datum = {}
    for band in BANDS:
        psf = [v.psf_flux for v in visits if v.band == band and v.psf_flux is not None]
        science = [v.science_flux for v in visits if v.band == band and v.science_flux is not None]
        means[f"{band}_psfFluxMean"] = float(np.mean(psf)) if psf else None
        means[f"{band}_psfFluxNdata"] = len(psf)
        means[f"{band}_scienceFluxMean"] = float(np.mean(science)) if science else None
    return means


def ztf_packet(
    stamps: Sequence[StampLike] | None = None,
    *,
    form: str = "ztf.v4_02",
    alert_id: int = CANDID,
    object_id: str = "ZTF24aaaaaaa",
    ra: float = 249.6765534,
    dec: float = 41.3421566,
    mjd: float = 60506.1906597,
    band: str = "r",
    magnitude: float = 19.2,
    magnitude_error: float = 0.08,
    position: tuple[float, float] = (1536.5, 1540.5),
    ps1: Mapping[str, float] = NOTHING,
    ps1_distance: float = ZTF_UNKNOWN,
    fwhm: float = 2.0,
    zero_point: float = 26.2,
    history: Sequence[Values] | None = None,
    fields: Values = NOTHING,
    codec: str = "null",
) -> bytes:
    """Write a ZTF packet: an object container of one alert.

    Parameters
    ----------
    stamps : sequence of 3 Stamp, bytes or None
        Science, template, difference, in DN. Without them a plain galaxy with a point source on it.
    form : str
        A bundled form, ``ztf.v4_02`` or ``ztf.v3_3``.
    alert_id : int
        candid.
    object_id : str
        objectId.
    ra, dec : float
        Degrees.
    mjd : float
        Exposure start, UTC, in days.
    band : str
        ``g``, ``r`` or ``i``.
    magnitude, magnitude_error : float
        PSF magnitude of the difference, AB.
    position : tuple of float
        xpos, ypos: 1-based pixels on the detector of 3072 x 3080.
    ps1 : mapping of str to float
        AB magnitudes of the nearest PS1 source by band (g r i z); missing ones are written -999.
    ps1_distance : float
        Its distance in arcsec.
    fwhm : float
        Seeing in pixels.
    zero_point : float
        AB magnitude of one DN.
    history : sequence of mapping or None
        prv_candidates, oldest first: fields of each.
    fields : mapping
        Further fields of ``candidate``.
    codec : str
        Of the container.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        If a field is not one of the schema's.
    """
    stamps = example_stamps(ztf=True) if stamps is None else stamps
    candidate = {
        **{f"s{b}mag1": ps1.get(b, ZTF_UNKNOWN) for b in "griz"},
        **{f"objectidps{i}": 0 for i in (1, 2, 3)},
        "distpsnr1": ps1_distance,
        "jd": mjd + JD_OF_MJD,
        "fid": ZTF_FILTERS[band],
        "pid": alert_id // 1_000_000,
        "programid": 1,
        "candid": alert_id,
        "isdiffpos": "t",
        "xpos": position[0],
        "ypos": position[1],
        "ra": ra,
        "dec": dec,
        "magpsf": magnitude,
        "sigmapsf": magnitude_error,
        "fwhm": fwhm,
        "magzpsci": zero_point,
        "diffmaglim": 20.4,
        "exptime": 30.0,
        "ndethist": 1 + len(history or ()),
        **fields,
    }
    past = [plain_record(form, "prv_candidates", values=entry) for entry in history or ()]
    datum = {
        "schemavsn": form.removeprefix("ztf.v").replace("_", "."),
        "publisher": "simulated",
        "objectId": object_id,
        "candid": alert_id,
        "candidate": plain_record(form, "candidate", values=candidate),
        "prv_candidates": past or None,
    }
    for name, part, stamp in zip(ZTF_CUTOUTS, ZTF_FILE_NAMES, stamps, strict=True):
        content = ztf_fits(stamp) if isinstance(stamp, Stamp) else stamp
        file_name = f"candid{alert_id}_{part}.fits.gz"
        datum[name] = None if content is None else {"fileName": file_name, "stampData": content}
    return container(form, [encode(form, plain_record(form, values=datum))], codec=codec)


@cache
def example_stamps(*, ztf: bool = False) -> tuple[Stamp, Stamp, Stamp]:
    """Give the stamps of a packet for which only the fields matter: a galaxy and a point source on it.

    Parameters
    ----------
    ztf : bool
        63 x 63 pixels in DN on a sky of 300; else 30 x 30 in nJy with variance and PSF planes.
    """
    side, sigma, sky, noise = (63, 0.85, 300.0, 12.0) if ztf else (30, 1.7, 0.0, 30.0)
    rng = np.random.default_rng(1)
    host = 4e3 * gaussian(side, 2.5 * sigma)
    source = 2e3 * gaussian(side, sigma)
    planes = (host + source + sky, host + sky, source)
    pixels = (p + rng.normal(0.0, noise, p.shape) for p in planes)
    variance = None if ztf else np.full((side, side), noise**2)
    psf = None if ztf else gaussian(41, sigma)
    science, template, difference = (Stamp(p.astype(np.float32), variance, psf) for p in pixels)
    return science, template, difference


def gaussian(side: int, sigma: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Round Gaussian of unit sum in the middle of a square of ``side`` pixels."""
    axis = np.arange(side) - (side - 1) / 2
    profile = np.exp(-0.5 * (axis / sigma) ** 2)
    plane = np.outer(profile, profile)
    return np.asarray(plane / plane.sum(), dtype=np.float64)
