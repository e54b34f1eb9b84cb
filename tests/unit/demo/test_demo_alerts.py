"""The demonstration's alerts: both surveys mixed, of every kind, each one readable or broken as it says."""

import io
from collections import Counter

import fastavro
import numpy as np
import pytest

from broker.alert import Survey
from broker.avro.deserializer import Deserializer
from broker.contract import COMMON_GRID
from broker.cutouts import read_cutout
from broker.demo.alerts import simulate
from broker.demo.sky import KINDS, RARITIES
from broker.errors import AlertError
from broker.geometry import lay
from broker.survey import WANTED, read_alert


@pytest.fixture(scope="module")
def alerts():
    return list(simulate(200, seed=3))


def test_as_many_as_asked_for_of_every_kind(alerts):
    kinds = Counter(alert.drawn_as for alert in alerts)

    assert len(alerts) == 200
    assert {*KINDS, *RARITIES, "asteroid", "broken_stamp"} <= set(kinds)
    assert kinds["disk"] > kinds["ring"]
    surveys = Counter(alert.survey for alert in alerts)
    assert min(surveys[Survey.LSST], surveys[Survey.ZTF]) > 50


def test_what_is_said_to_be_readable_is_and_nothing_else(alerts):
    deserialize = Deserializer(WANTED)
    for alert in alerts:
        if alert.readable:
            read = read_alert(deserialize(alert.value))
            assert (read.survey, read.alert_id) == (alert.survey, alert.alert_id)
        else:
            with pytest.raises(AlertError):
                read_alert(deserialize(alert.value))


def test_few_broken_messages_show_many_reasons(alerts):
    deserialize = Deserializer(WANTED)
    reasons = set()
    for alert in alerts:
        if not alert.readable:
            with pytest.raises(AlertError) as refusal:
                deserialize(alert.value)
            reasons.add(refusal.value.reason)
    assert len(reasons) >= 5


def test_stamps_lie_on_the_common_grid_with_flags_only_where_they_were_spoiled(alerts):
    deserialize = Deserializer(WANTED)
    for alert in alerts[:80]:
        if not alert.readable:
            continue
        stamps = lay(read_alert(deserialize(alert.value)), COMMON_GRID)
        spoiled = [flag for flag in stamps.flags if flag.startswith("cutout_")]
        assert bool(spoiled) == (alert.drawn_as == "broken_stamp")


def test_solar_system_alerts_say_so(alerts):
    deserialize = Deserializer(WANTED)
    asteroids = [read_alert(deserialize(alert.value)) for alert in alerts if alert.drawn_as == "asteroid"]

    assert asteroids
    assert all("solar_system" in asteroid.flags for asteroid in asteroids)


def test_ztf_differences_are_bright_where_the_alert_is_and_packets_say_which_way_they_were_taken(alerts):
    directions = set()
    for alert in alerts:
        if alert.survey is not Survey.ZTF or alert.drawn_as not in {"star", "disk", "bulge"}:
            continue
        packet = next(fastavro.reader(io.BytesIO(alert.value)))
        directions.add(packet["candidate"]["isdiffpos"])
        pixels = read_cutout(packet["cutoutDifference"]["stampData"], survey=Survey.ZTF).image
        assert np.mean(pixels[29:34, 29:34]) > 0
    assert directions == {"t", "f"}


def test_hosts_have_photometry_where_the_survey_would_have_measured_it(alerts):
    deserialize = Deserializer(WANTED)
    disks = [read_alert(deserialize(alert.value)) for alert in alerts if alert.drawn_as == "disk"]

    known = [np.isfinite(disk.photometry).any() for disk in disks]
    assert np.mean(known) > 0.6


def test_the_same_seed_makes_the_same_bytes_and_another_seed_others():
    first, again, other = ([alert.value for alert in simulate(12, seed)] for seed in (1, 1, 2))

    assert first == again
    assert first != other


@pytest.mark.parametrize("count", [10, 11])
def test_a_small_sample_has_trouble_in_it_too(count):
    small = list(simulate(count, seed=1))

    assert len(small) == count
    assert any(not alert.readable for alert in small)
    assert any(alert.drawn_as == "broken_stamp" for alert in small)
