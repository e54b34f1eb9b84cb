"""What a subscriber does: read, filter by headers, drop repeats, decode, print."""

import functools
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import typer

import schemas
from broker.alert import Message
from broker.avro.decode import Decoder, decode
from broker.avro.frame import CONTAINER_MAGIC, FRAME_MAGIC, FRAME_SIZE
from broker.cli.printers import LinePrinter, TablePrinter
from broker.errors import AlertError, SettingsError
from broker.kafka import KafkaSource
from broker.repeats import Repeats
from broker.topics import ENRICHED_SUFFIX

BATCH = 100
LINGER_SECONDS = 0.2

RAW_ENOUGH = 5
"""Alerts without an enrichment that tell a topic of raw ones, where nothing of ours came before them."""

FOREIGN_SHOWN = 5
"""Foreign messages that are named one by one; the others are only counted."""


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
    repeats : Repeats or None
        Drops what comes again; None keeps it.
    printed, unreadable : int
    raw : int
        Of the unreadable, alerts as a survey sends them.
    ours : int
        Records of this broker, wanted or not.
    lacks_class : bool
        Whether the model at work knows no class of the name that is wanted.
    """

    source: KafkaSource
    wanted: Filter
    show: TablePrinter | LinePrinter
    limit: int | None = None
    exit_at_end: bool = False
    decode: Decoder = decode
    repeats: Repeats | None = None
    printed: int = 0
    unreadable: int = 0
    raw: int = 0
    ours: int = 0
    lacks_class: bool = False
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
        if self.repeats is not None and self.repeats(message.topic, headers):
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
        self.lacks_class = bool(classes) and not any(map(self.wanted.holds_class, classes))
        if self.lacks_class:
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
