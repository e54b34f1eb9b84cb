"""Galaxies in six bands: optics, noise, photometry, labels, and runs that go on."""

from dataclasses import replace

import galsim
import numpy as np
import pytest

pytest.importorskip("h5py")

from broker.alert import BANDS, Survey
from broker.errors import SettingsError
from encoder import cli
from encoder.extinction import EXTINCTION
from encoder.images.archive import ARRAYS, Kind, count_images, load_images, save_images
from encoder.simulate import ANOMALIES, simulate_hosts
from encoder.simulate.fourier import PIXEL_SCALE, draw, responses, shift, transform
from encoder.simulate.host_archive import HostDrawing
from encoder.simulate.hosts import (
    HOST_CLASSES,
    POINT,
    SIDE,
    _spectra,
    draw_sight,
    observe,
    simulate_host,
)
from encoder.simulate.optics import MOFFAT_BETAS, Psf
from encoder.simulate.parts import _claim
from encoder.simulate.populations import GALAXIES, I_BAND, class_shares, draw_galaxy
from encoder.simulate.profiles import Orientation, inclined, sersic, spiral

pytestmark = pytest.mark.train

PROFILES = {
    "exponential": Orientation(0.5, 0.4).place(sersic(1.0), 0.8),
    "elliptical": Orientation(0.8, 1.1).place(sersic(4.0), 0.6),
    "edge-on": inclined(86, 8).dilate(1.0),
    "spiral": Orientation(0.7, 0.2).place(spiral(2, 18, 8, 1), 1.0),
}


@pytest.fixture(scope="module")
def hosts():
    return [simulate_host(5, n) for n in range(150)]


def sight(seed=1, **changes):
    """One without errors of calibration and background."""
    clean = {"calibration": np.ones(6), "background": np.zeros(6)}
    return replace(draw_sight(np.random.default_rng(seed)), **{**clean, **changes})


def point_sky(fluxes):
    return np.asarray(fluxes, dtype=float)[:, None, None] * np.broadcast_to(POINT, (6, 128, 65))


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("beta", MOFFAT_BETAS)
def test_drawn_in_k_space_a_galaxy_is_what_galsim_draws(profile, beta):
    psf = Psf(fwhm=0.8, beta=beta, g1=0.03, g2=-0.02, pixel_scale=PIXEL_SCALE)
    x, y = 23.7, 24.2
    ours = draw(transform(profile) * responses([psf]) * shift(x, y), SIDE)[0]
    theirs = psf.draw_seen(profile, (SIDE, SIDE), x, y)
    assert np.abs(ours - theirs).max() < 0.01 * theirs.max()
    assert ours.sum() == pytest.approx(theirs.sum(), rel=0.01)


def test_an_image_holds_the_flux_of_what_is_in_it():
    psf = Psf(fwhm=0.7, beta=4.5, g1=0.0, g2=0.0, pixel_scale=PIXEL_SCALE)
    light = draw(
        transform(galsim.Gaussian(half_light_radius=0.5) * 700.0) * responses([psf]) * shift(23.5, 23.5), SIDE
    )
    assert light.sum() == pytest.approx(700.0, rel=0.01)


@pytest.mark.parametrize("correlation", [0.0, 0.13])
def test_forced_photometry_gives_a_points_flux_with_the_stated_errors(correlation):
    true = np.array([30.0, 100.0, 500.0, 2e3, 1e4, 1e5])
    seen = sight(correlation=correlation)
    rng = np.random.default_rng(2)
    pulls = []
    for _ in range(150):
        _, photometry, error, _ = observe(point_sky(true), seen, rng)
        pulls.append((photometry - true) / error)
    assert np.mean(pulls, axis=0) == pytest.approx(np.zeros(6), abs=0.35)
    assert np.std(pulls, axis=0) == pytest.approx(np.ones(6), abs=0.2)


@pytest.mark.parametrize(("correlation", "neighbours"), [(0.0, 0.0), (0.13, 0.25)])
def test_empty_sky_has_the_stated_noise_and_correlation(correlation, neighbours):
    seen = sight(correlation=correlation)
    rng = np.random.default_rng(3)
    blank = np.stack([observe(point_sky(np.zeros(6)), seen, rng)[0] for _ in range(10)])
    assert blank.std(axis=(0, 2, 3)) == pytest.approx(seen.noise, rel=0.03)
    scaled = blank / seen.noise[:, None, None]
    assert np.mean(scaled[..., 1:] * scaled[..., :-1]) == pytest.approx(neighbours, abs=0.02)


def test_bright_light_brings_its_own_noise():
    seen = sight()
    flux = np.full(6, 1e7)
    rng = np.random.default_rng(4)
    images = np.stack([observe(point_sky(flux), seen, rng)[0] for _ in range(60)])
    mean, scatter = images.mean(axis=0), images.std(axis=0)
    for band in range(6):
        row, column = np.unravel_index(np.argmax(mean[band]), (SIDE, SIDE))
        poisson = mean[band, row, column] / seen.electrons[band]
        assert scatter[band, row, column] == pytest.approx(
            np.hypot(np.sqrt(poisson), seen.noise[band]), rel=0.3
        )


def test_photometry_is_measured_and_no_total():
    galaxy = draw_galaxy("disk", 18.0, I_BAND, np.random.default_rng(5))
    spectra = _spectra("disk", galaxy, 0.0, np.random.default_rng(6))
    _, photometry, _, _ = observe(spectra, sight(), np.random.default_rng(7))
    assert galaxy.half_light_radius > 0.8
    assert np.all(photometry[1:5] < 0.7 * galaxy.fluxes[1:5])


def test_dust_dims_each_band_by_its_coefficient():
    galaxy = draw_galaxy("bulge", 20.0, I_BAND, np.random.default_rng(5))
    clear, dusty = (_spectra("bulge", galaxy, ebv, np.random.default_rng(6)) for ebv in (0.0, 0.3))
    dimmed = -2.5 * np.log10(np.abs(dusty[:, 0, 0] / clear[:, 0, 0]))
    assert dimmed == pytest.approx(0.3 * np.array(EXTINCTION[Survey.LSST]))


def test_coadds_are_deeper_than_visits_and_their_noise_is_correlated():
    drawn = [draw_sight(np.random.default_rng(n)) for n in range(200)]
    coadds, visits = ([s for s in drawn if (s.correlation > 0) == coadd] for coadd in (True, False))
    assert len(coadds) / 200 == pytest.approx(0.7, abs=0.1)
    deeper = np.median([v.noise for v in visits], axis=0) / np.median([c.noise for c in coadds], axis=0)
    assert np.all(deeper > 2)
    assert np.all([s.psfs[0].fwhm >= 0.55 for s in drawn])
    blue, red = (np.median([s.psfs[b].fwhm for s in drawn]) for b in (0, 5))
    assert blue > 1.1 * red


def test_shares_of_classes_follow_the_luminosity_functions():
    bright, faint = class_shares(18.0, I_BAND), class_shares(24.0, I_BAND)
    assert bright.sum() == pytest.approx(1.0)
    assert bright[GALAXIES.index("bulge")] > faint[GALAXIES.index("bulge")]


def test_another_visit_sees_the_same_object_under_other_conditions():
    first, second = (simulate_host(3, 11, visit=v) for v in (0, 1))
    assert (first.object_id, first.redshift, first.ebv) == (second.object_id, second.redshift, second.ebv)
    assert not np.array_equal(first.images, second.images)
    assert not np.array_equal(first.noise, second.noise)


def test_objects_are_detected_and_labelled_only_where_the_images_tell(hosts):
    ratio = np.array([h.photometry[I_BAND] / h.photometry_error[I_BAND] for h in hosts])
    told = np.array([h.label is not None for h in hosts])
    assert np.mean(ratio > 2) > 0.95
    assert 0.5 < told.mean() < 0.95
    assert np.median(ratio[told]) > 2 * np.median(ratio[~told])
    assert {h.label for h in hosts} - {None} == set(GALAXIES)


def test_anomalies_come_where_they_are_asked_for():
    rare = [simulate_host(5, n, anomaly_share=1.0) for n in range(24)]
    assert {h.label for h in rare} - {None} == set(ANOMALIES)
    assert sum(h.label is None for h in rare) <= 2


def same(one, other):
    return one.classes == other.classes and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ARRAYS
    )


def test_the_same_file_for_any_number_of_processes_and_parts(tmp_path):
    simulate_hosts(9, 4, tmp_path / "one.hdf5", visits=2)
    simulate_hosts(9, 4, tmp_path / "two.hdf5", visits=2, processes=2, images_per_part=8)
    one, two = (load_images(tmp_path / name) for name in ("one.hdf5", "two.hdf5"))
    assert same(one, two)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.hdf5", "two.hdf5"]
    assert (one.kind, one.bands, one.pixel_scale, one.classes) == (Kind.FLUX, BANDS, 0.2, GALAXIES)
    assert one.images.shape == (18, 6, SIDE, SIDE)
    assert np.array_equal(one.object_id[::2], one.object_id[1::2])


def test_a_run_that_was_stopped_goes_on_and_keeps_what_it_has(tmp_path):
    path, folder = tmp_path / "hosts.hdf5", tmp_path / "hosts.hdf5.parts"
    drawing = HostDrawing(8, 4, 1, 0.0)
    _claim(folder, {"count": 8, "seed": 4, "visits": 1, "anomaly_share": 0.0, "images_per_part": 4})
    part = folder / "part-00000.hdf5"
    kept = drawing.draw(range(4))
    save_images(part, replace(kept, ebv=np.full(4, 7.0, np.float32)))  # to be known again
    simulate_hosts(8, 4, path, images_per_part=4)
    assert load_images(path).ebv[:4].tolist() == [7.0] * 4
    assert count_images(path) == 8
    assert not folder.exists()


def test_parts_of_another_run_and_a_finished_file_are_refused(tmp_path):
    path = tmp_path / "hosts.hdf5"
    simulate_hosts(2, 4, path)
    with pytest.raises(SettingsError, match="exists already"):
        simulate_hosts(2, 4, path)
    _claim(tmp_path / "other.hdf5.parts", {"count": 3})
    with pytest.raises(SettingsError, match="parts of another run"):
        simulate_hosts(2, 4, tmp_path / "other.hdf5")


@pytest.mark.parametrize("wrong", [{"n": 0}, {"processes": 0}, {"visits": 0}, {"anomaly_share": 1.5}])
def test_impossible_numbers_are_refused_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(SettingsError):
        simulate_hosts(**{"n": 1, "seed": 1, "path": tmp_path / "x.hdf5", **wrong})
    assert not list(tmp_path.iterdir())


def call(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["encoder", "simulate", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code or 0


def test_the_command_makes_hosts_with_anomalies_as_classes_of_their_own(tmp_path, monkeypatch, capfd):
    path = tmp_path / "hosts.hdf5"
    arguments = ("--hosts", 6, "--anomaly-share", 0.5, "--processes", 1, "--output", path)
    assert call(monkeypatch, *arguments) == 0
    assert load_images(path).classes == HOST_CLASSES
    assert "not to train on" in " ".join(capfd.readouterr().out.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("--hosts", 3),
        ("--hosts", 3, "--output", "x", "--packets", "y"),
        ("--anomaly-share", 0.5, "--output", "x"),
    ],
)
def test_the_command_refuses_what_does_not_go_together(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *arguments) == 2
    assert not list(tmp_path.iterdir())
