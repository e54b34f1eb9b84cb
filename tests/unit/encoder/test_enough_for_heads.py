"""Heads are fitted on alerts enough, or refused before any work; none ships as it was drawn."""

import pytest

pytest.importorskip("torch")

import torch

from broker.contract import COMMON_GRID
from broker.errors import SettingsError
from encoder.alert_task import new_moco
from encoder.boxes import Boxes
from encoder.config import HeadsConfig, NetworkConfig, PretrainConfig
from encoder.fit import Described, Labelled, Seen, fit_morphology, split
from encoder.fitted import check_counts, fit
from encoder.heads import Head
from encoder.train import Run

pytestmark = pytest.mark.train

SMALL = NetworkConfig(widths=(8, 16), blocks=1, groups=4, hidden=8, prototypes=8)
PRETRAINING, HEADS = PretrainConfig(network=SMALL, queue=16), HeadsConfig()
CLASSES = ("disk", "bogus")


@pytest.fixture(scope="module")
def alerts(synthetic):
    """Alerts of both surveys; every second is bogus."""
    shard = synthetic(400, 3, CLASSES)
    boxes = Boxes.of(shard, COMMON_GRID)
    boxes.survey.copy_(torch.arange(400) % 2)
    label = torch.arange(400) // 2 % 2
    return Labelled(boxes, label, torch.from_numpy(shard.redshift), shard.object_id)


def parts(alerts, **changed):
    return split(
        Labelled(**{**{name: getattr(alerts, name) for name in Labelled.__slots__}, **changed}),
        PRETRAINING,
        HEADS,
    )


def validating(alerts):
    """Rows that validate."""
    chosen = set(parts(alerts).validation.object_id)
    return torch.tensor([name in chosen for name in alerts.object_id])


def test_alerts_enough_are_taken(alerts):
    check_counts(parts(alerts), SMALL, CLASSES)


def test_no_label_to_validate_by_is_refused_with_what_was_found_and_wanted(alerts):
    label = alerts.label.masked_fill(validating(alerts), -1)
    with pytest.raises(
        SettingsError,
        match=r"alerts with a label for the morphology head: found \d+ to train, 0 to validate, \d+ held out; "
        r"wanted 5 to train, 5 to validate, 5 held out, or more: simulate or label more",
    ):
        check_counts(parts(alerts, label=label), SMALL, CLASSES)


def test_no_spectrum_to_validate_by_is_refused_before_the_encoder_is_run(alerts):
    redshift = alerts.redshift.masked_fill(validating(alerts), torch.nan)
    some = Labelled(alerts.boxes, alerts.label, redshift, alerts.object_id)
    run = Run(PRETRAINING, new_moco(PRETRAINING), None, "")
    with pytest.raises(SettingsError, match=r"with a redshift for the redshift head: .* 0 to validate"):
        fit(run, some, CLASSES, HEADS)


def test_a_survey_that_could_not_be_measured_is_refused(alerts):
    redshift = alerts.redshift.masked_fill(alerts.boxes.survey == 1, torch.nan)
    with pytest.raises(SettingsError, match=r"of ztf with a redshift for the redshift head: .* 0 held out"):
        check_counts(parts(alerts, redshift=redshift), SMALL, CLASSES)


def test_too_few_usual_alerts_for_the_prototypes_are_refused(alerts):
    many = SMALL.model_copy(update={"prototypes": 256})
    with pytest.raises(
        SettingsError, match=r"of lsst that are not bogus for the anomaly head: .* wanted 128 to train"
    ):
        check_counts(parts(alerts), many, CLASSES)


def test_a_head_that_was_never_validated_is_no_head():
    rng = torch.Generator().manual_seed(0)

    def described(count):
        return Described(
            torch.randn(count, 4, generator=rng),
            *[torch.zeros(count, 1)] * 2,
            *[torch.zeros(count).long()] * 2,
            torch.zeros(count),
        )

    seen = Seen([described(20)], described(0), described(5))
    with pytest.raises(SettingsError, match="loss on 0 validation alerts is nan, wanted a finite one"):
        fit_morphology(Head(4, 8, 2), seen, HeadsConfig(epochs=1))
