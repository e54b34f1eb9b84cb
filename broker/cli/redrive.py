"""``broker-redrive``: dead letters as a table, as files, or published for another try."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from broker.cli.clusters import ResultsConfig, Servers, of_redrive, of_results, of_topics, settings_of
from broker.cli.ending import FAILED, ShowVersion, counted, exit_codes, log_to_stderr, stop_on_signals
from broker.cli.redriving import Redrive, lines
from broker.errors import SettingsError
from broker.kafka import KafkaReader, KafkaSink
from broker.kafka.admin import TopicAdmin
from broker.letter_files import LetterFiles
from broker.redrive import Choice, Judge, Ledger, checked_reasons, redrive_topic
from broker.settings import ConsumerSettings, Settings, Topics, checked
from broker.topics import REDRIVE_SUFFIX, how_to_make

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


def _time(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(
            f"{option} {text!r} is no ISO 8601 time: give one such as 2026-03-01T04:00:00Z"
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _choice(
    reasons: list[str] | None, versions: list[str] | None, since: str | None, until: str | None
) -> Choice:
    begin, end = _time("--since", since), _time("--until", until)
    if begin and end and begin >= end:
        raise SettingsError(f"--since {since} is not before --until {until}: no letter lies between")
    return Choice(checked_reasons(reasons or ()), frozenset(versions or ()), begin, end)


@app.command()
def redrive(
    topic: Annotated[str, typer.Option(help="Topic of dead letters, PREFIX.dead-letter.")],
    bootstrap_servers: Servers = None,
    config: ResultsConfig = None,
    reason: Annotated[
        list[str] | None, typer.Option(help="Only letters with this reason; may be given again.")
    ] = None,
    rejected_by: Annotated[
        list[str] | None,
        typer.Option(help="Only letters that this version of the broker wrote; may be given again."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only letters rejected at this ISO 8601 time, in UTC, or later.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only letters rejected before this time.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the table, publish nothing.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Redrive no more than this many.")] = None,
    limit_redrives: Annotated[
        int,
        typer.Option(min=1, help="Leave a message that was redriven so often: no fault is tried for ever."),
    ] = 3,
    again: Annotated[
        bool,
        typer.Option(
            "--again",
            help="Also what was redriven before and did not come back: subscribers may see repeats.",
        ),
    ] = False,
    tombstones: Annotated[
        bool, typer.Option("--tombstones", help="Also messages without a value, as they are.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Write packets into this folder, each with a .json beside it that says why; publish nothing."
        ),
    ] = None,
    show_version: ShowVersion = False,  # noqa: ARG001 - answered before
) -> None:
    """Give dead letters another try: publish their messages, as they came, to PREFIX.redrive.

    The consumer reads that topic too where its results go to the cluster it reads; where they have one of
    their own, a consumer of the redrives must run there, and the last line says how. Other readers of the
    source see no repeats. What was redriven is not redriven again unless it comes back as a dead letter,
    however often this runs and whatever it chooses from. One run at a time: two at once do not see each other.

    Exit codes: 0 done, 2 configuration refused, 1 anything else, such as messages that are no dead letters.

    For example:
      broker-redrive --topic alerts.dead-letter --dry-run
      broker-redrive --topic alerts.dead-letter --reason schema_unknown --limit 10
      broker-redrive --topic alerts.dead-letter --since 2026-03-01T04:00:00Z
      broker-redrive --topic alerts.dead-letter --reason datum_invalid --export letters/
    """
    with exit_codes("broker-redrive"):
        log_to_stderr("warning")
        if export is not None and dry_run:
            raise SettingsError("--export publishes nothing by itself: leave out --dry-run")
        into = redrive_topic(topic)
        wanted = _choice(reason, rejected_by, since, until)
        judge = Judge(Ledger(), limit_redrives, tombstones=tombstones, limit=limit)
        job = Redrive(into, wanted, judge, again=again)
        job.files = LetterFiles(export) if export else None
        stop = stop_on_signals()
        clusters = Clusters(settings_of(config), bootstrap_servers, stop)
        is_publishing = not dry_run and export is None
        is_there = into in clusters.names()
        if is_publishing and not is_there:
            raise SettingsError(
                f"topic {into}, to write to, does not exist", how_to_make(into, clusters.written_to)
            )
        with ExitStack() as stack:
            if is_publishing:
                job.publish = stack.enter_context(clusters.sink()).write
            # Where there is no such topic, which a dry run need not have, nothing was redriven yet.
            run(job, topic, [into] if is_there else [], clusters)
        _report(job, is_publishing=is_publishing, export=export)
        if is_publishing and job.chosen and (hint := clusters.who_reads(into)):
            typer.echo(hint, err=True)
        if stop.is_set():
            typer.echo(
                "broker-redrive: stopped before the end; what the table says is done is done", err=True
            )
        if job.unreadable:
            raise typer.Exit(FAILED)


@dataclass(frozen=True, slots=True)
class Clusters:
    """What this program opens on Kafka."""

    settings: Settings
    servers: str | None
    stop: threading.Event

    @property
    def written_to(self) -> str:
        """Where redrives go."""
        (servers, _), _ = of_redrive(self.settings, self.servers)
        return servers

    @property
    def patience(self) -> float:
        """How long to look for a cluster, in seconds."""
        return self.settings.consumer.connect_seconds

    def who_reads(self, redrives: str) -> str | None:
        """Say what must run for the redrives to be read; None where the consumer of the stream reads them."""
        if self.settings.sink.bootstrap_servers is None:
            return None
        servers = self.written_to
        prefix = redrives.removesuffix(REDRIVE_SUFFIX)
        return (
            f"broker-redrive: the consumer that reads {self.settings.kafka.bootstrap_servers} does not read {redrives} "
            f"at {servers}; this one does, with the security of sink as kafka.security: broker-consumer "
            f"--topic-pattern none-but-the-redrives --output-prefix {prefix} --bootstrap-servers {servers} "
            "--group-id nightjar-redrive"
        )

    def names(self) -> frozenset[str]:
        """Topics there are."""
        connection, extra = of_topics(self.settings, self.servers)
        return TopicAdmin(*connection, extra, connect_seconds=self.patience, stop=self.stop).names()

    @contextmanager
    def reader(self, *topics: str) -> Iterator[KafkaReader]:
        """Open topics to the end they have now."""
        kept = self.settings.consumer.model_dump(include={"connect_seconds", "topic_seconds"})
        limits = checked(ConsumerSettings, {**kept, "exit_at_end": True})
        kafka = of_results(self.settings, self.servers, None)
        reader = KafkaReader(kafka, limits, Topics(topics), self.stop)
        try:
            yield reader
        finally:
            reader.close()

    @contextmanager
    def sink(self) -> Iterator[KafkaSink]:
        """Open what writes."""
        connection, producer = of_redrive(self.settings, self.servers)
        sink = KafkaSink(*connection, producer, connect_seconds=self.patience, stop=self.stop)
        try:
            yield sink
        finally:
            sink.close()


def run(job: Redrive, topic: str, tried: list[str], clusters: Clusters) -> None:
    """Go over the topic twice, with a bar where somebody looks."""
    console = Console(stderr=True)
    with _bar(console) as progress:
        looking = progress.add_task("looking", total=None)
        with clusters.reader(topic, *tried) as source:
            job.learn(source, clusters.stop, lambda count: progress.advance(looking, count))
        progress.remove_task(looking)
        working = progress.add_task(topic, total=job.judge.ledger.letters)
        with clusters.reader(topic) as source:
            job.work(source, clusters.stop, lambda count: progress.advance(working, count))


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _report(job: Redrive, *, is_publishing: bool, export: Path | None) -> None:
    for line in lines(job.tally, is_done=is_publishing) if job.tally else []:
        typer.echo(line)
    letters = counted(job.tally.total(), "letter")
    if export is not None:
        typer.echo(f"exported {counted(job.exported, 'letter')} to {export}")
    elif is_publishing:
        typer.echo(f"redriven {job.chosen} of {letters} to {job.into}")
    else:
        typer.echo(f"to redrive: {job.chosen} of {letters}; nothing was published (--dry-run)")
    if job.passed_over:
        typer.echo(f"passed over by the choice: {job.passed_over}", err=True)
    if job.unreadable:
        typer.echo(f"broker-redrive: {counted(job.unreadable, 'message')} not readable, see above", err=True)


def main() -> None:
    """Run the program."""
    app()


if __name__ == "__main__":
    main()
