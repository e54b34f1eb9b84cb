"""What reading a training set from shards costs: formats against memory, then the training step itself.

Every format holds the same pixels in the same number of files. In each round each of them reads one batch of random
rows, the same ones, in turns with memory: first as the page cache has them, then after the cache was dropped. Most
memory is that of a process of its own that reads every row once. The training step is that of `encoder pretrain`,
fed from memory and from shards in turns, with the same rows and draws: both must give the same loss to the bit.

    python benchmarks/loader.py
    python benchmarks/loader.py --count 20000 --steps 20 --threads 1 --json loader.json
"""

import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Generator, Tensor

from broker.contract import COMMON_GRID
from encoder.alert_task import AlertTask
from encoder.archive import Shard, load_shards, save_shard
from encoder.boxes import Boxes, BoxSource, StoredBoxes
from encoder.config import PretrainConfig
from encoder.moco import Batch, MoCo
from encoder.stored import BOX_SHAPE, ROW_BYTES, Member, StoredPixels, open_shards

SHARD = 1000
"""Alerts in a shard, as `encoder simulate` and `encoder ingest` write them."""

Pixels = NDArray[np.float32]
Rows = NDArray[np.int64]
Read = Callable[[Rows], Pixels]

MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Format:
    """One way to keep pixels.

    Attributes
    ----------
    suffix : str
        Of its files.
    write : callable
        A shard into a file of that name.
    open : callable
        Of all files, which gives what reads rows.
    """

    suffix: str
    write: Callable[[Path, Shard], None]
    open: Callable[[Sequence[Path]], Read]


def by_shard(readers: Sequence[Read]) -> Read:
    """Read rows of several files, each in the order of its rows."""

    def read(rows: Rows) -> Pixels:
        pixels = np.empty((len(rows), *BOX_SHAPE), np.float32)
        order = np.argsort(rows, kind="stable")
        holder = rows[order] // SHARD
        for places in np.split(order, np.flatnonzero(np.diff(holder)) + 1):
            number = rows[places[0]] // SHARD
            pixels[places] = readers[number](rows[places] - number * SHARD)
        return pixels

    return read


def open_mapped(paths: Sequence[Path]) -> Read:
    """Map the pixels of shards."""
    members = [Member.of(path) for path in paths]
    return by_shard(
        [
            np.memmap(one.path, "<f4", "r", offset=one.offset, shape=(one.rows, *BOX_SHAPE)).__getitem__
            for one in members
        ]
    )


def write_hdf5(path: Path, shard: Shard) -> None:
    """Write pixels with a chunk a row."""
    with h5py.File(path, "w") as file:
        file.create_dataset("box", data=shard.box, chunks=(1, *BOX_SHAPE))


def open_hdf5(paths: Sequence[Path]) -> Read:
    """Read a list of rows in one call."""
    return by_shard([_distinct(h5py.File(path, "r")["box"]) for path in paths])


def _distinct(dataset: Any) -> Read:
    def read(rows: Rows) -> Pixels:
        wanted, inverse = np.unique(rows, return_inverse=True)  # h5py takes each row once, rising
        return np.asarray(dataset[wanted][inverse])

    return read


def open_hdf5_rows(paths: Sequence[Path]) -> Read:
    """Read row by row."""
    return by_shard([_one_by_one(h5py.File(path, "r")["box"]) for path in paths])


def _one_by_one(dataset: Any) -> Read:
    return lambda rows: np.stack([dataset[row] for row in rows.tolist()])


def _table(shard: Shard) -> pa.Table:
    data = pa.py_buffer(np.ascontiguousarray(shard.box))
    return pa.table({"box": pa.Array.from_buffers(pa.binary(ROW_BYTES), len(shard), [None, data])})


def write_arrow(path: Path, shard: Shard) -> None:
    """Write pixels as fixed-size values of one record batch."""
    table = _table(shard)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def open_arrow(paths: Sequence[Path]) -> Read:
    """Map files, and take rows of the mapped buffer."""
    readers = []
    for path in paths:
        column = pa.ipc.open_file(pa.memory_map(str(path))).read_all()["box"].chunk(0)
        mapped = np.frombuffer(column.buffers()[1], np.float32).reshape(-1, *BOX_SHAPE)
        readers.append(mapped.__getitem__)
    return by_shard(readers)


def write_parquet(path: Path, shard: Shard) -> None:
    """Write pixels with a row group a row, plain and uncompressed: the best case of reading single rows."""
    pq.write_table(_table(shard), path, row_group_size=1, compression="none", use_dictionary=False)


def open_parquet(paths: Sequence[Path]) -> Read:
    """Read the row group of each row."""
    return by_shard([_groups(pq.ParquetFile(path)) for path in paths])


def _groups(file: Any) -> Read:
    def read(rows: Rows) -> Pixels:
        found = [file.read_row_group(row)["box"].chunk(0).buffers()[1] for row in rows.tolist()]
        return np.stack([np.frombuffer(one, np.float32, ROW_BYTES // 4).reshape(BOX_SHAPE) for one in found])

    return read


def open_npz(paths: Sequence[Path]) -> Read:
    """Read rows as `encoder pretrain` does."""
    return StoredPixels([Member.of(path) for path in paths]).read


FORMATS = {
    "npz, rows read": Format(".npz", save_shard, open_npz),
    "npz, mapped": Format(".npz", save_shard, open_mapped),
    "HDF5, a list of rows": Format(".hdf5", write_hdf5, open_hdf5),
    "HDF5, row by row": Format(".hdf5", write_hdf5, open_hdf5_rows),
    "Arrow IPC, mapped": Format(".arrow", write_arrow, open_arrow),
    "Parquet, a group a row": Format(".parquet", write_parquet, open_parquet),
}


def synthetic(count: int, seed: int) -> Shard:
    """Make a shard of noise around a source: nothing that compresses, and no object twice."""
    rng = np.random.default_rng(seed)
    axis = np.arange(BOX_SHAPE[-1], dtype=np.float32) - (BOX_SHAPE[-1] - 1) / 2
    source = 100 * np.exp(-(axis[:, None] ** 2 + axis**2) / 18).astype(np.float32)
    return Shard(
        box=rng.standard_normal((count, *BOX_SHAPE), np.float32) + source,
        centre=np.full((count, 2), (BOX_SHAPE[-1] - 1) / 2, np.float32),
        noise=np.ones((count, 3), np.float32),
        pixel_scale=np.full(count, 0.2, np.float32),
        survey=np.zeros(count, np.int64),
        band=rng.integers(0, 6, count),
        psf_fwhm=np.full((count, 3), 0.8, np.float32),
        photometry=rng.uniform(10, 1000, (count, 6)).astype(np.float32),
        label=np.full(count, -1),
        redshift=np.full(count, np.nan, np.float32),
        ebv=np.zeros(count, np.float32),
        alert_id=np.arange(count) + seed * SHARD,
        object_id=np.array([f"{seed}-{number}" for number in range(count)]),
        classes=(),
    )


def files(folder: Path, form: Format) -> list[Path]:
    """Paths of a format's shards."""
    return sorted(folder.glob(f"*{form.suffix}"))


def write_all(folder: Path, count: int) -> None:
    """Write the same alerts in every format."""
    writers = {form.suffix: form.write for form in FORMATS.values()}
    for seed in track(range(count // SHARD), "write shards"):
        shard = synthetic(SHARD, seed)
        for suffix, write in writers.items():
            write(folder / f"{seed:05d}{suffix}", shard)
    os.sync()


def drop_cache(paths: Sequence[Path]) -> None:
    """Tell the kernel to forget what it holds of files."""
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def batches(count: int, size: int, rounds: int, seed: int) -> Iterator[Rows]:
    """Random rows, as a shuffled epoch gives them."""
    rng = np.random.default_rng(seed)
    return (rng.permutation(count)[:size] for _ in range(rounds))


def time_formats(folder: Path, count: int, size: int, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds a batch from each format and from memory, warm and cold, medians over rounds in turns."""
    memory = load_shards(files(folder, FORMATS["npz, rows read"])).box
    seconds: dict[str, dict[str, list[float]]] = {}
    for state in ("warm", "cold"):
        reads: dict[str, Read] = {MEMORY: memory.__getitem__}  # pages that a map holds cannot be dropped
        for number, rows in enumerate(track(list(batches(count, size, rounds, 1)), f"formats, {state}")):
            wanted = memory[rows]
            names = [MEMORY, *FORMATS]
            for name in names[number % len(names) :] + names[: number % len(names)]:
                if name != MEMORY:
                    form = FORMATS[name]
                    paths = files(folder, form)
                    if state == "cold":
                        drop_cache(paths)
                        reads[name] = form.open(paths)
                    elif name not in reads:
                        reads[name] = form.open(paths)
                        reads[name](np.arange(count))  # into the cache
                started = time.perf_counter()
                found = reads[name](rows)
                seconds.setdefault(name, {}).setdefault(state, []).append(time.perf_counter() - started)
                if found.tobytes() != wanted.tobytes():
                    raise SystemExit(f"{name} gives other pixels than memory")
                if state == "cold" and name != MEMORY:
                    del reads[name]  # what one format has mapped or open stays cached for the next
    return {
        name: {state: statistics.median(times) for state, times in both.items()}
        for name, both in seconds.items()
    }


def memory_of(name: str, folder: str, count: int, size: int) -> float:
    """MB by which this process grew at most while it read every row in shuffled batches."""
    before = _status("VmRSS")
    paths = files(Path(folder), FORMATS["npz, rows read"] if name == MEMORY else FORMATS[name])
    read = load_shards(paths).box.__getitem__ if name == MEMORY else FORMATS[name].open(paths)
    for rows in np.array_split(np.random.default_rng(0).permutation(count), max(1, count // size)):
        read(rows)
    return (_status("VmHWM") - before) / 1000


def _status(entry: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(entry)))


def peak_memory(name: str, folder: Path, count: int, size: int) -> float:
    """`memory_of` in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(memory_of, name, str(folder), count, size).result()


class Side:
    """One run that takes the steps of `encoder pretrain`, and what each took."""

    def __init__(self, config: PretrainConfig, boxes: BoxSource) -> None:
        self.task = AlertTask(config, boxes, torch.full((len(boxes),), -1))
        self.moco: MoCo = self.task.new_moco()
        self._optimizer = torch.optim.AdamW(
            [one for one in self.moco.parameters() if one.requires_grad], lr=config.learning_rate
        )
        self.seconds: list[float] = []
        self.reading: list[float] = []

    def step(self, rows: Tensor, number: int) -> float:
        """Draw a batch and learn from it; gives the loss."""
        config, started = self.task.config, time.perf_counter()
        parts = [
            self.task.batch(piece, Generator().manual_seed(1000 * number + place))
            for place, piece in enumerate(torch.split(rows, config.batch_size // config.pieces))
        ]
        loss = self.moco(Batch.joined(parts, "cpu"))["loss"]
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self.moco.follow(0.5)
        self.seconds.append(time.perf_counter() - started)
        return float(loss.detach())


def time_steps(folder: Path, count: int, steps: int) -> dict[str, dict[str, float]]:
    """Time steps from memory and from shards in turns, warm, and cold for the shards."""
    paths = files(folder, FORMATS["npz, rows read"])
    config = PretrainConfig(queue=min(PretrainConfig().queue, count // 4))
    columns, stored = open_shards(paths)
    memory = Side(config, Boxes.of(load_shards(paths), COMMON_GRID))
    shards = Side(config, StoredBoxes.of(columns, stored, COMMON_GRID))
    found = {}
    for state in ("warm", "cold"):
        memory.seconds, shards.seconds = [], []
        chosen = list(batches(count, config.batch_size, steps + 1, 2))
        for number, rows in enumerate(track(chosen, f"steps, shards {state}")):
            losses = {}
            for side in (memory, shards) if number % 2 else (shards, memory):
                if state == "cold" and side is shards:
                    drop_cache(paths)
                losses[side] = side.step(torch.from_numpy(rows), number)
            if losses[memory] != losses[shards]:
                raise SystemExit(
                    f"step {number}: the loss is {losses[shards]} from shards, {losses[memory]} from memory"
                )
        from_memory, from_shards = memory.seconds[1:], shards.seconds[1:]  # the first warms the allocator
        found[state] = {
            "memory_seconds": statistics.median(from_memory),
            "shards_seconds": statistics.median(from_shards),
            "ratio": statistics.median(
                one / other for one, other in zip(from_memory, from_shards, strict=True)
            ),
        }
    return found


def show_formats(seconds: dict[str, dict[str, float]], peaks: dict[str, float], size: int) -> None:
    """Print the formats."""
    table = Table(title=f"A batch of {size} random rows ({size * ROW_BYTES / 1e6:.1f} MB): medians")
    for column in ("from", "warm, ms", "of memory's rate", "cold, ms", "most memory, MB"):
        table.add_column(column, justify="left" if column == "from" else "right")
    for name, one in seconds.items():
        cold = "" if name == MEMORY else f"{1000 * one['cold']:.1f}"
        rate = seconds[MEMORY]["warm"] / one["warm"]
        table.add_row(name, f"{1000 * one['warm']:.1f}", f"{rate:.2f}", cold, f"{peaks[name]:.0f}")
    Console().print(table)


def show_steps(found: dict[str, dict[str, float]], threads: int) -> None:
    """Print the steps."""
    table = Table(title=f"The training step, {threads} threads: medians; the losses are equal to the bit")
    for column in ("page cache", "from memory, ms", "from shards, ms", "ratio of rates"):
        table.add_column(column, justify="left" if column == "page cache" else "right")
    for state, one in found.items():
        table.add_row(
            state,
            f"{1000 * one['memory_seconds']:.0f}",
            f"{1000 * one['shards_seconds']:.0f}",
            f"{one['ratio']:.3f}",
        )
    Console().print(table)


def main(
    count: Annotated[int, typer.Option(min=SHARD, help="Alerts: 50 kB each, once in every format.")] = 6000,
    size: Annotated[int, typer.Option(min=1, help="Rows of a batch in the comparison of formats.")] = 256,
    rounds: Annotated[int, typer.Option(min=1, help="Batches from every format.")] = 21,
    steps: Annotated[int, typer.Option(min=1, help="Training steps from each side.")] = 15,
    threads: Annotated[int, typer.Option(min=0, help="0 uses every core.")] = 0,
    folder: Annotated[Path | None, typer.Option(help="A disk to try; shards are removed again.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here too.")] = None,
) -> None:
    """Time formats of shards and the training step fed from them, side by side in one run.

    Example: python benchmarks/loader.py --count 6000 --steps 15 --json loader.json
    """
    count -= count % SHARD
    torch.set_num_threads(threads or os.cpu_count() or 1)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        shards = Path(made)
        write_all(shards, count)
        seconds = time_formats(shards, count, size, rounds)
        peaks = {name: peak_memory(name, shards, count, size) for name in (MEMORY, *FORMATS)}
        show_formats(seconds, peaks, size)
        found = time_steps(shards, count, steps)
    show_steps(found, torch.get_num_threads())
    if json_file is not None:
        results = {"formats": seconds, "peak_mb": peaks, "steps": found, "threads": torch.get_num_threads()}
        json_file.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
