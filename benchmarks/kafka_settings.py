"""Kafka's settings by measurement: compression in and out, fetch sizes and batches, in turns on one real Kafka.

Each variant reads the same packets and writes them again with an enrichment's worth of bytes more, by librdkafka
alone, with the consumer's own settings but for what the variant changes. What counts is the processor time of both
ends together, as consumer and broker share the machine; bytes are what the output topic takes on disk.

    python benchmarks/kafka_settings.py --survey lsst --count 2000 --rounds 3
"""

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from confluent_kafka import Consumer, Producer
from end_to_end import PARTITIONS, SUFFIX
from kafka_node import MeasuredKafka, Usage, drop_topics, make_topic, own_time, preload, server_time
from packets import USUAL, Data, read_packets
from rich.console import Console
from rich.table import Table

from broker.alert import Survey
from broker.allocator import keep_freed_memory
from broker.kafka.properties import of_consumer, of_producer
from broker.kafka.sink import BATCH_BYTES
from broker.settings import Plaintext, SinkSettings, SourceSettings


@dataclass(frozen=True, slots=True)
class Variant:
    """What differs from the settings in use: of the topic read, of what is written, of either client."""

    name: str
    read: str = "none"
    write: str = "lz4"
    consumer: dict[str, Any] = field(default_factory=dict)
    producer: dict[str, Any] = field(default_factory=dict)


VARIANTS = (
    Variant("as it is: lz4 out"),
    Variant("none out", write="none"),
    Variant("snappy out", write="snappy"),
    Variant("zstd out", write="zstd"),
    Variant("gzip out", write="gzip"),
    Variant("lz4 in", read="lz4"),
    Variant("zstd in", read="zstd"),
    Variant("gzip in", read="gzip"),
    Variant("fetches of 1 MiB a partition", consumer={"fetch.message.max.bytes": 1_048_576}),
    Variant("fetches wait for 1 MiB", consumer={"fetch.min.bytes": 1_048_576, "fetch.wait.max.ms": 100}),
    Variant("queue of 16 MiB", consumer={"queued.max.messages.kbytes": 16_384}),
    Variant("a full queue looked at in 100 ms", consumer={"fetch.queue.backoff.ms": 100}),
    Variant("a full queue looked at in 1 s (librdkafka's)", consumer={"fetch.queue.backoff.ms": 1000}),
    Variant("no linger", producer={"linger.ms": 0}),
    Variant("linger of 50 ms", producer={"linger.ms": 50}),
    Variant("batches of 1 MB (librdkafka's)", producer={"batch.size": 1_000_000}),
    Variant("batches of 2 MB", producer={"batch.size": 2_000_000}),
    Variant("batches of 8 MB", producer={"batch.size": 8_000_000}),
    Variant("CRC checked", consumer={"check.crcs": True}),
)


def run(server: MeasuredKafka, variant: Variant, topic: str, count: int) -> dict[str, float]:
    """Pass all alerts of a topic through; processor time of both ends, rate, bytes."""
    out = make_topic(server, PARTITIONS)
    kafka = SourceSettings(bootstrap_servers=server.bootstrap_servers, group_id=f"pass-{out}")
    consumer = Consumer(of_consumer(kafka) | variant.consumer)
    sink = SinkSettings(compression=variant.write)  # type: ignore[arg-type]
    producer = Producer(
        of_producer(server.bootstrap_servers, Plaintext(), sink, patient=True)
        | {"batch.size": BATCH_BYTES}
        | variant.producer
    )
    consumer.subscribe([topic])
    done = len(consumer.consume(1, 30))
    usage, used = Usage(), own_time()
    with server_time(server, usage):
        while done < count:
            batch = [message for message in consumer.consume(256, 0.2) if not message.error()]
            for number, message in enumerate(batch, done):
                producer.produce(f"{out}.enriched", message.value() + SUFFIX, key=b"%d" % number)
            producer.flush()
            done += len(batch)
    taken = own_time() - used
    consumer.close()
    size = server.bytes_of(f"{out}.enriched")
    drop_topics(server, out)
    return {
        "rate": count / usage.seconds,
        "client": 1e6 * taken / count,
        "server": 1e6 * usage.server / count,
        "kB": size / count / 1000,
    }


def show(results: dict[str, list[dict[str, float]]], title: str) -> None:
    """Print medians; the ratio of processor time is taken within each round, against the first variant."""
    table = Table(title=title)
    for column in ("variant", "alerts/s", "client us", "Kafka us", "together", "against the first", "kB out"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    reference = next(iter(results.values()))
    for name, runs in results.items():
        middle = {key: statistics.median(one[key] for one in runs) for key in runs[0]}
        ratios = [_both(one) / _both(first) for one, first in zip(runs, reference, strict=True)]
        cells = [f"{middle[key]:,.0f}" for key in ("rate", "client", "server")]
        together = f"{statistics.median(map(_both, runs)):,.0f}"
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        table.add_row(name, *cells, together, spread, f"{middle['kB']:.0f}")
    Console(width=120).print(table)


def _both(run: dict[str, float]) -> float:
    return run["client"] + run["server"]


def main(
    data: Data = USUAL,
    survey: Annotated[Survey, typer.Option(help="Whose packets.")] = Survey.LSST,
    count: Annotated[int, typer.Option(min=500, help="Alerts of a run.")] = 2000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds in which every variant runs once.")] = 3,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Variants whose names hold this, beside the first; may be given again."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here too.")] = None,
) -> None:
    """Measure settings of Kafka's clients, side by side."""
    keep_freed_memory()
    packets, results = read_packets(data, survey), {}
    console = Console(stderr=True)
    first, *others = VARIANTS
    chosen = [first, *(one for one in others if not only or any(part in one.name for part in only))]
    with MeasuredKafka() as server:
        topics = {}
        for compression in {variant.read: None for variant in chosen}:
            topics[compression] = make_topic(server, PARTITIONS)
            preload(server, topics[compression], packets, count, PARTITIONS, compression)
        run(server, first, topics[first.read], count)  # not counted: Kafka is still being compiled
        for turn in range(rounds):
            for variant in chosen:
                found = run(server, variant, topics[variant.read], count)
                results.setdefault(variant.name, []).append(found)
                console.print(f"round {turn + 1} of {rounds}: {variant.name} {found['rate']:,.0f}/s")
    size = sum(map(len, packets)) / len(packets) / 1000
    show(
        results, f"{survey.value}: {count} alerts of {size:.0f} kB, {PARTITIONS} partitions, {rounds} rounds"
    )
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
