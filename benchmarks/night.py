"""A Rubin night on this machine: visits in bursts, the real consumer, a real Apache Kafka, and the age at output.

`broker-replay` publishes visits as the camera makes them; the consumer's outputs carry Kafka's own time of arrival
(``LogAppendTime``), so that nobody who reads them along costs anything. Age is that time less the time of publication
of the alert; it is exact to a millisecond, as both are this machine's clock.

    python benchmarks/night.py --visits 10 --visit-size 10000 --visit-period 37
    python benchmarks/night.py --visits 1 --visit-size 40000 --visit-period 74 --output peak
"""

import json
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import typer
from confluent_kafka import Consumer, TopicPartition
from kafka_node import MeasuredKafka, cpu_seconds, make_topic
from packets import USUAL, Data
from rich.console import Console
from rich.table import Table

from broker.alert import Survey
from broker.sizing import Stream, age
from broker.testing.packets import lsst_packet

PARTITIONS = 4
SAMPLE_SECONDS = 0.5
PERCENTILES = (50, 95, 99, 100)
WARM_SECONDS = 8
"""Until the consumer stands ready, before the night begins."""

PATIENCE_SECONDS = 300
SIMULATED = 200
"""Packets of the project's own writer beside the real ones."""


@dataclass
class Watch:
    """Looks at backlog, processor time and memory twice a second.

    Attributes
    ----------
    servers, topic, group : str
    processes : dict of str to int
        Process ids by name.
    samples : list of dict
    """

    servers: str
    topic: str
    group: str
    processes: dict[str, int]
    samples: list[dict[str, float]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Sample until told that it is over."""
        looker = Consumer(
            {"bootstrap.servers": self.servers, "group.id": self.group, "enable.auto.commit": False}
        )
        places = [TopicPartition(self.topic, number) for number in range(PARTITIONS)]
        while not self._over.wait(SAMPLE_SECONDS):
            ends = [looker.get_watermark_offsets(place, 5)[1] for place in places]
            done = [max(0, place.offset) for place in looker.committed(places, 5)]
            sample = {"at": time.time(), "published": sum(ends), "done": sum(done)}
            for name, pid in self.processes.items():
                sample[f"{name}_cpu"] = cpu_seconds(pid)
                sample[f"{name}_mib"] = _resident_mib(pid)
            self.samples.append(sample)
        looker.close()

    def wait_for(self, count: int, consumer: subprocess.Popen[bytes]) -> None:
        """Wait until so many are done."""
        deadline = time.time() + PATIENCE_SECONDS
        while not self.samples or self.samples[-1]["done"] < count:
            if time.time() > deadline or consumer.poll() is not None:
                raise SystemExit(f"the night was not over {PATIENCE_SECONDS} s after its last alert")
            time.sleep(SAMPLE_SECONDS)

    @property
    def began(self) -> float:
        """When the first visit was published, or a little before."""
        first = next(sample["at"] for sample in self.samples if sample["published"])
        return first - 2 * SAMPLE_SECONDS

    @contextmanager
    def running(self) -> Iterator[None]:
        """Sample meanwhile."""
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


def begin(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Begin one of the project's programs."""
    return subprocess.Popen([sys.executable, "-m", f"broker.cli.{program}", *arguments])


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def mixed_packets(data: Path, folder: Path, survey: Survey) -> int:
    """Link the real packets of a survey, and write simulated ones, in turns; give how many."""
    real = sorted((data / survey.value).rglob("*.avro"))
    for number, path in enumerate(real):
        (folder / f"{2 * number:06d}.avro").symlink_to(path.resolve())
    if survey is Survey.LSST:
        for number in range(SIMULATED):
            (folder / f"{2 * number + 1:06d}.avro").write_bytes(lsst_packet(alert_id=9_000_000 + number))
    return len(list(folder.iterdir()))


def read_ages(servers: str, topic: str, count: int, start: float, period: float) -> dict[int, list[float]]:
    """Ages at output in seconds, by visit: Kafka's time of arrival less the time in the header."""
    reader = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "ages",
            "enable.auto.commit": False,
            "fetch.max.bytes": 50_000_000,
            "queued.max.messages.kbytes": 131_072,
        }
    )
    reader.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    ages: dict[int, list[float]] = {}
    done = 0
    while done < count:
        batch = reader.consume(1000, 20)
        if not batch:
            raise SystemExit(f"{topic} has {done} of {count} alerts: the others were not enriched")
        for message in batch:
            headers = dict(message.headers() or ())
            published = int(headers["source-timestamp"]) / 1000  # type: ignore[call-overload]
            visit = int((published - start) // period)
            ages.setdefault(visit, []).append(message.timestamp()[1] / 1000 - published)
        done += len(batch)
    reader.close()
    return ages


def rows_of(
    ages: dict[int, list[float]], watch: Watch, start: float, period: float
) -> list[dict[str, float]]:
    """One row a visit: percentiles of the age, backlog before the next visit, rate while there was any."""
    rows = []
    for visit, values in sorted(ages.items()):
        row = {f"p{q}": float(np.percentile(values, q)) for q in PERCENTILES}
        until = start + (visit + 1) * period
        before = [sample for sample in watch.samples if sample["at"] < until]
        left = before[-1]["published"] - before[-1]["done"] if before else float("nan")
        rows.append({"visit": visit, "alerts": len(values), **row, "backlog": left})
    return rows


def draw(watch: Watch, start: float, path: Path, title: str) -> None:
    """Draw backlog, processors and memory over time."""
    at = np.array([sample["at"] for sample in watch.samples]) - start
    figure, (backlog, cores) = plt.subplots(2, 1, sharex=True, figsize=(9, 6))
    backlog.fill_between(at, [s["published"] - s["done"] for s in watch.samples], step="post", alpha=0.5)
    backlog.set_ylabel("alerts not yet committed")
    backlog.set_title(textwrap.fill(title, 90), fontsize="medium")
    for name in watch.processes:
        used = np.gradient([sample[f"{name}_cpu"] for sample in watch.samples], at)
        cores.plot(at, used, label=f"{name}: processors")
        peak = max(sample[f"{name}_mib"] for sample in watch.samples)
        cores.plot([], [], " ", label=f"{name}: at most {peak:.0f} MiB")
    cores.set_xlabel("seconds since the first visit")
    cores.set_ylabel("processors at work")
    cores.legend(fontsize="small", ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def published_over(watch: Watch, count: int) -> float:
    """Seconds a visit took to publish: what is asked of it, or longer where the machine does no better."""
    first = next(n for n, sample in enumerate(watch.samples) if sample["published"])
    whole = next(sample for sample in watch.samples if sample["published"] >= count)
    return whole["at"] - watch.samples[max(0, first - 1)]["at"]


def fit(rows: Sequence[dict[str, float]], stream: Stream) -> dict[str, float]:
    """Fit the model of `broker.sizing`: its ages grow linearly along a visit, so that a line has both of its numbers.

    The first of several visits is left out: Kafka is still being compiled.

    Returns
    -------
    dict of str to float
        Rate in alerts/s, latency in s; empty where there was no backlog to tell a rate by.
    """
    usual = rows[1:] or rows
    ages = np.mean([[row[f"p{q}"] for q in PERCENTILES] for row in usual], axis=0)
    slope, latency = np.polyfit([q / 100 for q in PERCENTILES], ages, 1)
    if slope < 1.0:
        return {}
    rate = stream.alerts / (slope + stream.burst_seconds)
    return {"rate": float(rate), "latency": float(max(0.0, latency))}


def hold(rows: Sequence[dict[str, float]], stream: Stream, other: Path, console: Console) -> None:
    """Hold what the model, fitted to another night, says of this one against what was measured."""
    fitted = json.loads(other.read_text(encoding="utf-8"))["model"]
    for q in (50, 99):
        said = age(stream, fitted["rate"], fitted["latency"], q / 100)
        measured = np.mean([row[f"p{q}"] for row in rows])
        console.print(f"p{q} by the model fitted to {other}: {said:.1f} s, measured {measured:.1f} s")


def show(
    rows: Sequence[dict[str, float]], watch: Watch, stream: Stream, title: str, held_against: Path | None
) -> dict[str, Any]:
    """Print the table, and what was asked of the night."""
    table = Table(
        "visit", "alerts", *(f"p{q} s" for q in PERCENTILES), "backlog before the next", title=title
    )
    for row in rows:
        ages = (f"{row[f'p{q}']:.2f}" for q in PERCENTILES)
        table.add_row(f"{row['visit']:.0f}", f"{row['alerts']:.0f}", *ages, f"{row['backlog']:.0f}")
    console = Console()
    console.print(table)
    peaks = {name: max(sample[f"{name}_mib"] for sample in watch.samples) for name in watch.processes}
    console.print("peak memory: " + ", ".join(f"{name} {mib:.0f} MiB" for name, mib in peaks.items()))
    if fitted := fit(rows, stream):
        console.print(
            f"published over {stream.burst_seconds:.1f} s; model: {fitted['rate']:,.0f} alerts/s, "
            f"latency {fitted['latency']:.2f} s"
        )
    if held_against is not None:
        hold(rows, stream, held_against, console)
    return {"visits": list(rows), "model": fitted, "peak_mib": peaks, "samples": watch.samples}


def main(
    data: Data = USUAL,
    survey: Annotated[Survey, typer.Option(help="Whose packets.")] = Survey.LSST,
    visits: Annotated[int, typer.Option(min=1, help="How many.")] = 10,
    visit_size: Annotated[int, typer.Option(min=1, help="Alerts of each.")] = 10_000,
    visit_period: Annotated[float, typer.Option(min=1.0, help="Seconds from one to the next.")] = 37.0,
    burst: Annotated[float, typer.Option(min=0.0, help="Seconds over which each is published.")] = 5.0,
    delivery: Annotated[str, typer.Option(help="As of broker-consumer.")] = "at-least-once",
    held_against: Annotated[
        Path | None, typer.Option(help="night.json of another night, whose model is held against this one.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for night.json and night.png.")] = Path("runs/night"),
) -> None:
    """Publish a night and measure every alert's age at output."""
    output.mkdir(parents=True, exist_ok=True)
    count = visits * visit_size
    cadence = (
        "--visits",
        visits,
        "--visit-size",
        visit_size,
        "--visit-period",
        visit_period,
        "--burst",
        burst,
    )
    with MeasuredKafka() as server, tempfile.TemporaryDirectory() as packets:
        kinds = mixed_packets(data, Path(packets), survey)
        topic = make_topic(server, PARTITIONS)
        prefix = make_topic(server, PARTITIONS, **{"message.timestamp.type": "LogAppendTime"})
        at = ("--bootstrap-servers", server.bootstrap_servers, "--topic", topic)
        where = ("--output-prefix", prefix, "--group-id", f"group-{prefix}")
        consumer = begin("consumer", *at, *where, "--delivery", delivery, "--log-level", "warning")
        time.sleep(WARM_SECONDS)
        replay = begin("replay", packets, *at, *map(str, cadence))
        processes = {"consumer": consumer.pid, "Kafka": server.pid}
        watch = Watch(server.bootstrap_servers, topic, f"group-{prefix}", processes)
        with watch.running():
            replay.wait()
            watch.wait_for(count, consumer)
        consumer.terminate()
        consumer.wait(60)
        start = watch.began
        ages = read_ages(server.bootstrap_servers, f"{prefix}.enriched", count, start, visit_period)
    title = (
        f"{survey.value}: {visits} visits of {visit_size} alerts every {visit_period:g} s, each published over "
        f"{burst:g} s; {kinds} packets again and again; {delivery}"
    )
    stream = Stream(visit_size, visit_period, published_over(watch, visit_size), alert_bytes=0.0)
    found = show(rows_of(ages, watch, start, visit_period), watch, stream, title, held_against)
    draw(watch, start, output / "night.png", title)
    (output / "night.json").write_text(json.dumps({"title": title, **found}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
