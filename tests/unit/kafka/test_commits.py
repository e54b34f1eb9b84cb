"""Commits hold nothing up, are made again where they were not taken, and never for what went to others."""

import threading
from collections.abc import Sequence

import pytest
from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException, TopicPartition

from broker.errors import KafkaError
from broker.kafka import commits as subject
from broker.kafka.commits import Commits

MOVED = Fault(Fault.NOT_COORDINATOR, "the coordinator moved")


class Cluster:
    """Takes commits, and answers when told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[dict[tuple[str, int], int]] = []
        self.answer: Fault | None = None
        self.silent = threading.Event()
        self.silent.set()
        self.commits = Commits(self.commit, clock=lambda: self.now)

    def commit(self, offsets: Sequence[TopicPartition], *, asynchronous: bool) -> list[TopicPartition] | None:
        self.asked.append({(one.topic, one.partition): one.offset for one in offsets})
        if asynchronous:
            return None
        self.silent.wait()
        if self.answer is not None:
            raise KafkaException(self.answer)
        return list(offsets)

    def reply(self, fault: Fault | None = None) -> None:
        """Say what became of the commit asked for last."""
        self.commits.heard(fault, [TopicPartition(*place, at) for place, at in self.asked[-1].items()])


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_one_is_on_its_way_at_a_time_and_the_next_carries_what_came_meanwhile(cluster: Cluster) -> None:
    for offset in (1, 2, 3):
        cluster.commits.add({("a", 0): offset})
        cluster.commits.send()
    assert cluster.asked == [{("a", 0): 1}]
    cluster.reply()
    cluster.commits.send()
    assert cluster.asked[1:] == [{("a", 0): 3}]
    cluster.reply()
    cluster.commits.send()
    assert len(cluster.asked) == 2


def test_one_that_failed_for_the_moment_is_made_again_though_no_alert_comes(cluster: Cluster) -> None:
    cluster.commits.add({("a", 0): 7})
    cluster.commits.send()
    cluster.reply(MOVED)
    cluster.commits.send()
    assert len(cluster.asked) == 1, "not at once"
    cluster.now += 1
    cluster.commits.send()
    assert cluster.asked == [{("a", 0): 7}] * 2


def test_one_that_fails_for_long_is_told_once_in_a_while(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.commits.add({("a", 0): 7})
    for _ in range(25):
        cluster.now += 1
        cluster.commits.send()
        cluster.reply(MOVED)
    assert len(caplog.records) == 3


def test_how_long_an_answer_is_awaited_is_known(cluster: Cluster) -> None:
    cluster.commits.add({("a", 0): 7})
    cluster.commits.send()
    cluster.now += 20
    assert cluster.commits.unanswered_seconds == 20
    cluster.reply()
    assert cluster.commits.unanswered_seconds == 0


def test_a_refusal_that_does_not_pass_is_raised_with_the_next(cluster: Cluster) -> None:
    cluster.commits.add({("a", 0): 7})
    cluster.commits.send()
    cluster.reply(Fault(Fault.OFFSET_METADATA_TOO_LARGE, "no"))
    with pytest.raises(KafkaError, match="committing offsets: no"):
        cluster.commits.send()


def test_what_is_given_up_is_committed_first_and_then_no_more(cluster: Cluster) -> None:
    cluster.commits.add({("a", 0): 1, ("a", 1): 2})
    cluster.commits.finish([("a", 1)])
    cluster.commits.send()
    assert cluster.asked == [{("a", 1): 2}, {("a", 0): 1}]


def test_no_answer_to_the_last_commit_is_not_waited_for_long(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(subject, "LAST_SECONDS", 0.1)
    cluster.silent.clear()
    cluster.commits.add({("a", 0): 1})
    cluster.commits.finish_all()
    cluster.silent.set()
    assert "may come again" in caplog.text


def test_a_handle_that_is_being_closed_raises_nothing(cluster: Cluster) -> None:
    cluster.answer = Fault(Fault._DESTROY, "terminating")
    cluster.commits.add({("a", 0): 1})
    cluster.commits.finish_all()
    assert len(cluster.asked) == 1
