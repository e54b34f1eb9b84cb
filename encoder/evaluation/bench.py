"""One pretrained encoder on one set of labelled images: frozen, fine-tuned, and the same network without it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from broker.errors import SettingsError
from encoder.evaluate import Ints, macro_f1
from encoder.evaluation.efficiency import Guess, Split
from encoder.fit import held_out_objects
from encoder.images.archive import ImageSet
from encoder.images.classifier import (
    ClassifierConfig,
    features,
    gentle_views,
    predict,
    train_classifier,
)
from encoder.images.config import ImageNetworkConfig, ImagePretrainConfig
from encoder.images.network import ImageEncoder
from encoder.images.task import new_moco
from encoder.images.views import Images, as_given
from encoder.moco import MoCo
from encoder.train import Run

CHUNK = 512
TUNED, SUPERVISED = "fine-tuned from the pretrained net", "supervised from scratch"

RATES = (3e-4, 1e-3, 3e-3)
"""Learning rates among which fine-tuning and supervision each choose."""

TUNING_LABELS = 400
"""Labels on which the learning rate and class weight are chosen, three quarters to learn and one to judge."""

TUNING_POWERS = (0.5, 1.0)


def check(run: Run[ImagePretrainConfig], images: ImageSet) -> None:
    """Check that an encoder can see images.

    Raises
    ------
    SettingsError
        They are of another kind, or of other bands.
    """
    network = run.config.network
    found, wanted = (images.kind.value, images.images.shape[1]), (network.kind.value, network.bands)
    if found != wanted:
        raise SettingsError(
            f"{found[0]} images of {found[1]} bands; the checkpoint learned from {wanted[0]} images of {wanted[1]}"
        )


class Bench:
    """One encoder, one set of labelled images, one split.

    Parameters
    ----------
    run : Run
    images : ImageSet

    Attributes
    ----------
    pretrained, random : ImageEncoder
        As trained, and with the first weights of the same recipe.
    split : Split
        What the recipe held out is tested.
    """

    def __init__(self, run: Run[ImagePretrainConfig], images: ImageSet) -> None:
        self._config, self._network = run.config, run.config.network
        check(run, images)
        self._set, self._images = images, Images.of(images)
        self._label = torch.from_numpy(images.label)
        self._classes = len(images.classes)
        self._views = gentle_views(self._network, images.bands)
        self.pretrained = encoder_of(run.moco)
        self.random = encoder_of(new_moco(run.config))
        test = held_out_objects(run.config, images.object_id.astype(str))
        self.split = Split(
            np.flatnonzero(~test), np.flatnonzero(test), images.label, images.object_id, images.classes
        )

    def features(self, encoder: ImageEncoder) -> NDArray[np.float32]:
        """Features of every image."""
        return features(encoder, self._images, self._network)

    def pixels(self) -> NDArray[np.float32]:
        """Every image as the network's first layer sees it."""
        return scaled_pixels(self._set, self._network)

    def trained(self, encoder: ImageEncoder, config: ClassifierConfig) -> Guess:
        """Train the whole network on the labels drawn; probabilities of the test rows."""

        def guess(rows: Ints, seed: int) -> NDArray[Any]:
            return self._predicted(encoder, config, rows, self.split.test, seed)

        return guess

    def tune(self, encoder: ImageEncoder, name: str) -> tuple[ClassifierConfig, str]:
        """Choose learning rate and class weight on labels of the pool, and say which."""
        rows = self.split.draw(min(TUNING_LABELS, len(self.split.pool)), seed=-1)
        judge, learn = rows[::4], np.setdiff1d(rows, rows[::4])
        scores = {}
        for rate in RATES:
            for power in TUNING_POWERS:
                config = ClassifierConfig(learning_rate=rate, weighting=power)
                seen = self._predicted(encoder, config, learn, judge, 0).argmax(1)
                scores[config] = macro_f1(self.split.label[judge], seen)
        best = max(scores, key=lambda one: scores[one])
        return best, (
            f"{name}: learning rate {best.learning_rate:g} of {RATES}, class weight count^-{best.weighting:g} of "
            f"{TUNING_POWERS}, chosen on {len(judge)} of {len(rows)} labels of the pool."
        )

    def _predicted(
        self, encoder: ImageEncoder, config: ClassifierConfig, rows: Ints, test: Ints, seed: int
    ) -> NDArray[np.float32]:
        known, wanted = torch.from_numpy(rows), torch.from_numpy(test)
        model = train_classifier(
            encoder,
            self._images[known],
            self._label[known],
            self._views,
            config,
            classes=self._classes,
            seed=seed,
        )
        return predict(model, self._images[wanted], self._network)


@torch.no_grad()
def scaled_pixels(images: ImageSet, network: ImageNetworkConfig) -> NDArray[np.float32]:
    """Pixels (n, bands, size, size) as a network's first layer sees them: what baselines on pixels are given too."""
    encoder, found = ImageEncoder(network), []
    for start in range(0, len(images), CHUNK):
        laid = as_given(Images.of(images.take(slice(start, start + CHUNK))), network)
        found.append(encoder.scaled(laid.pixels, laid.noise)[:, : network.bands])
    return np.asarray(torch.cat(found).numpy())


def networks(bench: "Bench", told: Callable[[str], None]) -> tuple[dict[str, Guess], tuple[str, ...]]:
    """Whole networks to be trained on labels, each with the settings that suit it, and what was chosen."""
    networks, remarks = {}, []
    for name, encoder in ((TUNED, bench.pretrained), (SUPERVISED, bench.random)):
        told(f"tuning: {name}")
        config, line = bench.tune(encoder, name)
        networks[name] = bench.trained(encoder, config)
        remarks.append(line)
    return networks, tuple(remarks)


def remembered(guess: Guess) -> Guess:
    """Train once for the same labels, however often it is asked."""
    known: dict[tuple[bytes, int], NDArray[Any]] = {}

    def remembered(rows: Ints, seed: int) -> NDArray[Any]:
        key = rows.tobytes(), seed
        if key not in known:
            known[key] = guess(rows, seed)
        return known[key]

    return remembered


def encoder_of(moco: MoCo) -> ImageEncoder:
    """Take the encoder that learns by gradients, in evaluation mode."""
    encoder = moco.base_encoder.eval()
    assert isinstance(encoder, ImageEncoder)
    return encoder
