"""Packets and broken messages, read by the broker's own code."""

import numpy as np
import pytest

from broker.alert import Survey
from broker.avro.deserializer import Deserializer
from broker.cutouts import read_cutout
from broker.errors import AlertError, CutoutError
from broker.survey import WANTED, read_alert
from broker.testing.broken import broken_lsst_stamps, broken_messages, broken_ztf_stamps
from broker.testing.packets import Visit, example_stamps, lsst_packet, ztf_packet


def read(packet: bytes):
    return read_alert(Deserializer(WANTED)(packet))


@pytest.mark.parametrize("schema_id", [700, 704, 800, 900, 1000, 1101])
def test_rubin_packets_become_alerts_with_what_was_put_in(schema_id):
    alert = read(
        lsst_packet(
            schema_id=schema_id,
            alert_id=11,
            object_id=22,
            ra=10.0,
            dec=-20.0,
            visit=Visit(band="i", template_flux=500.0),
            history=[Visit(band="g", template_flux=100.0), Visit(band="g", template_flux=300.0)],
        )
    )

    assert (alert.survey, alert.alert_id, alert.object_id) == (Survey.LSST, 11, "22")
    assert (alert.ra, alert.dec, alert.band) == (10.0, -20.0, "i")
    if schema_id >= 800:
        np.testing.assert_allclose(alert.photometry, [np.nan, 200.0, np.nan, 500.0, np.nan, np.nan])
    cutout = read_cutout(alert.cutouts[0], survey=Survey.LSST)
    np.testing.assert_array_equal(cutout.image, example_stamps()[0].pixels)
    assert cutout.centre == pytest.approx((14.5, 14.5))


def test_ztf_packets_become_alerts_with_what_was_put_in():
    alert = read(
        ztf_packet(
            alert_id=33,
            object_id="ZTF26xyz",
            band="r",
            position=(100.0, 200.0),
            ps1={"r": 20.0},
            ps1_distance=0.1,
        )
    )

    assert (alert.survey, alert.alert_id, alert.object_id, alert.band) == (Survey.ZTF, 33, "ZTF26xyz", "r")
    assert alert.photometry[2] == pytest.approx(10 ** (0.4 * (31.4 - 20.0)), rel=1e-4)
    assert alert.position == pytest.approx((99.0, 199.0))
    np.testing.assert_array_equal(
        read_cutout(alert.cutouts[1], survey=Survey.ZTF).image, example_stamps(ztf=True)[1].pixels
    )


@pytest.mark.parametrize("broken", broken_messages(), ids=lambda broken: broken.label)
def test_broken_messages_are_refused_for_the_reason_they_state(broken):
    with pytest.raises(AlertError) as refusal:
        read_alert(Deserializer(WANTED)(broken.value))

    assert refusal.value.reason is broken.reason


@pytest.mark.parametrize("broken", broken_lsst_stamps(), ids=lambda broken: broken.label)
def test_broken_rubin_stamps_cannot_be_read(broken):
    with pytest.raises(CutoutError):
        read_cutout(broken.content, survey=Survey.LSST)


@pytest.mark.parametrize("broken", broken_ztf_stamps(), ids=lambda broken: broken.label)
def test_broken_ztf_stamps_cannot_be_read(broken):
    with pytest.raises(CutoutError):
        read_cutout(broken.content, survey=Survey.ZTF)
