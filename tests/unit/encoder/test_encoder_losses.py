"""Losses against slow references; and nothing is learned where there is nothing to learn."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from broker.contract import COMMON_GRID
from broker.errors import SettingsError
from encoder.alert_task import TARGETS, new_moco
from encoder.anomaly import AnomalyScore, k_means, whitening
from encoder.boxes import Laid
from encoder.config import NetworkConfig, PretrainConfig
from encoder.losses import info_nce, knn_score, known_labels, known_regression, rank_me, spread
from encoder.moco import Batch

pytestmark = pytest.mark.train

SMALL = NetworkConfig(widths=(8, 16), blocks=1, groups=4, hidden=8, prototypes=8)


def unit(*shape, seed=0):
    return functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_info_nce_against_a_loop():
    query, key, queue = unit(5, 8), unit(5, 8, seed=1), unit(12, 8, seed=2)
    total = 0.0
    for q, k in zip(query, key, strict=True):
        positive = math.exp(float(q @ k) / 0.2)
        negatives = sum(math.exp(float(q @ other) / 0.2) for other in queue)
        total -= math.log(positive / (positive + negatives))
    assert float(info_nce(query, key, queue, 0.2)) == pytest.approx(total / 5, rel=1e-5)


def test_keys_of_the_query_s_own_object_are_no_negatives():
    query, key, queue = unit(5, 8, seed=1), unit(5, 8, seed=2), unit(7, 8, seed=3)
    own = torch.zeros(5, 7, dtype=torch.bool)
    own[:, 2] = True
    without = torch.cat([queue[:2], queue[3:]])
    torch.testing.assert_close(info_nce(query, key, queue, 0.2, own), info_nce(query, key, without, 0.2))


def test_info_nce_of_keys_that_all_look_alike_is_the_logarithm_of_their_number():
    same = unit(1, 8).expand(4, 8)
    assert float(info_nce(same, same, same[:1].expand(31, 8), 0.2)) == pytest.approx(math.log(32), rel=1e-5)


def test_spread_against_a_loop():
    raw = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [0.1, 0.5, 1, 2, 1, 1]
    )
    covariance = np.cov(raw.numpy(), rowvar=False)
    hinge = np.mean([max(0.0, 1 - math.sqrt(covariance[i, i] + 1e-4)) for i in range(6)])
    beside = sum(covariance[i, j] ** 2 for i in range(6) for j in range(6) if i != j) / 6
    assert float(spread(raw)) == pytest.approx(hinge + beside, rel=1e-4)


def test_spread_punishes_a_collapsed_representation():
    assert float(spread(torch.ones(20, 4))) > 0.98


def test_regression_looks_at_known_targets_only():
    predicted = torch.tensor([[0.0, 5.0], [1.0, 0.0]], requires_grad=True)
    target = torch.tensor([[0.5, torch.nan], [1.0, torch.nan]])
    loss = known_regression(predicted, target)
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * 0.5**2 / 2)
    assert (predicted.grad[:, 1] == 0).all()
    assert known_regression(predicted, torch.full((2, 2), torch.nan)).item() == 0


def test_rank_is_that_of_the_subspace():
    generator = torch.Generator().manual_seed(0)
    assert rank_me(torch.randn(4000, 16, generator=generator)) == pytest.approx(16, rel=0.02)
    low = (
        torch.randn(4000, 3, generator=generator)
        @ torch.linalg.qr(torch.randn(16, 3, generator=generator))[0].T
    )
    assert rank_me(low) == pytest.approx(3, rel=0.02)
    assert rank_me(torch.ones(100, 16)) == pytest.approx(1, abs=1e-6)


def test_neighbours_tell_separated_classes_and_not_random_ones():
    label = torch.arange(200) % 4
    centres = functional.one_hot(label, 4).float()
    assert knn_score(functional.normalize(centres + 0.1 * unit(200, 4), dim=1), label) == 1
    assert knn_score(unit(200, 4), label) < 0.45
    assert math.isnan(knn_score(unit(200, 4), torch.full((200,), -1)))


def test_known_labels_against_a_mean_and_none_known():
    logits, label = (
        torch.randn(6, 3, generator=torch.Generator().manual_seed(3)),
        torch.tensor([0, -1, 2, -1, 1, 1]),
    )
    known = label >= 0
    expected = float(functional.cross_entropy(logits[known], label[known]))
    assert float(known_labels(logits, label)) == pytest.approx(expected, rel=1e-6)
    assert float(known_labels(logits, torch.full((6,), -1))) == 0


def noise_only(count, generator):
    shape = (count, 3, COMMON_GRID.size, COMMON_GRID.size)
    return Laid(
        stamps=torch.randn(shape, generator=generator),
        mask=torch.ones(shape),
        noise=torch.ones(count, 3),
        survey=torch.zeros(count, dtype=torch.long),
        band=torch.zeros(count, dtype=torch.long),
        psf_fwhm=torch.full((count, 3), 3.0),
        photometry=torch.full((count, 6), torch.nan),
        ebv=torch.zeros(count),
        step=torch.ones(count),
        grain=torch.zeros(shape),
        kept=torch.ones(count, 3),
        fading=torch.ones(count, 6),
    )


def contrast_on_noise(config, moco, steps=60):
    """Mean contrastive loss while a network learns from pairs of independent noise draws."""
    optimizer = torch.optim.AdamW([p for p in moco.parameters() if p.requires_grad], config.learning_rate)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for step in range(steps):
        unknown = torch.full((32, TARGETS), torch.nan)
        objects = torch.arange(32) + 32 * step
        no_labels = torch.full((32,), -1)
        parts = moco(Batch(noise_only(32, generator), noise_only(32, generator), unknown, objects, no_labels))
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        moco.follow(step / steps)
        losses.append(float(parts["contrast"]))
    return np.mean(losses[20:])


def noise_recipe(network, bf16):
    return PretrainConfig(
        network=network, batch_size=32, queue=64, spread_weight=0.0, auxiliary_weight=0.0, bf16=bf16
    )


@pytest.mark.parametrize(
    ("network", "steps", "bf16"),
    # Few processors have bf16: of the whole network it takes minutes on the others.
    [(SMALL, 60, False), (SMALL, 60, True), (NetworkConfig(), 40, False)],
    ids=["small", "small in bf16", "default"],
)
def test_independent_noise_draws_cannot_be_told_apart(network, steps, bf16, monkeypatch):
    """A leak (statistics over the batch, the place in it, the age of the queue) would let the loss fall."""
    monkeypatch.setattr("encoder.moco.computes_in_bf16", lambda _: True)
    config = noise_recipe(network, bf16)
    assert contrast_on_noise(config, new_moco(config), steps) >= 0.95 * math.log(config.queue + 1)


def test_a_leak_is_found(monkeypatch):
    """Both views carry the same mark of their row: the loss falls far below the bound."""
    config, draw = noise_recipe(SMALL, bf16=False), noise_only

    def marked(count, generator):
        laid = draw(count, generator)
        marks = torch.randn(count, 3, 1, 1, generator=torch.Generator().manual_seed(int(laid.mask.sum())))
        return replace(laid, stamps=laid.stamps + 3 * marks)

    monkeypatch.setitem(globals(), "noise_only", marked)
    assert contrast_on_noise(config, new_moco(config)) < 0.8 * math.log(config.queue + 1)


def test_the_queue_holds_the_latest_keys_and_wraps():
    config = PretrainConfig(network=SMALL, batch_size=4, queue=6, projection=8)
    moco = new_moco(config)
    first, second = unit(4, 8, seed=1), unit(4, 8, seed=2)
    moco._enqueue(first, torch.arange(4))
    moco._enqueue(second, torch.arange(4, 8))
    np.testing.assert_array_equal(moco.queue[4:], second[:2])
    np.testing.assert_array_equal(moco.queue[:2], second[2:])
    np.testing.assert_array_equal(moco.queue[2:4], first[2:])
    assert moco.queue_object.tolist() == [6, 7, 2, 3, 4, 5]


def test_the_momentum_encoder_follows_by_its_momentum():
    moco = new_moco(PretrainConfig(network=SMALL, momentum=(0.9, 0.9)))
    before = [p.clone() for p in moco.momentum_encoder.parameters()]
    with torch.no_grad():
        for p in moco.base_encoder.parameters():
            p.add_(1.0)
    moco.follow(0.5)
    for old, new in zip(before, moco.momentum_encoder.parameters(), strict=True):
        np.testing.assert_allclose((new - old).detach(), 0.1, atol=1e-5)


def reference(count, seed):
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(count, 64, generator=generator) * torch.linspace(0.1, 2, 64)
    return functional.normalize(raw, dim=1), torch.arange(count) % 2


def test_anomaly_is_the_fraction_of_the_reference_that_is_less_unusual():
    score = AnomalyScore(NetworkConfig(prototypes=16))
    embedding, survey = reference(4000, 0)
    score.fit(embedding, survey, torch.arange(4000) % 8 < 2, seed=0)
    fresh, which = reference(4000, 1)
    for index in range(2):
        found = score(fresh[which == index], which[which == index]).sort().values
        uniform = (torch.arange(len(found)) + 0.5) / len(found)
        assert float((found - uniform).abs().max()) < 0.07


def test_anomaly_rises_with_the_distance_and_stays_between_0_and_1():
    score = AnomalyScore(NetworkConfig(prototypes=16))
    embedding, survey = reference(2000, 0)
    score.fit(embedding, survey, torch.arange(2000) % 8 < 2, seed=0)
    away = embedding[:1] * torch.linspace(0, 50, 200)[:, None]
    which = torch.zeros(200, dtype=torch.long)
    order = score.distance(away, which).argsort()
    values = score(away, which)[order]
    assert (values.diff() >= 0).all()
    assert values[0] >= 0
    assert 0.999 < values[-1] <= 1


def test_alerts_stranger_than_all_of_the_reference_do_not_tie():
    score = AnomalyScore(NetworkConfig(prototypes=16))
    embedding, survey = reference(2000, 0)
    score.fit(embedding, survey, torch.arange(2000) % 8 < 2, seed=0)
    away = embedding[:1] * torch.linspace(1, 3, 2000)[:, None]
    which = torch.zeros(2000, dtype=torch.long)
    distance = score.distance(away, which)
    farthest, tail = score.quantiles.table[0, -1], score.quantiles.tail[0]
    beyond = score(away, which)[(distance > farthest) & (distance < farthest + 5 * tail)]
    assert len(beyond) > 20
    assert (beyond > 250 / 251).all()  # 250 reference alerts calibrate
    assert len(beyond.unique()) > 0.9 * len(beyond)


def test_a_reference_without_one_survey_is_refused():
    score = AnomalyScore(NetworkConfig(prototypes=16))
    embedding, survey = reference(100, 0)
    with pytest.raises(SettingsError, match="0 reference alerts of ztf"):
        score.fit(embedding[survey == 0], survey[survey == 0], torch.arange(50) % 2 == 0, seed=0)


def test_whitening_makes_the_covariance_the_identity():
    rows = torch.randn(5000, 5, generator=torch.Generator().manual_seed(0)) @ torch.randn(5, 5)
    white = (rows - rows.mean(0)) @ whitening(rows, floor=1e-9)
    np.testing.assert_allclose(np.cov(white.numpy(), rowvar=False), np.eye(5), atol=1e-3)


def test_k_means_finds_separated_groups():
    groups = 100 * torch.eye(4)
    rows = groups.repeat(50, 1) + unit(200, 4)
    centres = k_means(rows, 4, np.random.default_rng(3))
    assert float(torch.cdist(rows, centres).amin(1).max()) < 80
