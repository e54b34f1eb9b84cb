"""Many alerts into shards: one random stream for each object, whatever the number of processes."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from broker.alert import Survey
from broker.cutouts import effective_fwhm
from broker.errors import SettingsError
from encoder.archive import Shard, box_of, save_shard, stack
from encoder.kept_out import ANOMALIES
from encoder.simulate.alerts import OBJECT_IDS, SimulatedAlert
from encoder.simulate.driver import simulated_alerts
from encoder.simulate.populations import CLASSES

ALERTS_PER_SHARD = 1000

FIRST_ANOMALY = OBJECT_IDS // 2
"""Anomalies are numbered from here, so that their ids are not those of other alerts of the seed."""


def to_shard(alerts: Sequence[SimulatedAlert], classes: tuple[str, ...] = CLASSES) -> Shard:
    """Lay simulated alerts into a shard, by the road real ones take."""
    boxes = [box_of(a.alert(), a.cutouts()) for a in alerts]
    return stack(
        boxes,
        alerts=[a.alert() for a in alerts],
        classes=classes,
        labels=[classes.index(a.label) for a in alerts],
        redshifts=[a.redshift for a in alerts],
        ebvs=[a.ebv for a in alerts],
        # ZTF does not publish its PSF's image; here it is known.
        psf_fwhm=[_widths(a) for a in alerts],
    )


def _widths(alert: SimulatedAlert) -> tuple[float, ...]:
    """Seeing of the three stamps in arcsec, as the broker takes it from a PSF plane."""
    science, template = (
        (effective_fwhm(psf.kernel) or np.nan) * psf.pixel_scale
        for psf in (alert.conditions.science_psf, alert.conditions.template_psf)
    )
    return science, template, science


@dataclass(frozen=True, slots=True)
class _Recipe:
    seed: int
    surveys: tuple[Survey, ...]
    classes: tuple[str, ...]
    visits: int

    @property
    def named(self) -> tuple[str, ...]:
        """Names in the shard; with those of anomalies it cannot be read together with shards to train on."""
        return (*CLASSES, *ANOMALIES) if set(self.classes) & set(ANOMALIES) else CLASSES

    def write(self, path: Path, numbers: Sequence[int]) -> int:
        """Simulate a run of objects into one shard; gives how many."""
        alerts = simulated_alerts(numbers, self.seed, self.surveys, self.classes, self.visits)
        save_shard(path, to_shard(list(alerts), self.named))
        return len(numbers)


def simulate(
    n: int,
    seed: int,
    out_dir: Path,
    *,
    surveys: Sequence[Survey] = tuple(Survey),
    classes: Sequence[str] = CLASSES,
    processes: int = 1,
    visits: int = 1,
    first: int = 0,
    alerts_per_shard: int = ALERTS_PER_SHARD,
) -> list[Path]:
    """Simulate labelled alerts into shards.

    Parameters
    ----------
    n : int
        Objects; each gives ``visits`` alerts.
    seed : int
        With the object's number it decides everything: the same for any number of processes.
    out_dir : Path
        Made where it does not exist.
    surveys, classes : sequence
        Take turns; of `CLASSES` and `ANOMALIES`.
    processes : int
    visits : int
        Alerts of each object, all of one scene under conditions of their own.
    first : int
        Number of the first object.
    alerts_per_shard : int

    Returns
    -------
    list of Path
        The shards, in the order of the objects.

    Raises
    ------
    SettingsError
        If a number is not positive, or a class is none of these.
    """
    unknown = sorted(set(classes) - {*CLASSES, *ANOMALIES})
    if unknown or not classes or not surveys:
        raise SettingsError(
            f"classes {unknown or list(classes)} cannot be simulated; there are {[*CLASSES, *ANOMALIES]}"
        )
    if min(n, processes, visits, alerts_per_shard) < 1 or not 0 <= first <= OBJECT_IDS - n:
        raise SettingsError(
            f"n, processes, visits and alerts_per_shard are {n}, {processes}, {visits}, {alerts_per_shard}; "
            f"they must be at least 1, and numbers from {first} to below {OBJECT_IDS}"
        )
    out_dir.mkdir(parents=True, exist_ok=True)
    per_shard = max(1, alerts_per_shard // visits)
    chunks = [range(first + start, first + min(start + per_shard, n)) for start in range(0, n, per_shard)]
    paths = [out_dir / f"simulated-{seed}-{k:05d}.npz" for k in range(len(chunks))]
    recipe = _Recipe(seed, tuple(surveys), tuple(classes), visits)
    with Progress(*Progress.get_default_columns()) as progress:
        task = progress.add_task(f"simulate {n} objects", total=n)
        for done in _written(recipe, list(zip(paths, chunks, strict=True)), processes):
            progress.advance(task, done)
    return paths


def _written(recipe: _Recipe, parts: Sequence[tuple[Path, Sequence[int]]], processes: int) -> Iterator[int]:
    """Write every shard; yields how many objects each had as they are done."""
    if processes == 1:
        yield from (recipe.write(path, numbers) for path, numbers in parts)
        return
    # Spawned, not forked: the caller may hold torch's threads.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(recipe.write, path, numbers) for path, numbers in parts]
        yield from (future.result() for future in as_completed(futures))
