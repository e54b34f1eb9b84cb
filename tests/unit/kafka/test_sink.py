"""The sink on an embedded Kafka: acknowledged, or raised."""

import threading
from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError as Fault

from broker.alert import Message, Record
from broker.errors import ConfigurationError, KafkaError, SettingsError
from broker.kafka import EmbeddedKafka, KafkaReader, KafkaSink, KafkaSource
from broker.settings import Plaintext, SinkSettings


def test_a_record_arrives_whole(
    sink: KafkaSink,
    source_of: Callable[..., KafkaSource],
    taken: Callable[[KafkaSource], list[Message]],
    topic: str,
) -> None:
    headers = (("alert-id", b"1"), ("flags", b""), ("nothing", None))
    sink.write([Record(topic, b"value", key=b"lsst:1", headers=headers, timestamp_ms=1_700_000_000_000)])
    (message,) = taken(source_of(topic, kind=KafkaReader))
    assert (message.value, message.key, message.headers) == (b"value", b"lsst:1", headers)
    assert message.timestamp_ms == 1_700_000_000_000


def test_nothing_is_written_of_nothing(sink: KafkaSink) -> None:
    sink.write([])


def test_a_full_queue_is_waited_for(
    embedded: EmbeddedKafka,
    source_of: Callable[..., KafkaSource],
    taken: Callable[[KafkaSource], list[Message]],
    topic: str,
) -> None:
    small = SinkSettings(extra={"queue.buffering.max.messages": 10})
    sink = KafkaSink(
        embedded.bootstrap_servers, Plaintext(), small, connect_seconds=10, stop=threading.Event()
    )
    sink.write([Record(topic, str(n).encode(), key=str(n).encode()) for n in range(200)])
    sink.close()
    assert len(taken(source_of(topic, kind=KafkaReader))) == 200


def test_a_record_over_the_limit_raises(sink: KafkaSink, topic: str) -> None:
    with pytest.raises(KafkaError, match=r"1 of 2 records were not written, the first to .*too large"):
        sink.write([Record(topic, bytes(11 * 1024 * 1024)), Record(topic, b"small")])


def test_a_sink_that_has_failed_writes_again(sink: KafkaSink, topic: str) -> None:
    with pytest.raises(KafkaError):
        sink.write([Record(topic, bytes(11 * 1024 * 1024))])
    sink.write([Record(topic, b"small")])


def test_a_cluster_that_goes_away_raises_in_time() -> None:
    with EmbeddedKafka() as kafka:
        settings = SinkSettings(delivery_seconds=1.0)
        stop = threading.Event()
        sink = KafkaSink(kafka.bootstrap_servers, Plaintext(), settings, connect_seconds=10, stop=stop)
        sink.write([Record("alerts", b"first")])
    with pytest.raises(KafkaError, match=r"1 of 1 records were not written, the first to alerts"):
        sink.write([Record("alerts", b"second")])


def test_a_topic_that_nobody_made_is_for_whoever_makes_topics(
    sink: KafkaSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "_fault_of", lambda _topic: Fault(Fault.UNKNOWN_TOPIC_OR_PART))
    with pytest.raises(
        SettingsError, match=r"topic a, to write to, does not exist.*\(a, b are needed\): create it"
    ):
        sink.require(["a", "b"], 0.1)


@pytest.mark.parametrize("code", [Fault._TIMED_OUT, Fault._TRANSPORT, Fault.LEADER_NOT_AVAILABLE])
def test_a_cluster_that_does_not_say_which_topics_there_are_is_not_the_operators_mistake(
    sink: KafkaSink, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(sink, "_fault_of", lambda _topic: Fault(code))
    with pytest.raises(KafkaError, match=r"did not say within 0\.1 s that topic a, to write to, is there: "):
        sink.require(["a"], 0.1)


def test_a_topic_we_may_not_write_to_is_told_at_once(
    sink: KafkaSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "_fault_of", lambda _topic: Fault(Fault.TOPIC_AUTHORIZATION_FAILED))
    with pytest.raises(ConfigurationError, match="ask for the right to this topic"):
        sink.require(["a"], 60)


def test_the_same_key_always_lands_in_the_java_clients_partition(
    sink: KafkaSink,
    source_of: Callable[..., KafkaSource],
    taken: Callable[[KafkaSource], list[Message]],
    topic: str,
) -> None:
    keys = [b"lsst:1", b"lsst:2", b"ztf:ZTF18abcdefg", b"ztf:ZTF20zzzzzzz"]
    sink.write([Record(topic, b"", key=key) for key in keys])
    partitions = {message.key: message.partition for message in taken(source_of(topic, kind=KafkaReader))}
    assert partitions == {key: (murmur2(key) & 0x7FFFFFFF) % 2 for key in keys}


def murmur2(data: bytes) -> int:
    """Slow and plain, from org.apache.kafka.common.utils.Utils."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(data)
    whole = len(data) // 4 * 4
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
