"""Which letters get another try, and what is published of them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from broker.alert import Message
from broker.errors import Reason, SettingsError
from broker.letters import Position
from broker.redrive import Choice, Fate, Judge, Ledger, checked_reasons, record_of, redrive_topic

from .conftest import REJECTED_AT

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("choice", "is_meant"),
    [
        (Choice(), True),
        (Choice(reasons=frozenset({"datum_invalid", "schema_unknown"})), True),
        (Choice(reasons=frozenset({"datum_invalid"})), False),
        (Choice(versions=frozenset({"0.1.0"})), True),
        (Choice(versions=frozenset({"0.2.0"})), False),
        (Choice(since=REJECTED_AT), True),
        (Choice(since=REJECTED_AT + SECOND), False),
        (Choice(until=REJECTED_AT), False),
        (Choice(until=REJECTED_AT + SECOND), True),
    ],
)
def test_letters_are_chosen_by_reason_version_and_time(letter, choice: Choice, *, is_meant: bool) -> None:
    assert choice(letter) is is_meant


def test_what_is_published_is_the_message_as_it_came_and_where_it_first_stood(letter, message) -> None:
    record = record_of(letter, "alerts.redrive")
    assert (record.topic, record.value, record.key) == ("alerts.redrive", message.value, message.key)
    assert record.timestamp_ms == message.timestamp_ms
    assert record.headers == (
        *message.headers,
        ("redrive-count", b"1"),
        ("source-topic", b"alerts"),
        ("source-partition", b"3"),
        ("source-offset", b"41"),
        ("source-timestamp", b"1600000000123"),
    )


@pytest.mark.parametrize("time", [None, 0, -5])
def test_a_time_that_kafka_takes_from_nobody_is_left_to_it(letter, time: int | None) -> None:
    moved = replace(letter, position=letter.position._replace(timestamp_ms=time))
    assert record_of(moved, "alerts.redrive").timestamp_ms is None


class TestJudge:
    """A letter is tried once, and a message so often as the limit says."""

    def judge(self, most: int = 3, **options) -> Judge:
        return Judge(Ledger(), most, **options)

    def test_a_letter_that_was_read_twice_is_chosen_once(self, letter) -> None:
        judge = self.judge()
        assert [judge(letter), judge(replace(letter, offset=7))] == [Fate.CHOSEN, Fate.TRIED]

    def test_what_the_redrive_topic_has_is_tried_before(self, letter) -> None:
        judge, record = self.judge(), record_of(letter, "alerts.redrive")
        judge.ledger.note_redriven(Message(record.value, record.topic, 0, 5, None, record.headers))
        assert judge(letter) is Fate.TRIED
        assert judge(replace(letter, count=1)) is Fate.CHOSEN

    @pytest.mark.parametrize(
        "changed", [{"topic": "other"}, {"partition": 4}, {"offset": 42}, {"timestamp_ms": 1}]
    )
    def test_another_message_is_another_matter(self, letter, changed) -> None:
        judge = self.judge()
        judge.ledger.note(letter.position._replace(**changed), 1)
        assert judge(letter) is Fate.CHOSEN

    @pytest.mark.parametrize("headers", [(), (("source-topic", b"alerts"), ("source-partition", b"x"))])
    def test_a_foreign_message_on_the_redrive_topic_tells_nothing(self, letter, headers) -> None:
        judge = self.judge()
        judge.ledger.note_redriven(Message(b"", "alerts.redrive", 0, 0, None, headers))
        assert judge(letter) is Fate.CHOSEN

    @pytest.mark.parametrize(("count", "fate"), [(1, Fate.CHOSEN), (2, Fate.AT_LIMIT), (3, Fate.AT_LIMIT)])
    def test_the_limit_stops_a_loop(self, letter, count: int, fate: Fate) -> None:
        assert self.judge(2)(replace(letter, count=count)) is fate

    def test_a_tombstone_is_tried_only_when_asked(self, letter) -> None:
        tombstone = replace(letter, value=None)
        assert self.judge()(tombstone) is Fate.TOMBSTONE
        assert self.judge(tombstones=True)(tombstone) is Fate.CHOSEN
        assert record_of(tombstone, "alerts.redrive").value is None

    def test_bytes_that_are_not_there_cannot_be_tried_and_are_no_tombstone(self, letter) -> None:
        assert self.judge(tombstones=True)(replace(letter, value=None, is_left_out=True)) is Fate.LEFT_OUT

    def test_the_limit_of_a_run_leaves_the_others_for_later(self, letter) -> None:
        judge = self.judge(limit=1)
        other = replace(letter, position=Position("alerts", 0, 1, None))
        assert [judge(letter), judge(other), judge(letter)] == [Fate.CHOSEN, Fate.LATER, Fate.TRIED]


def test_the_topic_of_redrives_has_the_prefix_of_the_letters() -> None:
    assert redrive_topic("nightjar.lsst.dead-letter") == "nightjar.lsst.redrive"


@pytest.mark.parametrize("topic", ["alerts", "alerts.enriched", ".dead-letter", "alerts.dead-letter.x"])
def test_a_topic_that_holds_no_letters_is_refused(topic: str) -> None:
    with pytest.raises(SettingsError, match=r"give --topic PREFIX\.dead-letter"):
        redrive_topic(topic)


def test_every_reason_of_the_broker_can_be_chosen() -> None:
    assert checked_reasons(reason.value for reason in Reason) == set(Reason)


def test_a_reason_that_is_none_is_refused_with_what_may_be_meant() -> None:
    with pytest.raises(SettingsError, match=r"datum_invald is no reason: did you mean datum_invalid\? There"):
        checked_reasons(["schema_unknown", "datum_invald"])
