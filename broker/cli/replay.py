"""``broker-replay``: packets from files onto a topic, unchanged."""

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from broker.alert import Record
from broker.avro.container import split_container
from broker.cli.clusters import of_alerts, settings_of
from broker.cli.ending import FAILED, ShowVersion, counted, exit_codes, log_to_stderr, stop_on_signals
from broker.errors import AlertError, SettingsError
from broker.kafka import KafkaSink

FRAME_MAGIC, CONTAINER_MAGIC = b"\x00", b"Obj\x01"

CHUNK = 100
"""Records confirmed together; few enough that a progress bar moves."""

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
    rate : float or None
        Packets per second; None is as fast as they are confirmed.
    console : Console
    published : int
    skipped : list of Path
        Files that hold neither a frame nor a container, or cannot be read.
    """

    sink: Sink
    topic: str
    console: Console
    rate: float | None = None
    published: int = 0
    skipped: list[Path] = field(default_factory=list)

    def packets(self, paths: Iterable[Path]) -> Iterator[bytes]:
        """Packets of each file in turn; what is wrong with a file is said."""
        for path in paths:
            try:
                content = path.read_bytes()
            except OSError as error:
                self._skip(path, f"cannot be read ({error.strerror})")
                continue
            if content.startswith(FRAME_MAGIC):
                yield content
            elif content.startswith(CONTAINER_MAGIC):
                yield from self._split(path, content)
            else:
                self._skip(
                    path, f"is neither a Confluent frame nor an Avro container (begins {content[:4]!r})"
                )

    def _split(self, path: Path, content: bytes) -> list[bytes]:
        try:
            parts = split_container(content)
        except AlertError as error:
            self.console.print(
                f"{path}: published as it is, though not readable: {error.detail}", markup=False
            )
            return [content]
        if len(parts) < 2:  # noqa: PLR2004 -- one alert, or none: nothing to split
            return [content]
        self.console.print(f"{path}: split into {len(parts)} alerts, a container each", markup=False)
        return list(parts)

    def _skip(self, path: Path, why: str) -> None:
        self.skipped.append(path)
        self.console.print(f"{path}: skipped: {why}", markup=False)

    def publish(
        self,
        packets: Iterator[bytes],
        stop: threading.Event,
        progress: Progress | None = None,
        expected: int | None = None,
    ) -> None:
        """Write packets in small groups, each confirmed before the next."""
        task = progress.add_task(self.topic, total=expected) if progress else None
        size = CHUNK if self.rate is None else max(1, min(CHUNK, round(self.rate / 10)))
        began = time.monotonic()
        while not stop.is_set() and (chunk := list(islice(packets, size))):
            self.sink.write([self._record(packet) for packet in chunk])
            self.published += len(chunk)
            if progress and task is not None:
                progress.update(task, completed=self.published)
            if self.rate is not None:
                stop.wait(max(0.0, began + self.published / self.rate - time.monotonic()))

    def _record(self, packet: bytes) -> Record:
        now = str(int(time.time() * 1000)).encode()
        return Record(topic=self.topic, value=packet, headers=(("producer_timestamp", now),))


def files(paths: Iterable[Path]) -> list[Path]:
    """Name the files meant: those given, and all ``*.avro`` below the folders given, sorted within each.

    Raises
    ------
    SettingsError
        When a path is not there, or no file is left.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise SettingsError(f"{path} does not exist: give files, or folders that hold *.avro files")
        found += sorted(path.rglob("*.avro")) if path.is_dir() else [path]
    if not found:
        raise SettingsError("no *.avro file below the folders given: name files, or another folder")
    return found


@app.command()
def replay(
    paths: Annotated[list[Path], typer.Argument(help="Files, and folders to search for *.avro.")],
    topic: Annotated[str, typer.Option(help="Topic to publish on.")],
    bootstrap_servers: Annotated[
        str | None, typer.Option(help="Kafka, host:port. Default localhost:9092.")
    ] = None,
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
    show_version: ShowVersion = False,  # noqa: ARG001 - answered before
) -> None:
    """Publish Rubin frames and Avro containers as they are.

    A container of several alerts is split into one message each. What is neither a frame nor a
    container is skipped, said, and makes the exit code 1. Every packet is confirmed by Kafka before
    this ends.

    For example:
      broker-replay packets/ --topic alerts
      broker-replay night.avro --topic ztf_20260301_programid1 --rate 100 --limit 5000
      broker-replay packets/ --topic alerts --config consumer.yaml
    """
    with exit_codes("broker-replay"):
        log_to_stderr("warning")
        chosen = files(paths)
        stop = stop_on_signals()
        console = Console(stderr=True)
        settings = settings_of(config)
        connection, producer = of_alerts(settings, bootstrap_servers)
        patience = settings.consumer.connect_seconds
        sink = KafkaSink(*connection, producer, connect_seconds=patience, stop=stop)
        run = Replay(sink, topic, console, rate)
        with _bar(console) as progress:
            expected = min(len(chosen), limit or len(chosen))  # more where containers are split
            run.publish(islice(run.packets(chosen), limit), stop, progress, expected)
        typer.echo(
            f"published {counted(run.published, 'alert')} of {counted(len(chosen), 'file')} on {topic}"
        )
        if run.skipped:
            verb = "was" if len(run.skipped) == 1 else "were"
            typer.echo(
                f"broker-replay: {counted(len(run.skipped), 'file')} {verb} skipped, see above", err=True
            )
            raise typer.Exit(FAILED)


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
