"""Heads on a frozen encoder, fitted on views of labelled alerts and calibrated on other objects."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional

from broker.alert import SURVEYS
from broker.errors import SettingsError
from encoder.anomaly import ARTEFACT
from encoder.augment import Views, as_served
from encoder.boxes import Boxes, Laid, split_by_object
from encoder.config import HeadsConfig, NetworkConfig, PretrainConfig, Recipe
from encoder.heads import Head
from encoder.model import AlertModel

VALIDATION_SEED = 1
"""Added to the split's seed: validation objects are chosen apart from held-out ones."""

TEMPERATURES = torch.logspace(-0.7, 0.7, 141)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Alerts with what is known of them.

    Attributes
    ----------
    boxes : Boxes
    label : Tensor of int64, shape (n,)
        -1 where unknown.
    redshift : Tensor, shape (n,)
        NaN where unknown.
    object_id : ndarray of str, shape (n,)
    """

    boxes: Boxes
    label: Tensor
    redshift: Tensor
    object_id: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: NDArray[np.bool_]) -> "Labelled":
        """Rows chosen by a boolean array."""
        chosen = torch.from_numpy(rows)
        return Labelled(self.boxes[chosen], self.label[chosen], self.redshift[chosen], self.object_id[rows])


@dataclass(frozen=True, slots=True)
class Described:
    """Alerts as the heads see them.

    Attributes
    ----------
    appearance : Tensor, shape (n, a)
        What the morphology head reads.
    photometry : Tensor, shape (n, 6)
    embedding : Tensor, shape (n, d)
    survey, label : Tensor of int64, shape (n,)
    redshift : Tensor, shape (n,)
    """

    appearance: Tensor
    photometry: Tensor
    embedding: Tensor
    survey: Tensor
    label: Tensor
    redshift: Tensor


@dataclass(frozen=True, slots=True)
class Parts:
    """One set of alerts in three parts that share no object.

    Attributes
    ----------
    train, validation, held_out : Labelled
    """

    train: Labelled
    validation: Labelled
    held_out: Labelled


@dataclass(frozen=True, slots=True)
class Seen:
    """The three parts through one encoder.

    Attributes
    ----------
    train : list of Described
        The training alerts as served, then under several views.
    validation, held_out : Described
        As served.
    """

    train: list[Described]
    validation: Described
    held_out: Described


def held_out_objects(config: Recipe, object_id: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Rows of objects that neither pretraining nor heads are trained on, shape (n,)."""
    return split_by_object(object_id, config.held_out, config.split_seed)


def split(alerts: Labelled, pretraining: PretrainConfig, config: HeadsConfig) -> Parts:
    """Split by object: what pretraining held out stays held out."""
    held_out = held_out_objects(pretraining, alerts.object_id)
    validation = split_by_object(
        alerts.object_id, config.validation, pretraining.split_seed + VALIDATION_SEED
    )
    return Parts(
        train=alerts.take(~held_out & ~validation),
        validation=alerts.take(~held_out & validation),
        held_out=alerts.take(held_out),
    )


def look(model: AlertModel, parts: Parts, pretraining: PretrainConfig, config: HeadsConfig) -> Seen:
    """Run every part through a frozen encoder."""
    return Seen(
        train=[served(model, parts.train), *viewed(model, parts.train, pretraining, config)],
        validation=served(model, parts.validation),
        held_out=served(model, parts.held_out),
    )


@torch.no_grad()
def describe(
    model: AlertModel, alerts: Labelled, view: Callable[[Boxes], Laid], chunk: int = 256
) -> Described:
    """Run the frozen encoder.

    Parameters
    ----------
    model : AlertModel
    alerts : Labelled
    view : callable
        From boxes to stamps on the grid.
    chunk : int
        Rows at a time.

    Returns
    -------
    Described
    """
    model.eval()
    appearance, photometry, embedding = [], [], []
    for start in range(0, len(alerts), chunk):
        laid = view(alerts.boxes[slice(start, start + chunk)])
        stamps, mask, noise, survey, band, light = laid.network_inputs()
        seen = model.encoder(stamps, mask, noise, band)
        appearance.append(model.appearance(seen, survey))
        embedding.append(seen.embedding)
        photometry.append(light)
    return Described(
        torch.cat(appearance),
        torch.cat(photometry),
        torch.cat(embedding),
        alerts.boxes.survey,
        alerts.label,
        alerts.redshift,
    )


def served(model: AlertModel, alerts: Labelled) -> Described:
    """Describe alerts as the broker lays them."""
    return describe(model, alerts, lambda boxes: as_served(boxes, model.config.size))


def viewed(
    model: AlertModel, alerts: Labelled, config: PretrainConfig, heads: HeadsConfig
) -> list[Described]:
    """Describe each alert under several views."""
    views = Views(config.views, model.config.size)
    generator = Generator().manual_seed(heads.seed)
    return [describe(model, alerts, lambda boxes: views(boxes, generator)) for _ in range(heads.draws)]


def fit_heads(model: AlertModel, seen: Seen, config: HeadsConfig) -> None:
    """Fit and calibrate morphology, redshift and anomaly; the encoder stays as it is.

    Parameters
    ----------
    model : AlertModel
        Its heads are changed in place.
    seen : Seen
        Training alerts fit, validation alerts choose the epoch and calibrate.
    config : HeadsConfig
    """
    fit_morphology(model.morphology, seen, config)
    fit_redshift(model, model.redshift, seen, config)
    fit_anomaly(model, seen, config)


def fit_anomaly(model: AlertModel, seen: Seen, config: HeadsConfig) -> None:
    """Fit anomaly and its views on usual alerts: prototypes on training rows, quantiles on validation rows.

    The views read the morphology head, which must be fitted before.
    """
    train, validation = seen.train[0], seen.validation
    skipped = model.classes.index(ARTEFACT) if ARTEFACT in model.classes else len(model.classes)
    placed, kept = train.label != skipped, validation.label != skipped
    calibration = torch.arange(int(placed.sum() + kept.sum())) >= int(placed.sum())
    model.anomaly.fit(
        torch.cat([train.embedding[placed], validation.embedding[kept]]),
        torch.cat([train.survey[placed], validation.survey[kept]]),
        calibration,
        config.seed,
    )
    if model.anomaly_views is not None:
        survey = validation.survey[kept]
        survival = model.anomaly.survival(validation.embedding[kept], survey)
        model.morphology.eval()
        with torch.no_grad():
            logits = model.morphology(validation.appearance[kept])
        model.anomaly_views.fit(survival, logits, survey)


def fit_morphology(head: Head, seen: Seen, config: HeadsConfig) -> None:
    """Fit a class head on rows with a label."""
    train, validation = seen.train, seen.validation
    rows = torch.nonzero(train[0].label >= 0).squeeze(1)
    kept = validation.label >= 0
    inputs = [one.appearance for one in train]
    _fit(
        head,
        lambda draw, chosen, _: inputs[draw][chosen],
        lambda chosen: train[0].label[chosen],
        (rows, len(train)),
        (validation.appearance[kept], validation.label[kept]),
        config,
    )


def fit_redshift(
    model: AlertModel, head: Head, seen: Seen, config: HeadsConfig, *, images: bool = True
) -> None:
    """Fit a redshift head on rows with a redshift.

    Photometry is withheld from some, so that the head stands without; without ``images`` it sees nothing
    else.
    """
    train, validation = seen.train, seen.validation
    targets = z_bin(train[0].redshift, model.config)
    rows = torch.nonzero(targets >= 0).squeeze(1)
    kept = torch.isfinite(validation.redshift)

    def inputs(draw: int, chosen: Tensor, generator: Generator) -> Tensor:
        withheld = torch.rand(len(chosen), 1, generator=generator) < config.withheld_photometry
        light = torch.where(withheld, torch.full((), torch.nan), train[draw].photometry[chosen])
        return redshift_inputs(model, train[draw].appearance[chosen], light, images=images)

    known = redshift_inputs(model, validation.appearance[kept], validation.photometry[kept], images=images)
    _fit(
        head,
        inputs,
        lambda chosen: targets[chosen],
        (rows, len(train)),
        (known, z_bin(validation.redshift[kept], model.config)),
        config,
    )


def redshift_inputs(
    model: AlertModel, appearance: Tensor, photometry: Tensor, *, images: bool = True
) -> Tensor:
    """Join what the redshift head reads; without ``images``, all of the appearance but the survey is 0."""
    if not images:
        appearance = torch.cat(
            [torch.zeros_like(appearance[:, : -len(SURVEYS)]), appearance[:, -len(SURVEYS) :]], dim=1
        )
    return torch.cat([appearance, model.describe_photometry(photometry)], dim=1)


def z_bin(redshift: Tensor, config: NetworkConfig) -> Tensor:
    """Bin of each redshift, -1 where unknown; the last bin holds everything beyond the range."""
    known = torch.isfinite(redshift)
    place = torch.where(known, redshift, torch.zeros(())) / config.z_max * config.z_bins
    return torch.where(known, place.long().clamp(0, config.z_bins - 1), torch.full((), -1))


def _fit(
    head: Head,
    inputs: Callable[[int, Tensor, Generator], Tensor],
    targets: Callable[[Tensor], Tensor],
    extent: tuple[Tensor, int],
    validation: tuple[Tensor, Tensor],
    config: HeadsConfig,
) -> None:
    """Train on (view, rows), keep the epoch of the best validation loss, then calibrate the temperature."""
    rows, draws = extent
    generator = Generator().manual_seed(config.seed)
    head.standardise.fit(torch.cat([inputs(draw, rows, generator) for draw in range(draws)]))
    optimizer = torch.optim.AdamW(
        head.layers.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )
    steps = config.epochs * -(-len(rows) // config.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps)
    best, kept = float("inf"), copy.deepcopy(head.state_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # dropout draws from torch's own generator
        for epoch in range(config.epochs):
            head.train()
            shuffled = rows[torch.randperm(len(rows), generator=generator)]
            for chosen in torch.split(shuffled, config.batch_size):
                loss = functional.cross_entropy(
                    head(inputs(epoch % draws, chosen, generator)), targets(chosen)
                )
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
            found = _loss(head, *validation)
            if found < best:
                best, kept = found, copy.deepcopy(head.state_dict())
    if math.isinf(best):
        raise SettingsError(
            f"a head's loss on {len(validation[1])} validation alerts is {found}, wanted a finite one: label more, or "
            "lower learning_rate"
        )
    head.load_state_dict(kept)
    calibrate(head, *validation)


@torch.no_grad()
def _loss(head: Head, inputs: Tensor, target: Tensor) -> float:
    head.eval()
    return float(functional.cross_entropy(head(inputs), target))


@torch.no_grad()
def calibrate(head: Head, inputs: Tensor, target: Tensor) -> None:
    """Set the temperature under which probabilities fit best (Guo et al. 2017, arXiv 1706.04599)."""
    head.eval()
    head.temperature.fill_(1.0)
    logits = head(inputs)
    losses = torch.stack([functional.cross_entropy(logits / one, target) for one in TEMPERATURES])
    head.temperature.copy_(TEMPERATURES[losses.argmin()])
