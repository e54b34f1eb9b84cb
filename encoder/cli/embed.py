"""`encoder embed`."""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.progress import Progress

from broker.alert import Enriched, Rejected
from broker.errors import SettingsError
from broker.inference import Model
from broker.packet_files import PacketFiles
from encoder.cli.options import command, console
from encoder.embedded import outcomes
from encoder.features import Row, alert_row, alert_schema, open_output
from encoder.served import served

app = command()

IMAGE_FILES = {".npz", ".hdf5", ".h5"}

SHOWN = 3
ROWS = 64
"""Written at once."""


@dataclass
class Reading:
    """Alerts as they are read, and what could not be.

    Attributes
    ----------
    files : PacketFiles
    model : Model
    heads : bool
        Whether the model has heads worth writing.
    rows : int
    left_out : list of (str, str, str)
        Where, reason and detail of what is no alert.
    """

    files: PacketFiles
    model: Model
    heads: bool
    rows: int = 0
    left_out: list[tuple[str, str, str]] = field(default_factory=list)

    def __iter__(self) -> Iterator[Row]:
        for packet, outcome in outcomes(self.files, self.model):
            match outcome:
                case Enriched():
                    self.rows += 1
                    yield alert_row(outcome, heads=self.heads)
                case Rejected():
                    self.left_out.append((packet.where, outcome.reason.value, outcome.detail))
        self.left_out += [(where, "no_packet", why) for where, why in self.files.skipped]


@app.command(
    epilog="Examples: `encoder embed night.tar.gz packets/ --output features.parquet`, "
    "`encoder embed packets/ --output features.npy`, which has its ids in features.ids.csv, "
    "`encoder embed galaxies.npz --model galaxies.onnx --output galaxies.parquet`"
)
def embed(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Alert files, tar archives and folders; or sets of images (.npz, .hdf5)."),
    ],
    output: Annotated[Path, typer.Option("--output", help="FILE.parquet or FILE.npy.")],
    model: Annotated[
        Path | None,
        typer.Option(help="ONNX file, or a checkpoint of `encoder pretrain`. Default: the packaged model."),
    ] = None,
) -> None:
    """Write the representation of every alert or image of an archive, in the order of the files.

    Alerts go the broker's own way: the same numbers as its topics have. A Parquet file has alert_id (int64),
    object_id, survey, embedding, flags, and what the model's heads say; a .npy file the embeddings alone.
    What is no alert is listed beside the output.
    """
    if all(path.suffix in IMAGE_FILES for path in paths):
        _embed_images(paths, output, model)
        return
    with TemporaryDirectory() as folder:
        reading = Reading(PacketFiles.find(paths), *served(model, Path(folder)))
        _write_alerts(reading, output)
    console.print(f"{reading.rows} alerts in {output}", markup=False)
    _tell_left_out(reading, output)


def _write_alerts(reading: Reading, output: Path) -> None:
    schema = alert_schema(reading.model.contract, heads=reading.heads)
    rows = iter(reading)
    with open_output(output, schema) as file, Progress(console=console, transient=True) as progress:
        task = progress.add_task("embed", total=reading.files.count)
        while chunk := list(islice(rows, ROWS)):
            file.write(chunk)
            progress.update(task, completed=reading.rows)


def _embed_images(paths: list[Path], output: Path, model: Path | None) -> None:
    if model is None:
        raise SettingsError(
            f"{paths[0]} is a set of images, and the packaged model is for alerts: give --model runs/galaxies/last.pt, "
            "made by `encoder pretrain` from such images, or an ONNX file that `encoder export` made of it"
        )
    from encoder.images.features import embed_images  # noqa: PLC0415 - needs h5py, which alerts do not

    count = embed_images(paths, output, model)
    console.print(f"{count} images in {output}", markup=False)


def _tell_left_out(reading: Reading, output: Path) -> None:
    if not reading.left_out:
        return
    beside = output.with_suffix(".left-out.csv")
    with beside.open("w", newline="") as file:
        csv.writer(file).writerows([("where", "reason", "detail"), *reading.left_out])
    reasons = Counter(reason for _, reason, _ in reading.left_out)
    told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    console.print(f"{len(reading.left_out)} left out ({told}), listed in {beside}", markup=False)
    for where, _, detail in reading.left_out[:SHOWN]:
        console.print(f"  {where}: {detail}", markup=False)
