"""Many hosts into one set of images: in parts, so that a run that was stopped goes on, then in one file."""

import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree

import h5py
import numpy as np
from rich.progress import Progress

from broker.alert import BANDS
from broker.errors import SettingsError
from encoder.images.archive import ARRAYS, ImageSet, Kind, load_images, save_images
from encoder.simulate.alerts import OBJECT_IDS
from encoder.simulate.fourier import PIXEL_SCALE
from encoder.simulate.hosts import HOST_CLASSES, Host, simulate_host
from encoder.simulate.populations import GALAXIES

IMAGES_PER_PART = 500
"""28 MB: what a process holds at a time."""

RECIPE = "recipe.json"


@dataclass(frozen=True, slots=True)
class _Recipe:
    count: int
    seed: int
    visits: int
    anomaly_share: float

    @property
    def classes(self) -> tuple[str, ...]:
        return HOST_CLASSES if self.anomaly_share else GALAXIES

    def write(self, path: Path, numbers: Sequence[int]) -> int:
        """Simulate a run of objects into one part; gives how many."""
        hosts = [
            simulate_host(self.seed, number, visit=visit, anomaly_share=self.anomaly_share)
            for number in numbers
            for visit in range(self.visits)
        ]
        save_images(path, to_images(hosts, self.classes))
        return len(numbers)


def to_images(hosts: Sequence[Host], classes: tuple[str, ...]) -> ImageSet:
    """Lay hosts into a set of images."""
    return ImageSet.of(
        np.stack([h.images for h in hosts]),
        kind=Kind.FLUX,
        bands=BANDS,
        classes=classes,
        pixel_scale=PIXEL_SCALE,
        label=np.array([-1 if h.label is None else classes.index(h.label) for h in hosts]),
        redshift=np.array([h.redshift for h in hosts]),
        ebv=np.array([h.ebv for h in hosts]),
        noise=np.stack([h.noise for h in hosts]),
        psf_fwhm=np.stack([h.psf_fwhm for h in hosts]),
        photometry=np.stack([h.photometry for h in hosts]),
        photometry_error=np.stack([h.photometry_error for h in hosts]),
        object_id=np.array([h.object_id for h in hosts]),
    )


def simulate_hosts(
    n: int,
    seed: int,
    path: Path,
    *,
    processes: int = 1,
    visits: int = 1,
    anomaly_share: float = 0.0,
    images_per_part: int = IMAGES_PER_PART,
) -> None:
    """Simulate galaxies in six bands into a set of images; goes on where an earlier call was stopped.

    Parameters
    ----------
    n : int
        Objects.
    seed : int
        With the object's number it decides everything: the same for any number of processes.
    path : Path
        HDF5 file as `encoder.images.archive` has it. Until it is whole, its parts lie in a folder beside it.
    processes : int
    visits : int
        Images of each object, under conditions of their own.
    anomaly_share : float
        Of objects that are lens arcs, rings, double nuclei or tidal tails, with these labels. Above zero the
        set is one to test with, not to train on.
    images_per_part : int

    Raises
    ------
    SettingsError
        A number is out of range, the file exists, or the parts beside it are of another run.
    """
    if min(n, processes, visits, images_per_part) < 1 or n > OBJECT_IDS or not 0 <= anomaly_share <= 1:
        raise SettingsError(
            f"hosts, processes, visits and anomaly share are {n}, {processes}, {visits}, {anomaly_share}; the first "
            f"three must be at least 1, hosts at most {OBJECT_IDS}, the share between 0 and 1"
        )
    if path.exists():
        raise SettingsError(f"{path} exists already: remove it, or give another --output")
    recipe = _Recipe(n, seed, visits, anomaly_share)
    folder = path.with_name(f"{path.name}.parts")
    _claim(folder, {**asdict(recipe), "images_per_part": images_per_part})
    objects = max(1, images_per_part // visits)
    chunks = [range(start, min(start + objects, n)) for start in range(0, n, objects)]
    parts = [folder / f"part-{k:05d}.hdf5" for k in range(len(chunks))]
    with Progress(*Progress.get_default_columns()) as progress:
        task = progress.add_task(f"simulate {n} hosts", total=n)
        for done in _written(recipe, list(zip(parts, chunks, strict=True)), processes):
            progress.advance(task, done)
    _merge(parts, path, n * visits)
    rmtree(folder)


def _claim(folder: Path, recipe: dict[str, float]) -> None:
    """Begin a folder of parts, or see that it is of the same run."""
    note = folder / RECIPE
    if not folder.exists():
        folder.mkdir(parents=True)
        note.write_text(json.dumps(recipe), encoding="utf-8")
        return
    found = json.loads(note.read_text(encoding="utf-8")) if note.exists() else None
    if found != recipe:
        raise SettingsError(
            f"{folder} has parts of another run ({found}; wanted was {recipe}): remove it, or give another --output"
        )


def _written(recipe: _Recipe, parts: Sequence[tuple[Path, Sequence[int]]], processes: int) -> Iterator[int]:
    """Write the parts that are not there; yields how many objects each has as they are done."""
    yield from (len(numbers) for path, numbers in parts if path.exists())
    missing = [(path, numbers) for path, numbers in parts if not path.exists()]
    if processes == 1:
        yield from (recipe.write(path, numbers) for path, numbers in missing)
        return
    # Spawned, not forked: the caller may hold threads.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(recipe.write, path, numbers) for path, numbers in missing]
        yield from (future.result() for future in as_completed(futures))


def _merge(parts: Sequence[Path], path: Path, rows: int) -> None:
    """Copy parts into one file, one at a time."""
    partial = path.with_name(f".{path.name}.partial")
    with h5py.File(partial, "w") as file:
        start = 0
        for part in parts:
            if not start:
                _lay_out(file, part, rows)
            images = load_images(part)
            for name in ARRAYS:
                file[name][start : start + len(images)] = getattr(images, name)
            start += len(images)
    partial.replace(path)


def _lay_out(file: h5py.File, part: Path, rows: int) -> None:
    """Make room for all rows of what a part has."""
    with h5py.File(part) as first:
        file.attrs.update(first.attrs)
        for name in ARRAYS:
            one = first[name]
            chunks = (1, *one.shape[1:]) if name == "images" else None
            file.create_dataset(name, (rows, *one.shape[1:]), one.dtype, chunks=chunks)
