"""Simulated alerts as a whole: shards, packets, reproducibility."""

import csv
import io

import fastavro
import numpy as np
import pytest

pytest.importorskip("galsim")

from broker.alert import BANDS, SURVEYS, Survey
from broker.avro.deserializer import Deserializer
from broker.errors import SettingsError
from broker.survey import WANTED, read_alert
from encoder.archive import ARRAYS, BOX_SIDE, load_shards, save_shard, shard_from_alerts
from encoder.simulate import CLASSES, simulate, simulated_alerts
from encoder.simulate.colours import magnitude_to_njy
from encoder.simulate.driver import simulate_one
from encoder.simulate.packets import LABELS_FILE, simulate_packets, to_packet, write_packets
from encoder.simulate.populations import GALAXIES
from encoder.simulate.scenes import HOST_DRAWS, draw_scene
from encoder.simulate.shards import to_shard
from encoder.simulate.visibility import PARTED, RESOLVED, SEEN, shows_its_class, template_significance
from encoder.simulate.visits import draw_conditions

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def alerts():
    return list(simulated_alerts(range(42), 21, SURVEYS, CLASSES))


@pytest.fixture(scope="module")
def shard(alerts):
    return to_shard(alerts)


def same(one, other):
    return one.classes == other.classes and all(
        np.array_equal(
            getattr(one, name), getattr(other, name), equal_nan=getattr(one, name).dtype.kind == "f"
        )
        for name in ARRAYS
    )


def test_the_same_alerts_for_any_number_of_processes_and_shards(tmp_path):
    one = simulate(21, 5, tmp_path / "one", processes=1)
    two = simulate(21, 5, tmp_path / "two", processes=2, alerts_per_shard=8)
    assert (len(one), len(two)) == (1, 3)
    assert same(load_shards(one), load_shards(two))


def test_another_seed_gives_other_alerts():
    one, other = (simulate_one(seed, 3, Survey.LSST, "disk") for seed in (1, 2))
    assert one.object_id != other.object_id
    assert one.redshift != other.redshift


def test_surveys_and_classes_are_balanced(shard):
    for survey in range(len(SURVEYS)):
        labels = shard.label[shard.survey == survey]
        assert np.array_equal(np.bincount(labels, minlength=len(CLASSES)), np.full(len(CLASSES), 3))


def test_only_the_classes_asked_for_are_simulated(tmp_path):
    paths = simulate(6, 1, tmp_path, surveys=[Survey.ZTF], classes=["star", "bogus"])
    shard = load_shards(paths)
    assert {CLASSES[k] for k in shard.label} == {"star", "bogus"}
    assert set(shard.survey) == {SURVEYS.index(Survey.ZTF)}


def test_visits_of_an_object_share_it_and_nothing_else():
    first, second = (simulate_one(7, 5, Survey.LSST, "merger", visit=v) for v in (0, 1))
    assert first.object_id == second.object_id
    assert first.redshift == second.redshift
    assert first.alert_id != second.alert_id
    assert first.conditions.science_psf.fwhm != second.conditions.science_psf.fwhm


def test_half_of_the_other_visits_are_in_the_band_of_the_first():
    bands = [
        [simulate_one(7, n, Survey.LSST, "transient", visit=v).conditions.band for v in (0, 1)]
        for n in range(60)
    ]
    # Half by choice, and a sixth of the rest by chance.
    assert 0.4 < np.mean([first == second for first, second in bands]) < 0.8


@pytest.mark.parametrize("survey", SURVEYS)
def test_hosts_are_resolved_and_bright_in_the_template(survey):
    for label in GALAXIES:
        for number in range(40):
            rng = np.random.default_rng([8, number])
            conditions = draw_conditions(survey, rng)
            candidates = []

            def accept(host, conditions=conditions, candidates=candidates):
                candidates.append(host)
                return shows_its_class(host, conditions)

            draw_scene(label, survey, rng, accept)
            chosen, fwhm = candidates[-1], conditions.template_psf.fwhm
            assert len(candidates) < HOST_DRAWS
            assert template_significance(chosen.fluxes, chosen.size, conditions) > SEEN
            if label == "merger":
                assert chosen.separation > PARTED * fwhm
            else:
                assert chosen.size > RESOLVED * fwhm / 2


def test_redshifts_are_known_where_a_host_is_seen(alerts):
    for alert in alerts:
        has_host = alert.label in {"disk", "bulge", "edge_on", "merger"}
        assert np.isfinite(alert.redshift) == has_host


def test_boxes_hold_the_alert_in_their_middle(shard):
    assert shard.box.shape == (42, 3, BOX_SIDE, BOX_SIDE)
    assert shard.box.dtype == np.float32
    assert np.abs(shard.centre - 31.5).max() <= 0.5
    assert np.all(shard.noise > 0)


def test_the_sky_is_subtracted(shard):
    ztf = shard.box[shard.survey == SURVEYS.index(Survey.ZTF)]
    level = np.nanmedian(ztf, axis=(2, 3))
    noise = shard.noise[shard.survey == SURVEYS.index(Survey.ZTF)]
    assert np.abs(level / noise).max() < 1.0


def test_packets_give_what_the_direct_road_gives(alerts, shard, tmp_path):
    deserialize = Deserializer(WANTED)
    paths = write_packets(alerts, tmp_path)
    read = [read_alert(deserialize(path.read_bytes())) for path in paths]
    taken = shard_from_alerts(read)
    for name in ("box", "noise", "pixel_scale", "survey", "band", "alert_id", "object_id"):
        assert np.array_equal(
            getattr(taken, name), getattr(shard, name), equal_nan=name in {"box", "noise"}
        ), name
    assert taken.centre == pytest.approx(shard.centre, abs=1e-3)
    assert taken.photometry == pytest.approx(shard.photometry, rel=1e-5, nan_ok=True)
    rubin = shard.survey == SURVEYS.index(Survey.LSST)
    assert taken.psf_fwhm[rubin] == pytest.approx(shard.psf_fwhm[rubin], rel=1e-5)


def test_ztf_packets_say_the_sign_and_give_the_magnitude_of_the_change(alerts):
    for alert in alerts:
        if alert.survey is Survey.ZTF:
            candidate = next(fastavro.reader(io.BytesIO(to_packet(alert))))["candidate"]
            assert candidate["isdiffpos"] == ("t" if alert.exposure.flux >= 0 else "f")
            change = magnitude_to_njy(candidate["magpsf"])
            assert change == pytest.approx(max(abs(alert.exposure.flux), 1e-3), rel=1e-4)


def test_labels_lie_beside_the_packets(alerts, tmp_path):
    paths = write_packets(alerts, tmp_path)
    with (tmp_path / LABELS_FILE).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["alert_id"]) for row in rows] == [a.alert_id for a in alerts]
    assert [row["class"] for row in rows] == [a.label for a in alerts]
    assert [row["file"] for row in rows] == [path.name for path in paths]


def test_packets_and_shards_of_a_seed_are_the_same_alerts(tmp_path):
    shard = load_shards(simulate(4, 9, tmp_path / "shards", visits=2))
    deserialize = Deserializer(WANTED)
    packets = [
        read_alert(deserialize(p.read_bytes())) for p in simulate_packets(4, 9, tmp_path / "p", visits=2)
    ]
    assert [a.alert_id for a in packets] == shard.alert_id.tolist()
    assert [a.object_id for a in packets] == shard.object_id.tolist()


def test_rubin_photometry_is_known_in_the_bands_of_the_history(alerts):
    for alert in alerts:
        if alert.survey is Survey.LSST:
            known = np.isfinite(alert.photometry)
            assert known[alert.conditions.band] or not known.any()
        else:
            assert not np.isfinite(alert.photometry[[BANDS.index("u"), BANDS.index("y")]]).any()


def test_real_packets_make_shards(lsst_paths, ztf_paths):
    deserialize = Deserializer(WANTED)
    paths = [*lsst_paths[::40], *ztf_paths[::80]]
    shard = shard_from_alerts([read_alert(deserialize(path.read_bytes())) for path in paths])
    assert len(shard) == len(paths)
    assert np.all(shard.label == -1)
    assert np.isfinite(shard.box[:, :, 31:33, 31:33]).any(axis=(1, 2, 3)).all()


def test_a_shard_comes_back_as_it_went(shard, tmp_path):
    save_shard(tmp_path / "a.npz", shard)
    save_shard(tmp_path / "b.npz", shard)
    both = load_shards([tmp_path / "a.npz", tmp_path / "b.npz"])
    assert same(both.take(slice(0, 42)), shard)
    assert same(both.take(np.arange(42, 84)), shard)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_what_is_no_shard_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros(3))
    with pytest.raises(SettingsError, match=r"is no shard: it has \['images'\]"):
        load_shards([tmp_path / "x.npz"])
    with pytest.raises(SettingsError, match="no shard was given"):
        load_shards([])


@pytest.mark.parametrize("wrong", [{"n": 0}, {"processes": 0}, {"classes": ["quasar"]}, {"visits": 0}])
def test_impossible_requests_are_refused(tmp_path, wrong):
    with pytest.raises(SettingsError):
        simulate(**{"n": 1, "seed": 1, "out_dir": tmp_path, **wrong})
