"""A real Apache Kafka for measurements, and what its clients and itself take of the processors."""

import os
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.integration.kafka_server import KafkaServer

TICKS = os.sysconf("SC_CLK_TCK")
LARGEST = "10485760"


class MeasuredKafka(KafkaServer):
    """The tests' server, its code compiled in full and with a heap as a small node has it."""

    _heap = "1g"

    def _java(self, heap: str, *arguments: str) -> list[str]:
        plain = super()._java(heap, *arguments)
        return [flag for flag in plain if flag != "-XX:TieredStopAtLevel=1"]

    def _properties(self) -> dict[str, object]:
        return {
            **super()._properties(),
            "log.retention.bytes": 8 * 1024**3,
            "log.segment.bytes": 256 * 1024**2,
            "num.network.threads": 2,
            "num.io.threads": 2,
        }

    @property
    def pid(self) -> int:
        """Of the server's process."""
        return self._process.pid

    @property
    def cpu_seconds(self) -> float:
        """Processor time the server has taken."""
        return cpu_seconds(self._process.pid)

    def bytes_of(self, topic: str) -> int:
        """Give what a topic takes on disk, its indexes left out."""
        return sum(path.stat().st_size for path in (self._folder / "data").glob(f"{topic}-*/*.log"))


def cpu_seconds(pid: int) -> float:
    """Processor time a process has taken, its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def make_topic(server: KafkaServer, partitions: int, **settings: str) -> str:
    """Make a topic and the three its results go to."""
    name = f"alerts-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": server.bootstrap_servers})
    config = {"max.message.bytes": LARGEST, **settings}
    names = [name, *(f"{name}.{suffix}" for suffix in ("enriched", "lite", "dead-letter"))]
    for future in admin.create_topics(
        [NewTopic(one, partitions, 1, config=config) for one in names]
    ).values():
        future.result(60)
    return name


def drop_topics(server: KafkaServer, name: str) -> None:
    """Give the disk back."""
    admin = AdminClient({"bootstrap.servers": server.bootstrap_servers})
    names = [one for one in admin.list_topics(timeout=10).topics if one.startswith(name)]
    for future in admin.delete_topics(names).values():
        future.result(60)


def preload(
    server: KafkaServer,
    topic: str,
    packets: Sequence[bytes],
    count: int,
    partitions: int,
    compression: str = "none",
) -> None:
    """Publish packets in turns until there are so many, evenly over the partitions."""
    producer = Producer(
        {
            "bootstrap.servers": server.bootstrap_servers,
            "message.max.bytes": int(LARGEST),
            "acks": "all",
            "compression.type": compression,
            "queue.buffering.max.kbytes": 262_144,
        }
    )
    for n in range(count):
        while True:
            try:
                producer.produce(topic, packets[n % len(packets)], partition=n % partitions)
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(300):
        raise SystemExit("Kafka did not take the packets in five minutes")


@dataclass
class Usage:
    """What a run took.

    Attributes
    ----------
    seconds : float
        By the clock.
    client, server : float
        Processor seconds.
    peak_mib : float
        Resident memory of the client.
    output : str
    """

    seconds: float = 0.0
    client: float = 0.0
    server: float = 0.0
    peak_mib: float = 0.0
    output: str = ""


@contextmanager
def server_time(server: MeasuredKafka, usage: Usage) -> Iterator[None]:
    """Note the clock and what the server takes meanwhile."""
    began, before = time.monotonic(), server.cpu_seconds
    yield
    usage.seconds = time.monotonic() - began
    usage.server = server.cpu_seconds - before


def run_program(server: MeasuredKafka, command: Sequence[str], environment: dict[str, str]) -> Usage:
    """Run a client to its end."""
    usage = Usage()
    with server_time(server, usage):
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment},
        )
        assert process.stdout is not None
        usage.output = process.stdout.read()
        _, status, took = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{usage.output[-3000:]}")
    usage.client = took.ru_utime + took.ru_stime
    usage.peak_mib = took.ru_maxrss / 1024
    return usage


def own_time() -> float:
    """Processor time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
