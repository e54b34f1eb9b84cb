"""Recipes that the documents tell of are recipes."""

from pathlib import Path

import pytest

from encoder.config import PretrainConfig
from encoder.images.config import ImagePretrainConfig

pytestmark = pytest.mark.train

RECIPES = Path(__file__).resolve().parents[3] / "encoder" / "recipes"
KINDS = {
    "alerts": PretrainConfig,
    "alerts-gpu": PretrainConfig,
    "galaxies": ImagePretrainConfig,
    "hosts": ImagePretrainConfig,
}


def test_every_recipe_is_known():
    assert {path.stem for path in RECIPES.glob("*.json")} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_a_recipe_is_valid_and_is_not_the_default(name):
    recipe = KINDS[name].model_validate_json((RECIPES / f"{name}.json").read_text())
    assert recipe != KINDS[name]()


def test_eight_processes_share_the_batch_of_a_gpu_node():
    recipe = PretrainConfig.model_validate_json((RECIPES / "alerts-gpu.json").read_text())
    assert recipe.pieces % 8 == 0
    # 200,000 alerts in two visits each, a fifth held out: objects must not meet themselves in the queue.
    assert recipe.queue <= 200_000 / 2 * (1 - recipe.held_out) / 4
