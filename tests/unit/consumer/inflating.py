"""A turn of small messages that inflate as far as they may, by a process of its own: prints the peak of its memory.

python inflating.py KIND MESSAGES [--lite] [--once]
"""

import json
import math
import sys
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from broker.alert import ROLES, Message, Record
from broker.allocator import keep_freed_memory
from broker.avro.container import MOST_INFLATED
from broker.avro.deserializer import Deserializer
from broker.avro.store import SchemaStore
from broker.consumer import Consumer
from broker.cutouts import MAX_INFLATED
from broker.delivery import AtLeastOnce, ExactlyOnce
from broker.inference import Model
from broker.kafka.connection import MAX_MESSAGE_BYTES
from broker.metrics import Metrics
from broker.patience import Patience
from broker.pipeline import MOST_AHEAD, Pipeline
from broker.probes import Health
from broker.records import RecordBuilder
from broker.survey import WANTED
from broker.testing.datums import CONTAINER_MAGIC, SYNC_MARKER, avro_long
from broker.testing.memory import MemorySource
from broker.testing.packets import lsst_packet, ztf_packet
from broker.testing.stamps import Stamp

KIB = 1024
ROOM = 64 * KIB
"""Bytes that a packet and its enrichment take beside what is made large."""

TOPICS = ("alerts.enriched", "alerts.lite", "alerts.dead-letter")


def ordinary() -> bytes:
    """A packet as it comes."""
    return lsst_packet()


def histories() -> bytes:
    """A container whose datum is a history as long as goes out again, in whole and lite."""
    one = len(ztf_packet(history=[{}] * 2)) - len(ztf_packet(history=[{}]))
    return ztf_packet(history=[{}] * ((MAX_MESSAGE_BYTES - ROOM) // one), codec="deflate")


def datums() -> bytes:
    """A container that inflates as far as one may, which no topic takes: its alert becomes a dead letter."""
    return ztf_packet((bytes(MOST_INFLATED - ROOM), None, None), codec="deflate")


def stamps() -> bytes:
    """Three stamps that inflate as far as they may."""
    side = math.isqrt((MAX_INFLATED - ROOM) // 4)
    return ztf_packet((Stamp(np.ones((side, side), np.float32)),) * 3, codec="deflate")


def names() -> bytes:
    """An object whose name is as long as a datum, of characters that take four bytes in memory for one there."""
    name = "n" * (MOST_INFLATED - 2 * ROOM) + "\N{OWL}"
    return ztf_packet(object_id=name, codec="deflate")


def detections() -> bytes:
    """A schema of its own whose history has nothing but what is read, in as many items as fit."""
    read = [{"name": "band", "type": ["null", "string"]}, {"name": "templateFlux", "type": ["null", "float"]}]
    numbers = [{"name": name, "type": "double"} for name in ("midpointMjdTai", "ra", "dec")]
    source = [{"name": "diaSourceId", "type": "long"}, *numbers]
    past = {"type": "array", "items": {"type": "record", "name": "past", "fields": read}}
    fields = [
        {"name": "diaSource", "type": {"type": "record", "name": "now", "fields": source}},
        {"name": "prvDiaSources", "type": past},
        *({"name": f"cutout{role.capitalize()}", "type": ["null", "bytes"]} for role in ROLES),
    ]
    schema = {"type": "record", "name": "alert", "namespace": "lsst.v11_9", "fields": fields}
    item = b"\x02\x04zz\x00"  # band "zz", no flux
    count = (MOST_INFLATED - ROOM) // len(item)
    datum = b"".join((avro_long(1), bytes(24), avro_long(count), item * count, b"\x00", b"\x00" * len(ROLES)))
    header = {"avro.schema": json.dumps(schema).encode(), "avro.codec": b"deflate"}
    entries = b"".join(sized(name.encode()) + sized(content) for name, content in header.items())
    block = zlib.compress(datum, wbits=-zlib.MAX_WBITS)
    parts = (
        CONTAINER_MAGIC,
        avro_long(len(header)),
        entries,
        b"\x00",
        SYNC_MARKER,
        avro_long(1),
        sized(block),
    )
    return b"".join((*parts, SYNC_MARKER))


def beside() -> list[bytes]:
    """A piece just small enough for others to be read while the network sees it, and histories for these."""
    large = ztf_packet((Stamp(np.ones((140, 140), np.float32)),) * 3)
    return [large] * (MOST_AHEAD // (len(large) + ROOM)) + [histories()] * 4


def sized(content: bytes) -> bytes:
    """Put a length in front."""
    return avro_long(len(content)) + content


KINDS: dict[str, Callable[[], bytes | list[bytes]]] = {
    made.__name__: made for made in (ordinary, histories, datums, stamps, names, detections, beside)
}


class Wire:
    """Takes records as librdkafka does: holds a copy of each until all are written, and counts."""

    def __init__(self) -> None:
        self.written = 0

    def write(self, records: Sequence[Record]) -> None:
        """Copy, and let go."""
        queue = [bytearray(record.value or b"") for record in records]
        self.written += len(queue)

    def transact(self, records: Sequence[Record], batch: Sequence[Message]) -> None:  # noqa: ARG002 - see below
        """Write; the offsets are nobody's."""
        self.write(records)


def main(kind: str, count: str, *options: str) -> None:
    """Turn a consumer over messages of a kind; print peak memory in bytes, messages and records."""
    keep_freed_memory()
    made = KINDS[kind]()
    values = made if isinstance(made, list) else [made]
    source = MemorySource([Message(values[n % len(values)], "alerts", 0, n) for n in range(int(count))])
    store, metrics, health, wire = SchemaStore(WANTED), Metrics(), Health(60.0), Wire()
    limits = dict.fromkeys(TOPICS, MAX_MESSAGE_BYTES)
    pack = RecordBuilder(lambda _: "alerts", "0", store, limits=limits, lite="--lite" in options)
    stop = threading.Event()
    delivery = (ExactlyOnce if "--once" in options else AtLeastOnce)(
        source, pack.smaller, metrics, Patience(source, health, metrics, stop), wire
    )
    consumer = Consumer(
        source=source,
        delivery=delivery,
        pipeline=Pipeline(Deserializer(WANTED, store=store), Model.load(threads=1)).outcomes,
        pack=pack,
        metrics=metrics,
        health=health,
        stop=stop,
        exit_at_end=True,
    )
    summary = consumer.run()
    # Not getrusage: that carries over what the process that began this one held.
    status = Path("/proc/self/status").read_text("utf-8")
    found = int(status.split("VmHWM:")[1].split()[0]) * KIB
    sys.stdout.write(f"{found} {summary.consumed} {wire.written}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
