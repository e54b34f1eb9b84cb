"""The model that ships: small enough, cheap enough, trained."""

from importlib.resources import files

from broker.alert import SURVEYS
from broker.inference import Model

LARGEST_FILE = 8_000_000
MOST_MMAC = 40


def test_the_packaged_model_is_trained_and_within_its_budget() -> None:
    path = files("broker").joinpath("models", "default.onnx")
    contract = Model.load().contract
    assert len(path.read_bytes()) <= LARGEST_FILE
    assert 0 < contract.mmac <= MOST_MMAC
    assert contract.trained
    assert set(contract.photometry_range) == {survey.value for survey in SURVEYS}


def test_its_card_is_the_card_of_these_weights() -> None:
    card = files("broker").joinpath("models", "MODEL_CARD.md").read_text(encoding="utf-8")
    assert Model.load().contract.weights_digest in card
