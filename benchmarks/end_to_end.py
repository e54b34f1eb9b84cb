"""How many alerts go from topic to topic, and what share that is of the machine's limit, each part measured in one run.

Consumer, network and a real Apache Kafka share the processors. In turns, on the same packets:

- **pass-through**: consumer and producer of librdkafka alone, with the consumer's own settings and the same bytes;
- **network**: ONNX Runtime alone, on every processor;
- **ours**: everything else the consumer does to an alert, on one thread, without Kafka and network;
- **consumer**: `broker-consumer` from the first message to the last acknowledgement, at least once and exactly once.

The limit is what would be reached if all processors worked all the time on the sum of the first three's processor time.

    python benchmarks/end_to_end.py --survey lsst --count 6000
    python benchmarks/end_to_end.py --survey ztf --rounds 5 --json end_to_end.json
"""

import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from confluent_kafka import Consumer, Producer
from kafka_node import (
    MeasuredKafka,
    Usage,
    drop_topics,
    make_topic,
    own_time,
    preload,
    run_program,
    server_time,
)
from packets import USUAL, Data, read_packets
from rich.console import Console
from rich.table import Table
from without_network import PIECE, Work, messages, network_inputs_of

from broker.alert import Survey
from broker.allocator import keep_freed_memory, look_less_for_cycles
from broker.inference import Model
from broker.kafka.properties import of_consumer, of_producer
from broker.kafka.sink import BATCH_BYTES
from broker.settings import SinkSettings, SourceSettings

PARTITIONS = 4
SUFFIX = bytes(1000)
"""As long as an enrichment, so that pass-through writes as much."""

Part = Callable[[], dict[str, float]]


def ours(model: Model, packets: Sequence[bytes], count: int) -> dict[str, float]:
    """Processor time of all but Kafka and the network."""
    work, batch = Work(model, packets[0]), messages(packets)
    work(batch)
    began, done = own_time(), 0
    while done < count:
        work(batch)
        done += len(batch)
    return {"client": (own_time() - began) / done, "rate": done / (own_time() - began)}


def network(model: Model, packets: Sequence[bytes], count: int) -> dict[str, float]:
    """Processor time and rate of the network on every processor."""
    inputs = network_inputs_of(model, packets[:PIECE])
    rows = len(inputs["survey"])
    began, used, done = time.monotonic(), own_time(), 0
    while done < count:
        model(inputs)
        done += rows
    return {"client": (own_time() - used) / done, "rate": done / (time.monotonic() - began)}


def pass_through(server: MeasuredKafka, topic: str, count: int, compression: str) -> dict[str, float]:
    """Rate and processor time of Kafka's two ends and itself."""
    out = make_topic(server, PARTITIONS)
    kafka = SourceSettings(bootstrap_servers=server.bootstrap_servers, group_id=f"pass-{out}")
    consumer = Consumer(of_consumer(kafka))
    sink = SinkSettings(compression=compression)  # type: ignore[arg-type]
    properties = of_producer(server.bootstrap_servers, kafka.security, sink, patient=True)
    producer = Producer(properties | {"batch.size": BATCH_BYTES})
    consumer.subscribe([topic])
    first = consumer.consume(1, 30)
    usage, done = Usage(), 0
    used = own_time()
    with server_time(server, usage):
        while done < count - len(first):
            batch = [message for message in consumer.consume(256, 0.2) if not message.error()]
            for number, message in enumerate(batch, done):
                producer.produce(f"{out}.enriched", message.value() + SUFFIX, key=b"%d" % number)
            producer.flush()
            if batch:
                consumer.commit(asynchronous=True)
            done += len(batch)
    taken = own_time() - used
    consumer.close()
    drop_topics(server, out)
    return {
        "rate": done / usage.seconds,
        "client": taken / done,
        "server": usage.server / done,
    }


def consume(
    server: MeasuredKafka,
    topic: str,
    count: int,
    delivery: str,
    compression: str,
    model: Path | None,
    lite: bool,
) -> dict[str, float]:
    """Run the consumer over the topic; its own summary says how long it was busy."""
    prefix = make_topic(server, PARTITIONS)
    command = [
        *(sys.executable, "-m", "broker.cli.consumer", "--topic", topic, "--output-prefix", prefix),
        *("--bootstrap-servers", server.bootstrap_servers, "--group-id", f"group-{prefix}", "--exit-at-end"),
        *("--delivery", delivery, "--log-level", "warning"),
        *(("--model", str(model)) if model else ()),
        *(("--lite",) if lite else ()),
    ]
    usage = run_program(server, command, {"BROKER_SINK__COMPRESSION": compression})
    drop_topics(server, prefix)
    found = re.search(r"consumed (\d+): enriched (\d+).* (\d+) alerts/s", usage.output)
    assert found is not None, usage.output[-2000:]
    assert int(found[1]) == int(found[2]) == count, usage.output[-2000:]
    return {
        "rate": float(found[3]),
        "client": usage.client / count,
        "server": usage.server / count,
        "peak_mib": usage.peak_mib,
    }


def show(name: str, results: dict[str, list[dict[str, float]]], cores: int) -> dict[str, Any]:
    """Print medians, and the limit by the parts."""
    middle = {
        part: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for part, runs in results.items()
    }
    table = Table("part", "alerts/s", "lowest", "client us", "Kafka us", "peak MiB", title=name)
    for part, numbers in middle.items():
        lowest = min(run["rate"] for run in results[part])
        cells = [f"{numbers['rate']:,.0f}", f"{lowest:,.0f}"]
        cells += [f"{1e6 * numbers[key]:,.0f}" if key in numbers else "" for key in ("client", "server")]
        table.add_row(part, *cells, f"{numbers['peak_mib']:.0f}" if "peak_mib" in numbers else "")
    kafka = middle["pass-through"]["client"] + middle["pass-through"]["server"]
    cost = kafka + middle["network"]["client"] + middle["ours"]["client"]
    limit = cores / cost
    console = Console()
    console.print(table)
    console.print(
        f"limit: {cores} processors / ({1e6 * kafka:.0f} us Kafka + {1e6 * middle['network']['client']:.0f} us "
        f"network + {1e6 * middle['ours']['client']:.0f} us ours) = {limit:,.0f} alerts/s"
    )
    for part, numbers in middle.items():
        if "peak_mib" in numbers:
            console.print(f"{part}: {numbers['rate'] / limit:.0%} of it")
    return {"parts": middle, "runs": results, "limit": limit, "cores": cores}


def main(
    data: Data = USUAL,
    survey: Annotated[Survey, typer.Option(help="Whose packets.")] = Survey.LSST,
    count: Annotated[int, typer.Option(min=500, help="Alerts of a run.")] = 4000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds in which every part runs once.")] = 3,
    compression: Annotated[str, typer.Option(help="Of what is written.")] = "lz4",
    model_file: Annotated[
        Path | None, typer.Option("--model", help="ONNX file; the packaged one by default.")
    ] = None,
    lite: Annotated[bool, typer.Option("--lite", help="Write the lite topic too.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here too.")] = None,
) -> None:
    """Measure the whole way and its parts, side by side on one real Kafka."""
    keep_freed_memory()
    look_less_for_cycles()
    packets = read_packets(data, survey)
    model = Model.load(model_file)
    cores = len(os.sched_getaffinity(0))
    console = Console(stderr=True)
    results: dict[str, list[dict[str, float]]] = {}
    with MeasuredKafka() as server:
        topic = make_topic(server, PARTITIONS)
        preload(server, topic, packets, count, PARTITIONS)
        parts: dict[str, Part] = {
            "pass-through": lambda: pass_through(server, topic, count, compression),
            "network": lambda: network(model, packets, count),
            "ours": lambda: ours(model, packets, count // 4),
            **{
                f"consumer, {delivery}": lambda delivery=delivery: consume(  # type: ignore[misc]
                    server, topic, count, delivery, compression, model_file, lite
                )
                for delivery in ("at-least-once", "exactly-once")
            },
        }
        for turn in range(rounds):
            for part, measure in parts.items():
                results.setdefault(part, []).append(measure())
                console.print(f"round {turn + 1} of {rounds}: {part} {results[part][-1]['rate']:,.0f}/s")
    size = statistics.mean(map(len, packets)) / 1000
    found = show(f"{survey.value}: {count} alerts of {size:.0f} kB, {PARTITIONS} partitions", results, cores)
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
