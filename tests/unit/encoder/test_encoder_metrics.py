"""Metrics against other implementations and by integration."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from encoder import evaluate

pytestmark = pytest.mark.train


def pdfs(count=20, bins=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(bins, 0.3), count), rng.uniform(0, 2, count)


def test_crps_against_integration():
    pdf, truth = pdfs()
    z = np.linspace(0, 2, 200_001)
    for row, true in zip(pdf, truth, strict=True):
        cdf = np.interp(z, np.linspace(0, 2, 41), np.concatenate([[0], row.cumsum()]))
        wanted = np.trapezoid((cdf - (z >= true)) ** 2, z)
        found = evaluate.crps(np.array([true]), row[None], np.linspace(0, 2, len(row) + 1))
        assert found[0] == pytest.approx(wanted, abs=1e-4)


def test_macro_f1_and_auc_against_scikit_learn():
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 5, 500), rng.integers(0, 5, 500)
    guess[:200] = truth[:200]
    assert evaluate.macro_f1(truth, guess) == pytest.approx(f1_score(truth, guess, average="macro"))
    score = rng.integers(0, 20, 500).astype(float)
    label = rng.random(500) < 0.3
    assert evaluate.auc(score[label], score[~label]) == pytest.approx(roc_auc_score(label, score))


def test_calibration_error_of_a_calibrated_and_of_an_overconfident_classifier():
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.ones(4), 20_000)
    truth = np.array([rng.choice(4, p=row) for row in probability])
    assert evaluate.expected_calibration_error(truth, probability) < 0.02
    certain = np.eye(4)[probability.argmax(axis=1)]
    assert evaluate.expected_calibration_error(truth, certain) > 0.3


def test_central_interval_of_a_flat_pdf():
    low, high = evaluate.central_interval(np.full((1, 50), 0.02), 2.0)
    assert low[0] == pytest.approx(0.32)
    assert high[0] == pytest.approx(1.68)


@given(shift=st.floats(-1, 1))
def test_scatter_does_not_feel_a_shift_and_is_sigma_for_a_gaussian(shift):
    errors = np.random.default_rng(0).normal(0, 0.1, 20_000)
    assert evaluate.sigma_mad(errors + shift) == pytest.approx(0.1, rel=0.03)


def test_outliers_are_counted_on_both_sides():
    assert evaluate.outlier_share(np.array([-0.2, -0.1, 0.0, 0.16])) == 0.5


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(100):
        values = rng.normal(0, 1, 60)
        found = evaluate.measure(lambda rows, v=values: float(v[rows].mean()), np.arange(60), trial, 200)
        hits += found.low <= 0 <= found.high
    assert hits >= 88


def test_alerts_of_one_object_are_no_independent_evidence():
    values = np.repeat(np.random.default_rng(0).normal(0, 1, 50), 20)
    objects = np.repeat(np.arange(50), 20)
    grouped = evaluate.measure(lambda rows: float(values[rows].mean()), objects, 0, 300)
    single = evaluate.measure(lambda rows: float(values[rows].mean()), np.arange(1000), 0, 300)
    assert grouped.high - grouped.low > 3 * (single.high - single.low)
    assert grouped.n == 1000
