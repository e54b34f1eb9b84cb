"""Training whole networks on few labels."""

import numpy as np
import pytest
import torch

from broker.errors import SettingsError
from encoder.evaluation.images import Grouping
from encoder.images.archive import ImageSet, Kind
from encoder.images.classifier import (
    ClassifierConfig,
    class_weight,
    features,
    gentle_views,
    orientations,
    predict,
    train_classifier,
)
from encoder.images.config import ImageNetworkConfig
from encoder.images.network import ImageEncoder
from encoder.images.views import Images

pytestmark = pytest.mark.train

NETWORK = ImageNetworkConfig(size=16, field=16, widths=(8, 16), blocks=1, groups=4, embedding_size=8)


def pictures(count: int) -> ImageSet:
    """Round spots and long ones, at any angle."""
    rng = np.random.default_rng(1)
    label = rng.integers(0, 2, count)
    y, x = np.mgrid[:24, :24] - 11.5
    angle = rng.uniform(0, np.pi, count)[:, None, None]
    across = x * np.cos(angle) + y * np.sin(angle)
    along = -x * np.sin(angle) + y * np.cos(angle)
    length = np.where(label, 5.0, 2.0)[:, None, None]
    spot = 200 * np.exp(-0.5 * ((across / 2) ** 2 + (along / length) ** 2))
    images = np.repeat(spot[:, None], 3, axis=1) + rng.uniform(0, 10, (count, 3, 24, 24))
    return ImageSet.of(
        images.clip(0, 255).astype(np.uint8),
        kind=Kind.DISPLAY,
        bands=("red", "green", "blue"),
        classes=("round", "long"),
        label=label,
    )


def test_it_learns_and_leaves_the_encoder_as_it_was() -> None:
    images = pictures(160)
    torch.manual_seed(0)
    encoder = ImageEncoder(NETWORK).eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    given, label = Images.of(images), torch.from_numpy(images.label)
    config = ClassifierConfig(steps=60, epochs=1, batch_size=32, learning_rate=3e-3)
    views = gentle_views(NETWORK, images.bands)
    models = [
        train_classifier(encoder, given[slice(0, 80)], label[:80], views, config, classes=2, seed=1)
        for _ in range(2)
    ]
    found = predict(models[0], given[slice(80, 160)], NETWORK)
    assert (found.argmax(1) == images.label[80:]).mean() > 0.85
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(found, predict(models[1], given[slice(80, 160)], NETWORK))
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_eight_orientations_are_distinct_and_features_do_not_know_which() -> None:
    images = pictures(4)
    given = Images.of(images)
    seen = [view.pixels for view in orientations(given, NETWORK)]
    assert len(seen) == 8
    assert all(not torch.allclose(a, b, atol=1.0) for i, a in enumerate(seen) for b in seen[i + 1 :]), (
        "two orientations are the same"
    )
    turned = Images.of(
        ImageSet.of(
            np.ascontiguousarray(np.rot90(images.images, axes=(2, 3))), kind=Kind.DISPLAY, bands=images.bands
        )
    )
    encoder = ImageEncoder(NETWORK).eval()
    np.testing.assert_allclose(
        features(encoder, given, NETWORK), features(encoder, turned, NETWORK), atol=1e-3
    )


def test_class_weights() -> None:
    label = torch.tensor([0, 0, 0, 1])
    assert class_weight(label, 2, 0.0).tolist() == [1, 1]
    balanced = class_weight(label, 2, 1.0)
    assert balanced[1] == pytest.approx(3 * balanced[0])
    assert balanced[label].mean() == pytest.approx(1)


def test_classes_are_merged_and_dropped() -> None:
    images = ImageSet.of(
        np.zeros((4, 3, 8, 8), np.uint8),
        kind=Kind.DISPLAY,
        bands=("red", "green", "blue"),
        classes=("e", "left", "right", "unknown"),
        label=np.array([0, 1, 2, 3]),
    )
    found = Grouping.parse(["spiral=left,right"], ["unknown"]).apply(images)
    assert found.classes == ("e", "spiral")
    assert found.label.tolist() == [0, 1, 1]
    with pytest.raises(SettingsError, match=r"no class \['merger'\]: the images have e, left"):
        Grouping.parse([], ["merger"]).apply(images)
    with pytest.raises(SettingsError, match="wanted NAME=CLASS,CLASS"):
        Grouping.parse(["spiral"], [])
