"""An anomaly seen as something interesting and as an artefact, each a fraction of the reference population."""

import math

import pytest
import torch

from encoder.anomaly import AnomalyViews
from encoder.config import NetworkConfig
from encoder.model import AlertModel
from encoder.quantiles import Quantiles

pytestmark = pytest.mark.train

ARTEFACT = 1
COUNT = 8000


def reference(seed):
    """Usual alerts: how unusual they are is even; few look like artefacts, and ZTF's more often."""
    generator = torch.Generator().manual_seed(seed)
    survey = torch.arange(COUNT) % 2
    logits = 2 * torch.randn(COUNT, 3, generator=generator)
    logits[:, ARTEFACT] -= 6 - 2 * survey
    return torch.rand(COUNT, generator=generator), logits, survey


@pytest.fixture(scope="module")
def views():
    fitted = AnomalyViews(NetworkConfig(), ARTEFACT)
    fitted.fit(*reference(0))
    return fitted


def one(survival, artefact_logit, survey=0):
    """Alerts of which one quantity varies."""
    survival, artefact = torch.broadcast_tensors(torch.as_tensor(survival), torch.as_tensor(artefact_logit))
    logits = torch.zeros(len(survival), 3)
    logits[:, ARTEFACT] = artefact
    return survival, logits, torch.full((len(survival),), survey)


def test_each_view_is_a_fraction_of_the_reference_of_its_survey(views):
    survival, logits, survey = reference(1)
    for view in views(survival, logits, survey):
        for index in range(2):
            found = view[survey == index].sort().values
            even = (torch.arange(len(found)) + 0.5) / len(found)
            assert float((found - even).abs().max()) < 0.04


def test_what_is_unusual_and_an_artefact_is_not_interesting(views):
    unusual = torch.full((2,), 1e-4)
    interesting, artefact = views(*one(unusual, torch.tensor([-9.0, 9.0])))
    assert interesting[0] > 0.99
    assert interesting[1] < 0.01
    assert artefact[0] < 0.5
    assert artefact[1] > 0.999


def test_interest_rises_with_the_distance_and_falls_with_the_odds_of_an_artefact(views):
    farther = torch.logspace(0, -6, 300)
    assert (views(*one(farther, -4.0))[0].diff() >= 0).all()
    likelier = torch.linspace(-12, 12, 300)
    interesting, artefact = views(*one(0.05, likelier))
    assert (interesting.diff() <= 0).all()
    assert (artefact.diff() >= 0).all()


def test_alerts_beyond_all_of_the_reference_do_not_tie(views):
    farther = torch.logspace(-4, -5.5, 200)
    interesting = views(*one(farther, -30.0))[0]
    most, tail = views.artificial.table[0, -1], views.artificial.tail[0]
    odds = most + tail * torch.linspace(0, 5, 200)
    artefact = views(*one(0.5, odds + math.log(2)))[1]  # two other classes, each at 0
    for view in (interesting, artefact):
        assert (view > 0.999).all()
        assert (view.diff() > 0).float().mean() > 0.9


def test_odds_are_those_of_the_probabilities(views):
    logits = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    chance = torch.softmax(logits, 1)[:, ARTEFACT]
    torch.testing.assert_close(views.log_odds(logits), torch.log(chance / (1 - chance)))


def test_a_fraction_and_the_rest_of_the_population_are_all_of_it():
    quantiles = Quantiles(101)
    value, survey = torch.randn(999, generator=torch.Generator().manual_seed(0)), torch.arange(999) % 2
    quantiles.fit(value, survey)
    total = quantiles(value, survey) + quantiles.survival(value, survey)
    torch.testing.assert_close(total, torch.ones(999))
    middle = torch.stack([value[survey == index].median() for index in range(2)])
    assert (quantiles(middle, torch.arange(2)) - 0.5).abs().max() < 0.01


def test_a_reference_all_of_one_value_gives_numbers():
    quantiles = Quantiles(101)
    quantiles.fit(torch.ones(100), torch.arange(100) % 2)
    found = quantiles(torch.tensor([0.0, 1.0, 2.0]), torch.zeros(3, dtype=torch.long))
    assert ((found >= 0) & (found <= 1)).all()
    assert found[0] == 0
    assert found[2] > 0.99


def test_the_artefact_is_the_class_of_that_name_wherever_it_stands():
    assert AlertModel(NetworkConfig(), ("star", "bogus", "disk")).anomaly_views.artefact == 1
    assert AlertModel(NetworkConfig(), ("star", "disk")).anomaly_views is None
