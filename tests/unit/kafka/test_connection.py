"""What librdkafka reports while it connects: of the moment, or for good."""

import json
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import KafkaError as Fault
from confluent_kafka.admin import AdminClient

from broker.errors import ConfigurationError, KafkaError, SettingsError
from broker.kafka import EmbeddedKafka
from broker.kafka.connection import Listener, await_broker, client
from broker.kafka.plain import speaks_plainly

UP = json.dumps({"brokers": {"1": {"state": "UP"}}})
ENDED = "Disconnected: SSL connection closed by peer: connecting to a PLAINTEXT broker listener? (after 1ms)"


def ended_at(address: str) -> Fault:
    """What librdkafka says of a connection that ends within the handshake."""
    return Fault(Fault._TRANSPORT, f"sasl_ssl://{address}/bootstrap: SSL handshake failed: {ENDED}")


@pytest.fixture
def closing() -> Iterator[str]:
    """A port that takes connections and closes them, as of a broker that is going or coming."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:  # closed: the test is over
                    return
                connection.recv(10_000)
                connection.close()

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def reach(address: str, seconds: float) -> None:
    """Look for a broker by TLS."""
    listener = Listener("source")
    properties = {"bootstrap.servers": address, "security.protocol": "ssl"}
    admin = client(AdminClient, properties, listener)
    await_broker(admin, listener, address, seconds, threading.Event())


def test_a_listener_that_speaks_no_tls_is_refused(embedded: EmbeddedKafka) -> None:
    with pytest.raises(
        ConfigurationError, match=r"PLAINTEXT.*: correct the port or the security setting"
    ) as caught:
        reach(embedded.bootstrap_servers, 10)
    assert caught.value.remedy == "correct the port or the security setting"


def test_a_broker_that_ends_the_handshake_at_start_is_waited_for(closing: str) -> None:
    with pytest.raises(KafkaError, match="no Kafka broker answered") as caught:
        reach(closing, 3)
    assert str(caught.value.remedy).startswith("start it, or correct the bootstrap servers")


def up(listener: Listener) -> None:
    listener.hear_statistics(UP)


@pytest.mark.parametrize("reached", [up, Listener.reached], ids=["statistics", "metadata"])
def test_a_cluster_that_was_reached_may_end_a_handshake(
    embedded: EmbeddedKafka, reached: Callable[[Listener], None]
) -> None:
    listener = Listener("sink")
    reached(listener)
    listener(ended_at(embedded.bootstrap_servers))  # where the port was given to another Kafka meanwhile
    listener(Fault(Fault._SSL, "ssl://127.0.0.1:1/1: SSL handshake failed: unexpected eof"))
    listener.check()
    listener(Fault(Fault._AUTHENTICATION, "Authentication failed"))
    with pytest.raises(ConfigurationError, match="sink: Authentication failed: check the user name"):
        listener.check()


def test_who_speaks_kafka_without_tls(embedded: EmbeddedKafka, closing: str) -> None:
    assert speaks_plainly(embedded.bootstrap_servers)
    assert not speaks_plainly(closing)
    assert not speaks_plainly("127.0.0.1:1")
    assert not speaks_plainly("127.0.0.1:port")


@pytest.mark.parametrize(
    "extra",
    [{"oauth_cb": "x"}, {"throttle_cb": "x"}, {"default.topic.config": "x"}, {"client.rack": "\ud800"}],
)
def test_what_the_library_cannot_take_is_told_in_one_line(extra: dict[str, str]) -> None:
    with pytest.raises(
        SettingsError, match=r"librdkafka refuses a setting of extra: .*: correct or remove it"
    ):
        client(AdminClient, {"bootstrap.servers": "127.0.0.1:1", **extra}, Listener("sink"))
