"""Consumers, cluster and network are hurt; the ledger says what was lost, repeated or broken.

A short form runs with the other tests. The long form, 50,000 alerts a scene, is `make chaos`.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import kafka_server
from .chaos import DELIVERIES, FULL, Hurt, Record, Stage, long_form, packets
from .conftest import Cluster

KILLS = 20 if FULL else 4
RESTARTS = 5 if FULL else 1


@pytest.fixture(params=DELIVERIES)
def stage(
    request: pytest.FixtureRequest, cluster: Cluster, untrained_model: Path, tmp_path: Path
) -> Iterator[Stage]:
    stage = Stage(cluster, untrained_model, request.param, tmp_path)
    yield stage
    stage.close()


@long_form  # the short one is in test_delivery.py
def test_consumers_that_are_killed(stage: Stage, record: Record) -> None:
    stage.set()
    chance = random.Random(1)
    for number in range(KILLS):
        victim = stage.consumer()
        stage.progress(0.9 * number / KILLS)
        time.sleep(chance.uniform(0.5, 4.0) if FULL else chance.uniform(0.0, 1.0))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    stage.finish()
    stage.check(f"{KILLS} times SIGKILL", record)


@long_form
def test_consumers_that_come_and_go(stage: Stage, record: Record) -> None:
    stage.set()
    stage.consumer()
    pause = 5.0 if FULL else 2.0
    while stage.done() < 0.8 * stage.count:
        guest = stage.consumer()
        time.sleep(pause)
        guest.send_signal(signal.SIGTERM)
        guest.wait(60)
    stage.finish()
    stage.check("consumers come and go", record)


def test_a_consumer_that_stops_for_longer_than_its_session(stage: Stage, record: Record) -> None:
    stage.set()
    sleeper = stage.consumer()
    stage.progress(0.1)
    sleeper.send_signal(signal.SIGSTOP)
    other = stage.consumer()
    held = stage.done()
    stage.until(lambda: stage.done() > held, "the other taking over")
    sleeper.send_signal(signal.SIGCONT)
    stage.progress(0.7)
    other.send_signal(signal.SIGTERM)
    stage.finish()
    stage.check("SIGSTOP beyond the session", record)


def test_two_consumers_with_one_transactional_id(
    cluster: Cluster, untrained_model: Path, tmp_path: Path, record: Record
) -> None:
    stage = Stage(cluster, untrained_model, "exactly-once", tmp_path)
    stage.settings["BROKER_SINK__TRANSACTIONAL_ID"] = f"one-{time.time_ns()}"
    try:
        stage.set()
        rivals = [stage.consumer(), stage.consumer()]

        def one_gave_way() -> bool:
            # They meet only while both have something to write.
            if all(rival.poll() is None for rival in rivals) and stage.done() == stage.count:
                stage.send(packets(400))
            return any(rival.poll() is not None for rival in rivals)

        stage.until(one_gave_way, "one giving way")
        told = stage.logs()
        assert {rival.returncode for rival in rivals if rival.poll() is not None} == {2}
        assert "another producer has the transactional id" in told
        stage.finish()
        stage.check("two with one transactional id", record)
    finally:
        stage.close()


@pytest.fixture(scope="module")
def hurt() -> Iterator[Hurt]:
    if lacking := kafka_server.missing():
        pytest.skip(lacking)
    with Hurt() as server:
        yield server


@long_form
@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_broker_that_is_killed(
    hurt: Hurt, untrained_model: Path, tmp_path: Path, delivery: str, record: Record
) -> None:
    stage = Stage(Cluster(hurt.bootstrap_servers), untrained_model, delivery, tmp_path)
    try:
        stage.set()
        stage.consumer()
        for number in range(RESTARTS):
            stage.progress((number + 0.5) / (RESTARTS + 1))
            hurt.kill()
            time.sleep(3)
            hurt.revive()
        stage.finish()
        stage.check(f"broker killed {RESTARTS} times", record)
        assert all(process.returncode == 0 for process in stage.running), stage.logs()
    finally:
        stage.close()


class Full(Hurt):
    """A Kafka whose log directory is a small file system."""

    def _properties(self) -> dict[str, object]:
        self.disk = self._folder / "small"
        self.disk.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=220m", "tmpfs", str(self.disk)], check=True)
        return {**super()._properties(), "log.dirs": self.disk / "data", "log.segment.bytes": 16_777_216}

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        subprocess.run(["umount", str(self.disk)], check=True)
        super().__exit__(None, None, None)


@long_form
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="needs the right to mount")
@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_full_disk(untrained_model: Path, tmp_path: Path, delivery: str, record: Record) -> None:
    with Full() as server:
        stage = Stage(Cluster(server.bootstrap_servers), untrained_model, delivery, tmp_path, count=1_500)
        try:
            stage.set()
            ballast = server.disk / "ballast"
            free = shutil.disk_usage(server.disk).free
            with ballast.open("wb") as file:
                file.write(bytes(max(0, free - 8_000_000)))
            stage.consumer()
            stage.until(lambda: server.ended, "the broker giving up its full disk")
            server.kill()
            ballast.unlink()
            server.revive()
            stage.finish()
            stage.check("a full log directory", record)
        finally:
            stage.close()
