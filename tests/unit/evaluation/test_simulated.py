"""Shards of two surveys: what pretraining held out is what is measured, and a survey's labels serve the other."""

from dataclasses import replace

import numpy as np
import pytest

from broker.errors import SettingsError
from encoder.alert_task import new_moco, pretrain
from encoder.archive import save_shard
from encoder.config import NetworkConfig, PretrainConfig
from encoder.evaluation.data import Content, Request, content_of, examine
from encoder.evaluation.simulated import PROBE, SimulatedAlerts, described, encoder_of
from encoder.train import CHECKPOINT

pytestmark = pytest.mark.train

CONFIG = PretrainConfig(
    network=NetworkConfig(widths=(8, 16), blocks=1, groups=4, hidden=8, prototypes=8),
    batch_size=64,
    queue=64,
    epochs=1,
    held_out=0.4,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, synthetic):
    """Two surveys that show wide and narrow sources, which their labels tell apart, and a short run on them."""
    folder = tmp_path_factory.mktemp("sky")
    for seed in range(2):
        shard = synthetic(900, seed)
        middle = shard.box[:, 0, 31, 31] - np.nanmedian(shard.box[:, 0], axis=(1, 2))
        outer = np.nanmean(shard.box[:, 0, 24:39, 24:39], axis=(1, 2))
        shard = replace(shard, survey=np.full(900, seed), label=(outer / middle > 0.25).astype(np.int64))
        save_shard(folder / f"simulated-{seed:05d}.npz", shard)
    alerts = SimulatedAlerts(folder, CONFIG)
    rows = ~alerts.held_out
    pretrain(CONFIG, alerts.boxes[rows.nonzero()[0]], alerts.label[rows.nonzero()[0]], folder / "run")
    return folder


def test_held_out_objects_are_tested_and_no_others(trained):
    alerts = SimulatedAlerts(trained, CONFIG)
    tested, taught = (set(alerts.object_id[rows]) for rows in (alerts.split.test, alerts.split.pool))
    assert tested.isdisjoint(taught)
    assert len(alerts.split.test) + len(alerts.split.pool) == len(alerts) == 1800
    assert 0.3 < len(alerts.split.test) / len(alerts) < 0.5
    rubin = alerts.of_survey(0)
    assert (alerts.boxes.survey[rubin.test] == 0).all()
    assert (alerts.boxes.survey[rubin.pool] == 0).all()


def test_features_are_those_of_serving_and_every_row_has_its_own(trained):
    alerts = SimulatedAlerts(trained, CONFIG)
    encoder = encoder_of(new_moco(CONFIG))
    whole, embedding = described(encoder, alerts.boxes, CONFIG.network.size)
    part, _ = described(encoder, alerts.boxes[slice(300, 310)], CONFIG.network.size)
    np.testing.assert_allclose(whole[300:310], part, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, rtol=1e-5)


def test_the_report_has_label_efficiency_and_shift(trained):
    assert content_of(trained) is Content.SHARDS
    request = Request(trained / "run" / CHECKPOINT, (trained,))
    _, _, (source,), (few, shift) = examine(request, lambda _: None)
    assert source.rows == 1800
    table = few.tables["by number of labels"]
    assert table[f"{PROBE}, N = 200"]["macro_f1"].value > 0.8
    (crossed,) = shift.tables.values()
    assert len(crossed) == 2 * 2 * 2
    same, other = (
        crossed[f"{PROBE}, labels of lsst, alerts of {name}"]["macro_f1"] for name in ("lsst", "ztf")
    )
    assert same.n != other.n
    assert same.value > 0.8


def test_shards_want_a_checkpoint(trained):
    with pytest.raises(SettingsError, match="give --encoder"):
        examine(Request(None, (trained,)), lambda _: None)
