"""The loop: it learns, goes on to the bit where it was killed, and says what is wrong."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from broker.errors import ConfigurationError
from encoder.alert_task import AlertTask, embed, load_checkpoint, pretrain
from encoder.backbone import Encoder
from encoder.boxes import Boxes
from encoder.config import NetworkConfig, PretrainConfig, ViewConfig
from encoder.repeats import Repeats
from encoder.train import CHECKPOINT, CURVES, LOG, learning_rate

pytestmark = pytest.mark.train

SMALL = NetworkConfig(widths=(8, 16), blocks=1, groups=4, hidden=8, prototypes=8)
CONFIG = PretrainConfig(network=SMALL, batch_size=16, queue=16, epochs=3, checkpoint_seconds=1e-3)


@pytest.fixture(scope="module")
def boxes():
    """Round sources of many widths and fluxes."""
    generator = torch.Generator().manual_seed(0)
    count, side = 80, 64
    axis = torch.arange(side, dtype=torch.float32) - 31.5
    radius2 = axis[:, None] ** 2 + axis[None, :] ** 2
    width = 1.5 + 3 * torch.rand(count, 1, 1, 1, generator=generator)
    flux = 10 ** (1 + 2 * torch.rand(count, 3, 1, 1, generator=generator))
    noise = torch.randn(count, 3, side, side, generator=generator)
    photometry = 1000 * torch.rand(count, 6, generator=generator)
    photometry[::3, 2] = torch.nan
    return Boxes(
        box=flux * torch.exp(-radius2 / (2 * width**2)) + noise,
        centre=torch.full((count, 2), 31.5),
        noise=torch.ones(count, 3),
        ratio=torch.ones(count),
        survey=torch.arange(count) % 2,
        band=torch.arange(count) % 6,
        psf_fwhm=torch.full((count, 3), 3.0),
        photometry=photometry,
        ebv=torch.zeros(count),
        sky_object=torch.arange(count),
    )


@pytest.fixture(scope="module")
def labels():
    return torch.arange(80) % 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def whole(boxes, labels, folder):
    """A run that nothing happens to."""
    return pretrain(CONFIG, boxes, labels, folder)


def weights(run):
    return torch.cat([value.flatten().float() for value in run.moco.state_dict().values()])


def test_a_killed_run_goes_on_to_the_bit(boxes, labels, whole, tmp_path):
    stopped = pretrain(CONFIG, boxes, labels, tmp_path / "killed", max_minutes=0)
    assert stopped.step == 1
    resumed = pretrain(CONFIG, boxes, labels, tmp_path / "killed")
    assert resumed.step == whole.step == 15
    assert torch.equal(weights(resumed), weights(whole))
    timeless = [{k: v for k, v in entry.items() if k != "seconds"} for entry in whole.history]
    assert timeless == [{k: v for k, v in entry.items() if k != "seconds"} for entry in resumed.history]


def test_another_seed_is_another_run(boxes, labels, whole, tmp_path):
    other = pretrain(CONFIG.model_copy(update={"seed": 3}), boxes, labels, tmp_path / "other")
    assert not torch.allclose(weights(whole), weights(other))


def test_the_labels_are_only_watched(boxes, labels, whole, tmp_path):
    other = pretrain(CONFIG, boxes, torch.full_like(labels, -1), tmp_path)
    assert torch.equal(weights(whole), weights(other))


def test_labels_are_learned_from_where_they_have_a_weight_and_are_known(boxes, labels, tmp_path):
    hybrid = CONFIG.model_copy(update={"label_weight": 1.0})
    one = pretrain(hybrid, boxes, labels, tmp_path / "one")
    few = labels.clone()
    few[::2] = -1
    other = pretrain(hybrid, boxes, few, tmp_path / "other")
    assert not torch.equal(one.moco.base_encoder.project.weight, other.moco.base_encoder.project.weight)
    assert 0 < one.history[-1]["labels"] < one.history[0]["labels"]
    again = load_checkpoint(tmp_path / "one" / CHECKPOINT)
    assert torch.equal(again.moco.classifier.weight, one.moco.classifier.weight)


def test_it_learns(boxes, labels, tmp_path):
    config = CONFIG.model_copy(
        update={"epochs": 16, "learning_rate": 1e-2, "bf16": False, "checkpoint_seconds": 60.0}
    )
    history = pretrain(config, boxes, labels, tmp_path).history
    assert history[-1]["auxiliary"] < 0.85 * history[0]["auxiliary"]
    assert history[-1]["contrast"] < history[1]["contrast"]


def test_a_run_leaves_checkpoint_log_and_curves(whole, folder):
    log = json.loads((folder / LOG).read_text())
    assert log["config"] == json.loads(CONFIG.model_dump_json())
    assert [entry["epoch"] for entry in log["history"]] == [1, 2, 3]
    assert {"contrast", "auxiliary", "spread", "rank_me", "knn", "learning_rate"} <= log["history"][0].keys()
    assert (folder / CURVES).read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in folder.iterdir()} == {CHECKPOINT, LOG, CURVES}
    assert torch.equal(weights(load_checkpoint(folder / CHECKPOINT)), weights(whole))


def test_another_configuration_does_not_go_on_with_the_run(boxes, labels, tmp_path):
    pretrain(CONFIG, boxes, labels, tmp_path, max_minutes=0)
    with pytest.raises(ConfigurationError, match="another configuration"):
        pretrain(CONFIG.model_copy(update={"temperature": 0.1}), boxes, labels, tmp_path)


def test_other_alerts_do_not_go_on_with_the_run(boxes, labels, tmp_path):
    pretrain(CONFIG, boxes, labels, tmp_path, max_minutes=0)
    with pytest.raises(ConfigurationError, match="other data"):
        pretrain(CONFIG, replace(boxes, band=boxes.band.flip(0)), labels, tmp_path)


def test_a_queue_in_which_objects_would_meet_themselves_is_refused(boxes, labels, tmp_path):
    with pytest.raises(ConfigurationError, match="quarter of 80 objects"):
        pretrain(CONFIG.model_copy(update={"queue": 21}), boxes, labels, tmp_path)


def test_a_set_smaller_than_a_batch_is_refused(boxes, labels, tmp_path):
    with pytest.raises(ConfigurationError, match="no batch of 16"):
        pretrain(CONFIG, boxes[slice(0, 10)], labels[:10], tmp_path)


@pytest.mark.parametrize(("rows", "pieces"), [(30, 2), (30, 4), (10, 4), (70, 20)])
def test_the_recipe_that_is_proposed_for_a_small_set_is_taken(boxes, labels, tmp_path, rows, pieces):
    config = CONFIG.model_copy(update={"batch_size": 80, "pieces": pieces})
    few, known = boxes[slice(0, rows)], labels[:rows]
    with pytest.raises(ConfigurationError, match="smaller one") as refused:
        pretrain(config, few, known, tmp_path)
    proposed = json.loads(str(refused.value).partition("smaller one: ")[2])
    recipe = PretrainConfig.model_validate({**config.model_dump(), **proposed, "epochs": 1})
    assert pretrain(recipe, few, known, tmp_path, max_minutes=0).step == 1


@pytest.mark.parametrize("name", ["psf_fwhm", "ebv", "ratio"])
def test_what_changes_a_view_changes_the_digest(boxes, name):
    assert replace(boxes, **{name: getattr(boxes, name) + 0.5}).digest() != boxes.digest()


def test_other_labels_do_not_go_on_with_a_run_that_learns_from_them(boxes, labels):
    hybrid = CONFIG.model_copy(update={"label_weight": 1.0})
    digests = [AlertTask(hybrid, boxes, one).digest() for one in (labels, labels.flip(0))]
    assert digests[0] != digests[1]
    watched = [AlertTask(CONFIG, boxes, one).digest() for one in (labels, labels.flip(0))]
    assert watched[0] == watched[1]


def test_alerts_are_watched_where_the_network_is(boxes):
    """A pretended GPU: tensors without data whose devices are checked as a real one does."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.device("cuda"):
            encoder = Encoder(SMALL)
        found = embed(SimpleNamespace(base_encoder=encoder), boxes[slice(0, 5)], SMALL.size)
    assert next(encoder.parameters()).device.type == "cuda"
    assert [one.device.type for one in found] == ["cpu", "cpu"]


def test_no_checkpoint_and_no_checkpoint_of_ours(tmp_path):
    with pytest.raises(ConfigurationError, match="run `encoder pretrain` first"):
        load_checkpoint(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with pytest.raises(ConfigurationError, match="no checkpoint of"):
        load_checkpoint(tmp_path / "text.pt")


def test_the_learning_rate_rises_then_falls_to_zero():
    rates = np.array([learning_rate(CONFIG, share) for share in np.linspace(0, 1, 101)])
    peak = int(rates.argmax())
    assert abs(peak - 100 * CONFIG.warmup) <= 1
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) < 0).all()
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def test_a_missing_template_does_not_stop_training(boxes, labels, tmp_path):
    box = boxes.box.clone()
    box[::2, 1] = torch.nan
    noise = boxes.noise.clone()
    noise[::2, 1] = 0
    run = pretrain(CONFIG, replace(boxes, box=box, noise=noise), labels, tmp_path)
    assert all(np.isfinite(entry["loss"]) for entry in run.history)


@pytest.mark.parametrize(
    ("field", "value"),
    [("size_scaling", (1.2, 0.8)), ("blur_probability", 1.5), ("role_dropout", 1.0), ("colour_jitter", 1)],
)
def test_views_that_make_no_sense_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        ViewConfig.model_validate({field: value})


def test_another_visit_is_of_the_same_object_and_never_the_alert_itself():
    sky_object = torch.tensor([4, 9, 4, 2, 9, 4])
    rows = torch.arange(6).repeat(200)
    drawn = Repeats(sky_object).another(rows, torch.Generator().manual_seed(0))
    assert torch.equal(sky_object[drawn], sky_object[rows])
    assert {(int(a), int(b)) for a, b in zip(rows, drawn, strict=True)} == {
        (0, 2), (0, 5), (2, 0), (2, 5), (5, 0), (5, 2), (1, 4), (4, 1), (3, 3),
    }  # fmt: skip


def test_one_alert_of_each_object_is_watched():
    assert Repeats(torch.tensor([4, 9, 4, 2, 9, 4])).one_each(2).tolist() == [0, 1]


def test_other_visits_change_what_is_learned(boxes, labels, tmp_path):
    boxes = replace(boxes, sky_object=torch.arange(len(boxes)) // 2)
    config = CONFIG.model_copy(update={"queue": 10})
    one = pretrain(config, boxes, labels, tmp_path / "one")
    views = config.views.model_copy(update={"other_visits": False})
    other = pretrain(config.model_copy(update={"views": views}), boxes, labels, tmp_path / "other")
    assert not torch.allclose(weights(one), weights(other))
