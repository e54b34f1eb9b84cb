"""Dead letters as a program meets them: what came, where it first stood, and how often it was tried."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeAlias

from broker.alert import Message
from broker.avro.container import ContainerReader
from broker.avro.decode import decode
from broker.avro.frame import Wrapping, recognise, unwrap_frame
from broker.errors import AlertError, DatumError
from broker.topics import REDRIVE_SUFFIX

COUNT_HEADER = "redrive-count"
POSITION_HEADERS = ("source-topic", "source-partition", "source-offset", "source-timestamp")
REDRIVE_HEADERS = (COUNT_HEADER, *POSITION_HEADERS)
"""What a redrive puts behind a message's own headers, in this order."""

LEFT_OUT_HEADERS = frozenset({"value-bytes", "value-sha256"})
"""Headers of a letter whose message was too large for it: the length and the digest of what it does not hold."""

NO_LETTER = "it is no dead letter"

Headers: TypeAlias = tuple[tuple[str, bytes | None], ...]


class Position(NamedTuple):
    """Where a message stood when the broker first read it.

    The time is a part of it: a topic that was made anew counts its offsets from 0 again.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int | None

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}] offset {self.offset}"

    @property
    def headers(self) -> Headers:
        """Say it in headers, as the broker does; an unknown time is the empty text."""
        time = "" if self.timestamp_ms is None else str(self.timestamp_ms)
        texts = (self.topic, str(self.partition), str(self.offset), time)
        return tuple((name, text.encode()) for name, text in zip(POSITION_HEADERS, texts, strict=True))


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter.

    Attributes
    ----------
    topic : str
    partition, offset : int
        Where the letter itself stands.
    position : Position
        Where its message first stood.
    count : int
        How often the message was redriven before it became this letter.
    reason, error, version : str
    rejected_at : datetime
    schema : str
        What the message says of its schema, see `LetterReader`.
    value, key : bytes or None
    headers : tuple of (str, bytes or None)
        Of the message as it first came, without those of redrives.
    is_left_out : bool
        Whether the message had a value that the letter has no room for.
    """

    topic: str
    partition: int
    offset: int
    position: Position
    count: int
    reason: str
    error: str
    version: str
    rejected_at: datetime
    schema: str
    value: bytes | None
    key: bytes | None
    headers: Headers
    is_left_out: bool


class LetterReader:
    """Reads the messages of a dead-letter topic.

    The schema of what was rejected is told as ``id 1101`` (the id of a Confluent frame), as ``container`` with the
    version that its schema gives, if any, and the schema's fingerprint, as ``unreadable``, or as ``none`` where
    there is no value.
    """

    def __init__(self) -> None:
        self._containers = ContainerReader()

    def __call__(self, message: Message) -> Letter:
        """Read one letter.

        Raises
        ------
        AlertError
            If the message is no dead letter, or one of a schema that the bundle does not hold.
        """
        about = texts_of(message.headers)
        record = decode(message.value or b"", about.get("schema-fingerprint"))
        if not {"reason", "rejected_at", "headers"} <= record.keys():
            raise DatumError(NO_LETTER)
        headers, added = _taken_apart(tuple((one["name"], one["value"]) for one in record["headers"]))
        own = Position(record["topic"], record["partition"], record["offset"], record["timestamp_ms"])
        value = record["value"]
        return Letter(
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            position=_first((position_of(about), position_of(added), own)) or own,
            count=max(count_of(about), count_of(added)),
            reason=record["reason"],
            error=record["error"],
            version=record["version"],
            rejected_at=record["rejected_at"],
            schema=self._schema_of(value),
            value=value,
            key=record["key"],
            headers=headers,
            is_left_out=bool(LEFT_OUT_HEADERS & about.keys())
            or (value is None and record["reason"] == "message_too_large"),
        )

    def _schema_of(self, value: bytes | None) -> str:
        if value is None:
            return "none"
        try:
            if recognise(value) is Wrapping.FRAME:
                return f"id {unwrap_frame(value)[0]}"
            header = self._containers.header(value)
        except AlertError:
            return "unreadable"
        version = header.schema.get("version") if isinstance(header.schema, dict) else None
        return " ".join(["container", *([version] if isinstance(version, str) else []), header.fingerprint])


def texts_of(headers: Headers) -> dict[str, str]:
    """Headers as text; of a name that repeats the last stands, which is the one a redrive has added."""
    return {name: (value or b"").decode(errors="replace") for name, value in headers}


def position_of(about: Mapping[str, str]) -> Position | None:
    """Position that headers tell; None where they tell none."""
    topic, partition, offset, time = (about.get(name, "") for name in POSITION_HEADERS)
    try:
        return Position(topic, int(partition), int(offset), int(time) if time else None)
    except ValueError:
        return None


def count_of(about: Mapping[str, str]) -> int:
    """Redrives that headers tell of."""
    try:
        return max(0, int(about.get(COUNT_HEADER, "")))
    except ValueError:
        return 0


def _taken_apart(headers: Headers) -> tuple[Headers, dict[str, str]]:
    """Tell a message's own headers from those a redrive put behind them: all of them, in their order, or none."""
    size = len(REDRIVE_HEADERS)
    if tuple(name for name, _ in headers[-size:]) != REDRIVE_HEADERS:
        return headers, {}
    return headers[:-size], texts_of(headers[-size:])


def _first(positions: Iterable[Position | None]) -> Position | None:
    """Take the first that is a source: a letter of a redriven message may stand under the redrive topic's name."""
    sources = (one for one in positions if one and one.topic and not one.topic.endswith(REDRIVE_SUFFIX))
    return next(sources, None)
