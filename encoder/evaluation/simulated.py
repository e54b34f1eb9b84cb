"""Labelled shards of simulated alerts: label efficiency of an encoder, and what it keeps from survey to survey."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from broker.alert import SURVEYS
from broker.contract import COMMON_GRID
from broker.errors import SettingsError
from encoder.alert_task import new_moco
from encoder.archive import load_shards
from encoder.augment import as_served
from encoder.backbone import Encoder
from encoder.boxes import Boxes
from encoder.config import PretrainConfig
from encoder.evaluate import Measured, measure
from encoder.evaluation import efficiency
from encoder.evaluation.efficiency import RESAMPLES, SEEDS, Split, mean_f1
from encoder.evaluation.result import Section
from encoder.fit import held_out_objects
from encoder.moco import MoCo
from encoder.train import Run

CHUNK = 256
PROBE, RANDOM = "probe of the pretrained net", "probe of a random net"

SHIFT_LABELS = 1000
"""Labels of one survey a probe is fitted on."""

FEWEST = 200
"""Labelled alerts below which nothing is said of a survey."""

FEATURES = "pooled stages, how the alert was seen, and embedding"


class SimulatedAlerts:
    """Shards, divided into what pretraining saw and what it held out.

    Parameters
    ----------
    folder : Path
    config : PretrainConfig
        Of the pretraining, which says who was held out.

    Attributes
    ----------
    boxes : Boxes
    label : Tensor of int64, shape (n,)
    redshift : ndarray, shape (n,)
    object_id : ndarray of str, shape (n,)
    held_out : ndarray of bool, shape (n,)
    split : Split
        Of those with a label.

    Raises
    ------
    SettingsError
        The folder has no shards.
    """

    def __init__(self, folder: Path, config: PretrainConfig) -> None:
        paths = sorted(folder.glob("*.npz"))
        if not paths:
            raise SettingsError(f"{folder} holds no shards: `encoder simulate --output {folder}` makes some")
        shard = load_shards(paths)
        self.boxes = Boxes.of(shard, COMMON_GRID)
        self.label = torch.from_numpy(shard.label)
        self.redshift, self.object_id = shard.redshift.astype(np.float64), shard.object_id
        self.held_out = held_out_objects(config, self.object_id)
        known = shard.label >= 0
        self.split = Split(
            np.flatnonzero(~self.held_out & known),
            np.flatnonzero(self.held_out & known),
            shard.label,
            self.object_id,
            shard.classes,
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def of_survey(self, index: int) -> Split:
        """Take one survey's part of the split."""
        own = self.boxes.survey.numpy() == index
        pool, test = (rows[own[rows]] for rows in (self.split.pool, self.split.test))
        return replace(self.split, pool=pool, test=test)


@torch.no_grad()
def described(encoder: Encoder, boxes: Boxes, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features with context (n, f), and embedding (n, d), of alerts as served."""
    features, embedding = [], []
    for start in range(0, len(boxes), CHUNK):
        stamps, mask, noise, _, band, _ = as_served(boxes[slice(start, start + CHUNK)], size).network_inputs()
        seen = encoder(stamps, mask, noise, band)
        features.append(torch.cat([seen.features, seen.context, seen.raw], 1))
        embedding.append(seen.embedding)
    return torch.cat(features).numpy(), torch.cat(embedding).numpy()


def evaluate_shards(
    run: Run[PretrainConfig], folder: Path, told: Callable[[str], None]
) -> tuple[int, list[Section]]:
    """Measure a checkpoint on simulated alerts that it has not seen, beside the same network with random weights.

    Parameters
    ----------
    run : Run
        Of `encoder.alert_task.load_checkpoint`.
    folder : Path
        Shards with labels.
    told : callable
        Told of each step.

    Returns
    -------
    int
        Alerts that were read.
    list of Section
    """
    alerts = SimulatedAlerts(folder, run.config)
    told("features")
    size = run.config.network.size
    features = {
        name: described(encoder_of(moco), alerts.boxes, size)[0]
        for name, moco in ((PROBE, run.moco), (RANDOM, new_moco(run.config)))
    }
    split = alerts.split
    numbers = efficiency.affordable(split)
    methods = {name: efficiency.linear(seen, split) for name, seen in features.items()}
    found = efficiency.run(methods, split, dict.fromkeys(methods, numbers), told)
    few = efficiency.section(found, split, f"{folder.name}, simulated alerts", (PROBE,), None, FEATURES)
    few = few.model_copy(update={"remarks": few.remarks + efficiency.of_labels(run.config)})
    return len(alerts), [few, *_shift(alerts, features, folder.name, told)]


def encoder_of(moco: MoCo) -> Encoder:
    """Take the encoder that learns by gradients, in evaluation mode."""
    encoder = moco.base_encoder.eval()
    assert isinstance(encoder, Encoder)
    return encoder


def _shift(
    alerts: SimulatedAlerts,
    features: dict[str, NDArray[np.float32]],
    what: str,
    told: Callable[[str], None],
) -> list[Section]:
    splits = {survey.value: alerts.of_survey(index) for index, survey in enumerate(SURVEYS)}
    if any(min(len(split.pool), len(split.test)) < FEWEST for split in splits.values()):
        return []
    table: dict[str, dict[str, Measured]] = {}
    for name, seen in features.items():
        for learned, pool in splits.items():
            for asked, test in splits.items():
                told(f"{name}, labels of {learned}, alerts of {asked}")
                pair = replace(pool, test=test.test)
                table[f"{name}, labels of {learned}, alerts of {asked}"] = {"macro_f1": _score(seen, pair)}
    return [
        Section(
            title=f"Survey shift: {what}, simulated alerts",
            method=(
                f"Probes as above on {SHIFT_LABELS} labels of one survey, asked about held-out alerts of the same and "
                f"of the other; mean over {SEEDS} draws of labels. Brackets: 95 % bootstrap over objects."
            ),
            tables={"labels of one survey, alerts of another": table},
            definitions={"macro_f1": efficiency.DEFINITIONS["macro_f1"]},
        )
    ]


def _score(features: NDArray[Any], split: Split) -> Measured:
    fit = efficiency.linear(features, split)
    number = min(SHIFT_LABELS, len(split.pool))
    seen = [fit(split.draw(number, seed), seed) for seed in range(SEEDS)]
    truth, objects = split.label[split.test], split.object_id[split.test]
    return measure(mean_f1(truth, seen), objects, 0, RESAMPLES)
