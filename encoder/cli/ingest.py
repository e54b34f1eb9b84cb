"""`encoder ingest`."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from broker.errors import SettingsError
from broker.packet_files import Packet, PacketFiles
from encoder.cli.options import Cluster, Output, Servers, Topic, command, console
from encoder.images.archive import save_images
from encoder.images.foreign import read_images
from encoder.ingested import Ingestion
from encoder.topic import topic_packets

app = command()

IMAGE_FILES = {".npz", ".hdf5", ".h5"}

SHOWN = 3


@app.command(
    epilog="Examples: `encoder ingest packets/ night.tar.gz --output shards`, "
    "`encoder ingest --topic alerts --bootstrap-servers HOST:PORT --max-alerts 100000 --output shards`, "
    "`encoder ingest sdss_w_specz_train.h5 --output galaxies.hdf5`"
)
def ingest(
    output: Output,
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Alert files, tar archives and folders; or one set of images: an .npz with images (n, h, w, bands), "
            "or HDF5 with images (n, 5, h, w), specz_redshift and e_bv."
        ),
    ] = None,
    topic: Topic = None,
    bootstrap_servers: Servers = None,
    config: Cluster = None,
    max_alerts: Annotated[int | None, typer.Option(min=1, help="Read no more messages than this.")] = None,
) -> None:
    """Bring alerts into shards, or images of galaxies into one HDF5 file, for `encoder pretrain`.

    Alerts are laid out by the code that serves them. 8-bit images are taken as display pictures, which get
    geometric views only; others as fluxes.
    """
    if bool(sources) == bool(topic):
        raise SettingsError("give files, or --topic, and not both")
    if sources and sources[0].suffix in IMAGE_FILES:
        _ingest_images(sources, output)
        return
    files = PacketFiles.find(sources) if sources else None
    packets: Iterable[Packet] = files or topic_packets(topic or "", bootstrap_servers, config)
    ingestion = Ingestion(output)
    with console.status("reading") as status:
        for count in ingestion.run(islice(packets, max_alerts)):
            status.update(f"{count} alerts")
    ingestion.left_out += files.skipped if files else []
    _tell(ingestion)


def _tell(ingestion: Ingestion) -> None:
    console.print(
        f"{ingestion.alerts} alerts in {ingestion.output}; {ingestion.repeated} repeated, "
        f"{len(ingestion.left_out)} left out",
        markup=False,
    )
    for where, why in ingestion.left_out[:SHOWN]:
        console.print(f"  {where}: {why}", markup=False)
    if not ingestion.alerts:
        raise SettingsError("no alert with stamps was found: give other files, or another topic")
    console.print(f"Next: encoder pretrain --data {ingestion.output} --output runs/pretrain", markup=False)


def _ingest_images(sources: list[Path], output: Path) -> None:
    if len(sources) > 1:
        raise SettingsError(f"{len(sources)} sets of images are given: ingest one at a time")
    if output.suffix not in {".hdf5", ".h5"}:
        raise SettingsError(f"{output} ends in {output.suffix or 'nothing'!r}; wanted .hdf5")
    images = read_images(sources[0])
    save_images(output, images)
    known = int((images.label >= 0).sum())
    console.print(
        f"{len(images)} images ({images.kind.value}; {', '.join(images.bands)}), {known} with a label. "
        f"Next: encoder pretrain --data {output} --output runs/galaxies",
        markup=False,
    )
