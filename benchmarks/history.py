"""What a history costs: real Rubin packets with 0 to 1,000 previous detections, by the common path and by Nightjar's.

The entries are real ones, again and again. Both do what a packet needs outside the network: the common path decodes it
whole, reads its stamps and encodes it again; Nightjar does everything its consumer does, compiled and in Python alone.

    python benchmarks/history.py --data ../shared/data --entries 0 --entries 10 --entries 100 --entries 1000
"""

import gc
import io
import statistics
import time
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any

import fastavro
import typer
from hot_path import Common, Packet, Side, ours
from rich.console import Console
from rich.table import Table
from without_network import PIECE, Work, helper, messages

import schemas
from broker.allocator import keep_freed_memory, look_less_for_cycles
from broker.avro.frame import FRAME_SIZE, frame
from broker.inference import Model

FIELD = "prvDiaSources"


def with_histories(paths: list[Path], counts: list[int]) -> list[bytes]:
    """Make a packet with each number of entries, of those of the schema that most packets have."""
    values = [path.read_bytes() for path in paths]
    (schema_id, _), *_ = Counter(int.from_bytes(value[1:FRAME_SIZE], "big") for value in values).most_common(
        1
    )
    schema = fastavro.parse_schema(deepcopy(schemas.by_id(schema_id)))
    alike = [value for value in values if int.from_bytes(value[1:FRAME_SIZE], "big") == schema_id]
    records: list[Any] = [
        fastavro.schemaless_reader(io.BytesIO(one[FRAME_SIZE:]), schema, None) for one in alike
    ]
    entries = [entry for record in records for entry in record[FIELD] or ()]
    if not entries:
        raise SystemExit(f"no packet has {FIELD}: name a folder of real Rubin packets by --data")
    packets = []
    for count in counts:
        record = records[0] | {FIELD: [entries[n % len(entries)] for n in range(count)] or None}
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, record)
        packets.append(frame(schema_id) + out.getvalue())
    return packets


def common_path(value: bytes) -> Callable[[], object]:
    """All three stages of the common path for a packet."""
    common, side = Common(), ours("full")
    form = side.decode(Packet(value, "", {}, b"")).form
    encoded = side.encode(Packet(value, form, {}, b""), side.decode(Packet(value, form, {}, b"")))
    _, schema = common.output_of(form)
    record: Any = fastavro.schemaless_reader(io.BytesIO(encoded[FRAME_SIZE:]), schema, None)
    packet = Packet(value, form, record["enrichment"], encoded)
    whole = Side("common", common.decode, common.stamps, common.encode)

    def run() -> None:
        read = whole.decode(packet)
        whole.stamps(read)
        whole.encode(packet, read)

    return run


def seconds(run: Callable[[], object], at_least: float = 0.3) -> float:
    """Time of one call, by as many as take a third of a second."""
    gc.collect()
    calls, began = 0, time.perf_counter()
    while time.perf_counter() - began < at_least:
        run()
        calls += 1
    return (time.perf_counter() - began) / calls


def measure(value: bytes, model: Model, rounds: int) -> dict[str, float]:
    """Give medians of microseconds an alert: the sides in turns."""
    work, batch, common = Work(model, value), messages([value] * PIECE), common_path(value)
    times: dict[str, list[float]] = {"common": [], "compiled": [], "Python alone": []}
    for _ in range(rounds):
        times["common"].append(seconds(common))
        for kind in ("compiled", "Python alone"):
            with helper(compiled=kind == "compiled"):
                times[kind].append(seconds(lambda: work(batch)) / PIECE)
    return {kind: 1e6 * statistics.median(found) for kind, found in times.items()}


def main(
    data: Annotated[
        Path, typer.Option(envvar="NIGHTJAR_DATA", help="Folder with lsst/, which holds real packets.")
    ] = Path("../shared/data"),
    entries: Annotated[
        list[int] | None, typer.Option(help="Length of the history; may be given again.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds in which every side runs once.")] = 5,
) -> None:
    """Time packets with longer and longer histories."""
    keep_freed_memory()
    look_less_for_cycles()
    counts = entries or [0, 10, 100, 1000]
    packets = with_histories(sorted((data / "lsst").rglob("*.avro")), counts)
    model = Model.load()
    found = [measure(value, model, rounds) for value in packets]
    table = Table("entries", "kB", "common us", "compiled us", "times", "Python alone us", "times")
    for count, value, row in zip(counts, packets, found, strict=True):
        ratios = [f"{row['common'] / row[kind]:.1f}" for kind in ("compiled", "Python alone")]
        cells = [f"{row[kind]:,.0f}" for kind in ("common", "compiled", "Python alone")]
        table.add_row(str(count), f"{len(value) / 1000:.0f}", *cells[:2], ratios[0], cells[2], ratios[1])
    console = Console()
    console.print(table)
    for kind in ("common", "compiled", "Python alone"):
        each = (found[-1][kind] - found[0][kind]) / max(1, counts[-1] - counts[0])
        console.print(f"an entry more costs {each:.2f} us, {kind}")


if __name__ == "__main__":
    typer.run(main)
