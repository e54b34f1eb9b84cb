"""``broker-subscribe``: what the broker published, as a table or as JSON lines."""

import base64
import json
import math
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.alert import Message, Survey
from broker.avro.decode import decode
from broker.cli.ending import exit_codes, stop_on_signals
from broker.errors import AlertError, SettingsError
from broker.kafka import KafkaReader, KafkaSource
from broker.settings import ConsumerSettings, SourceSettings, Topics, checked

BATCH = 100
LINGER_SECONDS = 0.2

ENRICHED_COLUMNS = {
    "alert id": 19,
    "object id": 19,
    "ra": 10,
    "dec": 10,
    "morphology": 10,
    "photo-z": 7,
    "68 %": 11,
    "anomaly": 7,
    "flags": 20,
}
LETTER_COLUMNS = {"topic": 24, "partition": 9, "offset": 9, "reason": 17, "bytes": 8, "error": 40}
"""Columns and their widths in characters; the last takes what is left of the line."""

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
    min_anomaly : float or None
    """

    survey: str | None = None
    morphology: str | None = None
    min_anomaly: float | None = None

    def __call__(self, headers: Mapping[str, str]) -> bool:
        """Whether a record with these headers is wanted."""
        if self.survey is not None and headers.get("survey") != self.survey:
            return False
        if self.morphology is not None and headers.get("morphology") != self.morphology:
            return False
        return self.min_anomaly is None or float(headers.get("anomaly") or "nan") >= self.min_anomaly


class TablePrinter:
    """Prints batches as tables whose columns line up; the heading comes once for each kind of record."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._heading: Mapping[str, int] | None = None

    def __call__(self, records: Iterable[dict[str, Any]]) -> None:
        """Print a batch."""
        enriched: list[list[str]] = []
        letters: list[list[str]] = []
        for record in records:
            if "enrichment" in record:
                enriched.append(_enriched_row(record["enrichment"]))
            else:
                letters.append(_letter_row(record))
        self._print(ENRICHED_COLUMNS, enriched)
        self._print(LETTER_COLUMNS, letters)

    def _print(self, columns: Mapping[str, int], rows: list[list[str]]) -> None:
        if not rows:
            return
        table = Table.grid(padding=(0, 2), expand=True)
        for width in list(columns.values())[:-1]:
            table.add_column(width=width, no_wrap=True, overflow="ellipsis")
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        if columns is not self._heading:
            table.add_row(*columns, style="bold")
        for row in rows:
            table.add_row(*map(Text, row))
        # A narrower terminal breaks lines, rather than hide numbers.
        needed = sum(columns.values()) + 2 * len(columns)
        self._console.print(table, width=max(self._console.width, needed), crop=False)
        self._heading = columns


class LinePrinter:
    """Prints records as JSON, one a line.

    Parameters
    ----------
    with_alert : bool
        The original alert too, its stamps in base64 (a dead letter's original bytes likewise).
    """

    def __init__(self, *, with_alert: bool) -> None:
        self._with_alert = with_alert

    def __call__(self, records: Iterable[dict[str, Any]]) -> None:
        """Print a batch."""
        for record in records:
            sys.stdout.write(json.dumps(_plain(self._chosen(record)), allow_nan=False) + "\n")
        sys.stdout.flush()

    def _chosen(self, record: dict[str, Any]) -> dict[str, Any]:
        if self._with_alert:
            return record
        return {name: value for name, value in record.items() if name not in {"alert", "value"}}


def _plain(value: Any) -> Any:
    """Put a decoded value into JSON's few types: NaN is null, bytes are base64, times are ISO 8601."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _enriched_row(enrichment: Mapping[str, Any]) -> list[str]:
    photoz = enrichment["photoz"]
    return [
        str(enrichment["alert_id"]),
        enrichment["object_id"],
        f"{enrichment['ra']:.6f}",
        f"{enrichment['dec']:+.6f}",
        enrichment["morphology_top"] or "-",
        f"{photoz['point']:.3f}" if photoz else "-",
        f"{photoz['low']:.3f}-{photoz['high']:.3f}" if photoz else "-",
        "-" if enrichment["anomaly"] is None else f"{enrichment['anomaly']:.4f}",
        " ".join(enrichment["flags"]),
    ]


def _letter_row(letter: Mapping[str, Any]) -> list[str]:
    size = "null" if letter["value"] is None else str(len(letter["value"]))
    return [
        letter["topic"],
        str(letter["partition"]),
        str(letter["offset"]),
        letter["reason"],
        size,
        letter["error"],
    ]


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
    printed, unreadable : int
    """

    source: KafkaSource
    wanted: Filter
    show: TablePrinter | LinePrinter
    limit: int | None = None
    exit_at_end: bool = False
    printed: int = 0
    unreadable: int = 0

    def run(self, stop: threading.Event) -> None:
        """Read until stopped, until the limit, or until the end where that is asked for."""
        while not stop.is_set() and (self.limit is None or self.printed < self.limit):
            batch = self.source.poll(BATCH, LINGER_SECONDS)
            if batch:
                self._print(batch)
            elif self.exit_at_end and self.source.at_end:
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
        if not self.wanted(headers):
            return None
        try:
            record = decode(message.value or b"", headers.get("schema-fingerprint"))
        except AlertError as error:
            self._foreign(message, error.detail)
            return None
        if record.keys() & {"enrichment", "reason"}:
            return record
        self._foreign(message, "it is an alert as its survey sends it")
        return None

    def _foreign(self, message: Message, why: str) -> None:
        self.unreadable += 1
        place = f"{message.topic}[{message.partition}] offset {message.offset}"
        typer.echo(f"{place} is not a record of this broker: {why}", err=True)


@app.command()
def subscribe(
    topic: Annotated[list[str], typer.Option(help="Topic to read; may be given again.")],
    bootstrap_servers: Annotated[str, typer.Option(help="Kafka, host:port.")] = "localhost:9092",
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
    morphology: Annotated[str | None, typer.Option(help="Only this top class.")] = None,
    min_anomaly: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Only alerts at least this anomalous.")
    ] = None,
) -> None:
    """Print what the broker published: enriched alerts, or dead letters.

    Survey, morphology and anomaly are filtered by the headers, before anything is decoded.

    For example:
      broker-subscribe --topic alerts.enriched
      broker-subscribe --topic alerts.enriched --min-anomaly 0.99 --start latest
      broker-subscribe --topic alerts.enriched --format jsonl --exit-at-end > enriched.jsonl
      broker-subscribe --topic alerts.dead-letter --exit-at-end
    """
    with exit_codes("broker-subscribe"):
        if with_alert and form is Format.TABLE:
            raise SettingsError("--with-alert needs --format jsonl: a table has no room for the alert")
        stop = stop_on_signals()
        limits = checked(ConsumerSettings, {"start": start, "exit_at_end": exit_at_end})
        # Kafka asks for a group's name even of readers without one; nothing is ever stored under it.
        kafka = checked(
            SourceSettings,
            {"bootstrap_servers": bootstrap_servers, "group_id": group_id or "nightjar-subscribe"},
        )
        kind = KafkaReader if group_id is None else KafkaSource
        source = kind(kafka, limits, Topics(tuple(topic)), stop)
        show = TablePrinter(Console()) if form is Format.TABLE else LinePrinter(with_alert=with_alert)
        wanted = Filter(survey, morphology, min_anomaly)
        subscription = Subscription(source, wanted, show, limit, exit_at_end)
        try:
            subscription.run(stop)
        finally:
            source.close()
        typer.echo(_closing(subscription), err=True)


def _closing(subscription: Subscription) -> str:
    unreadable = f", {subscription.unreadable} not readable" if subscription.unreadable else ""
    return f"{subscription.printed} records{unreadable}"


def main() -> None:
    """Run the program."""
    app()


if __name__ == "__main__":
    main()
