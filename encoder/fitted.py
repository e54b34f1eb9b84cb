"""A fitted model on disk: what `encoder fit-heads` leaves and `encoder export` takes."""

import os
from dataclasses import dataclass
from operator import lt
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

from broker.alert import SURVEYS
from broker.errors import SettingsError
from broker.photometry import magnitude
from encoder import evaluate
from encoder.alert_task import new_moco
from encoder.anomaly import ARTEFACT
from encoder.config import HeadsConfig, NetworkConfig, PretrainConfig
from encoder.export import Provenance
from encoder.fit import Labelled, Parts, fit_heads, look, split
from encoder.heads import FLUX_SOFTENING
from encoder.model import AlertModel
from encoder.report import Examination, Report
from encoder.train import Run

MODEL = "model.pt"
METRICS = "metrics.json"

NAME, VERSION = "nightjar", "3"

FEWEST = 5
"""Alerts a head needs in each part: without any it stays as it was drawn, and a few tell no epoch from another."""

RANGE_PERCENTILES = (1, 99)
"""Between which the magnitudes of the training set count as its range: the extremes are single objects."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model with its heads, what it came from and how it did.

    Attributes
    ----------
    model : AlertModel
    provenance : Provenance
    report : Report
    """

    model: AlertModel
    provenance: Provenance
    report: Report


def fit(run: Run[PretrainConfig], alerts: Labelled, classes: tuple[str, ...], config: HeadsConfig) -> Fitted:
    """Fit heads on a pretrained encoder and measure them on objects neither was trained on.

    Parameters
    ----------
    run : Run
        Of pretraining, on the same alerts.
    alerts : Labelled
    classes : tuple of str
    config : HeadsConfig

    Returns
    -------
    Fitted

    Raises
    ------
    SettingsError
        If no alert has a label, or none a redshift, or too few of a part do.
    """
    if not bool((alerts.label >= 0).any()) or not bool(torch.isfinite(alerts.redshift).any()):
        raise SettingsError(
            "no alert has a label, or none a redshift, and heads are fitted on both: `encoder simulate` makes "
            "alerts that have them"
        )
    parts = split(alerts, run.config, config)
    check_counts(parts, run.config.network, classes)
    model = _model(run.config.network, run.moco.base_encoder, classes, config)
    seen = look(model, parts, run.config, config)
    fit_heads(model, seen, config)
    untrained = _model(run.config.network, new_moco(run.config).base_encoder, classes, config)
    random = look(untrained, parts, run.config, config)
    examination = Examination(model, seen, random, parts.held_out, config)
    report = Report(
        definitions=evaluate.DEFINITIONS,
        seeds={"pretraining": run.config.seed, "split": run.config.split_seed, "heads": config.seed},
        counts=examination.counts(),
        tables=examination.tables(),
        recall=examination.recall(),
        curve=run.history[-1] if run.history else {},
    )
    return Fitted(model, _provenance(run, parts, classes), report)


def check_counts(parts: Parts, network: NetworkConfig, classes: tuple[str, ...]) -> None:
    """Check that every part has alerts for each head, before any is fitted.

    Raises
    ------
    SettingsError
        Says which head has how many, and how many it wants.
    """
    counted = [_counts(alerts, classes) for alerts in (parts.train, parts.validation, parts.held_out)]
    for (head, which), wanted in _wanted(network).items():
        found = tuple(counts[head, which] for counts in counted)
        if any(map(lt, found, wanted)):
            raise SettingsError(
                f"too few alerts {which} for the {head} head: found {_told(found)}; wanted {_told(wanted)}, or more: "
                "simulate or label more"
            )


def _counts(alerts: Labelled, classes: tuple[str, ...]) -> dict[tuple[str, str], int]:
    """How many alerts each head can use, by the head and what it asks of them."""
    survey, known = alerts.boxes.survey, torch.isfinite(alerts.redshift)
    usual = alerts.label != (classes.index(ARTEFACT) if ARTEFACT in classes else len(classes))
    counts = {
        ("morphology", "with a label"): int((alerts.label >= 0).sum()),
        ("redshift", "with a redshift"): int(known.sum()),
    }
    for index, one in enumerate(SURVEYS):
        counts["redshift", f"of {one.value} with a redshift"] = int((known & (survey == index)).sum())
        counts["anomaly", f"of {one.value} that are not {ARTEFACT}"] = int((usual & (survey == index)).sum())
    return counts


def _wanted(network: NetworkConfig) -> dict[tuple[str, str], tuple[int, int, int]]:
    """How many of `_counts` are wanted to train, to validate and held out."""
    wanted = {
        ("morphology", "with a label"): (FEWEST, FEWEST, FEWEST),
        ("redshift", "with a redshift"): (FEWEST, FEWEST, FEWEST),
    }
    for index, one in enumerate(SURVEYS):
        prototypes = len(range(index, network.prototypes, len(SURVEYS)))
        wanted["redshift", f"of {one.value} with a redshift"] = (0, 0, 1)  # each survey is measured apart
        wanted["anomaly", f"of {one.value} that are not {ARTEFACT}"] = (prototypes, 1, 1)
    return wanted


def _told(counts: tuple[int, ...]) -> str:
    return "{} to train, {} to validate, {} held out".format(*counts)


def _model(
    network: NetworkConfig, encoder: torch.nn.Module, classes: tuple[str, ...], config: HeadsConfig
) -> AlertModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = AlertModel(network, classes, config.dropout)
    model.encoder.load_state_dict(encoder.state_dict())
    return model


def _provenance(run: Run[PretrainConfig], parts: Parts, classes: tuple[str, ...]) -> Provenance:
    seen = torch.cat([parts.train.boxes.survey, parts.validation.boxes.survey])
    by_survey = ", ".join(f"{int((seen == index).sum())} {one.value}" for index, one in enumerate(SURVEYS))
    return Provenance(
        name=NAME,
        version=VERSION,
        trained=True,
        simulated_classes=classes,
        photometry_range={
            survey.value: _magnitude_range(parts.train, index) for index, survey in enumerate(SURVEYS)
        },
        anomaly_reference=f"simulated alerts of every class but {ARTEFACT}, of the alert's survey",
        training_data=(
            f"simulation only: {len(seen)} alerts {_taught(run.config)} ({by_survey}), {run.step} steps of "
            f"{run.config.batch_size} pairs, seed {run.config.seed}; {len(parts.train)} of them with labels for the "
            f"heads, {len(parts.validation)} to calibrate; {len(parts.held_out)} others to measure"
        ),
    )


def _taught(recipe: PretrainConfig) -> str:
    if recipe.label_weight == 0:
        return "without labels"
    return f"with the simulation's labels as a side task of weight {recipe.label_weight:g}"


def _magnitude_range(train: Labelled, survey: int) -> tuple[float, float]:
    flux = train.boxes.photometry[train.boxes.survey == survey].numpy()
    known = magnitude(flux[flux > FLUX_SOFTENING])  # fainter, magnitudes are noise; NaN is not greater
    low, high = np.percentile(known, RANGE_PERCENTILES)
    return round(float(low), 2), round(float(high), 2)


def save_fitted(fitted: Fitted, folder: Path) -> None:
    """Write model and metrics into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "network": fitted.model.config.model_dump_json(),
        "classes": list(fitted.model.classes),
        "state": fitted.model.state_dict(),
        "provenance": TypeAdapter(Provenance).dump_json(fitted.provenance).decode(),
    }
    partial = folder / f".{MODEL}.{os.getpid()}.partial"
    torch.save(content, partial)
    partial.replace(folder / MODEL)
    partial = folder / f".{METRICS}.{os.getpid()}.partial"
    partial.write_text(fitted.report.model_dump_json(indent=1) + "\n")
    partial.replace(folder / METRICS)


def load_fitted(folder: Path) -> Fitted:
    """Read what `save_fitted` wrote.

    Raises
    ------
    SettingsError
        The folder is not one of `encoder fit-heads`.
    """
    try:
        content: dict[str, Any] = torch.load(folder / MODEL, weights_only=True)
        model = AlertModel(NetworkConfig.model_validate_json(content["network"]), tuple(content["classes"]))
        model.load_state_dict(content["state"])
        provenance = TypeAdapter(Provenance).validate_json(content["provenance"])
        report = Report.model_validate_json((folder / METRICS).read_text())
    except FileNotFoundError as error:
        raise SettingsError(
            f"{error.filename} is not there: run `encoder fit-heads --output {folder}` first"
        ) from error
    except (RuntimeError, KeyError, EOFError, OSError, ValueError, UnpicklingError) as error:
        raise SettingsError(
            f"{folder} does not hold a model of this version's `encoder fit-heads`, run it again: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return Fitted(model, provenance, report)
