"""Label efficiency: a probe finds what is there and nothing where nothing is, on the same draws for all."""

import numpy as np
import pytest

from broker.errors import SettingsError
from encoder.evaluation import efficiency
from encoder.evaluation.efficiency import NUMBERS, SEEDS, Split

COUNT = 900


@pytest.fixture(scope="module")
def split() -> Split:
    rng = np.random.default_rng(3)
    label = rng.choice(3, COUNT, p=[0.6, 0.3, 0.1])
    rows = rng.permutation(COUNT)
    return Split(rows[300:], np.sort(rows[:300]), label, np.arange(COUNT), ("a", "b", "c"))


@pytest.fixture(scope="module")
def informative(split: Split) -> np.ndarray:
    rng = np.random.default_rng(4)
    return np.eye(3)[split.label] * 2.5 + rng.normal(size=(COUNT, 3))


def test_draws_come_from_the_pool_and_grow(split: Split) -> None:
    few, many = split.draw(50, 1), split.draw(200, 1)
    assert set(few) <= set(many) <= set(split.pool)
    assert len(set(many)) == 200
    assert np.bincount(split.label[few], minlength=3).min() >= 2


def test_a_probe_reads_what_is_there(split: Split, informative: np.ndarray) -> None:
    noise = np.random.default_rng(5).normal(size=(COUNT, 3))
    methods = {"good": efficiency.linear(informative, split), "noise": efficiency.linear(noise, split)}
    found = efficiency.run(methods, split, dict.fromkeys(methods, (50, 200)), lambda _: None)
    told = efficiency.section(found, split, "made up", ("good",), "noise")
    table = told.tables["by number of labels"]
    assert table["good, N = 200"]["macro_f1"].value > 0.8
    assert table["noise, N = 200"]["macro_f1"].value < 0.45
    assert table["good, N = 200"]["macro_f1"].n == 300
    assert table["good, N = 50"]["macro_f1"].low < table["good, N = 50"]["macro_f1"].value
    assert set(told.curves["macro-F1"]) == {"good", "noise"}
    assert all(len(found["good"][n]) == SEEDS for n in (50, 200))


def test_the_pair_is_at_twice_the_labels(split: Split, informative: np.ndarray) -> None:
    methods = {"good": efficiency.linear(informative, split), "also": efficiency.linear(informative, split)}
    found = efficiency.run(methods, split, {"good": (100,), "also": (100, 200)}, lambda _: None)
    told = efficiency.section(found, split, "made up", ("good",), "also")
    (name,) = told.tables["pretrained at N against supervised at 2 N"]
    assert name == "good at 100, also at 200"
    assert not told.targets[0].reached, "one number of labels does not show it from 100 to 800"


def test_a_target_that_is_missed_is_said(split: Split, informative: np.ndarray) -> None:
    noise = np.random.default_rng(6).normal(size=(COUNT, 3))
    methods = {"net": efficiency.linear(noise, split), "supervised": efficiency.linear(informative, split)}
    found = efficiency.run(methods, split, {"net": (100,), "supervised": (200,)}, lambda _: None)
    (target,) = efficiency.section(found, split, "made up", ("net",), "supervised").targets
    assert not target.reached
    assert target.found == "N = 100: no"


def test_a_pool_that_is_too_small_is_refused(split: Split) -> None:
    small = Split(split.pool[:20], split.test, split.label, split.object_id, split.classes)
    with pytest.raises(SettingsError, match=f"wanted at least {NUMBERS[0]}"):
        efficiency.affordable(small)


def test_pixels_are_reduced_without_the_test_rows(split: Split) -> None:
    images = np.random.default_rng(7).normal(size=(COUNT, 1, 8, 8)).astype(np.float32)
    reduced = efficiency.pixels(images, split.pool)
    images[split.test] *= 100
    again = efficiency.pixels(images, split.pool)
    np.testing.assert_allclose(reduced[split.pool], again[split.pool], atol=1e-3)
