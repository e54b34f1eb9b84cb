"""A stage for faults: alerts on a topic, consumers that are hurt, and the account at the end."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import KafkaException

from broker.testing.packets import lsst_packet, ztf_packet
from broker.testing.stamps import Stamp

from .conftest import Cluster
from .kafka_server import KafkaServer
from .ledger import Ledger

FULL = os.environ.get("NIGHTJAR_CHAOS") == "full"
"""Set by `make chaos`; else a short form, for CI."""

DELIVERIES = ("at-least-once", "exactly-once")
Record = Callable[[str, Any], None]

long_form = pytest.mark.skipif(not FULL, reason="a scene of the long form: make chaos")


def alerts(full: int = 50_000) -> int:
    """How many a scene of the long form takes, unless ``NIGHTJAR_CHAOS_ALERTS`` says it."""
    return int(os.environ.get("NIGHTJAR_CHAOS_ALERTS", full if FULL else 1_000))


PATIENCE_SECONDS = 1800 if FULL else 150
PARTITIONS = 4
OUTPUTS = ("enriched", "lite", "dead-letter")
MOST_MEMORY_KIB = 1024 * 1024
"""1 GiB of resident memory."""

_SMALL = [
    Stamp(np.random.default_rng(role).normal(20.0, 5.0, (15, 15)).astype(np.float32)) for role in range(3)
]


def packets(count: int, *, ztf_every: int = 10, broken_every: int = 50) -> list[bytes]:
    """Alerts of both surveys over few objects, so that keys repeat, and now and then a message that is no alert."""
    made = []
    for n in range(count):
        if n % broken_every == broken_every - 1:
            made.append(b"no alert %d" % n)
        elif n % ztf_every == 0:
            made.append(ztf_packet(alert_id=1_000_000 + n, object_id=f"ZTF20aaaa{n % 97:03d}"))
        else:
            made.append(lsst_packet(_SMALL, alert_id=1_000_000 + n, object_id=1 + n % 97))
    return made


@dataclass
class Stage:
    """One topic of alerts and its consumers.

    Attributes
    ----------
    cluster : Cluster
    model : Path
    delivery : str
    servers : str
        What the consumers are told; a proxy's, where there is one.
    settings : dict
        Environment of the consumers.
    known : dict of str to schema
        Of outputs, by fingerprint, where the bundle lacks them.
    """

    cluster: Cluster
    model: Path
    delivery: str
    folder: Path
    servers: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    count: int = field(default_factory=alerts)
    topic: str = ""
    sent: dict[tuple[str, int, int], bytes] = field(default_factory=dict)
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    known: dict[str, Any] = field(default_factory=dict)
    peak_kib: int = 0
    _watch: threading.Event = field(default_factory=threading.Event)

    def set(self, values: Sequence[bytes] | None = None, **topic_settings: str) -> None:
        """Make the topics and publish, `packets` unless told what."""
        self.servers = self.servers or self.cluster.servers
        self.topic = self.cluster.make(PARTITIONS, **topic_settings)
        self.cluster.make_named(f"{self.topic}.lite", PARTITIONS, **topic_settings)
        self.send(packets(self.count) if values is None else values)
        threading.Thread(target=self._measure, daemon=True).start()

    def send(self, values: Sequence[bytes]) -> None:
        """Publish, after what was published before."""
        before = len(self.sent)
        assert before % PARTITIONS == 0, "else the next would not go to the first partition"
        for n, value in enumerate(values, before):
            self.sent[self.topic, n % PARTITIONS, n // PARTITIONS] = value
        self.cluster.publish(self.topic, values)
        self.count = len(self.sent)

    def consumer(self, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
        """Begin a consumer."""
        settings = {
            "BROKER_KAFKA__MEMBERSHIP__SESSION_SECONDS": "6",
            "BROKER_KAFKA__MEMBERSHIP__HEARTBEAT_SECONDS": "1",
            "BROKER_CONSUMER__BATCH_SIZE": "100" if FULL else "25",
            "BROKER_LITE": "true",
            "OMP_NUM_THREADS": "1",
            **self.settings,
            **more,
        }
        at = ("--topic", self.topic, "--bootstrap-servers", self.servers, "--group-id", f"group-{self.topic}")
        command = [sys.executable, "-m", "broker.cli.consumer", *at, "--delivery", self.delivery]
        with (self.folder / f"consumer-{len(self.running)}.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--model", str(self.model), *arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, **settings},
            )
        self.running.append(process)
        return process

    def done(self) -> int:
        """Alerts whose offsets are committed; -1 when Kafka does not say."""
        try:
            return self.cluster.committed(self.topic, f"group-{self.topic}")
        except KafkaException:
            return -1

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for something."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} took longer than {PATIENCE_SECONDS} s\n{self.logs()}")
            time.sleep(0.25)

    def progress(self, share: float) -> None:
        """Wait until a share of the alerts is done."""
        self.until(lambda: self._comes_to(share), f"{share:.0%} of the alerts")

    def _comes_to(self, share: float) -> bool:
        ended = [process.poll() for process in self.running]
        assert not ended or ended[-1] not in {1, 2} or None in ended, f"no consumer is left\n{self.logs()}"
        return self.done() >= share * self.count

    def finish(self) -> None:
        """See that all alerts are done, with a consumer more if need be, and end what runs."""
        if not any(process.poll() is None for process in self.running):
            self.consumer()
        self.until(lambda: self._comes_to(1.0), "the end")
        self.end(signal.SIGTERM)

    def end(self, number: signal.Signals) -> None:
        """End every consumer."""
        for process in self.running:
            if process.poll() is None:
                process.send_signal(number)
        for process in self.running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)

    def close(self) -> None:
        """Leave nothing running."""
        self._watch.set()
        self.end(signal.SIGKILL)

    def kept_going(self) -> None:
        """See that one process did it all, and ended well."""
        assert [process.returncode for process in self.running] == [0], self.logs()

    def never_fenced(self) -> None:
        """See that the group took nobody for dead."""
        told = self.told()
        signs = ("lost ", "maximum poll interval", "session timed out", "come again", "comes again")
        for sign in (*signs, "commit not taken", "are left to others"):
            assert sign not in told, told[-3000:]

    def told(self, number: int | None = None) -> str:
        """Everything the consumers said, or one of them, counted from 0."""
        which = "*" if number is None else number
        return "\n".join(
            path.read_text(errors="replace") for path in sorted(self.folder.glob(f"consumer-{which}.log"))
        )

    def logs(self) -> str:
        """Last words of the consumers."""
        told = [
            path.read_text(errors="replace")[-1500:] for path in sorted(self.folder.glob("consumer-*.log"))
        ]
        return "\n".join(told[-4:])

    def account(self, *, committed: bool = True) -> Ledger:
        """What came of every alert, as a reader of committed records sees it, or one of all."""
        ledger = Ledger(set(self.sent), known=self.known)
        for suffix in OUTPUTS:
            where = f"{self.topic}.{suffix}"
            ledger.read(self.cluster.servers, where, committed=committed, values=self.sent)
        return ledger

    def missing(self, ledger: Ledger) -> str:
        """Say of a loss whether it was never written, or is kept from readers of committed records."""
        everything = self.account(committed=False)
        places = sorted(ledger.lost | ledger.torn)
        return (
            f"{ledger}\nnever written: {len(everything.lost)} whole or rejected, {len(everything.torn)} torn; "
            f"kept from readers of committed records, or torn there: {places}\n{self.told()}"
        )

    def committed_is_written(self) -> None:
        """See that every alert before a committed offset has its outcome, whole and lite."""
        positions = self.cluster.positions(self.topic, f"group-{self.topic}")
        ledger = self.account()
        missing = ledger.lost | ledger.torn
        without = [place for place in missing if place[2] < positions[place[1]]]
        assert not without, f"committed, not written: {without[:5]}"
        if self.delivery == "exactly-once":
            assert not ledger.torn, f"whole or lite alone: {list(ledger.torn)[:5]}"

    def check(self, name: str, record: Callable[[str, Any], None]) -> Ledger:
        """Hold the account against the promise, and give it."""
        ledger = self.account()
        record(f"{name}, {self.delivery}", f"{ledger}; peak memory {self.peak_kib // 1024} MiB")
        assert not ledger.lost, self.missing(ledger)
        assert not ledger.invented
        assert not ledger.broken, ledger.broken[:3]
        assert ledger.told_apart()
        assert not ledger.torn, self.missing(ledger)
        assert ledger.without_value == 0, "no message here is too large for a dead letter"
        assert ledger.out_of_order == 0, str(ledger)
        if self.delivery == "exactly-once":
            assert ledger.repeats == 0, f"{ledger}\n{self.logs()}"
        assert 0 < self.peak_kib < MOST_MEMORY_KIB, "0 where nobody measured"
        return ledger

    def _measure(self) -> None:
        while not self._watch.wait(0.5):
            for process in list(self.running):
                with contextlib.suppress(OSError, ValueError, IndexError):
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    peak = int(status.split("VmHWM:")[1].split()[0])
                    self.peak_kib = max(self.peak_kib, peak)


class Hurt(KafkaServer):
    """A Kafka that can be killed and begun again on its data."""

    def _properties(self) -> dict[str, object]:
        # A killed broker's session must end before it may register again.
        return {**super()._properties(), "broker.session.timeout.ms": 2000}

    def kill(self) -> None:
        """End without a word."""
        self._process.kill()
        self._process.wait()
        self._log.close()

    def revive(self) -> None:
        """Begin again."""
        self._begin()
