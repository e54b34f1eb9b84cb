"""What others do to an alert outside networks and databases, beside what Nightjar does, side by side.

Each is a small baseline written after the peer's public code, with the libraries the peer uses where it is Python;
none is the peer itself:

- **Kowalski** (``alert_broker.make_triplet``): the container decoded by fastavro; each stamp inflated, read by
  astropy, freed of NaN, divided by its norm and padded to 63 px at the bottom and right with 1e-9; it writes to a
  database, which is left out, so no bytes go out here. ZTF only.
- **ALeRCE, BOOM**: decoded whole, and written again as an Avro container, its schema in every message. (BOOM is in
  Rust and compresses by snappy: this is what its way costs in Python, not BOOM's speed.)
- **Fink** (``distributionUtils``): decoded whole, written again without a container, the schema's JSON as the key
  of every message. (Fink runs on Spark, whose JVM does this: again the way, not its speed.)
- **Nightjar**: what its hot path does, and all its consumer does.

    python benchmarks/peers.py --data ../shared/data --repeats 5
"""

import functools
import gc
import gzip
import io
import json
import statistics
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import fastavro
import numpy as np
import typer
from astropy.io import fits
from hot_path import STAGES, Common, Packet, Side, ours, read_packets, time_all, time_once
from packets import USUAL, Data
from rich.console import Console
from rich.progress import track
from rich.table import Table
from without_network import Work

import schemas
from broker.alert import ROLES, Survey
from broker.allocator import keep_freed_memory, look_less_for_cycles
from broker.inference import Model

SIDE = 63
"""Pixels of a stamp of ZTF, to which Kowalski pads."""

FILLING = 1e-9
"""What it pads with."""


def triplet(record: dict[str, Any]) -> Any:
    """Make Kowalski's triplet, (63, 63, 3)."""
    made = np.zeros((SIDE, SIDE, len(ROLES)))
    for plane, role in enumerate(ROLES):
        packed = record[f"cutout{role.capitalize()}"]["stampData"]
        with fits.open(io.BytesIO(gzip.decompress(packed)), ignore_missing_simple=True) as hdus:
            data = np.nan_to_num(hdus[0].data)
        norm = np.linalg.norm(data)
        data = data / norm if norm else data
        rows, columns = (SIDE - length for length in data.shape)
        made[:, :, plane] = np.pad(data, [(0, rows), (0, columns)], constant_values=FILLING)
    return made


def contained(common: Common, packet: Packet, record: dict[str, Any]) -> bytes:
    """Write a record as a container of its own."""
    _, schema = common.output_of(packet.form)
    out = io.BytesIO()
    fastavro.writer(out, schema, [{"enrichment": packet.enrichment, "alert": record}])
    return out.getvalue()


def with_schema(common: Common, packet: Packet, record: dict[str, Any]) -> bytes:
    """Write a record, and its schema as text for the message's key."""
    return schema_text(packet.form) + common.encode(packet, record)


@functools.cache
def schema_text(form: str) -> bytes:
    """Give the JSON of what goes out for a form."""
    return json.dumps(schemas.load(schemas.enriched_name(form))).encode()


def sides_of(survey: Survey) -> list[Side]:
    """Nightjar first, then the others that read the survey."""
    common = Common()
    sides = [
        ours("full"),
        Side(
            "ALeRCE, BOOM: a container out",
            common.decode,
            lambda _: None,
            lambda packet, record: contained(common, packet, record),
        ),
        Side(
            "Fink: the schema with each message",
            common.decode,
            lambda _: None,
            lambda packet, record: with_schema(common, packet, record),
        ),
    ]
    if survey is Survey.ZTF:
        sides.append(
            Side("Kowalski: a triplet of 63 px", common.decode, triplet, lambda _packet, _record: b"")
        )
    return sides


def sizes(packets: Sequence[Packet], side: Side) -> float:
    """Give the mean of what goes out for a packet, in bytes."""
    return statistics.mean(len(side.encode(packet, side.decode(packet))) for packet in packets[::10])


def measure(packets: Sequence[Packet], survey: Survey, repeats: int) -> tuple[list[Side], list[float]]:
    """Time all sides in turns, and all that our consumer does."""
    sides, work, everything = sides_of(survey), Work(Model.load(), packets[0].value), []
    for _ in track(range(repeats), f"{survey.value}: timing", console=Console(stderr=True)):
        for side in sides:
            gc.collect()
            time_once(side, packets)
        gc.collect()
        everything.append(time_all(work, packets, compiled=True))
    return sides, everything


def show(
    survey: Survey, packets: Sequence[Packet], sides: Sequence[Side], everything: Sequence[float]
) -> None:
    """Print a survey's table: medians in microseconds an alert; ratios are taken within a round."""
    table = Table(title=f"{survey.value}: {len(packets)} real packets, microseconds an alert")
    for column in ("way", *STAGES, "total", "times all of ours", "kB out"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for side in sides:
        totals = [sum(parts) for parts in zip(*side.seconds.values(), strict=True)]
        stages = [f"{1e6 * statistics.median(side.seconds[stage]):,.0f}" for stage in STAGES]
        times = statistics.median(total / ours for total, ours in zip(totals, everything, strict=True))
        total = f"{1e6 * statistics.median(totals):,.0f}"
        table.add_row(side.name, *stages, total, f"{times:.1f}", f"{sizes(packets, side) / 1000:.0f}")
    whole = f"{1e6 * statistics.median(everything):,.0f}"
    table.add_row("nightjar, all its consumer does", "", "", "", whole, "1.0", "")
    Console(width=140).print(table)


def main(
    data: Data = USUAL,
    survey: Annotated[list[Survey] | None, typer.Option(help="One survey only; may be given twice.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds in which every way runs once.")] = 5,
) -> None:
    """Time the ways of others and Nightjar's over real packets, side by side in one run."""
    warnings.simplefilter("ignore")
    keep_freed_memory()
    look_less_for_cycles()
    for one in survey or list(Survey):
        packets = read_packets(data, one)
        if not packets:
            raise SystemExit(
                f"no *.avro below {data / one.value}: name a folder with lsst/ and ztf/ by --data"
            )
        sides, everything = measure(packets, one, repeats)
        show(one, packets, sides, everything)


if __name__ == "__main__":
    typer.run(main)
