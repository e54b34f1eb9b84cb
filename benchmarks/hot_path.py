"""What an alert costs between the network's neighbours: the common path against Nightjar's, side by side.

The common path is what a broker does with the libraries at hand: fastavro decodes the whole packet, astropy reads
the three FITS files, fastavro encodes the whole record again with the enrichment in front. Ours reads the same
fields and stamps and writes the same bytes, which is verified for every packet before anything is timed. The network
itself and Kafka are left out. What the common path lacks (stamps on the grid, flags, headers, reasons) is in the last
lines, which time everything the consumer does.

    python benchmarks/hot_path.py --data ../shared/data
    python benchmarks/hot_path.py --survey ztf --repeats 15 --json hot_path.json
"""

import gc
import gzip
import io
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import fastavro
import numpy as np
import typer
from astropy.io import fits
from packets import USUAL, Data
from rich.console import Console
from rich.progress import track
from rich.table import Table
from without_network import PIECE, Work, helper, messages

import schemas
from broker.alert import ROLES, Alert, Enrichment, ModelIdentity, Redshift, Seen, Survey
from broker.allocator import keep_freed_memory, look_less_for_cycles
from broker.avro.deserializer import Deserializer, Validate
from broker.avro.frame import FRAME_SIZE, frame
from broker.avro.serializer import EnrichedSerializer
from broker.avro.store import SchemaStore
from broker.cutouts import read_cutout
from broker.inference import Model
from broker.survey import WANTED, read_alert

STAGES = ("decode", "stamps", "encode")
CUTOUTS = tuple(f"cutout{role.capitalize()}" for role in ROLES)
NOW_NS = 1_790_000_000_000_000_000
"""A fixed clock, so that both sides write the same bytes."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet as it came, what both sides attach to it, and what must come out."""

    value: bytes
    form: str
    enrichment: dict[str, Any]
    expected: bytes


@dataclass(frozen=True, slots=True)
class Side:
    """One way to do the work: three stages, each given what the one before returned."""

    name: str
    decode: Callable[[Packet], Any]
    stamps: Callable[[Any], Any]
    encode: Callable[[Packet, Any], bytes]
    compiled: bool = True
    seconds: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})


def enrichment() -> Enrichment:
    """Give an enrichment of the size a model makes."""
    rng = np.random.default_rng(1)
    embedding, pdf, classes = rng.normal(size=64), rng.uniform(size=60), rng.uniform(size=7)
    return Enrichment(
        model=ModelIdentity("benchmark", "1", "0" * 64),
        embedding=(embedding / np.linalg.norm(embedding)).astype(np.float32),
        morphology_classes=("disk", "bulge", "star", "edge_on", "merger", "transient", "bogus"),
        morphology=(classes / classes.sum()).astype(np.float32),
        redshift=Redshift(0.0, 3.0, (pdf / pdf.sum()).astype(np.float32), 0.5, 0.25, 0.75, "both"),
        anomaly=0.5,
        seen=Seen(32, 0.25, "r", 0.75, np.ones(3, np.float32)),
        flags=("edge",),
    )


class Common:
    """The common path, its schemas parsed once."""

    def __init__(self) -> None:
        self._read: dict[int, Any] = {}
        self._write: dict[str, tuple[bytes, Any]] = {}

    def schema_of(self, schema_id: int) -> Any:
        """Give the parsed schema of an id on the wire."""
        if schema_id not in self._read:
            self._read[schema_id] = fastavro.parse_schema(schemas.by_id(schema_id))
        return self._read[schema_id]

    def output_of(self, form: str) -> tuple[bytes, Any]:
        """Give the frame and parsed schema of what goes out for a form."""
        if form not in self._write:
            name = schemas.enriched_name(form)
            schema_id = schemas.entry(name).schema_id
            assert schema_id is not None
            self._write[form] = frame(schema_id), fastavro.parse_schema(schemas.load(name))
        return self._write[form]

    def decode(self, packet: Packet) -> dict[str, Any]:
        """Decode the whole packet."""
        if packet.value[:1] == b"\0":
            schema = self.schema_of(int.from_bytes(packet.value[1:FRAME_SIZE], "big"))
            record: Any = fastavro.schemaless_reader(io.BytesIO(packet.value[FRAME_SIZE:]), schema, None)
        else:
            record = next(iter(fastavro.reader(io.BytesIO(packet.value))))
        return dict(record)

    def stamps(self, record: dict[str, Any]) -> list[Any]:
        """Read every plane of the three stamps."""
        return [_planes(record[name]) for name in CUTOUTS]

    def encode(self, packet: Packet, record: dict[str, Any]) -> bytes:
        """Encode the whole record again."""
        framed, schema = self.output_of(packet.form)
        out = io.BytesIO()
        out.write(framed)
        fastavro.schemaless_writer(out, schema, {"enrichment": packet.enrichment, "alert": record})
        return out.getvalue()


def _planes(cutout: Any) -> list[Any]:
    content = gzip.decompress(cutout["stampData"]) if isinstance(cutout, dict) else cutout
    with fits.open(io.BytesIO(content), memmap=False) as hdus:
        return [(hdu.header.get("CRPIX1"), hdu.data.astype(np.float32)) for hdu in hdus]


def ours(validate: Validate, *, compiled: bool = True) -> Side:
    """Nightjar's path, with the compiled helper or without."""
    deserialize = Deserializer(WANTED, validate=validate)
    serialize, attached = EnrichedSerializer(SchemaStore(), lambda: NOW_NS), enrichment()
    return Side(
        name=f"nightjar, validate {validate}{'' if compiled else ', Python alone'}",
        compiled=compiled,
        decode=lambda packet: read_alert(deserialize(packet.value)),
        stamps=_cutouts,
        encode=lambda _, alert: serialize(alert, attached),
    )


def _cutouts(alert: Alert) -> list[Any]:
    return [read_cutout(data, survey=alert.survey) for data in alert.cutouts if data is not None]


def read_packets(folder: Path, survey: Survey) -> list[Packet]:
    """Read real packets, with what must come out of each."""
    paths = sorted((folder / survey.value).rglob("*.avro"))
    side, common = ours("full"), Common()
    packets = []
    for path in track(paths, f"{survey.value}: reading", console=Console(stderr=True)):
        value = path.read_bytes()
        alert = side.decode(Packet(value, "", {}, b""))
        expected = side.encode(Packet(value, alert.form, {}, b""), alert)
        _, schema = common.output_of(alert.form)
        decoded: Any = fastavro.schemaless_reader(io.BytesIO(expected[FRAME_SIZE:]), schema, None)
        packets.append(Packet(value, alert.form, decoded["enrichment"], expected))
    return packets


def verify(packets: Sequence[Packet], sides: Sequence[Side]) -> None:
    """See that all sides write the same bytes and find the same pixels."""
    for packet in packets:
        decoded = [side.decode(packet) for side in sides]
        for side, read in zip(sides, decoded, strict=True):
            if side.encode(packet, read) != packet.expected:
                sys.exit(f"{side.name} writes other bytes for a {packet.form} packet: nothing is comparable")
        planes, *others = [side.stamps(read) for side, read in zip(sides, decoded, strict=True)]
        for cutouts in others:
            for (first, *_), cutout in zip(planes, cutouts, strict=True):
                np.testing.assert_array_equal(first[1], cutout.image)


def time_once(side: Side, packets: Sequence[Packet]) -> None:
    """Run one side over all packets and note the mean of each stage."""
    with helper(compiled=side.compiled):
        _time_once(side, packets)


def _time_once(side: Side, packets: Sequence[Packet]) -> None:
    clock, spent = time.perf_counter, [0.0, 0.0, 0.0]
    for packet in packets:
        start = clock()
        read = side.decode(packet)
        decoded = clock()
        side.stamps(read)
        seen = clock()
        side.encode(packet, read)
        end = clock()
        spent = [spent[0] + decoded - start, spent[1] + seen - decoded, spent[2] + end - seen]
    for stage, total in zip(STAGES, spent, strict=True):
        side.seconds[stage].append(total / len(packets))


def time_all(work: Work, packets: Sequence[Packet], *, compiled: bool) -> float:
    """Measure the seconds an alert takes for everything but Kafka and the network, laying on the grid included."""
    batch = messages([packet.value for packet in packets])
    with helper(compiled=compiled):
        work(batch[:PIECE])
        start = time.perf_counter()
        work(batch)
        return (time.perf_counter() - start) / len(batch)


def measure(packets: Sequence[Packet], repeats: int, name: str) -> tuple[list[Side], dict[str, list[float]]]:
    """Time all sides in turn, `repeats` times."""
    common = Common()
    sides = [
        Side("common: fastavro, astropy", common.decode, common.stamps, common.encode),
        ours("full"),
        ours("full", compiled=False),
        ours("off"),
    ]
    verify(packets, sides)
    work = Work(Model.load(), packets[0].value)
    everything: dict[str, list[float]] = {"compiled": [], "Python alone": []}
    for _ in track(range(repeats), f"{name}: timing", console=Console(stderr=True)):
        for side in sides:
            gc.collect()
            time_once(side, packets)
        for kind, times in everything.items():
            gc.collect()
            times.append(time_all(work, packets, compiled=kind == "compiled"))
    return sides, everything


def summarise(sides: Sequence[Side]) -> list[dict[str, Any]]:
    """Take medians over the repeats in microseconds, and the ratio of the common path to each side."""
    rows = []
    for side in sides:
        totals = [sum(parts) for parts in zip(*side.seconds.values(), strict=True)]
        reference = [sum(parts) for parts in zip(*sides[0].seconds.values(), strict=True)]
        stages = {stage: statistics.median(seconds) * 1e6 for stage, seconds in side.seconds.items()}
        ratio = statistics.median(a / b for a, b in zip(reference, totals, strict=True))
        rows.append({"path": side.name, **stages, "total": statistics.median(totals) * 1e6, "ratio": ratio})
    return rows


def show(
    name: str, packets: Sequence[Packet], rows: Sequence[dict[str, Any]], everything: dict[str, list[float]]
) -> None:
    """Print the table of one survey."""
    size = statistics.mean(len(packet.value) for packet in packets) / 1000
    table = Table(
        title=f"{name}: {len(packets)} real packets of {size:.0f} kB, microseconds an alert (medians)"
    )
    table.add_column("path")
    for column in (*STAGES, "total", "times faster"):
        table.add_column(column, justify="right")
    for row in rows:
        numbers = [f"{row[column]:,.0f}" for column in (*STAGES, "total")]
        table.add_row(row["path"], *numbers, f"{row['ratio']:.1f}")
    console = Console()
    console.print(table)
    for kind, times in everything.items():
        microseconds = statistics.median(times) * 1e6
        console.print(
            f"all that the consumer does outside the network, {kind}: {microseconds:,.0f} us an alert, "
            f"{rows[0]['total'] / microseconds:.1f} times faster than the common path's three stages"
        )


def main(
    data: Data = USUAL,
    survey: Annotated[list[Survey] | None, typer.Option(help="One survey only; may be given twice.")] = None,
    repeats: Annotated[
        int, typer.Option(min=1, help="Rounds in which every path runs once over all packets.")
    ] = 7,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here too.")] = None,
) -> None:
    """Time the common path and Nightjar's over real packets, side by side in one run.

    Example: python benchmarks/hot_path.py --data ../shared/data --repeats 7 --json hot_path.json
    """
    warnings.simplefilter("ignore")
    keep_freed_memory()
    look_less_for_cycles()
    results = {}
    for one in survey or list(Survey):
        packets = read_packets(data, one)
        if not packets:
            print(
                f"{one.value}: no real packets (*.avro) below {data / one.value}: set NIGHTJAR_DATA to a folder "
                "that holds lsst/ and ztf/, or name it by --data",
                file=sys.stderr,
            )
            continue
        sides, everything = measure(packets, repeats, one.value)
        rows = summarise(sides)
        show(one.value, packets, rows, everything)
        results[one.value] = {
            "packets": len(packets),
            "paths": rows,
            "everything": {kind: statistics.median(times) * 1e6 for kind, times in everything.items()},
            "cpus": os.cpu_count(),
        }
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=2) + "\n")
    if not results:
        raise typer.Exit(2)


if __name__ == "__main__":
    typer.run(main)
