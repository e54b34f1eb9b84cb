"""``broker-subscribe``: what the broker published, as a table or as JSON lines."""

import functools
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console

import schemas
from broker.alert import Message, Survey
from broker.avro.decode import Decoder, decode
from broker.avro.frame import CONTAINER_MAGIC, FRAME_MAGIC, FRAME_SIZE
from broker.cli.clusters import ResultsConfig, Servers, of_results, settings_of
from broker.cli.ending import ShowVersion, counted, exit_codes, log_to_stderr, stop_on_signals
from broker.cli.printers import LinePrinter, TablePrinter
from broker.cli.registries import decoder
from broker.errors import AlertError, SettingsError
from broker.kafka import KafkaReader, KafkaSource, rights
from broker.kafka.ends import End
from broker.settings import ConsumerSettings, Topics, checked
from broker.topics import ENRICHED_SUFFIX

BATCH = 100
LINGER_SECONDS = 0.2

RAW_ENOUGH = 5
"""Alerts without an enrichment that tell a topic of raw ones, where nothing of ours came before them."""

FOREIGN_SHOWN = 5
"""Foreign messages that are named one by one; the others are only counted."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


class Format(StrEnum):
    """How records are printed."""

    TABLE = "table"
    JSONL = "jsonl"


@dataclass(frozen=True, slots=True)
class Filter:
    """What is wanted, told by headers alone; dead letters have none of these and pass only an empty filter.

    Attributes
    ----------
    survey, morphology : str or None
        Upper and lower case are the same.
    least : mapping of str to float
        Header to the least value wanted; an alert without a value is not wanted.
    """

    survey: str | None = None
    morphology: str | None = None
    least: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, headers: Mapping[str, str]) -> bool:
        """Whether a record with these headers is wanted."""
        if self.survey is not None and headers.get("survey") != self.survey:
            return False
        if not self.holds_class(headers.get("morphology", "")):
            return False
        return all(float(headers.get(name) or "nan") >= least for name, least in self.least.items())

    def holds_class(self, name: str) -> bool:
        """Whether this top class is wanted."""
        return self.morphology is None or name.casefold() == self.morphology.casefold()


@dataclass
class Subscription:
    """Reads, filters, decodes and prints until told to stop.

    Attributes
    ----------
    source : KafkaSource
    wanted : Filter
    show : callable
        Prints a batch of decoded records.
    limit : int or None
        Records to print.
    exit_at_end : bool
    decode : Decoder
    printed, unreadable : int
    raw : int
        Of the unreadable, alerts as a survey sends them.
    ours : int
        Records of this broker, wanted or not.
    """

    source: KafkaSource
    wanted: Filter
    show: TablePrinter | LinePrinter
    limit: int | None = None
    exit_at_end: bool = False
    decode: Decoder = decode
    printed: int = 0
    unreadable: int = 0
    raw: int = 0
    ours: int = 0
    _raw_topic: str = ""
    _class_is_known: bool = False

    def run(self, stop: threading.Event) -> None:
        """Read until stopped, until the limit, or until the end where that is asked for.

        Raises
        ------
        SettingsError
            When the topic turns out to hold raw alerts.
        """
        while not stop.is_set() and (self.limit is None or self.printed < self.limit):
            batch = self.source.poll(BATCH, LINGER_SECONDS)
            if batch:
                self._print(batch)
            if self.exit_at_end and self.source.at_end:
                self._refuse_raw(1)
                return

    def _print(self, batch: list[Message]) -> None:
        records: list[dict[str, Any]] = []
        done: list[Message] = []
        for message in batch:
            if self.limit is not None and self.printed + len(records) >= self.limit:
                break
            record = self._decode(message)
            if record is not None:
                records.append(record)
            done.append(message)
        self.show(records)
        self.printed += len(records)
        self.source.commit(done)

    def _decode(self, message: Message) -> dict[str, Any] | None:
        headers = {name: (value or b"").decode(errors="replace") for name, value in message.headers}
        value = message.value or b""
        kind = None if "schema-fingerprint" in headers else _raw_kind(value)
        if kind is not None:
            self._foreign(message, kind)
            self.raw += 1
            self._raw_topic = message.topic
            self._refuse_raw(RAW_ENOUGH)
            return None
        if not self.wanted(headers):
            self.ours += "schema-fingerprint" in headers
            self._know_class(value, headers)
            return None
        try:
            record = self.decode(value, headers.get("schema-fingerprint"))
        except AlertError as error:
            self._foreign(message, error.detail)
            return None
        if not record.keys() & {"enrichment", "reason"}:
            self._foreign(message, "it is neither an enriched alert nor a dead letter")
            return None
        self.ours += 1
        return record

    def _refuse_raw(self, enough: int) -> None:
        """End where nothing but raw alerts came: more complaints would hide the one word that is missing."""
        if self.raw >= enough and not self.ours:
            topic = self._raw_topic
            raise SettingsError(f"these look like raw alerts: did you mean --topic {topic}{ENRICHED_SUFFIX}?")

    def _know_class(self, value: bytes, headers: Mapping[str, str]) -> None:
        """Say once when no alert can ever be of the class that is wanted."""
        if self._class_is_known or self.wanted.holds_class(headers.get("morphology", "")):
            return
        self._class_is_known = True
        try:
            record = self.decode(value, headers.get("schema-fingerprint"))
        except AlertError:
            return
        classes = record.get("enrichment", {}).get("morphology_classes") or ()
        if classes and not any(map(self.wanted.holds_class, classes)):
            typer.echo(
                f"broker-subscribe: no class is named {self.wanted.morphology!r}: "
                f"the model at work knows {', '.join(classes)}",
                err=True,
            )

    def _foreign(self, message: Message, why: str) -> None:
        self.unreadable += 1
        if self.unreadable <= FOREIGN_SHOWN:
            place = f"{message.topic}[{message.partition}] offset {message.offset}"
            typer.echo(f"{place} is not a record of this broker: {why}", err=True)
        elif self.unreadable == FOREIGN_SHOWN + 1:
            typer.echo("further ones are counted, not named", err=True)


def _raw_kind(value: bytes) -> str | None:
    """Tell what a message is that a survey wrote; None for all others."""
    if value.startswith(CONTAINER_MAGIC):
        return "it is an Avro container file, as ZTF sends its alerts"
    if value.startswith(FRAME_MAGIC) and int.from_bytes(value[1:FRAME_SIZE], "big") in _survey_ids():
        return "it is an alert as Rubin sends it"
    return None


@functools.cache
def _survey_ids() -> frozenset[int | None]:
    return frozenset(schemas.entry(form).schema_id for form in schemas.INPUT_FORMS)


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
    said is filtered out. In a narrow terminal a record takes two lines; into a pipe it is one line, however
    long.

    For example:
      broker-subscribe --topic alerts.enriched
      broker-subscribe --topic alerts.enriched --min-anomaly 0.99 --start latest
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
        subscription = Subscription(source, wanted, show, limit, exit_at_end, decoder(settings.registry))
        try:
            subscription.run(stop)
        finally:
            source.close()
        typer.echo(_closing(subscription), err=True)


def _closing(subscription: Subscription) -> str:
    unreadable = f", {subscription.unreadable} not readable" if subscription.unreadable else ""
    return f"{counted(subscription.printed, 'record')}{unreadable}"


def main() -> None:
    """Run the program."""
    app()


if __name__ == "__main__":
    main()
