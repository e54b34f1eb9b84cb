"""What went in against what came out, by source position; every output is decoded.

The reader is a plain confluent_kafka consumer and fastavro with the schema whose fingerprint the header names: nothing
of the broker's own reading is trusted here.
"""

import copy
import hashlib
import io
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

import fastavro
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka import Message as KafkaMessage

import schemas

Position: TypeAlias = tuple[str, int, int]
"""Topic, partition, offset."""

Identity: TypeAlias = tuple[bytes, ...]
"""What of an output's headers tells a subscriber that it comes again."""

SILENCE_SECONDS = 30.0

POSITION = ("source-topic", "source-partition", "source-offset", "source-timestamp")
OF_ALERTS = ("survey", "alert-id", "model")
OF_LETTERS = ("reason", "redrive-count")
DIGEST_DIGITS = 16

FRAME_SIZE = 5

STAMPS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")

PARTIAL = {"cutout_null", "cutout_unreadable", "noise_unknown", "model_output_invalid", "shed"}
"""Flags, without the stamp's role, of an alert that was enriched in part: as documented, not as the broker has them."""


@dataclass
class Ledger:
    """The account of a run.

    Attributes
    ----------
    expected : set of Position
    seen : dict of Position to list of str
        What came of each: ``enriched``, ``partial``, ``dead-letter``, or ``lite``.
    identities : dict of (bool, Position) to set of Identity
        What the headers say of the outputs of each, lite records by themselves.
    enrichments : dict of (bool, Position) to set of bytes
        Digests of what was attached to each, lite records by themselves.
    broken : list of str
        Outputs that do not decode, or do not hold what came in, or whose headers say something else.
    known : dict of str to schema
        By fingerprint, those that the bundle lacks.
    reasons : Counter
        Of dead letters.
    without_value : int
        Dead letters that hold a digest in place of the original bytes.
    """

    expected: set[Position]
    seen: dict[Position, list[str]] = field(default_factory=lambda: defaultdict(list))
    identities: dict[tuple[bool, Position], set[Identity]] = field(default_factory=lambda: defaultdict(set))
    enrichments: dict[tuple[bool, Position], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    broken: list[str] = field(default_factory=list)
    order: dict[tuple[bool, str, int, bytes], list[int]] = field(default_factory=lambda: defaultdict(list))
    known: dict[str, Any] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    without_value: int = 0
    _forms: dict[str, "Form"] = field(default_factory=dict)

    @property
    def lost(self) -> set[Position]:
        """Messages without any outcome; a lite record alone is none."""
        return self.expected - {place for place, kinds in self.seen.items() if set(kinds) != {"lite"}}

    @property
    def invented(self) -> set[Position]:
        """Outcomes of messages that were never sent."""
        return self.seen.keys() - self.expected

    @property
    def repeats(self) -> int:
        """Outcomes beyond the first of a message; `lite` records are outcomes of their own."""
        return sum(
            sum(n - 1 for n in Counter("lite" if kind == "lite" else "main" for kind in kinds).values())
            for kinds in self.seen.values()
        )

    @property
    def out_of_order(self) -> int:
        """Steps back within one source partition, output topic and key, repeats left out."""
        return sum(_steps_back(offsets) for offsets in self.order.values())

    @property
    def torn(self) -> set[Position]:
        """Enriched alerts of which no whole record and no lite one are of one enrichment, or one is missing."""
        places = {place for _, place in self.enrichments}
        return {
            place
            for place in places
            if not self.enrichments.get((False, place), set()) & self.enrichments.get((True, place), set())
            or self.identities[False, place] != self.identities[True, place]
        }

    def count(self, kind: str) -> int:
        """Messages with an outcome of a kind."""
        return sum(kind in kinds for kinds in self.seen.values())

    def read(
        self, servers: str, topic: str, *, committed: bool = True, values: dict[Position, bytes] | None = None
    ) -> None:
        """Enter every record of an output topic.

        Parameters
        ----------
        servers : str
        topic : str
        committed : bool
            As a reader of committed records sees it.
        values : dict of Position to bytes, optional
            What was sent, to hold the outputs against.
        """
        for message in read_all(servers, topic, committed=committed):
            self._enter(message, values)

    def _enter(self, message: KafkaMessage, values: dict[Position, bytes] | None) -> None:
        headers = {name: value or b"" for name, value in message.headers() or []}
        where = f"{message.topic()}[{message.partition()}]@{message.offset()}"
        try:
            form = self._form(headers["schema-fingerprint"].decode())
            output = Output(str(message.topic()), message.key(), headers, message.value(), form)
        except Exception as error:  # noqa: BLE001 - whatever the library raises is the finding
            self.broken.append(f"{where}: {error!r}")
            return
        self._count(output)
        if wrong := output.mislabelled():
            self.broken.append(f"{where}: headers that say something else than the record: {wrong}")
        if values is not None and output.place in values and not output.holds(values[output.place]):
            self.broken.append(f"{where}: of kind {output.kind}, and not what came in")

    def _form(self, fingerprint: str) -> "Form":
        if fingerprint not in self._forms:
            schema = self.known.get(fingerprint)
            self._forms[fingerprint] = bundled(fingerprint) if schema is None else Form(schema)
        return self._forms[fingerprint]

    def _count(self, output: "Output") -> None:
        kind, place = output.kind, output.place
        is_lite = kind == "lite"
        self.seen[place].append(kind)
        self.identities[is_lite, place].add(output.identity)
        if kind == "dead-letter":
            self.reasons[str(output.record["reason"])] += 1
            self.without_value += "value-sha256" in output.headers
            return
        self.enrichments[is_lite, place].add(hashlib.sha256(output.enrichment).digest())
        self.order[is_lite, place[0], place[1], output.key].append(place[2])

    def told_apart(self) -> bool:
        """Whether who drops what agrees in identity and source position is left with one outcome of each message."""
        return all(len(found) == 1 for found in self.identities.values())

    def __str__(self) -> str:
        return (
            f"sent {len(self.expected)}: enriched {self.count('enriched')}, partial {self.count('partial')}, "
            f"dead letters {self.count('dead-letter')}, lite {self.count('lite')}, "
            f"lost {len(self.lost)}, invented {len(self.invented)}, "
            f"repeats {self.repeats}, out of order {self.out_of_order}, broken {len(self.broken)}"
        )


def read_all(servers: str, topic: str, *, committed: bool = True) -> list[KafkaMessage]:
    """Read a topic to the end it has now, waiting for transactions that are open there."""
    ends = _ends(servers, topic)
    consumer = Consumer({**_reading(servers, committed=committed), "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, number, 0) for number in ends])
    found: list[KafkaMessage] = []
    left = {number for number, end in ends.items() if end}
    while left:
        message = consumer.poll(SILENCE_SECONDS)
        if message is None:
            raise TimeoutError(f"{topic} fell silent after {len(found)} records, before its ends {ends}")
        if message.error() is None:
            found.append(message)
        elif message.offset() >= ends[message.partition()]:  # else the end of what is committed so far
            left.discard(message.partition())
    consumer.close()
    return found


def _reading(servers: str, *, committed: bool) -> dict[str, object]:
    return {
        "bootstrap.servers": servers,
        "group.id": "ledger",
        "enable.auto.commit": False,
        "fetch.message.max.bytes": 10_485_760,
        "isolation.level": "read_committed" if committed else "read_uncommitted",
    }


def _ends(servers: str, topic: str) -> dict[int, int]:
    consumer = Consumer(_reading(servers, committed=False))
    numbers = consumer.list_topics(topic, timeout=SILENCE_SECONDS).topics[topic].partitions
    ends = {
        number: consumer.get_watermark_offsets(TopicPartition(topic, number), SILENCE_SECONDS)[1]
        for number in numbers
    }
    consumer.close()
    return ends


class Form:
    """One schema of what goes out.

    Parameters
    ----------
    schema : dict
        Of an enriched alert, whose fields are the enrichment and the alert, or of a dead letter.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self._whole = fastavro.parse_schema(copy.deepcopy(schema))
        parts = {part["name"]: part["type"] for part in schema["fields"]}
        if parts.keys() == {"enrichment", "alert"}:
            self._enrichment, self._alert = (
                fastavro.parse_schema(copy.deepcopy(parts[name])) for name in ("enrichment", "alert")
            )

    def read(self, value: bytes) -> dict[str, Any]:
        """Decode a record; nothing may follow it."""
        return _read(value[FRAME_SIZE:], self._whole)

    def split(self, value: bytes) -> tuple[bytes, bytes]:
        """Give the bytes of what is attached to an alert, and those of the alert: all that follows."""
        stream = io.BytesIO(value[FRAME_SIZE:])
        fastavro.schemaless_reader(stream, self._enrichment, None)
        end = FRAME_SIZE + stream.tell()
        return value[FRAME_SIZE:end], value[end:]

    def again(self, datum: bytes, *, stamps: bool = True) -> bytes:
        """Write an alert again as this library would, which makes equal what is equal; its stamps null, if told."""
        record = _read(datum, self._alert)
        if not stamps:
            record |= dict.fromkeys(STAMPS)
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, self._alert, record)
        return stream.getvalue()


@cache
def bundled(fingerprint: str) -> Form:
    """One of those that the bundle has."""
    return Form(schemas.by_fingerprint(fingerprint))


def decode(value: bytes, fingerprint: str) -> dict[str, Any]:
    """Decode a record by the bundle's schema of a fingerprint; nothing may follow it."""
    return bundled(fingerprint).read(value)


def _read(datum: bytes, schema: Any) -> dict[str, Any]:
    stream = io.BytesIO(datum)
    record = fastavro.schemaless_reader(stream, schema, None)
    if stream.read(1):
        raise ValueError("bytes follow the record")
    return dict(record)  # type: ignore[arg-type]


def datum_of(sent: bytes) -> bytes:
    """Take an alert's datum out of its frame or container."""
    if sent[:1] == b"\0":
        return sent[FRAME_SIZE:]
    (block,) = fastavro.block_reader(io.BytesIO(sent))
    return bytes(block.bytes_.getvalue())


class Output:
    """One record that was published.

    Attributes
    ----------
    kind : str
        ``enriched``, ``partial``, ``dead-letter``, or ``lite``.
    place : Position
        Where its message stood, by the headers.
    key : bytes
    headers : dict of str to bytes
    record : dict
        Decoded.
    enrichment, alert : bytes
        The two parts of an enriched alert.
    """

    def __init__(self, topic: str, key: bytes, headers: dict[str, bytes], value: bytes, form: Form) -> None:
        self.key, self.headers, self._form = key, headers, form
        self.record = form.read(value)
        self.kind = _kind(topic, self.record)
        where, partition, offset = (headers[name].decode() for name in POSITION[:3])
        self.place: Position = (where, int(partition), int(offset))
        self.enrichment, self.alert = (b"", b"") if self.kind == "dead-letter" else form.split(value)

    @property
    def identity(self) -> Identity:
        """By which a subscriber knows it when it comes again."""
        what = OF_LETTERS if self.kind == "dead-letter" else OF_ALERTS
        return tuple(self.headers.get(name, b"") for name in (*what, *POSITION))

    def mislabelled(self) -> list[str]:
        """Names of headers that say something else than the record."""
        record = self.record
        if self.kind == "dead-letter":
            told = {"reason": record["reason"]}
            if "redrive-count" not in self.headers:  # else they have its first place, the record its last
                told |= {f"source-{name}": record[name] for name in ("topic", "partition", "offset")}
        else:
            enrichment = record["enrichment"]
            model = enrichment["model"]
            told = {
                "survey": enrichment["survey"],
                "alert-id": enrichment["alert_id"],
                "model": f"{model['name']}-{model['version']}-{model['weights_digest'][:DIGEST_DIGITS]}",
            }
        return [name for name, value in told.items() if self.headers.get(name) != str(value).encode()]

    def holds(self, sent: bytes | None) -> bool:
        """Whether the message that came in is in it, or as much of it as belongs there."""
        if self.kind == "dead-letter":
            return self.record["value"] == sent or (self.record["value"] is None and self._tells(sent or b""))
        if sent is None:
            return False
        if self.kind == "lite":
            return self._form.again(self.alert) == self._form.again(datum_of(sent), stamps=False)
        return self.alert == datum_of(sent)

    def _tells(self, sent: bytes) -> bool:
        """Whether a dead letter into which the message did not fit says which it was."""
        said = self.headers.get("value-bytes"), self.headers.get("value-sha256")
        return said == (str(len(sent)).encode(), hashlib.sha256(sent).hexdigest().encode())


def _kind(topic: str, record: dict[str, Any]) -> str:
    if "reason" in record:
        return "dead-letter"
    if topic.endswith(".lite"):
        return "lite"
    flags = {flag.partition(":")[0] for flag in record["enrichment"]["flags"]}
    return "partial" if flags & PARTIAL else "enriched"


def _steps_back(offsets: list[int]) -> int:
    """Count first appearances that come after a later one's."""
    most, seen, steps = -1, set(), 0
    for offset in offsets:
        if offset in seen:
            continue
        seen.add(offset)
        steps += offset < most
        most = max(most, offset)
    return steps
