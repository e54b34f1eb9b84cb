"""What Kafka answers once in a while: the mock cluster is told to, by librdkafka's own functions."""

import ctypes
import threading
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError as Fault
from confluent_kafka import cimpl

from broker.alert import Message, Record
from broker.errors import ConfigurationError
from broker.kafka import EmbeddedKafka, KafkaSink, KafkaSource, KafkaTransactions
from broker.kafka import offsets as offsets_module
from broker.settings import ConsumerSettings, Plaintext, SinkSettings, SourceSettings, Topics

OFFSET_COMMIT, OFFSET_FETCH, INIT_PRODUCER_ID = 8, 9, 22
"""Kinds of requests, by Kafka's protocol."""


@pytest.fixture
def kafka() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as kafka:
        kafka.create_topic("alerts", 1)
        yield kafka


def answer(kafka: EmbeddedKafka, kind: int, code: int, times: int) -> None:
    """Have the next requests of a kind refused."""
    push = kafka._library.rd_kafka_mock_push_request_errors_array
    push.argtypes = [ctypes.c_void_p, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)]
    push.restype = None
    push(kafka._cluster, kind, times, (ctypes.c_int * times)(*[code] * times))


def source_of(kafka: EmbeddedKafka, **limits: object) -> KafkaSource:
    settings = ConsumerSettings.model_validate(limits)
    return KafkaSource(
        SourceSettings(bootstrap_servers=kafka.bootstrap_servers),
        settings,
        Topics(("alerts",)),
        threading.Event(),
    )


def taken(source: KafkaSource) -> list[Message]:
    batch: list[Message] = []
    for _ in range(100):
        if batch:
            break
        batch = source.poll(10, 0.2)
    return batch


def write(kafka: EmbeddedKafka, *values: bytes) -> None:
    sink = KafkaSink(
        kafka.bootstrap_servers, Plaintext(), SinkSettings(), connect_seconds=10, stop=threading.Event()
    )
    sink.write([Record("alerts", value) for value in values])
    sink.close()


class Group:
    """A group that has all that is asked for."""

    def holds(self, _message: Message) -> bool:
        return True

    def offsets(self, _batch: object) -> list[object]:
        return []

    def settled(self, _batch: object) -> None:
        return None

    def stands_after(self, _batch: object) -> bool:
        return False

    def membership(self) -> None:
        return None


def fails(_why: str) -> None:
    raise AssertionError("nothing is waited for: no new producer would be better off")


@pytest.mark.parametrize("seconds", [0.0, 1.5], ids=["at once", "after it was refused"])
def test_a_producer_without_the_right_to_be_idempotent_ends_with_the_remedy(
    kafka: EmbeddedKafka, seconds: float
) -> None:
    answer(kafka, INIT_PRODUCER_ID, Fault.CLUSTER_AUTHORIZATION_FAILED, 100)

    def begin_and_write() -> None:  # which of the two hears of it depends on when it comes
        sink = KafkaSink(
            *(kafka.bootstrap_servers, Plaintext(), SinkSettings()),
            connect_seconds=10,
            stop=threading.Event(),
            on_wait=lambda _why: None,
        )
        time.sleep(seconds)
        sink.write([Record("alerts", b"x")])

    with pytest.raises(ConfigurationError, match="ask for the right to write with an idempotent producer"):
        begin_and_write()


def test_a_cluster_that_allows_only_short_transactions_ends_with_the_remedy(kafka: EmbeddedKafka) -> None:
    answer(kafka, INIT_PRODUCER_ID, Fault.INVALID_TRANSACTION_TIMEOUT, 100)
    sink = KafkaTransactions(
        *(kafka.bootstrap_servers, Plaintext(), SinkSettings()),
        connect_seconds=10,
        stop=threading.Event(),
        on_wait=fails,
        group=Group(),
    )
    with pytest.raises(ConfigurationError, match=r"raise transaction\.max\.timeout\.ms of the cluster"):
        sink.transact([Record("alerts", b"x")], [Message(b"x", "alerts", 0, 0)])


def test_the_last_commit_that_is_refused_is_told(
    kafka: EmbeddedKafka, caplog: pytest.LogCaptureFixture
) -> None:
    write(kafka, b"one")
    source = source_of(kafka)
    batch = taken(source)
    answer(kafka, OFFSET_COMMIT, Fault.GROUP_AUTHORIZATION_FAILED, 50)
    source.commit(batch)
    with pytest.raises(ConfigurationError, match="ask for the right to this group"):
        source.close()
    assert "commit refused" in caplog.text


def test_where_to_begin_is_asked_until_the_coordinator_answers(
    kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(offsets_module, "REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(offsets_module, "PAUSE_SECONDS", 0.1)
    source = source_of(kafka, start="latest")
    answer(kafka, OFFSET_FETCH, Fault.UNSTABLE_OFFSET_COMMIT, 8)
    for _ in range(200):
        source.poll(10, 0.1)
        if source.assigned:
            break
    assert source.assigned == 1
    assert "asking again" in caplog.text
    write(kafka, b"new")
    assert [message.value for message in taken(source)] == [b"new"]
    source.close()


def test_what_comes_while_a_time_is_looked_up_is_read(
    kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(kafka, b"old")
    asked = offsets_module.watermarks

    def slowly(*arguments: object) -> tuple[int, int]:
        found = asked(*arguments)  # type: ignore[arg-type]
        write(kafka, b"meanwhile")
        return found

    monkeypatch.setattr(offsets_module, "watermarks", slowly)
    source = source_of(kafka, start="2999-01-01T00:00:00Z")
    assert [message.value for message in taken(source)] == [b"meanwhile"]
    source.close()


def publish_with_a_name(kafka: EmbeddedKafka, name: bytes) -> None:
    """Publish as a client in another language may: the name of a header is any bytes."""
    library, pointer = ctypes.CDLL(cimpl.__file__), ctypes.c_void_p
    library.rd_kafka_conf_new.restype = library.rd_kafka_headers_new.restype = (
        library.rd_kafka_new.restype
    ) = pointer
    said = ctypes.create_string_buffer(256)
    settings = pointer(library.rd_kafka_conf_new())
    servers = kafka.bootstrap_servers.encode()
    library.rd_kafka_conf_set(settings, b"bootstrap.servers", servers, said, ctypes.c_size_t(256))
    producer = pointer(library.rd_kafka_new(0, settings, said, ctypes.c_size_t(256)))
    headers = pointer(library.rd_kafka_headers_new(ctypes.c_size_t(1)))
    library.rd_kafka_header_add(headers, name, ctypes.c_ssize_t(-1), b"v", ctypes.c_ssize_t(1))
    topic, value, copied, given, end = 1, 4, 2, 10, 0
    flags = (ctypes.c_int(7), ctypes.c_int(copied))
    library.rd_kafka_producev(
        producer,
        *(ctypes.c_int(topic), ctypes.c_char_p(b"alerts")),
        *flags,
        *(ctypes.c_int(value), ctypes.c_char_p(b"alert"), ctypes.c_size_t(5)),
        *(ctypes.c_int(given), headers),
        ctypes.c_int(end),
    )
    assert library.rd_kafka_flush(producer, 10_000) == 0
    library.rd_kafka_destroy(producer)


def test_a_header_whose_name_is_no_text_stops_nothing(
    kafka: EmbeddedKafka, caplog: pytest.LogCaptureFixture
) -> None:
    publish_with_a_name(kafka, b"\xff\xfename")
    source = source_of(kafka)
    (message,) = taken(source)
    assert (message.value, message.headers) == (b"alert", ())
    assert "alerts[0] offset 0: headers left aside" in caplog.text
    source.close()


def test_nothing_is_taken_where_all_is_paused(kafka: EmbeddedKafka) -> None:
    write(kafka, *(b"%d" % n for n in range(20)))
    source = source_of(kafka)
    first = taken(source)
    place = ("alerts", 0)
    source._gone.add(place)  # it left and came back within the poll that has just been
    source._hold_back(source.offsets(first))
    for _ in range(20):
        source.keep_alive()
    assert len(source._aside) <= 1
    assert len(source.poll(2, 0.2)) <= 2
    source.close()
