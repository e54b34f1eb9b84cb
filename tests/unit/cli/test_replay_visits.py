"""Alerts in visits, as a camera makes them."""

import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from broker.alert import Record
from broker.cadence import Cadence, Steady, Visits
from broker.cli import replay
from broker.cli.replay import AHEAD_SECONDS, Replay
from broker.errors import SettingsError
from broker.kafka import EmbeddedKafka
from broker.testing.memory import MemorySink
from broker.testing.packets import lsst_packet


def published_at(cadence: Cadence | None, count: int) -> list[float]:
    """Seconds since the first, as each record says itself."""
    sink = MemorySink()
    Replay(sink, "alerts", Console(quiet=True), cadence).publish(iter([b"packet"] * count), threading.Event())
    times = [int(dict(record.headers)["producer_timestamp"] or 0) / 1000 for record in sink.records]
    return [at - times[0] for at in times]


def test_a_visit_is_over_long_before_the_next() -> None:
    times = published_at(Visits(size=50, period_seconds=1.0, burst_seconds=0.2, speed=2.0), 150)
    assert len(times) == 150
    assert [n + 1 for n, (one, other) in enumerate(pairwise(times)) if other - one > 0.2] == [50, 100]
    assert times[100] >= 1.0 - AHEAD_SECONDS - 0.01


def test_a_rate_is_kept_and_never_exceeded() -> None:
    times = published_at(Steady(200.0), 100)
    assert all(at >= n / 200 - AHEAD_SECONDS - 0.01 for n, at in enumerate(times))


def test_without_either_nothing_waits() -> None:
    assert published_at(None, 250)[-1] < 5.0


@pytest.mark.parametrize(
    ("number", "due"), [(0, 0.0), (5000, 1.25), (9999, 2.49975), (10_000, 18.5), (25_000, 38.25)]
)
def test_when_an_alert_of_a_rubin_night_is_due(number: int, due: float) -> None:
    assert Visits(10_000, 37.0, 5.0, speed=2.0).due(number) == pytest.approx(due)


def test_a_burst_ends_before_the_next_visit() -> None:
    with pytest.raises(SettingsError, match="must end before the next begins"):
        Visits(10, 2.0, 3.0)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--visits", "2"], "--visits is of visits, whose size is not said: give --visit-size too"),
        (["--burst", "2"], "--burst is of visits"),
        (["--visit-period", "2", "--rate", "3"], "--visit-period is of visits"),
        (["--speed", "2"], "--speed is of visits"),
        (["--visit-size", "2", "--rate", "3"], "give one of them"),
        (["--visit-size", "2", "--burst", "40"], "must end before the next begins"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, arguments: list[str], why: str) -> None:
    result = CliRunner().invoke(replay.app, [str(tmp_path), "--topic", "alerts", *arguments])
    assert result.exit_code == 2
    assert why in " ".join(result.stderr.split())


def test_few_packets_make_as_many_visits_as_are_asked_for(tmp_path: Path) -> None:
    for n in range(3):
        (tmp_path / f"{n}.avro").write_bytes(lsst_packet(alert_id=n))
    with EmbeddedKafka() as kafka:
        call = [str(tmp_path), "--topic", "alerts", "--bootstrap-servers", kafka.bootstrap_servers]
        visits = ["--visit-size", "4", "--visit-period", "0.3", "--visits", "2"]
        result = CliRunner().invoke(replay.app, [*call, *visits])
        limited = CliRunner().invoke(replay.app, [*call, *visits, "--limit", "5"])
    assert (result.exit_code, result.stdout) == (0, "published 8 alerts of 3 files on alerts\n")
    assert limited.stdout == "published 5 alerts of 3 files on alerts\n"


def test_how_far_a_replay_is_behind_is_noted() -> None:
    class Slow(MemorySink):
        def write(self, records: list[Record]) -> None:  # type: ignore[override]
            time.sleep(0.2)
            super().write(records)

    run = Replay(Slow(), "alerts", Console(quiet=True), Visits(size=100, period_seconds=0.05))
    run.publish(iter([b"packet"] * 400), threading.Event())
    assert run.late_seconds > 0.2


@pytest.mark.parametrize(("count", "told"), [(3, False), (60, True)])
def test_more_than_an_embedded_kafka_keeps_is_told(tmp_path: Path, count: int, told: bool) -> None:
    size = (tmp_path / "one.avro").write_bytes(lsst_packet())
    assert (count * size > 5e6) is told
    with EmbeddedKafka() as kafka:
        call = [str(tmp_path), "--topic", "alerts", "--bootstrap-servers", kafka.bootstrap_servers]
        result = CliRunner().invoke(replay.app, [*call, "--visit-size", str(count), "--visits", "1"])
    assert result.exit_code == 0
    assert ("what nobody had read by then may be gone" in result.stderr) is told
