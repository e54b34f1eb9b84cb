"""Packets to alerts: every real one against fastavro, and the values that are missing."""

import math
from dataclasses import replace

import numpy as np
import oracle
import pytest
from astropy.time import Time

from broker import flags
from broker.alert import BANDS, Survey
from broker.avro.deserializer import Deserializer, Packet
from broker.photometry import AB_ZERO_POINT, magnitude
from broker.survey import WANTED, read_alert
from broker.survey.times import utc
from broker.testing.packets import lsst_packet, ztf_packet


def deserialize(content: bytes) -> Packet:
    return Deserializer(WANTED)(content)


def test_rubin_alerts_say_what_fastavro_says(lsst_paths):
    read = Deserializer(WANTED)
    for path in lsst_paths:
        source = (record := oracle.decode(path))["diaSource"]
        alert = read_alert(read(path.read_bytes()))
        assert alert.survey is Survey.LSST
        assert alert.alert_id == source["diaSourceId"]
        assert alert.object_id == str(source["diaObjectId"] or source["ssObjectId"])
        assert (alert.ra, alert.dec, alert.band) == (source["ra"], source["dec"], source["band"])
        assert alert.mjd == pytest.approx(
            Time(source["midpointMjdTai"], format="mjd", scale="tai").utc.mjd, abs=1e-9
        )
        assert alert.flags == ((flags.SOLAR_SYSTEM,) if source["ssObjectId"] else ())
        assert tuple(map(bytes, alert.cutouts)) == oracle.stamp_bytes(record)
        measured = [source, *(record["prvDiaSources"] or [])]
        for band, flux in zip(BANDS, alert.photometry, strict=True):
            of_band = [entry.get("templateFlux") for entry in measured if entry["band"] == band]
            known = [value for value in of_band if value is not None and math.isfinite(value)]
            np.testing.assert_allclose(flux, np.mean(known) if known else np.nan, rtol=1e-6)


def test_ztf_alerts_say_what_fastavro_says(ztf_paths):
    read = Deserializer(WANTED)
    for path in ztf_paths:
        candidate = (record := oracle.decode(path))["candidate"]
        alert = read_alert(read(path.read_bytes()))
        assert (alert.survey, alert.alert_id, alert.object_id) == (
            Survey.ZTF,
            record["candid"],
            record["objectId"],
        )
        assert (alert.ra, alert.dec) == (candidate["ra"], candidate["dec"])
        assert alert.band == "gri"[candidate["fid"] - 1]
        assert alert.mjd == candidate["jd"] - 2400000.5
        assert alert.position == (candidate["xpos"] - 1, candidate["ypos"] - 1)
        assert tuple(map(bytes, alert.cutouts)) == oracle.stamp_bytes(record)
        near = 0 <= candidate["distpsnr1"] <= 2
        for band, mag in zip("griz", magnitude(alert.photometry)[1:5], strict=True):
            known = near and candidate[f"s{band}mag1"] > 0
            np.testing.assert_allclose(mag, candidate[f"s{band}mag1"] if known else np.nan, atol=1e-5)
        assert np.isnan(alert.photometry[[0, 5]]).all()


@pytest.mark.parametrize("schema_id", [700, 701, 702, 703, 704, 800, 900, 1000, 1100, 1101])
def test_every_rubin_schema_is_read(schema_id):
    packet = deserialize(lsst_packet(schema_id=schema_id, alert_id=7, object_id=8, ra=1.5, dec=-2.5))
    alert = read_alert(packet)
    assert (alert.alert_id, alert.object_id, alert.key, alert.ra, alert.dec) == (7, "8", "lsst:8", 1.5, -2.5)


@pytest.mark.parametrize(
    ("dia_object", "ss_object", "object_id"),
    [(5, None, "5"), (0, 6, "6"), (None, 6, "6"), (0, 0, "9"), (None, None, "9")],
)
def test_the_object_is_the_first_identifier_that_is_set(dia_object, ss_object, object_id):
    packet = deserialize(lsst_packet(alert_id=9))
    fields = packet.fields | {"diaSource.diaObjectId": dia_object, "diaSource.ssObjectId": ss_object}
    alert = read_alert(replace(packet, fields=fields))
    assert alert.object_id == object_id
    assert (flags.SOLAR_SYSTEM in alert.flags) == bool(ss_object)


LSST_FLAGS = [
    ("ra", flags.POSITION_UNKNOWN),
    ("midpointMjdTai", flags.TIME_UNKNOWN),
    ("band", flags.BAND_UNKNOWN),
]
ZTF_FLAGS = [("dec", flags.POSITION_UNKNOWN), ("jd", flags.TIME_UNKNOWN), ("fid", flags.BAND_UNKNOWN)]


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
@pytest.mark.parametrize(
    ("content", "record", "name", "flag"),
    [(lsst_packet(), "diaSource", *case) for case in LSST_FLAGS]
    + [(ztf_packet(), "candidate", *case) for case in ZTF_FLAGS],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_known_is_a_flag_and_never_an_error(content, record, name, flag, value):
    packet = deserialize(content)
    assert read_alert(packet).flags == ()
    alert = read_alert(replace(packet, fields=packet.fields | {f"{record}.{name}": value}))
    assert alert.flags == (flag,)


def test_a_named_solar_system_object_of_ztf_is_flagged():
    packet = deserialize(ztf_packet())
    for name, raised in [("433", True), ("null", False), (None, False)]:
        alert = read_alert(replace(packet, fields=packet.fields | {"candidate.ssnamenr": name}))
        assert (flags.SOLAR_SYSTEM in alert.flags) == raised


def test_a_position_off_the_detector_is_not_believed():
    packet = deserialize(ztf_packet())
    for x in (None, math.nan, -5.0, 4000.0):
        assert read_alert(replace(packet, fields=packet.fields | {"candidate.xpos": x})).position is None


@pytest.mark.parametrize(
    ("mjd_tai", "seconds"), [(41317.5, 10), (57754.5, 37), (57753.5, 36), (60961.233, 37), (75000.25, 37)]
)
def test_tai_is_ahead_of_utc_by_the_leap_seconds_of_its_day(mjd_tai, seconds):
    assert (mjd_tai - utc(mjd_tai)) * 86400 == pytest.approx(seconds, abs=1e-5)


@pytest.mark.parametrize("mjd_tai", [math.nan, -1.0, 0.0, 1e9, math.inf])
def test_no_survey_observed_then(mjd_tai):
    assert math.isnan(utc(mjd_tai))


def test_one_nanojansky_has_the_zero_point_for_a_magnitude():
    np.testing.assert_allclose(magnitude(np.array([1.0, 3.631e12])), [AB_ZERO_POINT, 0.0], atol=2e-3)
    assert np.isnan(magnitude(np.array([0.0, -1.0, np.nan]))).all()
