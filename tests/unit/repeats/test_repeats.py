"""Outputs that come again, told from those that only look alike."""

import pytest

from broker.repeats import Repeats, identity

ALERT = {
    "survey": "lsst",
    "alert-id": "7",
    "model": "default-1-00ff",
    "source-topic": "alerts",
    "source-partition": "0",
    "source-offset": "41",
    "source-timestamp": "17",
}
LETTER = {
    "reason": "schema_unknown",
    **{name: value for name, value in ALERT.items() if name.startswith("source-")},
}
TOPIC = "alerts.enriched"


@pytest.mark.parametrize(
    ("first", "second", "again"),
    [
        (ALERT, ALERT, True),
        (
            ALERT,
            {**ALERT, "anomaly": "0.5001", "flags": "model_failed"},
            True,
        ),  # another run, another last bit
        (ALERT, {**ALERT, "redrive-count": "1"}, True),  # redriven: the first position stands
        (ALERT, {**ALERT, "source-offset": "42"}, False),  # sent twice by its producer
        (ALERT, {**ALERT, "source-partition": "1"}, False),
        (ALERT, {**ALERT, "source-topic": "more"}, False),
        (ALERT, {**ALERT, "source-timestamp": "18"}, False),  # of a topic made anew
        (ALERT, {**ALERT, "survey": "ztf"}, False),
        (ALERT, {**ALERT, "alert-id": "8"}, False),
        (ALERT, {**ALERT, "model": "default-2-00ff"}, False),
        (LETTER, LETTER, True),
        (LETTER, {**LETTER, "redrive-count": "1"}, False),  # tried again, and failed again
        (LETTER, {**LETTER, "reason": "message_too_large"}, False),
        (ALERT, LETTER, False),
    ],
)
def test_what_is_a_repeat(first: dict[str, str], second: dict[str, str], *, again: bool) -> None:
    repeats = Repeats()
    assert not repeats(TOPIC, first)
    assert repeats(TOPIC, second) is again
    assert repeats.count == again


def test_whole_and_lite_of_one_alert_are_two() -> None:
    repeats = Repeats()
    assert not repeats(TOPIC, ALERT)
    assert not repeats("alerts.lite", ALERT)


@pytest.mark.parametrize("missing", ["survey", "source-topic", "source-offset"])
def test_what_does_not_say_what_or_where_it_is_is_never_a_repeat(missing: str) -> None:
    headers = {name: value for name, value in ALERT.items() if name != missing}
    repeats = Repeats()
    assert not any(repeats(TOPIC, headers) for _ in range(2))


def test_no_header_runs_into_the_next() -> None:
    one, two = {**ALERT, "survey": "a", "alert-id": "bc"}, {**ALERT, "survey": "ab", "alert-id": "c"}
    assert identity(TOPIC, one) != identity(TOPIC, two)


def numbered(n: int) -> dict[str, str]:
    return {**ALERT, "source-offset": str(n)}


def test_memory_is_bounded_and_holds_the_last_half() -> None:
    repeats = Repeats(remembered=100)
    for n in range(1000):
        assert not repeats(TOPIC, numbered(n))
        assert len(repeats._young) + len(repeats._old) <= 100
        if n >= 49:
            assert identity(TOPIC, numbered(n - 49)) in repeats._young | repeats._old
    assert not repeats(TOPIC, numbered(0)), "seen too long ago"


def test_what_comes_again_is_remembered_anew() -> None:
    repeats = Repeats(remembered=20)
    for n in range(1, 200):
        assert repeats(TOPIC, numbered(0)) is (n > 1)
        repeats(TOPIC, numbered(n))
