"""Anomalies: a detector that sees them finds them, votes help, and nothing is found where nothing is."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from encoder.evaluation.anomaly import EMBEDDING, VOTES, ceiling, evaluate_anomalies, recall_at, voted

pytestmark = pytest.mark.train

COUNT, RARE = 3000, 60


@pytest.fixture(scope="module")
def anomaly() -> np.ndarray:
    return np.random.default_rng(1).permutation(COUNT) < RARE


def test_recall_counts_the_first_percent() -> None:
    score, anomaly = np.arange(200.0), np.zeros(200, bool)
    anomaly[[199, 198, 0]] = True
    assert recall_at(score, anomaly) == pytest.approx(2 / 3)


def test_an_embedding_that_shows_them_beats_pixels_that_do_not(anomaly: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    embedding = rng.normal(size=(COUNT, 8)) + 6 * rng.normal(size=(COUNT, 8)) * anomaly[:, None]
    section = evaluate_anomalies(embedding, rng.normal(size=(COUNT, 8)), anomaly, "made up", lambda _: None)
    table = section.tables["before any vote"]
    assert table[EMBEDDING]["recall_at_1_percent"].value > 0.4, "30 of 60 could stand in the first percent"
    assert table["isolation forest, PCA of pixels"]["recall_at_1_percent"].value < 0.1
    assert not any(target.reached for target in section.targets), "the pool is too small to claim anything"


def test_votes_find_a_direction_the_score_does_not_know(anomaly: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(COUNT, 8))
    features[:, 0] += 4 * anomaly
    # The order before any vote is only a little better than chance.
    score = rng.normal(size=COUNT) + 1.5 * anomaly
    found = voted(features, score, anomaly, 0)
    assert set(found) == set(VOTES)
    assert found[100][0] <= RARE / 100
    assert found[30][0] > 0.2
    assert found[10][1] <= found[30][1] <= found[100][1] <= 1
    assert found[100][1] > 0.7


def test_those_voted_on_are_not_counted_again(anomaly: np.ndarray) -> None:
    few = np.zeros(COUNT, bool)
    few[:20] = True
    score = few.astype(float)
    found = voted(np.random.default_rng(4).normal(size=(COUNT, 4)) + 5 * few[:, None], score, few, 0)
    assert found[30] == (0, 1), "all twenty had been voted on"


def test_who_has_seen_no_anomaly_yet_goes_on_down_the_list(anomaly: np.ndarray) -> None:
    rank = np.argsort(~anomaly, kind="stable")  # all anomalies, and before them twelve that are none
    order = np.concatenate([rank[-12:], rank[:-12]])
    score = np.empty(COUNT)
    score[order] = -np.arange(COUNT)
    found = voted(np.random.default_rng(6).normal(size=(COUNT, 4)), score, anomaly, 0)
    assert found[10][0] == RARE / 100, "the first ten were misses, and those that follow are not forgotten"


def test_shares_have_an_interval_of_their_own(anomaly: np.ndarray) -> None:
    rng = np.random.default_rng(7)
    pixels = rng.normal(size=(COUNT, 5))
    section = evaluate_anomalies(pixels, pixels, anomaly, "made up", lambda _: None)
    for row in section.tables["after votes"].values():
        assert row["precision_100"].low < row["precision_100"].value < row["precision_100"].high


def test_the_ceiling_knows_labels_but_not_its_own(anomaly: np.ndarray) -> None:
    rng = np.random.default_rng(5)
    features = rng.normal(size=(COUNT, 8))
    chance = average_precision_score(anomaly, ceiling(features, anomaly))
    features[:, 0] += 4 * anomaly
    assert average_precision_score(anomaly, ceiling(features, anomaly)) > 0.8
    assert chance < 0.1
