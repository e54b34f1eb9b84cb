"""One consumer from its start, one with nothing to do, and two beside each other, on a real Apache Kafka.

- **start**: from the call of ``broker-consumer`` to its first enriched alert in the output topic; alerts wait
  there, files are in the page cache, and the cluster's ``group.initial.rebalance.delay.ms`` is 0.
- **idle**: processor time of a consumer that holds its partitions and gets no alert.
- **two**: two consumers of one group, each bound to a processor of its own, against one bound to one and one that has
  both processors, on a topic that is filled before; Kafka is bound to the processors that the consumers have, and waits
  for both before it deals out partitions. By the clock, and by the consumers' own processor time, without Kafka's.
- **network alone**: the same of the network without consumers and Kafka, which is what the machine allows: processors
  share caches and memory.

    python benchmarks/consumers.py --survey lsst --count 10000
"""

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from typing import Annotated

import numpy as np
import typer
from confluent_kafka import Consumer, TopicPartition
from kafka_node import MeasuredKafka, cpu_seconds, drop_topics, make_topic, preload
from packets import USUAL, Data, read_packets
from rich.console import Console

from broker.alert import Survey
from broker.contract import check_inputs
from broker.inference import Model
from broker.pipeline import MOST_MESSAGES

PARTITIONS = 4
FEW = 2000
"""Alerts that wait for one that starts."""

IDLE_SECONDS = 30.0
NETWORK_SECONDS = 8.0

SETTLED_SECONDS = 6.0
"""After its start, until a consumer has nothing left to do but wait."""


together: Barrier


class PatientKafka(MeasuredKafka):
    """One that waits, as Kafka does by default, for others before it gives a new group its partitions."""

    def _properties(self) -> dict[str, object]:
        return {**super()._properties(), "group.initial.rebalance.delay.ms": 3000}


def command(server: MeasuredKafka, topic: str, prefix: str, *more: str) -> list[str]:
    """Call the consumer."""
    return [
        *(sys.executable, "-m", "broker.cli.consumer", "--topic", topic, "--output-prefix", prefix),
        *("--bootstrap-servers", server.bootstrap_servers, "--group-id", f"group-{prefix}"),
        *("--log-level", "warning", *more),
    ]


def end(process: subprocess.Popen[str]) -> None:
    """Have it end as an operator would."""
    process.terminate()
    if process.wait(60):
        raise SystemExit(f"the consumer ended with {process.returncode}")


def start(server: MeasuredKafka, topic: str) -> float:
    """Seconds from the call to the first enriched alert, as a reader of the output sees it."""
    prefix = make_topic(server, PARTITIONS)
    reader = Consumer(
        {"bootstrap.servers": server.bootstrap_servers, "group.id": "first", "fetch.wait.max.ms": 10}
    )
    reader.assign([TopicPartition(f"{prefix}.enriched", number, 0) for number in range(PARTITIONS)])
    reader.poll(1.0)  # the reader stands ready
    began = time.monotonic()
    process = subprocess.Popen(command(server, topic, prefix), text=True)
    message = reader.poll(30)
    taken = time.monotonic() - began
    if message is None or message.error():
        raise SystemExit("no enriched alert in 30 s")
    end(process)
    reader.close()
    drop_topics(server, prefix)
    return taken


def idle(server: MeasuredKafka) -> float:
    """Share of a processor that a consumer with nothing to do takes."""
    topic = make_topic(server, PARTITIONS)
    process = subprocess.Popen(command(server, topic, topic), text=True)
    time.sleep(SETTLED_SECONDS)
    before = cpu_seconds(process.pid)
    time.sleep(IDLE_SECONDS)
    used = cpu_seconds(process.pid) - before
    end(process)
    drop_topics(server, topic)
    return used / IDLE_SECONDS


def bound(server: MeasuredKafka, topic: str, sets: Sequence[Sequence[int]], count: int) -> dict[str, float]:
    """Run consumers over the topic, each bound to a set of processors; Kafka to all of these."""
    prefix = make_topic(server, PARTITIONS, **{"message.timestamp.type": "LogAppendTime"})
    listed = ",".join(str(processor) for one in sets for processor in one)
    subprocess.run(
        ["taskset", "--all-tasks", "--pid", "--cpu-list", listed, str(server.pid)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    running = [
        subprocess.Popen(
            [
                *("taskset", "--cpu-list", ",".join(map(str, one))),
                *command(server, topic, prefix, "--exit-at-end"),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for one in sets
    ]
    told, used = 0, 0.0
    for process in running:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, took = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        used += took.ru_utime + took.ru_stime
        found = re.search(r"consumed (\d+)", output)
        if process.returncode or found is None:
            raise SystemExit(f"a consumer ended with {process.returncode}: {output}")
        told += int(found[1])
    if told != count:
        raise SystemExit(f"{told} alerts were consumed, {count} were there")
    seconds = written_over(server, f"{prefix}.enriched") if count else 0.0
    drop_topics(server, prefix)
    return {"seconds": seconds, "cpu": used}


def written_over(server: MeasuredKafka, topic: str) -> float:
    """Seconds from the first record of a topic to its last, by Kafka's clock."""
    reader = Consumer({"bootstrap.servers": server.bootstrap_servers, "group.id": "times"})
    times = []
    for number in range(PARTITIONS):
        low, high = reader.get_watermark_offsets(TopicPartition(topic, number), 10)
        for offset in {low, high - 1} if high > low else ():
            reader.assign([TopicPartition(topic, number, offset)])
            message = reader.poll(10)
            assert message is not None
            times.append(message.timestamp()[1] / 1000)
    reader.close()
    return max(times) - min(times)


def compare(server: MeasuredKafka, topic: str, count: int, rounds: int, console: Console) -> None:
    """Two consumers on a processor each, one on one, and one on both, in turns; what starts take is taken off."""
    first, second, *_ = sorted(os.sched_getaffinity(0))
    sides = {"one": [[first]], "two": [[first], [second]], "one on both": [[first, second]]}
    bound(server, topic, sides["two"], count)  # not counted: Kafka's own code is compiled in it
    empty = make_topic(server, PARTITIONS)
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, sets in sides.items():
            begun = bound(server, empty, sets, 0)["cpu"]
            found = bound(server, topic, sets, count)
            rates[name].append((count / found["seconds"], len(sets) * count / (found["cpu"] - begun)))
    drop_topics(server, empty)
    clock, used = ("by the clock", 0), ("by their own processor time", 1)
    for other, (what, place) in (("one", clock), ("one", used), ("one on both", clock)):
        two, one = (statistics.median(run[place] for run in rates[name]) for name in ("two", other))
        ratios = [a[place] / b[place] for a, b in zip(rates["two"], rates[other], strict=True)]
        console.print(
            f"two against {other}, {what}: {two:,.0f} against {one:,.0f} alerts/s, "
            f"{statistics.median(ratios):.2f} times (lowest {min(ratios):.2f})"
        )


def network(processor: int, number: int) -> float:
    """Alerts per second of processor time of the network on one processor, beside others that are `number` with it."""
    os.sched_setaffinity(0, {processor})
    model = Model.load(threads=1)
    inputs = {
        name: np.repeat(rows, MOST_MESSAGES // len(rows), axis=0)
        for name, rows in check_inputs(model.contract.grid).items()
    }
    if number > 1:
        together.wait()
    began, used, done = time.monotonic(), time.process_time(), 0
    while time.monotonic() - began < NETWORK_SECONDS:
        model(inputs)
        done += len(inputs["survey"])
    return done / (time.process_time() - used)


def meet(barrier: Barrier) -> None:
    """Keep, in a process of the pool, what its networks wait at."""
    global together  # noqa: PLW0603 -- a pool hands over what is shared in no other way
    together = barrier


def compare_networks(rounds: int, console: Console) -> None:
    """One network on one processor against two on two, without anything beside them."""
    processors = sorted(os.sched_getaffinity(0))[:2]
    ratios = []
    context = get_context("spawn")
    with ProcessPoolExecutor(2, context, meet, (context.Barrier(2),)) as pool:
        for _ in range(rounds):
            one = pool.submit(network, processors[0], 1).result()
            two = [pool.submit(network, processor, 2) for processor in processors]
            ratios.append(sum(each.result() for each in two) / one)
    console.print(
        f"two networks alone against one, by their own processor time: {statistics.median(ratios):.2f} times "
        f"(lowest {min(ratios):.2f})"
    )


def main(
    data: Data = USUAL,
    survey: Annotated[Survey, typer.Option(help="Whose packets.")] = Survey.LSST,
    count: Annotated[int, typer.Option(min=500, help="Alerts of a run.")] = 10000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds in which everything runs once.")] = 3,
) -> None:
    """Measure start, idling and two consumers."""
    console = Console()
    packets = read_packets(data, survey)
    with MeasuredKafka() as server:
        topic = make_topic(server, PARTITIONS)
        preload(server, topic, packets, FEW, PARTITIONS)
        seconds = sorted(start(server, topic) for _ in range(rounds + 2))
        console.print(
            f"start to the first enriched alert: {statistics.median(seconds):.2f} s "
            f"({seconds[0]:.2f} to {seconds[-1]:.2f}, {len(seconds)} starts)"
        )
        console.print(f"idle: {idle(server):.2%} of a processor")
    with PatientKafka() as server:
        topic = make_topic(server, PARTITIONS)
        preload(server, topic, packets, count, PARTITIONS)
        compare(server, topic, count, rounds, console)
    compare_networks(rounds, console)


if __name__ == "__main__":
    typer.run(main)
