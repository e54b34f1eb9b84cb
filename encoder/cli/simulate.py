"""`encoder simulate`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from broker.errors import SettingsError
from encoder.cli.options import command, console
from encoder.simulate import ANOMALIES, CLASSES, simulate_hosts, simulate_pictures
from encoder.simulate import simulate as simulate_shards
from encoder.simulate.packets import LABELS_FILE, simulate_packets
from encoder.simulate.shards import FIRST_ANOMALY

app = command()


@app.command(
    epilog="Examples: `encoder simulate --output shards --count 2000 --seed 3`, "
    "`encoder simulate --packets packets --count 200`, "
    "`encoder simulate --hosts 60000 --output hosts.hdf5`, "
    "`encoder simulate --pictures 14000 --output pictures.hdf5`, "
    "`encoder simulate --anomalies 400 --output anomalies`"
)
def simulate(
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Folder for shards; with --hosts or --pictures an HDF5 file."),
    ] = None,
    packets: Annotated[
        Path | None, typer.Option("--packets", help="Folder for packets as the surveys send them.")
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, help="Objects, half of each survey, all classes alike.")
    ] = 16_000,
    anomalies: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="In place of --count: so many alerts on lens arcs, rings, double nuclei and tidal tails, to test "
            "with and not to train on.",
        ),
    ] = None,
    hosts: Annotated[
        int | None,
        typer.Option(min=1, help="In place of alerts: so many galaxies in Rubin's six bands, for --output."),
    ] = None,
    pictures: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="In place of alerts: so many bright galaxies as colour pictures like SDSS's, with classes, for "
            "--output; `encoder pretrain --beside` learns from them.",
        ),
    ] = None,
    anomaly_share: Annotated[
        float,
        typer.Option(min=0, max=1, help="Of --hosts: share of such anomalies, with labels of their own."),
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same alerts.")] = 1,
    processes: Annotated[int, typer.Option(min=0, help="For shards and hosts; 0 uses every core.")] = 0,
    visits: Annotated[int, typer.Option(min=1, help="Alerts or images of each object.")] = 1,
) -> None:
    """Simulate labelled alerts of both surveys, as shards or packets or both, or images of galaxies.

    A run of --hosts or --pictures that was stopped goes on with the same command.
    """
    if output is None and packets is None:
        raise SettingsError("nowhere to write to: give --output for shards, --packets for packets, or both")
    if hosts is None and anomaly_share:
        raise SettingsError("--anomaly-share is of --hosts; for alerts there is --anomalies COUNT")
    workers = processes or os.cpu_count() or 1
    if hosts is not None or pictures is not None:
        path = _one_file(output, {"--packets": packets, "--anomalies": anomalies}, hosts, pictures)
        if hosts is not None:
            simulate_hosts(hosts, seed, path, processes=workers, visits=visits, anomaly_share=anomaly_share)
            console.print(f"{hosts} hosts in {path}. {_after_hosts(path, anomaly_share)}")
        if pictures is not None:
            simulate_pictures(pictures, seed, path, processes=workers)
            console.print(
                f"{pictures} pictures in {path}. "
                f"Next: encoder pretrain --data galaxies.hdf5 --beside {path} --output runs/galaxies"
            )
        return
    rare = anomalies is not None
    objects, classes = (anomalies or count), (ANOMALIES if rare else CLASSES)
    first = FIRST_ANOMALY if rare else 0
    if output is not None:
        _refuse_mixing(output)
        shards = simulate_shards(
            objects, seed, output, classes=classes, processes=workers, visits=visits, first=first
        )
        next_step = "" if rare else f" Next: encoder pretrain --data {output} --output runs/pretrain"
        console.print(f"{len(shards)} shards in {output}.{next_step}")
    if packets is not None:
        written = simulate_packets(objects, seed, packets, classes=classes, visits=visits, first=first)
        console.print(
            f"{len(written)} packets and {LABELS_FILE} in {packets}. "
            f"Next: broker-replay {packets} --topic alerts"
        )


def _one_file(
    output: Path | None, others: Mapping[str, object], hosts: int | None, pictures: int | None
) -> Path:
    strange = [name for name, value in others.items() if value is not None]
    if output is None or strange or (hosts is not None and pictures is not None):
        raise SettingsError(
            "--hosts and --pictures make one HDF5 file each: give one of them and --output, and neither --packets nor "
            "--anomalies"
        )
    return output


def _after_hosts(output: Path, anomaly_share: float) -> str:
    if anomaly_share:
        return "It holds anomalies: a set to test with, not to train on."
    return f"Next: encoder pretrain --data {output} --output runs/hosts"


def _refuse_mixing(folder: Path) -> None:
    if next(folder.glob("*.npz"), None) is not None:
        raise SettingsError(
            f"{folder} holds shards already, which would be mixed with new ones: remove them first"
        )
