"""``broker-replay``: packets from files onto a topic, unchanged."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from broker.alert import Record
from broker.cadence import RUBIN_PERIOD_SECONDS, Cadence, Steady, Visits
from broker.cli.clusters import Servers, of_alerts, settings_of
from broker.cli.ending import FAILED, ShowVersion, counted, exit_codes, log_to_stderr, stop_on_signals
from broker.errors import SettingsError
from broker.kafka import KafkaSink, rights
from broker.kafka.connection import is_id_of_embedded
from broker.kafka.embedded import PARTITION_MEGABYTES
from broker.kafka.ends import End
from broker.packet_files import Packet, PacketFiles

CHUNK = 100
"""Records confirmed together; few enough that a progress bar moves."""

LATE_SECONDS = 1.0
"""A replay that falls behind by more is told of: who measures with it must know."""

AHEAD_SECONDS = 0.1
"""What is due within this time goes together with what is due now."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


class Sink(Protocol):
    """Where packets go."""

    def write(self, records: list[Record]) -> None:
        """Publish records, and wait."""


@dataclass
class Replay:
    """Publishes packets and keeps count.

    Attributes
    ----------
    sink : Sink
    topic : str
    console : Console
    cadence : Cadence or None
        When packets are due; None is as fast as they are confirmed.
    published, published_bytes : int
    late_seconds : float
        How far it has been behind its cadence at most.
    """

    sink: Sink
    topic: str
    console: Console
    cadence: Cadence | None = None
    published: int = 0
    published_bytes: int = 0
    late_seconds: float = 0.0

    def publish(
        self,
        packets: Iterator[bytes],
        stop: threading.Event,
        progress: Progress | None = None,
        expected: int | None = None,
    ) -> None:
        """Write packets in small groups, each confirmed before the next."""
        task = progress.add_task(self.topic, total=expected) if progress else None
        began = time.monotonic()
        while not stop.is_set() and (chunk := list(islice(packets, self._due(time.monotonic() - began)))):
            if self.cadence is not None:
                early = began + self.cadence.due(self.published) - time.monotonic()
                self.late_seconds = max(self.late_seconds, -early)
                stop.wait(max(0.0, early))
            self.sink.write([self._record(packet) for packet in chunk])
            self.published += len(chunk)
            self.published_bytes += sum(map(len, chunk))
            if progress and task is not None:
                progress.update(task, completed=self.published)

    def _due(self, now: float) -> int:
        """How many go together: those that are due by now, but one at least, which is waited for."""
        if self.cadence is None:
            return CHUNK
        latest = max(now, self.cadence.due(self.published)) + AHEAD_SECONDS
        due = 1
        while due < CHUNK and self.cadence.due(self.published + due) <= latest:
            due += 1
        return due

    def _record(self, packet: bytes) -> Record:
        now = str(int(time.time() * 1000)).encode()
        return Record(topic=self.topic, value=packet, headers=(("producer_timestamp", now),))


@app.command()
def replay(
    paths: Annotated[list[Path], typer.Argument(help="Files, tar archives, and folders to search for both.")],
    topic: Annotated[str, typer.Option(help="Topic to publish on.")],
    bootstrap_servers: Servers = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML file as broker-consumer takes it: cluster and security of its section kafka."
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Alerts per second. Default: no limit.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Publish no more than this many.")] = None,
    visit_size: Annotated[
        int | None, typer.Option(min=1, help="Publish in visits of so many alerts, as a camera makes them.")
    ] = None,
    visit_period: Annotated[
        float | None,
        typer.Option(
            min=0.001, help=f"Seconds from one visit to the next. Default: {RUBIN_PERIOD_SECONDS:g}."
        ),
    ] = None,
    burst: Annotated[
        float | None,
        typer.Option(min=0.0, help="Seconds over which a visit is published. Default: 0, all at once."),
    ] = None,
    visits: Annotated[
        int | None,
        typer.Option(min=1, help="So many visits, the packets again and again. Default: each packet once."),
    ] = None,
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="Visits and bursts so many times faster. Default: 1.")
    ] = None,
    show_version: ShowVersion = False,  # noqa: ARG001 - answered before
) -> None:
    """Publish Rubin frames and Avro containers as they are.

    A container of several alerts is split into one message each. What is neither a frame nor a
    container is skipped, said, and makes the exit code 1. Every packet is confirmed by Kafka before
    this ends. Header producer_timestamp says when each was published, in milliseconds since the Unix epoch.

    For example:
      broker-replay packets/ --topic alerts
      broker-replay night.avro --topic ztf_20260301_programid1 --rate 100 --limit 5000
      broker-replay packets/ --topic alerts --config consumer.yaml
      broker-replay packets/ --topic alerts --visit-size 10000 --visit-period 37 --burst 5 --visits 10
      broker-replay ztf_public_20260301.tar.gz --topic ztf_20260301_programid1 --visit-size 500 --speed 10
    """
    with exit_codes("broker-replay"):
        log_to_stderr("warning")
        cadence = _cadence(rate, visit_size, visit_period, burst, visits, speed)
        chosen = PacketFiles.find(paths)
        stop = stop_on_signals()
        console = Console(stderr=True)
        settings = settings_of(config)
        connection, producer = of_alerts(settings, bootstrap_servers)
        patience = settings.consumer.connect_seconds
        end = End("sink", *connection, producer.extra, None, None, (topic,))
        embedded = is_id_of_embedded(rights.require_of(end, patience, stop))
        sink = KafkaSink(*connection, producer, connect_seconds=patience, stop=stop)
        run = Replay(sink, topic, console, cadence)
        bounds = (limit, visits and visit_size and visits * visit_size)
        most = min((bound for bound in bounds if bound is not None), default=None)
        with _bar(console) as progress:
            expected = most if visits else chosen.count and min(chosen.count, most or chosen.count)
            packets = again_and_again(chosen, console) if visits else told(chosen, console)
            run.publish((packet.value for packet in islice(packets, most)), stop, progress, expected)
        typer.echo(
            f"published {counted(run.published, 'alert')} of {counted(len(chosen.paths), 'file')} on {topic}"
        )
        if embedded and run.published_bytes > PARTITION_MEGABYTES * 1_000_000:
            typer.echo(
                f"broker-replay: these are {run.published_bytes / 1e6:.0f} MB, and an embedded Kafka keeps "
                f"{PARTITION_MEGABYTES} of each partition: what nobody had read by then may be gone. Publish at a "
                "pace that a consumer keeps up with (--rate, or the visits' options), or on a real Kafka",
                err=True,
            )
        if run.late_seconds > LATE_SECONDS:
            typer.echo(
                f"broker-replay: up to {run.late_seconds:.1f} s behind: this machine and Kafka publish no faster",
                err=True,
            )
        if stop.is_set():
            typer.echo("broker-replay: stopped before the end", err=True)
            raise typer.Exit(FAILED)
        if chosen.skipped:
            verb = "was" if len(chosen.skipped) == 1 else "were"
            typer.echo(
                f"broker-replay: {counted(len(chosen.skipped), 'file')} {verb} skipped, see above", err=True
            )
            raise typer.Exit(FAILED)


def _cadence(
    rate: float | None,
    size: int | None,
    period: float | None,
    burst: float | None,
    visits: int | None,
    speed: float | None,
) -> Cadence | None:
    if size is None:
        of_visits = {"--visits": visits, "--visit-period": period, "--burst": burst, "--speed": speed}
        if given := [name for name, value in of_visits.items() if value is not None]:
            raise SettingsError(f"{given[0]} is of visits, whose size is not said: give --visit-size too")
        return None if rate is None else Steady(rate)
    if rate is not None:
        raise SettingsError("--rate and --visit-size are two ways to say when: give one of them")
    return Visits(size, period or RUBIN_PERIOD_SECONDS, burst or 0.0, speed or 1.0)


def again_and_again(files: PacketFiles, console: Console) -> Iterator[Packet]:
    """Packets of files without end; what is wrong with a file is said the first time."""
    count = 0
    for packet in told(files, console):
        count += 1
        yield packet
    while count:
        for packet in PacketFiles(files.paths):
            yield packet


def told(files: PacketFiles, console: Console) -> Iterator[Packet]:
    """Packets of files; what is wrong with a file is said when its turn is over."""
    for packet in files:
        _tell(files, console)
        yield packet
    _tell(files, console)


def _tell(files: PacketFiles, console: Console) -> None:
    """Say what was not said yet: remarks are taken away as they are said, skipped files are kept."""
    for where, what in files.remarks:
        console.print(f"{where}: {what}", markup=False)
    files.remarks.clear()
    for where, why in files.skipped[files.said :]:
        console.print(f"{where}: skipped: {why}", markup=False)
    files.said = len(files.skipped)


def _bar(console: Console) -> Progress:
    columns: list[Any] = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    ]
    return Progress(*columns, console=console)


def main() -> None:
    """Run the program."""
    app()


if __name__ == "__main__":
    main()
