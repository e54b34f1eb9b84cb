"""Held-out metrics of a fitted model against baselines."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from broker.alert import SURVEYS
from encoder import evaluate
from encoder.anomaly import ARTEFACT
from encoder.config import HeadsConfig
from encoder.evaluate import Floats, Ints, Measured
from encoder.fit import Labelled, Seen, fit_morphology, fit_redshift, redshift_inputs, z_bin
from encoder.heads import Head
from encoder.model import AlertModel
from encoder.scores import (
    Metric,
    Metrics,
    anomaly_metrics,
    calibration_metrics,
    class_metrics,
    recall_metrics,
    redshift_metrics,
)

Row = dict[str, Measured]
Table = dict[str, Row]

Bootstrap = Callable[[Metric], Measured]


class Report(BaseModel):
    """Everything the model card says in numbers.

    Attributes
    ----------
    definitions : dict of str to str
        Of each metric.
    seeds, counts : dict of str to int
    tables : dict
        Table, then row, then metric.
    recall : dict of str to Measured
        Of each class.
    curve : dict of str to float
        Last entry of the pretraining log.
    """

    model_config = ConfigDict(frozen=True)

    definitions: dict[str, str]
    seeds: dict[str, int]
    counts: dict[str, int]
    tables: dict[str, Table]
    recall: Row
    curve: dict[str, float]


@dataclass(frozen=True, slots=True)
class Examination:
    """A fitted model before alerts it was not trained on.

    Attributes
    ----------
    model : AlertModel
    seen : Seen
        Through the model's encoder.
    random : Seen
        Through the same network with the random weights it began with.
    alerts : Labelled
        The held-out ones.
    config : HeadsConfig
    """

    model: AlertModel
    seen: Seen
    random: Seen
    alerts: Labelled
    config: HeadsConfig

    def tables(self) -> dict[str, Table]:
        """Every table of the report."""
        photometry_only = self._photometry_only()
        redshift = {
            f"redshift, {survey.value}": self._redshift(photometry_only, index)
            for index, survey in enumerate(SURVEYS)
        }
        return {"morphology": self._morphology(), **redshift, "anomaly": self._anomaly()}

    def recall(self) -> Row:
        """Share of each class that is recognised."""
        truth, probability, boot = self._classified()
        return _row(recall_metrics(truth, probability.argmax(axis=1), self.model.classes), boot)

    def counts(self) -> dict[str, int]:
        """How many alerts stood where."""
        held_out = self.seen.held_out
        return {
            "training": len(self.seen.train[0].label),
            "validation": len(self.seen.validation.label),
            "held_out": len(self.alerts),
            "held_out_objects": len(np.unique(self.alerts.object_id)),
            "held_out_beyond_z_max": int((held_out.redshift >= self.model.config.z_max).sum()),
        }

    def _bootstrap(self, rows: Tensor) -> Bootstrap:
        objects = self.alerts.object_id[rows.numpy()]
        return lambda metric: evaluate.measure(metric, objects, self.config.seed, self.config.resamples)

    def _classified(self) -> tuple[Ints, Floats, Bootstrap]:
        rows = torch.nonzero(self.seen.held_out.label >= 0).squeeze(1)
        probability = _probability(self.model.morphology, self.seen.held_out.appearance[rows])
        return self.seen.held_out.label[rows].numpy(), probability, self._bootstrap(rows)

    def _morphology(self) -> Table:
        truth, probability, boot = self._classified()
        known = self.seen.train[0].label
        draws = np.random.default_rng(self.config.seed)
        guesses = {
            "this model": probability.argmax(axis=1),
            "random frozen encoder, same head": self._random_guess(),
            "majority class": np.full(len(truth), int(torch.bincount(known[known >= 0]).argmax())),
            "chance": draws.integers(0, len(self.model.classes), len(truth)),
        }
        table = {name: _row(class_metrics(truth, guess), boot) for name, guess in guesses.items()}
        table["this model"] |= _row(calibration_metrics(truth, probability), boot)
        return table

    def _random_guess(self) -> Ints:
        head = _forgotten(self.model.morphology, self.config.seed)
        fit_morphology(head, self.random, self.config)
        held_out = self.random.held_out
        return np.asarray(_probability(head, held_out.appearance[held_out.label >= 0]).argmax(axis=1))

    def _photometry_only(self) -> Head:
        head = _forgotten(self.model.redshift, self.config.seed)
        fit_redshift(self.model, head, self.seen, self.config, images=False)
        return head

    def _redshift(self, photometry_only: Head, survey: int) -> Table:
        seen, z_max = self.seen.held_out, self.model.config.z_max
        rows = torch.nonzero((seen.redshift < z_max) & (seen.survey == survey)).squeeze(1)
        image, light = seen.appearance[rows], seen.photometry[rows]
        dark = torch.full_like(light, torch.nan)
        pdfs = {
            "this model": _probability(self.model.redshift, redshift_inputs(self.model, image, light)),
            "this model, photometry withheld": _probability(
                self.model.redshift, redshift_inputs(self.model, image, dark)
            ),
            "photometry only, same head": _probability(
                photometry_only, redshift_inputs(self.model, image, light, images=False)
            ),
            "mean of the survey": self._climatology(survey, len(rows)),
        }
        truth, boot = seen.redshift[rows].double().numpy(), self._bootstrap(rows)
        return {name: _row(redshift_metrics(truth, pdf, z_max), boot) for name, pdf in pdfs.items()}

    def _climatology(self, survey: int, count: int) -> Floats:
        """Redshift distribution of the survey's training alerts, the same for every alert."""
        train = self.seen.train[0]
        bins = z_bin(train.redshift[train.survey == survey], self.model.config)
        number = torch.bincount(bins[bins >= 0], minlength=self.model.config.z_bins).double().numpy()
        return np.tile(number / number.sum(), (count, 1))

    @torch.no_grad()
    def _anomaly(self) -> Table:
        scores, strange = self._scores(), self.seen.held_out.label.numpy() == self._artefact
        table = {}
        for index, survey in enumerate(SURVEYS):
            rows = torch.nonzero(self.seen.held_out.survey == index).squeeze(1)
            boot, mine = self._bootstrap(rows), rows.numpy()
            for name, score in scores.items():
                metrics = anomaly_metrics(score[mine], strange[mine])
                table[f"{survey.value}, {name}"] = _row(metrics, boot)
        return table

    @property
    def _artefact(self) -> int:
        return (
            self.model.classes.index(ARTEFACT) if ARTEFACT in self.model.classes else len(self.model.classes)
        )

    def _scores(self) -> dict[str, Floats]:
        """Anomaly of each held-out alert and, where the model has them, its views."""
        seen, model = self.seen.held_out, self.model
        survival = model.anomaly.survival(seen.embedding, seen.survey)
        scores = {"anomaly": 1 - survival}
        if model.anomaly_views is not None:
            model.morphology.eval()
            views = model.anomaly_views(survival, model.morphology(seen.appearance), seen.survey)
            scores |= dict(zip(("interesting", "artefact"), views, strict=True))
        return {name: np.asarray(score.double().numpy()) for name, score in scores.items()}


@torch.no_grad()
def _probability(head: Head, inputs: Tensor) -> Floats:
    head.eval()
    return np.asarray(torch.softmax(head(inputs), dim=1).double().numpy())


def _forgotten(head: Head, seed: int) -> Head:
    """Copy a head and draw its weights anew."""
    fresh = copy.deepcopy(head)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in fresh.layers:
            if isinstance(layer, torch.nn.Linear):
                layer.reset_parameters()
    fresh.temperature.fill_(1.0)
    return fresh


def _row(metrics: Metrics, boot: Bootstrap) -> Row:
    return {name: boot(metric) for name, metric in metrics.items()}
