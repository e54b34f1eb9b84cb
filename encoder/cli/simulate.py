"""`encoder simulate`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from broker.errors import SettingsError
from encoder.cli.options import command, console
from encoder.simulate import simulate as simulate_shards
from encoder.simulate.packets import LABELS_FILE, simulate_packets

app = command()


@app.command(
    epilog="Examples: `encoder simulate --output shards --count 2000 --seed 3`, "
    "`encoder simulate --packets packets --count 200`"
)
def simulate(
    output: Annotated[Path | None, typer.Option("--output", help="Folder for shards.")] = None,
    packets: Annotated[
        Path | None, typer.Option("--packets", help="Folder for packets as the surveys send them.")
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, help="Objects, half of each survey, all classes alike.")
    ] = 16_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same alerts.")] = 1,
    processes: Annotated[int, typer.Option(min=0, help="For shards; 0 uses every core.")] = 0,
    visits: Annotated[int, typer.Option(min=1, help="Alerts of each object.")] = 1,
) -> None:
    """Simulate labelled alerts of both surveys: shards to train on, packets to replay, or both."""
    if output is None and packets is None:
        raise SettingsError("nowhere to write to: give --output for shards, --packets for packets, or both")
    if output is not None:
        if next(output.glob("*.npz"), None) is not None:
            raise SettingsError(
                f"{output} holds shards already, which would be mixed with new ones: remove them first"
            )
        shards = simulate_shards(
            count, seed, output, processes=processes or os.cpu_count() or 1, visits=visits
        )
        console.print(
            f"{len(shards)} shards in {output}. Next: encoder pretrain --data {output} --output runs/pretrain"
        )
    if packets is not None:
        written = simulate_packets(count, seed, packets, visits=visits)
        console.print(
            f"{len(written)} packets and {LABELS_FILE} in {packets}. "
            f"Next: broker-replay {packets} --topic alerts"
        )
