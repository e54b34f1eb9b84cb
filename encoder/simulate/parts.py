"""Many objects into one set of images: in parts, so that a run that was stopped goes on, then in one file."""

import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from shutil import rmtree
from typing import Any, Protocol

import h5py
from rich.progress import Progress

from broker.errors import SettingsError
from encoder.images.archive import ARRAYS, ImageSet, load_images, save_images
from encoder.simulate.alerts import OBJECT_IDS

IMAGES_PER_PART = 500
"""28 MB of hosts: what a process holds at a time."""

NOTE = "recipe.json"


class Drawing(Protocol):
    """What is drawn: it can be sent to another process.

    Attributes
    ----------
    count : int
        Objects.
    visits : int
        Images of each.
    """

    @property
    def count(self) -> int:
        """See the class."""

    @property
    def visits(self) -> int:
        """See the class."""

    def note(self) -> dict[str, Any]:
        """Tell this run from others."""

    def draw(self, numbers: Sequence[int]) -> ImageSet:
        """Draw some objects by their numbers."""


def simulate_in_parts(
    drawing: Drawing, path: Path, *, processes: int, images_per_part: int = IMAGES_PER_PART
) -> None:
    """Draw a set of images; goes on where an earlier call was stopped.

    Parameters
    ----------
    drawing : Drawing
    path : Path
        HDF5 file as `encoder.images.archive` has it. Until it is whole, its parts lie in a folder beside it.
    processes : int
    images_per_part : int

    Raises
    ------
    SettingsError
        A number is out of range, the file exists, or the parts beside it are of another run.
    """
    n, visits = drawing.count, drawing.visits
    if min(n, processes, visits, images_per_part) < 1 or n > OBJECT_IDS:
        raise SettingsError(
            f"objects, processes and visits are {n}, {processes}, {visits}: each must be at least 1, and objects at "
            f"most {OBJECT_IDS}"
        )
    if path.exists():
        raise SettingsError(f"{path} exists already: remove it, or give another --output")
    folder = path.with_name(f"{path.name}.parts")
    _claim(folder, {**drawing.note(), "images_per_part": images_per_part})
    objects = max(1, images_per_part // visits)
    chunks = [range(start, min(start + objects, n)) for start in range(0, n, objects)]
    parts = [folder / f"part-{k:05d}.hdf5" for k in range(len(chunks))]
    with Progress(*Progress.get_default_columns()) as progress:
        task = progress.add_task(f"simulate {n} objects", total=n)
        for done in _written(drawing, list(zip(parts, chunks, strict=True)), processes):
            progress.advance(task, done)
    _merge(parts, path, n * visits)
    rmtree(folder)


def _claim(folder: Path, recipe: dict[str, Any]) -> None:
    """Begin a folder of parts, or see that it is of the same run."""
    note = folder / NOTE
    if not folder.exists():
        folder.mkdir(parents=True)
        note.write_text(json.dumps(recipe), encoding="utf-8")
        return
    found = json.loads(note.read_text(encoding="utf-8")) if note.exists() else None
    if found != recipe:
        raise SettingsError(
            f"{folder} has parts of another run ({found}; wanted was {recipe}): remove it, or give another --output"
        )


def _written(drawing: Drawing, parts: Sequence[tuple[Path, Sequence[int]]], processes: int) -> Iterator[int]:
    """Write the parts that are not there; yields how many objects each has as they are done."""
    yield from (len(numbers) for path, numbers in parts if path.exists())
    missing = [(path, numbers) for path, numbers in parts if not path.exists()]
    if processes == 1:
        yield from (_write(drawing, path, numbers) for path, numbers in missing)
        return
    # Spawned, not forked: the caller may hold threads.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_write, drawing, path, numbers) for path, numbers in missing]
        yield from (future.result() for future in as_completed(futures))


def _write(drawing: Drawing, path: Path, numbers: Sequence[int]) -> int:
    """Draw a run of objects into one part; gives how many."""
    save_images(path, drawing.draw(numbers))
    return len(numbers)


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
