"""Packets are what the surveys send: frame, schema, container and stamps, read with other people's code."""

import gzip
import io

import fastavro
import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

import schemas
from broker.testing.packets import CANDID, NOTHING, Visit, example_stamps, lsst_packet, ztf_packet
from broker.testing.stamps import Stamp, lsst_fits

LSST_IDS = sorted(e.schema_id for e in schemas.entries() if e.name.startswith("lsst"))
CUTOUTS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")


def read_lsst(packet: bytes) -> dict:
    schema = schemas.by_id(int.from_bytes(packet[1:5], "big"))
    stream = io.BytesIO(packet[5:])
    datum = fastavro.schemaless_reader(stream, schema)
    assert stream.read() == b""
    return datum


@pytest.mark.parametrize("schema_id", LSST_IDS)
@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"history": [Visit(band="g", template_flux=1.0), Visit(band="i", template_flux=None)]},
        {"object_id": 0, "ss_object_id": 77},
        {"object_id": None, "stamps": (None, None, None)},
    ],
    ids=["plain", "history", "solar system", "nothing known"],
)
def test_every_bundled_rubin_schema_can_be_written_and_read(schema_id, choices):
    packet = lsst_packet(schema_id=schema_id, alert_id=42, **choices)

    assert packet[0] == 0
    datum = read_lsst(packet)
    assert fastavro.validate(datum, schemas.by_id(schema_id))
    assert datum["diaSource"]["diaSourceId"] == 42
    assert datum["diaSource"]["diaObjectId"] == choices.get("object_id", datum["diaSource"]["diaObjectId"])
    assert len(datum["prvDiaSources"] or ()) == len(choices.get("history", ()))


@pytest.mark.parametrize("schema_id", LSST_IDS)
def test_the_survey_s_own_schema_reads_the_same(schema_id):
    lsst = pytest.importorskip("lsst.alert.packet")
    packet = lsst_packet(schema_id=schema_id, history=[Visit(), Visit(band="y")])

    major, minor = divmod(schema_id, 100)
    theirs = lsst.Schema.from_file(f"{lsst.get_schema_path(major, minor)}/lsst.v{major}_{minor}.alert.avsc")

    assert fastavro.schemaless_reader(io.BytesIO(packet[5:]), theirs.definition) == read_lsst(packet)


def test_template_flux_stands_in_the_alert_and_in_its_history():
    packet = lsst_packet(
        visit=Visit(band="r", template_flux=3.0),
        history=[Visit(band="g", template_flux=1.0, mjd_tai=61000.0), Visit(band="u", template_flux=None)],
    )
    datum = read_lsst(packet)

    assert (datum["diaSource"]["band"], datum["diaSource"]["templateFlux"]) == ("r", 3.0)
    assert [(s["band"], s["templateFlux"]) for s in datum["prvDiaSources"]] == [("g", 1.0), ("u", None)]
    assert datum["prvDiaSources"][0]["midpointMjdTai"] == 61000.0
    assert datum["diaObject"]["nDiaSources"] == 3


def test_solar_system_alerts_have_object_zero_and_their_own_record():
    datum = read_lsst(lsst_packet(object_id=0, ss_object_id=123))

    assert datum["diaSource"]["diaObjectId"] == 0
    assert datum["diaSource"]["ssObjectId"] == 123
    assert datum["ssSource"]["ssObjectId"] == 123
    assert datum["diaObject"] is None


@settings(deadline=None, max_examples=25)
@given(
    side=st.integers(30, 102),
    centre=st.tuples(st.floats(5, 25), st.floats(5, 25)),
    ra=st.floats(0, 360),
    dec=st.floats(-90, 90),
    planes=st.sampled_from(["all", "no psf", "image alone"]),
)
def test_astropy_reads_rubin_stamps_as_they_were_given(side, centre, ra, dec, planes):
    image = np.arange(side * side, dtype=np.float32).reshape(side, side)
    variance = None if planes == "image alone" else image + 1
    psf = np.outer(np.hanning(43)[1:-1], np.hanning(43)[1:-1]) if planes == "all" else None
    content = lsst_fits(Stamp(image, variance, psf, centre), ra=ra, dec=dec, rotation=ra - 180)

    with fits.open(io.BytesIO(content)) as hdus:
        hdus.verify("exception")
        names = ["PRIMARY", "UNCERT", "PSFIMAGE"][: {"all": 3, "no psf": 2, "image alone": 1}[planes]]
        assert [hdu.name for hdu in hdus] == names
        np.testing.assert_array_equal(hdus[0].data, image)
        assert hdus[0].data.dtype == np.dtype(">f4")
        header = hdus[0].header
        assert (header["CRPIX1"] - 1, header["CRPIX2"] - 1) == pytest.approx(centre, abs=1e-9)
        assert (header["CRVAL1"], header["CRVAL2"]) == pytest.approx((ra, dec), abs=1e-9)
        matrix = [[header[f"PC{i}_{j}"] for j in (1, 2)] for i in (1, 2)]
        assert np.sqrt(abs(np.linalg.det(matrix))) * 3600 == pytest.approx(0.2)
        if variance is not None:
            np.testing.assert_array_equal(hdus["UNCERT"].data, variance)
        if psf is not None:
            np.testing.assert_array_equal(hdus["PSFIMAGE"].data, psf)
    assert len(content) % 2880 == 0


@pytest.mark.parametrize("form", ["ztf.v4_02", "ztf.v3_3"])
def test_ztf_packets_are_containers_of_one_alert(form):
    packet = ztf_packet(
        form=form,
        object_id="ZTF26abc",
        band="g",
        ps1={"g": 18.0, "z": 17.0},
        ps1_distance=0.4,
        history=[NOTHING],
    )

    reader = fastavro.reader(io.BytesIO(packet))
    (alert,) = list(reader)
    assert reader.metadata["avro.codec"] == "null"
    assert alert["objectId"] == "ZTF26abc"
    assert alert["candid"] == alert["candidate"]["candid"] == CANDID
    candidate = alert["candidate"]
    assert candidate["fid"] == 1
    assert [candidate[f"s{b}mag1"] for b in "griz"] == [18.0, -999.0, -999.0, 17.0]
    assert candidate["distpsnr1"] == pytest.approx(0.4)
    assert len(alert["prv_candidates"]) == 1


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
def test_containers_of_any_codec_hold_the_same_alert(codec):
    (alert,) = fastavro.reader(io.BytesIO(ztf_packet(codec=codec)))
    (plain,) = fastavro.reader(io.BytesIO(ztf_packet()))

    assert alert == plain


def test_ztf_stamps_are_gzipped_fits_with_the_pixels_given():
    stamps = example_stamps(ztf=True)
    (alert,) = fastavro.reader(io.BytesIO(ztf_packet(stamps)))

    for name, stamp in zip(CUTOUTS, stamps, strict=True):
        plain = gzip.decompress(alert[name]["stampData"])
        # The survey's SIMPLE card is not where the standard wants it.
        assert plain.startswith(b"SIMPLE  =  T ")
        with fits.open(io.BytesIO(plain), ignore_missing_simple=True) as hdus:
            np.testing.assert_array_equal(hdus[0].data, stamp.pixels)
            assert hdus[0].header["BUNIT"] == "DN"


def test_stamps_may_be_null_or_given_as_they_are():
    rubin = read_lsst(lsst_packet((b"garbage", None, example_stamps()[2])))
    (zwicky,) = fastavro.reader(io.BytesIO(ztf_packet((b"garbage", None, example_stamps(ztf=True)[2]))))

    assert rubin["cutoutScience"] == zwicky["cutoutScience"]["stampData"] == b"garbage"
    assert rubin["cutoutTemplate"] is zwicky["cutoutTemplate"] is None
    assert rubin["cutoutDifference"].startswith(b"SIMPLE")


@pytest.mark.parametrize("write", [lsst_packet, ztf_packet])
def test_a_field_that_the_schema_does_not_have_is_refused_by_name(write):
    with pytest.raises(ValueError, match="has no field no_such_field"):
        write(fields={"no_such_field": 1})


def test_the_same_fields_make_the_same_bytes():
    assert lsst_packet() == lsst_packet()
    assert ztf_packet() == ztf_packet()
