"""Two protocols of a group, each with its own settings, which refuse each other's."""

import pytest

from broker.errors import SettingsError
from broker.settings import Classic, Kip848, Settings, load


def loaded(**kafka: object) -> Settings:
    return load({"topics": ["alerts"], "kafka": kafka})


def test_classic_is_cooperative_and_needs_no_word() -> None:
    membership = loaded(membership={"session_seconds": 6, "heartbeat_seconds": 1}).kafka.membership
    assert isinstance(membership, Classic)
    assert membership.properties()["partition.assignment.strategy"] == "cooperative-sticky"
    assert membership.properties()["session.timeout.ms"] == 6000


def test_the_new_protocol_says_nothing_that_librdkafka_refuses_beside_it() -> None:
    membership = loaded(
        membership={"protocol": "consumer", "instance_id": "a", "assignor": "range"}
    ).kafka.membership
    assert isinstance(membership, Kip848)
    assert membership.properties() == {
        "group.protocol": "consumer",
        "group.instance.id": "a",
        "group.remote.assignor": "range",
    }


@pytest.mark.parametrize(
    "membership",
    [
        {"protocol": "consumer", "session_seconds": 6},
        {"protocol": "consumer", "heartbeat_seconds": 1},
        {"protocol": "classic", "assignor": "range"},
        {"session_seconds": 2, "heartbeat_seconds": 1},
    ],
)
def test_each_refuses_the_others(membership: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=r"kafka\.membership"):
        loaded(membership=membership)


@pytest.mark.parametrize(
    "name", ["group.protocol", "session.timeout.ms", "group.remote.assignor", "partition.assignment.strategy"]
)
def test_neither_may_stand_among_the_properties(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is set by the broker itself"):
        loaded(extra={name: "x"})


def test_a_transactional_id_needs_transactions() -> None:
    with pytest.raises(SettingsError, match="transactional_id without exactly-once delivery"):
        load({"topics": ["alerts"], "sink": {"transactional_id": "one"}})
