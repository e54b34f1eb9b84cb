"""The demonstration from beginning to end: Kafka, the consumer, alerts in, results out, a report."""

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from broker.demo import report
from broker.demo.alerts import SimulatedAlert, simulate
from broker.demo.processes import Program, await_file, running
from broker.demo.stream import Stream, Tally, result_topics
from broker.errors import NightjarError
from broker.kafka import KafkaReader, KafkaSink
from broker.kafka.embedded import PARTITION_MEGABYTES
from broker.kafka.progress import group_progress
from broker.settings import ConsumerSettings, Plaintext, SinkSettings, SourceSettings, Topics

TOPIC = "alerts"
GROUP = "nightjar"
PARTITIONS = 4

SHORT_WAIT: dict[str, str | int | float | bool] = {"fetch.wait.max.ms": 20}
"""The embedded Kafka answers a request that finds nothing new only when its wait is over, half a second by default,
even if alerts arrive meanwhile; a real one answers at once."""

SHEET_ROWS = 40
"""Most that the contact sheet has, whatever is asked for: a page of 6000 pixels."""

WATCH_SECONDS = 0.5
WIDE = 140
"""Characters across, from which on an alert needs but one line in the table."""

DECODE = (
    "{python} -c \"import fastavro, io, schemas; b = open('{path}', 'rb').read(); "
    "s = schemas.by_id(int.from_bytes(b[1:5], 'big')); "
    "print(fastavro.schemaless_reader(io.BytesIO(b[5:]), s)['enrichment'])\""
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the user may choose.

    Attributes
    ----------
    alerts : int
        Messages to publish.
    seed : int
    output : Path
        Folder for everything that is left.
    model : Path or None
        None takes the packaged one.
    rows : int
        Alerts that stand out, of each kind, in the table and, up to `SHEET_ROWS`, on the contact sheet.
    keep_running : bool
        Leave Kafka and the consumer up until told to stop.
    """

    alerts: int
    seed: int
    output: Path
    model: Path | None = None
    rows: int = 8
    keep_running: bool = False


def demonstrate(options: Options, console: Console, stop: threading.Event) -> None:
    """Run the demonstration; every process it starts has ended when this returns or raises.

    Parameters
    ----------
    options : Options
    console : rich.console.Console
    stop : threading.Event
        Set from outside to end early.

    Raises
    ------
    NightjarError
        When a program fails, or in = enriched + dead does not hold.
    """
    began = time.monotonic()
    folder = _prepared(options.output)
    with ExitStack() as stack:
        kafka, servers = _start_kafka(folder, stack, stop)
        if stop.is_set():
            return
        console.print(
            f"embedded Kafka (process {kafka.pid}): --bootstrap-servers [bold]{servers}[/]", highlight=False
        )
        consumer = _start_consumer(servers, options, stack)
        console.print(
            f"consumer (process {consumer.pid}): {consumer.command}", highlight=False, soft_wrap=True
        )
        tally = _stream(options, servers, (kafka, consumer), console, stop)
        if stop.is_set():
            return
        _report(tally, options, console)
        console.print(
            f"\n[bold]in {len(tally.published)} = enriched {len(tally.enriched)} + dead {len(tally.dead)}[/]"
            f"   in {time.monotonic() - began:.0f} s, all of it committed"
        )
        if options.keep_running:
            _stay(servers, folder, (kafka, consumer), console, stop)
        consumer.end()
        console.print(f"[dim]the consumer says: {consumer.last_words}[/]", highlight=False, soft_wrap=True)
    if not options.keep_running:
        _suggest(folder, console)


def _prepared(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kafka.address").unlink(missing_ok=True)
    return folder


def _start_kafka(folder: Path, stack: ExitStack, stop: threading.Event) -> tuple[Program, str]:
    ready = folder / "kafka.address"
    topics = [argument for name in (TOPIC, *result_topics(TOPIC)) for argument in ("--topic", name)]
    arguments = [*topics, "--partitions", str(PARTITIONS), "--ready-file", str(ready)]
    kafka = stack.enter_context(running("broker-embedded-kafka", arguments, folder / "kafka.log"))
    stack.callback(ready.unlink, missing_ok=True)
    return kafka, await_file(ready, kafka, stop)


def _start_consumer(servers: str, options: Options, stack: ExitStack) -> Program:
    model = [] if options.model is None else ["--model", str(options.model)]
    arguments = ["--topic", TOPIC, "--bootstrap-servers", servers, "--group-id", GROUP, *model]
    variables = {"BROKER_KAFKA__EXTRA": json.dumps(SHORT_WAIT)}
    log = options.output / "consumer.log"
    return stack.enter_context(running("broker-consumer", arguments, log, variables))


def _stream(
    options: Options, servers: str, programs: tuple[Program, ...], console: Console, stop: threading.Event
) -> Tally:
    """Send the alerts through, with a progress bar for each end."""
    with ExitStack() as stack:
        progress = stack.enter_context(_bars(console))
        bars = {
            name: progress.add_task(name, total=options.alerts)
            for name in ("published", "committed", "enriched + dead")
        }

        def told(tally: Tally) -> None:
            numbers = (len(tally.published), tally.committed, len(tally.enriched) + len(tally.dead))
            for bar, number in zip(bars.values(), numbers, strict=True):
                progress.update(bar, completed=number)

        sink = KafkaSink(servers, Plaintext(), SinkSettings(), connect_seconds=10.0, stop=stop)
        stack.callback(sink.close)
        reading = SourceSettings(bootstrap_servers=servers, group_id="nightjar-demo", extra=SHORT_WAIT)
        results = KafkaReader(reading, ConsumerSettings(), Topics(result_topics(TOPIC)), stop)
        stack.callback(results.close)
        stream = Stream(
            topic=TOPIC,
            sink=sink,
            results=results,
            committed=stack.enter_context(group_progress(servers, GROUP, TOPIC)).committed,
            programs=programs,
            told=told,
            stop=stop,
        )
        return stream.run(_until(stop, simulate(options.alerts, options.seed)))


def _until(stop: threading.Event, alerts: Iterator[SimulatedAlert]) -> Iterator[SimulatedAlert]:
    for alert in alerts:
        if stop.is_set():
            return
        yield alert


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:>15}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def _report(tally: Tally, options: Options, console: Console) -> None:
    faults = tally.faults()
    if faults:
        raise NightjarError(f"the stream does not add up: {'; '.join(faults)}")
    results = report.decode(tally)
    folder = options.output
    console.print()
    console.print(report.table(results, options.rows, wide=console.width >= WIDE))
    console.print(report.dead_letter_table(tally))
    report.draw_sheet(folder / "contact_sheet.png", results, min(options.rows, SHEET_ROWS))
    report.write_jsonl(folder / "enriched.jsonl", results)
    report.write_samples(folder, results, tally.published)
    for name, what in (
        ("contact_sheet.png", "stamps of the alerts that stand out"),
        ("enriched.jsonl", "what was attached to each alert, a line each"),
        ("enriched_alert.bin", "one enriched alert, byte for byte as on the wire"),
        ("packets", "some of the packets that went in, for broker-replay"),
        ("consumer.log", "what the consumer said"),
    ):
        console.print(f"  {folder / name!s:<32} {what}", highlight=False, soft_wrap=True)


def _stay(
    servers: str, folder: Path, programs: tuple[Program, ...], console: Console, stop: threading.Event
) -> None:
    """Leave Kafka and the consumer to others until told to stop."""
    console.print(
        "\n[bold]Kafka and the consumer stay up until Ctrl-C.[/] In another terminal:", highlight=False
    )
    at = f"--bootstrap-servers {servers}"
    for line in (
        f"{_script('broker-subscribe')} --topic {TOPIC}.enriched {at}",
        f"{_script('broker-replay')} {folder / 'packets'} --topic {TOPIC} {at}",
        f"{_script('broker-consumer')} --topic {TOPIC} --group-id other --output-prefix other {at}",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    console.print(
        f"[dim]This Kafka keeps about {PARTITION_MEGABYTES} MB of each partition and drops older messages without "
        "a word. It does not look messages up by time: --start with a time finds nothing here.[/]",
        highlight=False,
    )
    while not stop.wait(WATCH_SECONDS):
        for program in programs:
            program.check()


def _suggest(folder: Path, console: Console) -> None:
    decode = DECODE.format(python=_script("python"), path=folder / "enriched_alert.bin")
    console.print("\nTry next:", style="bold")
    for what, line in (
        (
            "the same with Kafka left up, for broker-subscribe and broker-replay",
            f"{_script('broker-demo')} --keep-running",
        ),
        ("other alerts", f"{_script('broker-demo')} --seed 2"),
        ("read an enriched alert with fastavro and our schemas alone", decode),
    ):
        console.print(f"  [dim]# {what}[/]", highlight=False)
        console.print(f"  {line}", highlight=False, soft_wrap=True, markup=False)


def _script(name: str) -> str:
    """Name a program so that it can be typed here: bare where the PATH has it, else with its folder."""
    ours = Path(sys.executable).parent / name
    if shutil.which(name) == str(ours):
        return name
    return os.path.relpath(ours) if ours.is_relative_to(Path.cwd()) else str(ours)
