"""Sizing: what the model says of cases that can be worked out by hand."""

import pytest
from typer.testing import CliRunner

from broker.cli import plan
from broker.errors import SettingsError
from broker.sizing import Capacity, Stream, age, needed, size

RUBIN = Stream(10_000, 37.0, 5.0, 114_000.0)
ONE = Capacity(rate=400.0, latency_seconds=1.0, memory_mib=400.0)


def test_the_last_alert_of_a_visit_waits_for_all_before_it() -> None:
    assert age(RUBIN, 1000.0, 0.5, 1.0) == pytest.approx(0.5 + 10.0 - 5.0)
    assert age(RUBIN, 1000.0, 0.5, 0.5) == pytest.approx(0.5 + 2.5)
    assert age(RUBIN, 5000.0, 0.5, 1.0) == 0.5, "drained as it comes"


def test_the_fewest_consumers_that_keep_the_age() -> None:
    assert needed(RUBIN, ONE, target_seconds=20.0, headroom=0.0) == 2
    found = size(RUBIN, ONE, 2, retention_days=7.0)
    assert found.age_p99_seconds <= 20.0
    assert age(RUBIN, 400.0, 1.0, 0.99) > 20.0, "one would not"
    assert found.drained_seconds == pytest.approx(12.5)
    assert found.age_p50_seconds == pytest.approx(1.0 + (12.5 - 5.0) / 2)


def test_backlog_is_gone_before_the_next_visit_with_room_to_spare() -> None:
    assert needed(RUBIN, ONE, target_seconds=1000.0, headroom=0.5) == 2
    assert size(RUBIN, ONE, 2, retention_days=7.0).load <= 0.5 < size(RUBIN, ONE, 1, retention_days=7.0).load


def test_surveys_at_once_are_one_larger_visit() -> None:
    three, large = Stream(10_000, 37.0, 5.0, 114_000.0, surveys=3), Stream(30_000, 37.0, 5.0, 114_000.0)
    count = needed(three, ONE, 20.0, 0.3)
    assert count == needed(large, ONE, 20.0, 0.3) > 2
    assert size(three, ONE, count, 7.0) == size(large, ONE, count, 7.0)
    assert size(three, ONE, count, 7.0).partitions >= count


def test_bytes_of_a_week_of_nights() -> None:
    found = size(RUBIN, ONE, 2, retention_days=7.0)
    assert found.megabytes_in == pytest.approx(10_000 * 0.114 / 37)
    assert found.disk_gigabytes == pytest.approx(found.megabytes_out * 7 * 10 * 3600 / 1000)


def test_what_no_number_of_consumers_keeps_is_said() -> None:
    with pytest.raises(SettingsError, match="no number of consumers keeps it"):
        needed(RUBIN, ONE, target_seconds=0.5, headroom=0.3)


def test_too_few_consumers_are_said_to_be() -> None:
    result = CliRunner().invoke(plan.app, ["--consumers", "1"])
    assert result.exit_code == 0
    assert "too few: 20 s for 99 % and 30% spare need 2 consumers" in result.stdout
    enough = CliRunner().invoke(plan.app, ["--consumers", "2"])
    assert enough.exit_code == 0
    assert "too few" not in enough.stdout
    hopeless = CliRunner().invoke(plan.app, ["--consumers", "2", "--target-age", "0.5"])
    assert hopeless.exit_code == 0
    assert "no number of consumers keeps it" in hopeless.stdout


def test_a_backlog_that_grows_has_no_age() -> None:
    found = size(RUBIN, Capacity(100.0, 1.0, 400.0), 1, retention_days=7.0)
    assert found.age_p50_seconds == found.age_max_seconds == found.drained_seconds == float("inf")
    assert found.backlog_alerts == pytest.approx((10_000 / 37 - 100) * 36_000)
    assert found.backlog_seconds == pytest.approx(found.backlog_alerts / 100)
    said = CliRunner().invoke(plan.app, ["--consumers", "1", "--rate", "100"]).stdout
    assert said.count("grows from visit to visit") == 3
    assert "6,129,730 alerts, and more after each night: never gone" in said
    near = CliRunner().invoke(plan.app, ["--consumers", "1", "--rate", "250"]).stdout
    assert "729,730 alerts, gone 0.8 h later" in near


def test_a_part_of_a_day_may_hold_a_whole_night() -> None:
    part, whole = (size(RUBIN, ONE, 2, retention_days=days).disk_gigabytes for days in (0.5, 1.0))
    assert part == whole
    assert size(RUBIN, ONE, 2, retention_days=0.25).disk_gigabytes == pytest.approx(0.6 * whole)


def test_the_program_prints_what_it_needs_and_assumes() -> None:
    result = CliRunner().invoke(
        plan.app, ["--alerts-per-visit", "100000", "--rate", "900", "--target-age", "60"]
    )
    assert result.exit_code == 0
    rows = {line[:60].strip().rsplit("  ", 1)[0].strip(): line for line in result.stdout.splitlines()}
    assert rows["consumers"].split()[-1] == "5"
    assert "assumed:" in result.stdout
    assert "each consumer does 900 alerts/s" in result.stdout
    refused = CliRunner().invoke(plan.app, ["--target-age", "0.5"])
    assert refused.exit_code == 2
