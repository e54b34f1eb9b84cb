"""Densities: calibrated, better than what knows nothing, and scored as the definitions say."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.stats import kstest

from broker.errors import SettingsError
from encoder.density import Density, DensityConfig, Inputs, transform
from encoder.evaluation import photoz as subject
from encoder.evaluation.catalogue import Catalogue, is_catalogue, read_catalogue
from encoder.evaluation.photoz import (
    BOOSTING,
    OURS,
    SEEING,
    Scored,
    boosted,
    evaluate_catalogue,
    folds_of,
    median,
    unevenness,
)

pytestmark = pytest.mark.train

QUICK = DensityConfig(bins=60, hidden=32, layers=2, epochs=20, least_steps=200, members=2, z_max=2.0)


def sky(count: int, seed: int) -> Catalogue:
    """Galaxies whose colours tell their redshift, but for noise."""
    rng = np.random.default_rng(seed)
    redshift = rng.gamma(4, 0.15, count).clip(0.01, 1.9)
    colour = np.stack([np.sin(redshift * k) for k in range(1, 7)], axis=1)
    error = np.full((count, 6), 0.08)
    magnitude = 22 + colour + error * rng.normal(size=(count, 6))
    magnitude[rng.random((count, 6)) < 0.03] = np.nan
    return Catalogue.of(magnitude, np.where(np.isnan(magnitude), np.nan, error), redshift)


@pytest.fixture
def _few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let boosting be quick where what it finds is not the question."""
    monkeypatch.setattr(subject, "ITERATIONS", 20)


@pytest.fixture(scope="module")
def fitted() -> tuple[Density, Catalogue]:
    known, new = sky(800, 1), sky(1500, 2)
    density = Density(QUICK)
    density.fit(Inputs.of(known.magnitude, known.error), known.redshift)
    return density, new


def test_densities_are_densities_and_know_the_redshift(fitted: tuple[Density, Catalogue]) -> None:
    density, new = fitted
    pdf = density.pdf(Inputs.of(new.magnitude, new.error))
    np.testing.assert_allclose(pdf.sum(1), 1)
    assert pdf.min() >= 0
    scatter = np.median(np.abs(median(pdf, density.edges) - new.redshift))
    assert scatter < 0.4 * np.median(np.abs(np.median(new.redshift) - new.redshift))


def test_they_are_calibrated(fitted: tuple[Density, Catalogue]) -> None:
    density, new = fitted
    pit = transform(density.pdf(Inputs.of(new.magnitude, new.error)), density.edges, new.redshift)
    assert unevenness(pit) < 0.08


def test_an_embedding_that_knows_helps() -> None:
    known, new = sky(600, 3), sky(600, 4)
    rng = np.random.default_rng(5)
    blind = [np.full_like(one.magnitude, np.nan) for one in (known, new)]
    told = [one.redshift[:, None] + 0.02 * rng.normal(size=(600, 1)) for one in (known, new)]
    density = Density(QUICK)
    density.fit(Inputs.of(blind[0], blind[0], told[0]), known.redshift)
    found = median(density.pdf(Inputs.of(blind[1], blind[1], told[1])), density.edges)
    assert np.median(np.abs(found - new.redshift)) < 0.05


def test_images_of_one_galaxy_are_on_one_side() -> None:
    fold = folds_of(np.repeat(np.arange(500) * 7, 2), seed=1)
    assert np.array_equal(fold[::2], fold[1::2])
    assert np.bincount(fold).tolist() == [200] * 5


def test_the_same_seed_gives_the_same() -> None:
    known = sky(200, 1)
    inputs = Inputs.of(known.magnitude, known.error)
    found = []
    for _ in range(2):
        density = Density(QUICK)
        density.fit(inputs, known.redshift)
        found.append(density.pdf(inputs))
    np.testing.assert_array_equal(*found)


def test_too_few_rows_are_refused() -> None:
    known = sky(20, 1)
    with pytest.raises(SettingsError, match="20 rows with a redshift: wanted at least 50"):
        Density(QUICK).fit(Inputs.of(known.magnitude, known.error), known.redshift)


def test_the_distance_from_evenness_is_the_library_s() -> None:
    values = np.random.default_rng(1).beta(2, 2, 500)
    assert unevenness(values) == pytest.approx(kstest(values, "uniform").statistic)


def test_scores_of_a_known_density() -> None:
    edges = np.array([0.0, 1.0, 2.0])
    scored = Scored.of(np.array([0.5]), np.array([[1.0, 0.0]]), edges)
    assert scored.error[0] == pytest.approx(0)
    assert scored.pit[0] == pytest.approx(0.5)
    assert scored.cde[0] == pytest.approx(1 - 2)
    assert scored.crps[0] == pytest.approx(2 * (0.5**3 / 3))


def test_boosting_is_a_fair_baseline() -> None:
    known, new = sky(800, 1), sky(400, 2)
    edges = np.linspace(0, 2, 61)
    pdf = boosted(known.magnitude, known.redshift, new.magnitude, edges, 0)
    np.testing.assert_allclose(pdf.sum(1), 1, atol=1e-6)
    assert unevenness(transform(pdf, edges, new.redshift)) < 0.15


@pytest.mark.usefixtures("_few_trees")
def test_a_section_says_who_is_better() -> None:
    section = evaluate_catalogue(sky(500, 6), "made up", lambda _: None, numbers=(300, 9000), config=QUICK)
    table = section.tables["by number of rows"]
    assert set(table) == {f"{OURS}, N = 300", f"{BOOSTING}, N = 300"}, "9000 rows there are not"
    assert table[f"{OURS}, N = 300"]["sigma_mad"].n == 500
    gap = section.tables[f"difference, {OURS} minus {BOOSTING}"]["N = 300"]["crps"].value
    expected = table[f"{OURS}, N = 300"]["crps"].value - table[f"{BOOSTING}, N = 300"]["crps"].value
    assert gap == pytest.approx(expected)
    assert not section.targets[-1].reached, "500 galaxies are too few to say"


@pytest.mark.usefixtures("_few_trees")
def test_images_are_read_beside_the_photometry() -> None:
    known = sky(250, 8)
    noisy = known.magnitude + np.random.default_rng(9).normal(size=known.magnitude.shape)
    known = Catalogue.of(noisy, known.error * 12, known.redshift)
    section = evaluate_catalogue(
        known,
        "made up",
        lambda _: None,
        embedding=known.redshift[:, None].repeat(2, axis=1),
        numbers=(200,),
        config=QUICK,
    )
    table = section.tables["by number of rows"]
    assert table[f"{SEEING}, N = 200"]["sigma_mad"].value < 0.5 * table[f"{OURS}, N = 200"]["sigma_mad"].value


def test_a_catalogue_is_read_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "sky.hdf5"
    with h5py.File(path, "w") as file:
        group = file.create_group("photometry")
        group["redshift"] = [0.1, np.nan, 0.5]
        for band in "ugrizy":
            group[f"mag_{band}_lsst"] = [20.0, 21.0, 99.0]
            group[f"mag_err_{band}_lsst"] = [0.1, 0.1, 0.1]
    assert is_catalogue(path)
    found = read_catalogue(path)
    assert found.redshift.tolist() == [0.1, 0.5]
    assert np.isnan(found.magnitude[1]).all()
    with h5py.File(path, "a") as file:
        del file["photometry/mag_u_lsst"]
    with pytest.raises(SettingsError, match=r"wanted \['mag_u_lsst'\] as well"):
        read_catalogue(path)
