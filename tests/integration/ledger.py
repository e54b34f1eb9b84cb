"""What went in against what came out, by source position; every output is decoded.

The reader is a plain confluent_kafka consumer and fastavro with the schema whose fingerprint the header names: nothing
of the broker's own reading is trusted here.
"""

import copy
import io
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

import fastavro
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka import Message as KafkaMessage

import schemas

Position: TypeAlias = tuple[str, int, int]
"""Topic, partition, offset."""

SILENCE_SECONDS = 30.0


@dataclass
class Ledger:
    """The account of a run.

    Attributes
    ----------
    expected : set of Position
    seen : dict of Position to list of str
        What came of each: ``enriched``, ``partial``, ``dead-letter``, or ``lite``.
    identities : Counter
        Of (survey, alert id, model, position) of enriched alerts.
    broken : list of str
        Outputs that do not decode, or do not hold what came in.
    known : dict of str to schema
        By fingerprint, those that the bundle lacks.
    reasons : Counter
        Of dead letters.
    """

    expected: set[Position]
    seen: dict[Position, list[str]] = field(default_factory=lambda: defaultdict(list))
    identities: Counter[tuple[bytes, ...]] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    order: dict[tuple[str, int, bytes], list[int]] = field(default_factory=lambda: defaultdict(list))
    known: dict[str, Any] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def lost(self) -> set[Position]:
        """Messages without any outcome."""
        return self.expected - self.seen.keys()

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
        """Steps back within one source partition and output key, repeats left out."""
        return sum(_steps_back(offsets) for offsets in self.order.values())

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
        position = (
            headers["source-topic"].decode(),
            int(headers["source-partition"]),
            int(headers["source-offset"]),
        )
        where = f"{message.topic()}[{message.partition()}]@{message.offset()}"
        try:
            record = decode(message.value(), headers["schema-fingerprint"].decode(), self.known)
        except Exception as error:  # noqa: BLE001 - whatever the library raises is the finding
            self.broken.append(f"{where}: {error!r}")
            return
        sent = None if values is None else values.get(position)
        if fault := _unfaithful(str(message.topic()), record, message.value(), sent):
            self.broken.append(f"{where}: {fault}")
        kind = _kind(str(message.topic()), record)
        self.seen[position].append(kind)
        if kind == "dead-letter":
            self.reasons[str(record["reason"])] += 1
        if kind in {"enriched", "partial"}:
            self.identities[headers["survey"], headers["alert-id"], headers["model"]] += 1
            self.order[position[0], position[1], message.key()].append(position[2])

    def told_apart(self) -> bool:
        """Whether the outcomes of each repeated message are one by identity, so that a subscriber can drop them."""
        return all(len({kind for kind in kinds if kind != "lite"}) == 1 for kinds in self.seen.values())

    def __str__(self) -> str:
        return (
            f"sent {len(self.expected)}: enriched {self.count('enriched')}, partial {self.count('partial')}, "
            f"dead letters {self.count('dead-letter')}, lost {len(self.lost)}, invented {len(self.invented)}, "
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


def decode(
    value: bytes, fingerprint: str, known: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, object]:
    """Decode a record by the schema of a fingerprint, of those known beside the bundle's; nothing may follow it."""
    stream = io.BytesIO(value[5:])
    schema = (
        copy.deepcopy(known[fingerprint]) if fingerprint in known else schemas.by_fingerprint(fingerprint)
    )
    record = fastavro.schemaless_reader(stream, schema, None)
    if stream.read(1):
        raise ValueError("bytes follow the record")
    return dict(record)


def _kind(topic: str, record: dict[str, object]) -> str:
    if "reason" in record:
        return "dead-letter"
    if topic.endswith(".lite"):
        return "lite"
    partial = any(
        str(flag).startswith(("cutout_", "noise_", "model_")) for flag in record["enrichment"]["flags"]
    )  # type: ignore[index]
    return "partial" if partial else "enriched"


def _unfaithful(topic: str, record: dict[str, object], value: bytes, sent: bytes | None) -> str | None:
    """Say what of the message that came in is not in what went out."""
    if sent is None:
        return None
    if "reason" in record:
        return None if record["value"] in {sent, None} else "a dead letter with other bytes"
    if topic.endswith(".lite"):
        return None
    datum = sent[5:] if sent[:1] == b"\0" else None  # a container's datum is not at its end
    return None if datum is None or value.endswith(datum) else "an enriched alert with another datum"


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
