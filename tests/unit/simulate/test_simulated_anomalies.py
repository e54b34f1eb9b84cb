"""Rare hosts: the physics of lenses, rings, nuclei and tails, and that none comes into training unasked."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("galsim")

from broker.alert import SURVEYS, Survey
from broker.avro.deserializer import Deserializer
from broker.errors import SettingsError
from broker.survey import WANTED, read_alert
from encoder.archive import load_shards
from encoder.simulate import ANOMALIES, CLASSES, simulate
from encoder.simulate.anomalies import TAIL_LIGHT, Tail, anomaly_parts, draw_anomaly, ring_profile
from encoder.simulate.lensing import Source, einstein_radius, lensed, lensed_profile
from encoder.simulate.packets import LABELS_FILE, simulate_packets
from encoder.simulate.populations import I_BAND
from encoder.simulate.scenes import HOST_DRAWS, RARE_DRAWS, RARE_PARTED, REACH, draw_scene
from encoder.simulate.shards import FIRST_ANOMALY
from encoder.simulate.visibility import PARTED, SEEN, shows_its_class, template_significance
from encoder.simulate.visits import draw_conditions

pytestmark = pytest.mark.train

SMALL = 0.04


def drawn(profile, scale, side=161):
    return profile.drawImage(nx=side, ny=side, scale=scale, method="no_pixel", dtype=np.float64).array


def radii(image, scale):
    y, x = (np.indices(image.shape) - (image.shape[0] - 1) / 2) * scale
    return np.hypot(x, y)


def galaxy(label, seed=1, magnitude=19.0):
    return draw_anomaly(label, magnitude, I_BAND, np.random.default_rng(seed))


@given(offset=st.floats(0.15, 0.9))
@settings(max_examples=20, deadline=None)
def test_an_isothermal_lens_magnifies_by_two_over_the_offset(offset):
    image, step = lensed(Source(offset, SMALL))
    assert image.sum() * step**2 == pytest.approx(2 / offset, rel=0.08)


def test_outside_the_caustic_there_is_one_image_magnified_by_one_plus_its_inverse():
    image, step = lensed(Source(2.0, SMALL))
    assert image.sum() * step**2 == pytest.approx(1.5, rel=0.08)


def test_the_two_images_stand_an_einstein_radius_from_the_source_on_either_side():
    image, step = lensed(Source(0.5, SMALL))
    x = (np.arange(image.shape[1]) - (image.shape[1] - 1) / 2) * step
    ridge = image[image.shape[0] // 2 - 1 : image.shape[0] // 2 + 1].sum(axis=0)
    right, left = (x[np.argmax(np.where(side, ridge, 0))] for side in (x > 0, x < 0))
    assert (left, right) == (pytest.approx(-0.5, abs=2 * step), pytest.approx(1.5, abs=2 * step))


@pytest.mark.parametrize("radius", [0.8, 2.0])
def test_a_source_on_the_axis_becomes_a_ring_of_the_einstein_radius(radius):
    scale = radius / 30
    image = drawn(lensed_profile(Source(0.0, 0.05), radius, 0.0), scale)
    assert np.average(radii(image, scale), weights=image) == pytest.approx(radius, rel=0.03)
    assert image.sum() == pytest.approx(1.0, rel=0.02)


def test_lensing_keeps_surface_brightness():
    source = Source(0.3, 0.2, axis_ratio=0.6, angle=0.7)
    image, _ = lensed(source)
    fine = np.linspace(-2, 2, 801)
    plane = source.brightness(*np.meshgrid(fine, fine))
    assert plane.sum() * 0.005**2 == pytest.approx(1.0, rel=0.01)
    assert image.max() <= plane.max()
    assert image.max() == pytest.approx(plane.max(), rel=0.35)  # the exponential's cusp lies between rays


def test_the_einstein_radius_is_four_pi_sigma_over_c_squared_and_needs_a_source_behind():
    full = 4 * np.pi * (250 / 299_792.458) ** 2 * 206_265
    assert einstein_radius(250.0, 1000.0, 1e9) == pytest.approx(full, rel=0.01)
    assert einstein_radius(250.0, 1000.0, 2000.0) == pytest.approx(full / 2, rel=0.01)
    assert einstein_radius(250.0, 1000.0, 900.0) == 0.0


def test_lenses_bend_as_ellipticals_of_their_light_do():
    lenses = [galaxy("lens_arc", seed, 18.5) for seed in range(100)]
    assert all(g.source_redshift > g.redshift for g in lenses)
    # SLACS: 0.7 to 1.8 arcsec (Bolton et al. 2008, ApJ 682, 964).
    assert 0.7 < np.median([g.separation for g in lenses]) < 1.8
    fainter = [galaxy("lens_arc", seed, 22.5).separation for seed in range(100)]
    assert np.median(fainter) < np.median([g.separation for g in lenses])


def test_images_are_bluer_than_their_lens():
    one = galaxy("lens_arc")
    *lens, images = anomaly_parts("lens_arc", one, Survey.LSST, np.random.default_rng(2))[0]
    light = sum(part.fluxes for part in lens)
    assert images.fluxes[1] / images.fluxes[4] > light[1] / light[4]


@pytest.mark.parametrize("width", [10, 18])
def test_a_ring_galaxy_is_brightest_at_its_radius(width):
    image = drawn(ring_profile(width, 3, 2), 0.02, 181)
    radius = radii(image, 0.02)
    shells = np.arange(0, 1.6, 0.05)
    mean = [image[(radius >= r) & (radius < r + 0.05)].mean() for r in shells]
    assert shells[np.argmax(mean)] + 0.025 == pytest.approx(1.0, abs=0.08)
    assert mean[0] < 0.01 * max(mean)


def test_two_nuclei_are_as_far_apart_as_drawn():
    one = galaxy("double_nucleus", 4)
    parts, _, _ = anomaly_parts("double_nucleus", one, Survey.LSST, np.random.default_rng(4))
    scale = one.separation / 30
    image = drawn(parts[0].profile, scale, 121)
    first = np.unravel_index(np.argmax(image), image.shape)
    assert np.hypot(*np.subtract(first, 60)) < 2  # the brighter is the alert's host's nucleus
    distance = np.hypot(*(np.indices(image.shape) - np.reshape(first, (2, 1, 1))))
    second = np.argmax(np.where(distance > 15, image, 0))
    assert distance.ravel()[second] == pytest.approx(30, abs=2)


@pytest.mark.parametrize("seed", range(6))
def test_tails_have_their_share_of_the_light_and_the_parts_all_of_it(seed):
    one = galaxy("tidal_tail", seed)
    parts, knots, _ = anomaly_parts("tidal_tail", one, Survey.LSST, np.random.default_rng(seed))
    share = parts[-1].fluxes[I_BAND] / one.fluxes[I_BAND]
    assert TAIL_LIGHT[0] <= share <= TAIL_LIGHT[1]
    total = sum(part.fluxes for part in parts) + sum(k.fluxes for k in knots)
    assert total == pytest.approx(one.fluxes, rel=1e-6)


def test_a_tail_reaches_its_length_and_fades_on_the_way():
    image = drawn(Tail(5.0, 0.8).profile(), 0.1)
    radius = radii(image, 0.1)
    near, far = (image[(radius > r) & (radius < r + 1)].sum() for r in (1.0, 4.0))
    assert image[radius < 0.5].sum() < 0.02
    assert image[radius > 6.2].sum() < 0.02
    assert near > far > 0.05


@pytest.mark.parametrize("label", ANOMALIES)
@pytest.mark.parametrize("survey", SURVEYS)
def test_what_makes_an_anomaly_is_seen_in_the_template(label, survey):
    fallen_short = 0
    for number in range(15):
        rng = np.random.default_rng([8, number])
        conditions = draw_conditions(survey, rng)
        candidates = []

        def accept(host, conditions=conditions, candidates=candidates):
            candidates.append(host)
            return shows_its_class(host, conditions)

        scene = draw_scene(label, survey, rng, accept)
        assert scene.label == label
        assert np.isfinite(scene.redshift)
        if len(candidates) == HOST_DRAWS * RARE_DRAWS and not shows_its_class(candidates[-1], conditions):
            fallen_short += 1
            continue
        chosen = candidates[-1]
        assert template_significance(chosen.fluxes, chosen.size, conditions) > SEEN
        assert chosen.separation > PARTED * conditions.template_psf.fwhm
    assert fallen_short <= 2


@pytest.mark.parametrize("survey", SURVEYS)
def test_what_makes_an_anomaly_is_in_the_stamp(survey):
    for number, label in enumerate(ANOMALIES * 4):
        rng = np.random.default_rng([9, number])
        seen = []

        def accept(host, seen=seen):
            seen.append(host)
            return True

        draw_scene(label, survey, rng, accept)
        parted = 1.0 if label == "double_nucleus" else RARE_PARTED
        assert seen[-1].separation * parted < REACH[survey]


def test_no_anomaly_is_a_class_of_the_model():
    assert not set(ANOMALIES) & set(CLASSES)


def test_shards_of_anomalies_have_labels_of_their_own_and_cannot_be_mixed_into_training(tmp_path):
    rare = simulate(8, 1, tmp_path / "rare", classes=ANOMALIES, first=FIRST_ANOMALY)
    usual = simulate(14, 1, tmp_path / "usual")
    shard = load_shards(rare)
    assert {shard.classes[k] for k in shard.label} == set(ANOMALIES)
    assert not set(shard.alert_id) & set(load_shards(usual).alert_id)
    with pytest.raises(SettingsError, match="different classes"):
        load_shards([*usual, *rare])


def test_packets_of_anomalies_are_read_as_the_surveys_are(tmp_path):
    paths = simulate_packets(8, 3, tmp_path, classes=ANOMALIES)
    deserialize = Deserializer(WANTED)
    read = [read_alert(deserialize(path.read_bytes())) for path in paths]
    assert {alert.survey for alert in read} == set(SURVEYS)
    with (tmp_path / LABELS_FILE).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["alert_id"]) for row in rows] == [alert.alert_id for alert in read]
    assert {row["class"] for row in rows} == set(ANOMALIES)
