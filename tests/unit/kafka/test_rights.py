"""Rights and checks where there is nobody to ask: an embedded Kafka has none."""

import threading
import time

import pytest

from broker.errors import KafkaError
from broker.kafka import EmbeddedKafka, rights
from broker.kafka.check import findings
from broker.kafka.ends import Right, ends
from broker.kafka.transactional_ids import may_use
from broker.settings import Settings, load


def settings_of(servers: str, **more: object) -> Settings:
    return load({"topics": ["rights"], "kafka": {"bootstrap_servers": servers}, **more})


def test_a_cluster_without_rights_refuses_none_and_is_not_waited_for(embedded: EmbeddedKafka) -> None:
    began = time.monotonic()
    rights.require(settings_of(embedded.bootstrap_servers), threading.Event())
    assert time.monotonic() - began < rights.REQUEST_SECONDS


def test_a_cluster_that_is_not_there_is_named() -> None:
    settings = settings_of("127.0.0.1:1", consumer={"connect_seconds": 0.5})
    with pytest.raises(KafkaError, match=r"no Kafka broker answered at 127\.0\.0\.1:1 within 0\.5 s"):
        rights.require(settings, threading.Event())


def test_a_check_goes_through_both_clusters(embedded: EmbeddedKafka) -> None:
    embedded.create_topic("rights", 3)
    settings = settings_of(
        embedded.bootstrap_servers,
        sink={"bootstrap_servers": "127.0.0.1:1"},
        consumer={"connect_seconds": 0.5},
    )
    found = {finding.check: finding for finding in findings(settings, threading.Event())}
    assert found["topic rights"].found == "3 partitions"
    assert found["READ on topic rights"].found.startswith("not told")
    assert found["sink: 127.0.0.1:1"].remedy == "start it, or correct bootstrap_servers (host:port)"
    assert found["sink: log in"].remedy is not None


def test_every_output_and_every_input_is_asked_for() -> None:
    (both,) = ends(load({"topics": ["alerts"], "lite": True}))
    needed = [str(right) for right in both.rights(["alerts", "alerts.redrive"])]
    assert needed == [
        "READ on group nightjar",
        "READ on topic alerts",
        "READ on topic alerts.redrive",
        "WRITE on topic alerts.enriched",
        "WRITE on topic alerts.dead-letter",
        "WRITE on topic alerts.lite",
    ]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_check_shows_lite_and_redrive(embedded: EmbeddedKafka, *, is_there: bool) -> None:
    topic = f"check-{is_there}"
    for name in [topic, *(f"{topic}.{end}" for end in ("lite", "redrive") if is_there)]:
        embedded.create_topic(name, 1)
    settings = load(
        {"topics": [topic], "lite": True, "kafka": {"bootstrap_servers": embedded.bootstrap_servers}}
    )
    found = {finding.check: finding for finding in findings(settings, threading.Event())}
    lite, redriven = found[f"topic {topic}.lite"], found[f"topic {topic}.redrive"]
    assert f"WRITE on topic {topic}.lite" in found
    assert (lite.remedy, redriven.remedy) == (None, None)
    if is_there:
        assert (lite.found, redriven.found) == ("1 partition", "1 partition")
    else:
        assert lite.found.startswith("not there yet: an embedded Kafka makes it")
        assert redriven.found.endswith("only broker-redrive asks for it")


def test_what_is_needed_where() -> None:
    pattern = {"topics": None, "topic_pattern": "ztf_.*", "output_prefix": "out"}
    (both,) = ends(load(pattern))
    assert both.rights(["ztf_1", "ztf_1.enriched", "other"]) == [
        Right("READ", "group", "nightjar"),
        Right("READ", "topic", "ztf_1"),
        Right("WRITE", "topic", "out.enriched"),
        Right("WRITE", "topic", "out.dead-letter"),
    ]
    source, sink = ends(load({**pattern, "sink": {"bootstrap_servers": "ours:1"}}))
    assert [right.operation for right in source.rights([])] == ["READ"]
    assert [right.operation for right in sink.rights(["ztf_1"])] == ["WRITE", "WRITE"]


@pytest.mark.parametrize(("stated", "name"), [(None, "nightjar-*"), ("night-1", "night-1")])
def test_transactions_need_a_right_where_results_are_written(stated: str | None, name: str) -> None:
    settings = {
        "topics": ["t"],
        "consumer": {"delivery": "exactly-once"},
        "sink": {"transactional_id": stated},
    }
    (both,) = ends(load(settings))
    assert both.rights([])[-1] == Right("WRITE", "transactional id", name)
    settings["sink"] = {**settings["sink"], "bootstrap_servers": "ours:1"}
    source, sink = ends(load(settings))
    assert source.transactional_id is None
    assert sink.transactional_id == name


def test_a_cluster_that_takes_any_length_grants_the_id(embedded: EmbeddedKafka) -> None:
    assert may_use({"bootstrap.servers": embedded.bootstrap_servers}, "anything", 10) is True


def test_a_cluster_that_does_not_answer_does_not_tell() -> None:
    assert may_use({"bootstrap.servers": "127.0.0.1:1"}, "anything", 0.5) is None
