"""What the topics of a prefix should be, and what is made of those that are otherwise."""

from dataclasses import replace

import pytest

from broker.kafka.topic_plan import TopicPlan, TopicState, differences, plan
from broker.topics import OWN_SUFFIXES

DAY = 86_400_000
SOURCE = TopicState("alerts", 45, 3)


def planned(suffix: str, **changed) -> TopicPlan:
    asked = {"source": SOURCE, "brokers": 1, "partitions": None, "replication": None, **changed}
    (found,) = [each for each in plan("alerts", **asked) if each.name == f"alerts{suffix}"]
    return found


def as_planned(wanted: TopicPlan, **settings: str) -> TopicState:
    """Give a topic as it is planned, but for some settings."""
    named = {name.replace("_", "."): value for name, value in settings.items()}
    return TopicState(wanted.name, wanted.partitions, wanted.replication, {**wanted.settings, **named})


def test_every_topic_of_our_own_is_planned() -> None:
    names = {each.name for each in plan("alerts", SOURCE, 1, None, None)}
    assert names == {f"alerts{suffix}" for suffix in OWN_SUFFIXES}


@pytest.mark.parametrize(
    ("suffix", "partitions", "days"),
    [(".enriched", 45, 7), (".lite", 45, 14), (".dead-letter", 1, 90), (".redrive", 1, 90)],
)
def test_each_topic_has_what_fits_it(suffix: str, partitions: int, days: int) -> None:
    wanted = planned(suffix)
    assert (wanted.partitions, wanted.settings["retention.ms"]) == (partitions, str(days * DAY))
    assert wanted.settings["max.message.bytes"] == "10485760"
    assert wanted.settings["cleanup.policy"] == "delete"
    assert wanted.settings["compression.type"] == "producer"


def test_old_messages_are_not_past_their_retention_when_they_are_redriven() -> None:
    assert planned(".redrive").settings["message.timestamp.type"] == "LogAppendTime"
    assert "message.timestamp.type" not in planned(".enriched").settings


@pytest.mark.parametrize(
    ("given", "partitions"),
    [({"partitions": 8}, 8), ({"source": None}, None), ({"source": None, "partitions": 2}, 2)],
)
def test_partitions_are_the_source_s_unless_they_are_said(given, partitions: int | None) -> None:
    assert planned(".lite", **given).partitions == partitions
    assert planned(".dead-letter", **given).partitions == 1


@pytest.mark.parametrize(
    ("brokers", "asked", "copies", "in_sync"),
    [
        (1, None, 1, None),
        (2, None, 2, None),
        (3, None, 3, "2"),
        (9, None, 3, "2"),
        (9, 5, 5, "2"),
        (9, 2, 2, None),
    ],
)
def test_copies_are_three_where_there_are_brokers_and_then_two_must_have_a_record(
    brokers: int, asked: int | None, copies: int, in_sync: str | None
) -> None:
    wanted = planned(".enriched", brokers=brokers, replication=asked)
    assert (wanted.replication, wanted.settings.get("min.insync.replicas")) == (copies, in_sync)


def test_a_topic_as_planned_differs_in_nothing() -> None:
    for each in plan("alerts", SOURCE, 3, None, None):
        assert list(differences(each, as_planned(each))) == []


@pytest.mark.parametrize("better", [{"retention_ms": "-1"}, {"retention_ms": str(900 * DAY)}])
def test_more_is_as_good(better) -> None:
    wanted = planned(".enriched", brokers=3)
    more = {"max_message_bytes": "20971520", "min_insync_replicas": "3", **better}
    assert list(differences(wanted, replace(as_planned(wanted, **more), partitions=99, replication=4))) == []


@pytest.mark.parametrize(
    ("suffix", "settings", "is_unfit"),
    [
        (".enriched", {"max_message_bytes": "1048588"}, True),
        (".enriched", {"cleanup_policy": "compact"}, True),
        (".enriched", {"cleanup_policy": "compact,delete"}, True),
        (".enriched", {"compression_type": "gzip"}, False),
        (".enriched", {"retention_ms": str(6 * DAY)}, False),
        (".enriched", {"retention_ms": "?"}, False),
        (".redrive", {"message_timestamp_type": "CreateTime"}, True),
        (".redrive", {"message_timestamp_type": "CreateTime", "retention_ms": "-1"}, False),
    ],
)
def test_what_differs_is_said_and_whether_records_are_lost(suffix: str, settings, *, is_unfit: bool) -> None:
    wanted = planned(suffix)
    (found,) = differences(wanted, as_planned(wanted, **settings))
    name, value = next(iter(settings.items()))
    assert (found.what, found.found) == (name.replace("_", "."), value)
    assert found.wanted == wanted.settings[found.what]
    assert found.is_unfit is is_unfit


def test_other_partitions_and_fewer_copies_are_said_and_do_no_harm() -> None:
    wanted = planned(".enriched", brokers=3)
    found = list(differences(wanted, TopicState(wanted.name, 4, 1, wanted.settings)))
    assert [(each.what, each.found, each.wanted, each.is_unfit) for each in found] == [
        ("partitions", "4", "45", False),
        ("replication", "1", "3", False),
    ]
