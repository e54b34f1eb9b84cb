"""``broker-subscribe``: what the broker published, as a table or as JSON lines."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from broker.alert import Survey
from broker.cli.clusters import ResultsConfig, Servers, of_results, settings_of
from broker.cli.ending import REFUSED, ShowVersion, counted, exit_codes, log_to_stderr, stop_on_signals
from broker.cli.printers import LinePrinter, TablePrinter
from broker.cli.registries import decoder
from broker.cli.subscribing import Filter, Subscription
from broker.errors import SettingsError
from broker.kafka import KafkaReader, KafkaSource, rights
from broker.kafka.ends import End
from broker.repeats import Repeats
from broker.settings import ConsumerSettings, Topics, checked

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


class Format(StrEnum):
    """How records are printed."""

    TABLE = "table"
    JSONL = "jsonl"


@app.command()
def subscribe(
    topic: Annotated[list[str], typer.Option(help="Topic to read; may be given again.")],
    bootstrap_servers: Servers = None,
    config: ResultsConfig = None,
    group_id: Annotated[
        str | None,
        typer.Option(help="Read as a member of this group and commit what is printed. Default: no group."),
    ] = None,
    start: Annotated[
        str, typer.Option(help="earliest, latest, or an ISO 8601 time in UTC; a group goes on where it was.")
    ] = "earliest",
    limit: Annotated[int | None, typer.Option(min=1, help="End after this many records.")] = None,
    exit_at_end: Annotated[
        bool, typer.Option("--exit-at-end", help="End at the end the topic had at start.")
    ] = False,
    form: Annotated[
        Format, typer.Option("--format", help="A table, or JSON lines with everything.")
    ] = Format.TABLE,
    with_alert: Annotated[
        bool, typer.Option("--with-alert", help="JSON lines hold the original alert too, stamps in base64.")
    ] = False,
    keep_repeats: Annotated[
        bool,
        typer.Option("--keep-repeats", help="Print what comes again after a crash, too. Default: once each."),
    ] = False,
    survey: Annotated[Survey | None, typer.Option(help="Only this survey.")] = None,
    morphology: Annotated[
        str | None, typer.Option(help="Only this top class; upper and lower case are the same.")
    ] = None,
    min_anomaly: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Only alerts at least this anomalous.")
    ] = None,
    min_interesting: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Only alerts at least this anomalous without being artefacts."),
    ] = None,
    min_artefact: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Only alerts at least this much like artefacts.")
    ] = None,
    show_version: ShowVersion = False,  # noqa: ARG001 - answered before
) -> None:
    """Print what the broker published: enriched alerts, or dead letters.

    Survey, morphology and anomaly are filtered by the headers, before anything is decoded; what no model
    said is filtered out. The table shows a photo-z for galaxies only; JSON lines have all. In a narrow
    terminal a record takes two lines; into a pipe it is one line, however long.

    A broker that crashed may publish an alert again. Such a repeat, the same survey, alert id, model and source
    position, is dropped and counted, as far back as the last 500,000 records that this run took. An alert that
    its survey sent twice is two.

    For example:
      broker-subscribe --topic alerts.enriched
      broker-subscribe --topic alerts.enriched --min-interesting 0.99 --start latest
      broker-subscribe --topic alerts.enriched --format jsonl --exit-at-end > enriched.jsonl
      broker-subscribe --topic alerts.dead-letter --exit-at-end
      broker-subscribe --topic nightjar.lsst.enriched --config consumer.yaml
    """
    with exit_codes("broker-subscribe"):
        if with_alert and form is Format.TABLE:
            raise SettingsError("--with-alert needs --format jsonl: a table has no room for the alert")
        log_to_stderr("warning")
        stop = stop_on_signals()
        settings = settings_of(config)
        if group_id == settings.kafka.group_id:
            raise SettingsError(
                f"--group-id {group_id} is the group of the consumer, which would share its partitions: choose another"
            )
        patience = settings.consumer.model_dump(include={"connect_seconds", "topic_seconds"})
        limits = checked(ConsumerSettings, {**patience, "start": start, "exit_at_end": exit_at_end})
        kafka = of_results(settings, bootstrap_servers, group_id)
        topics = Topics(tuple(topic))
        rights.require_of(
            End("source", kafka.bootstrap_servers, kafka.security, kafka.extra, topics, group_id, ()),
            limits.connect_seconds,
            stop,
        )
        kind = KafkaReader if group_id is None else KafkaSource
        source = kind(kafka, limits, topics, stop)
        show = TablePrinter(Console()) if form is Format.TABLE else LinePrinter(with_alert=with_alert)
        asked = {
            "anomaly": min_anomaly,
            "anomaly-interesting": min_interesting,
            "anomaly-artefact": min_artefact,
        }
        least = {name: value for name, value in asked.items() if value is not None}
        wanted = Filter(survey, morphology, least)
        repeats = None if keep_repeats else Repeats()
        read = decoder(settings.registry)
        subscription = Subscription(source, wanted, show, limit, exit_at_end, read, repeats)
        try:
            subscription.run(stop)
        finally:
            source.close()
        typer.echo(_closing(subscription), err=True)
        if subscription.lacks_class and not subscription.printed:
            raise typer.Exit(REFUSED)


def _closing(subscription: Subscription) -> str:
    unreadable = f", {subscription.unreadable} not readable" if subscription.unreadable else ""
    dropped = subscription.repeats.count if subscription.repeats else 0
    repeats = f", {counted(dropped, 'repeat')} dropped" if dropped else ""
    return f"{counted(subscription.printed, 'record')}{repeats}{unreadable}"


def main() -> None:
    """Run the program."""
    app()


if __name__ == "__main__":
    main()
