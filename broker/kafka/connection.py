"""What both ends share: how to reach a cluster, and what librdkafka says on the way."""

# ruff: noqa: SLF001 -- the names of librdkafka's own codes begin with an underscore

import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka import KafkaError as Fault
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._metadata import ClusterMetadata

from broker.errors import ConfigurationError, KafkaError, SettingsError
from broker.kafka import certificates
from broker.kafka.faults import PLAIN_LISTENER, TRANSPORT, as_ours, remedy_of
from broker.kafka.passwords import PasswordFile, TakesPassword
from broker.kafka.plain import speaks_plainly
from broker.settings import Extra, Sasl, Security

MAX_MESSAGE_BYTES = 10_485_760
"""Largest message in and out; real Rubin packets with long histories exceed 0.5 MB, ten times Kafka's default
leaves them room."""

REMINDER_SECONDS = 10.0
"""A condition that lasts is told once in this time."""

METADATA_SECONDS = 2.0
"""One look at a cluster's metadata; short, so that a stop signal is heard between two of them."""

STATISTICS_SECONDS = 5.0
"""Time between two looks at which brokers are connected."""

PLAIN_SECONDS = 2.0
"""Time between two looks at whether a listener speaks TLS at all."""

OF_CONNECTIONS = ("security.", "ssl.", "sasl.", "enable.ssl.", "socket.")
"""How librdkafka's properties begin that all its clients share: how a cluster is reached."""

logger = logging.getLogger("broker.kafka")

Client = TypeVar("Client", Consumer, Producer, AdminClient)


def connection(bootstrap_servers: str, security: Security) -> dict[str, Any]:
    """Properties by which a cluster is reached.

    Raises
    ------
    SettingsError
        When the password's file cannot be read.
    """
    properties: dict[str, Any] = {
        "bootstrap.servers": bootstrap_servers,
        "client.id": "nightjar",
        "socket.keepalive.enable": True,
    }
    return properties | security.properties()


def of_connection(extra: Extra) -> Extra:
    """Take from the properties of one kind of client those that any kind may be given."""
    return {name: value for name, value in extra.items() if name.startswith(OF_CONNECTIONS)}


class Listener:
    """Hears what librdkafka reports outside of any call.

    Nothing it reports there is fatal to librdkafka, which tries for ever; a wrong password is kept here so
    that the next call can end with it.

    Attributes
    ----------
    refusal : ConfigurationError or None
        What waiting will not mend.
    last : str or None
        The last report of any kind.
    """

    def __init__(self, role: str) -> None:
        self.refusal: ConfigurationError | None = None
        self.last: str | None = None
        self._role = role
        self._reached = False
        self._asked = -PLAIN_SECONDS
        self._told = -REMINDER_SECONDS
        self._silent_since: float | None = None
        self._properties: dict[str, Any] = {}
        self._password: PasswordFile | None = None

    def attach(self, kafka: TakesPassword, properties: dict[str, Any], security: Security | None) -> None:
        """Learn whose reports these are: certificates are looked at, and a password's file is read again."""
        self._properties = properties
        if isinstance(security, Sasl) and security.password_file is not None:
            self._password = PasswordFile(kafka, security, security.password_file)

    def __call__(self, fault: Fault) -> None:
        """Take one report, as librdkafka's ``error_cb``."""
        self.last = fault.str()
        self.refusal = self.refusal or self._judged(fault)
        now = time.monotonic()
        if now - self._told >= REMINDER_SECONDS:
            self._told = now
            logger.warning("%s: %s (%s); trying again", self._role, fault.str(), fault.name())

    def hear_statistics(self, text: str) -> None:
        """Take librdkafka's statistics, as its ``stats_cb``: whether any broker is connected."""
        brokers = json.loads(text)["brokers"].values()
        if any(broker["state"] == "UP" for broker in brokers):
            self.reached()
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = time.monotonic()

    @property
    def silent_seconds(self) -> float:
        """How long no broker has been connected, to the nearest of `STATISTICS_SECONDS`."""
        return 0.0 if self._silent_since is None else time.monotonic() - self._silent_since

    def reached(self) -> None:
        """Note that a broker has answered: how it is spoken to is right, whatever ends a handshake later."""
        self._reached = True

    def _judged(self, fault: Fault) -> ConfigurationError | None:
        """Make a report of what waiting will not mend into an error, with its cause as far as we can tell."""
        if PLAIN_LISTENER in fault.str():
            plain = "correct the port or the security setting"
            return self._refusal(fault.str(), plain) if self._is_plain(fault) else None
        if fault.code() == Fault._AUTHENTICATION and TRANSPORT in fault.str():
            return None  # the connection ended before anybody was asked for a password
        remedy = remedy_of(fault)
        if remedy is None or fault.code() != Fault._SSL:
            return None if remedy is None else self._refusal(fault.str(), remedy)
        # librdkafka refuses a certificate without a reason: we look at it ourselves.
        certificate = certificates.refused(fault.str(), self._properties)
        if certificate is not None:
            return self._refusal(str(certificate.fault), certificate.remedy)
        return None if self._reached else self._refusal(fault.str(), remedy)

    def _refusal(self, cause: str, remedy: str | None) -> ConfigurationError:
        return ConfigurationError(f"{self._role}: {cause}", remedy)

    def _is_plain(self, fault: Fault) -> bool:
        """Whether the listener speaks without TLS; one that ends a handshake may as well be stopping or starting."""
        now = time.monotonic()
        if self._reached or now - self._asked < PLAIN_SECONDS:
            return False
        self._asked = now
        address = certificates.spoken_to(fault.str())
        return address is not None and speaks_plainly(address)

    def check(self) -> None:
        """End with what waiting will not mend.

        Raises
        ------
        ConfigurationError
        """
        if self._password is not None and self._password.renewed(at_once=self.refusal is not None):
            self.refusal = None
        if self.refusal is not None:
            raise self.refusal


def client(
    make: Callable[..., Client],
    properties: dict[str, Any],
    listener: Listener,
    security: Security | None = None,
) -> Client:
    """Make a consumer, a producer or an administrator.

    Parameters
    ----------
    make : callable
        Its class.
    properties : dict
    listener : Listener
        Hears what is reported; a password's file is read again when its `check` is called.
    security : Security, optional

    Raises
    ------
    SettingsError
        When librdkafka refuses a property.
    """
    try:
        heard = {
            "error_cb": listener,
            "stats_cb": listener.hear_statistics,
            "statistics.interval.ms": int(STATISTICS_SECONDS * 1000),
        }
        made = make(properties | heard, logger=logger)
    except KafkaException as error:
        raise SettingsError(
            f"librdkafka refuses a setting: {error.args[0].str()}",
            "correct or remove it in kafka.extra or sink.extra",
        ) from error
    except (
        AttributeError,
        SystemError,
        TypeError,
        ValueError,
    ) as error:  # of what confluent_kafka looks at itself
        raise SettingsError(
            f"librdkafka refuses a setting of extra: {error.__cause__ or error}", "correct or remove it"
        ) from error
    listener.attach(made, properties, security)
    return made


def await_broker(
    kafka: Consumer | Producer | AdminClient,
    listener: Listener,
    servers: str,
    seconds: float,
    stop: threading.Event,
) -> ClusterMetadata | None:
    """Look for a broker until one answers.

    Returns
    -------
    ClusterMetadata or None
        None when `stop` was set meanwhile.

    Raises
    ------
    KafkaError
        When none has answered within `seconds`.
    ConfigurationError
        When one answered and refused us.
    """
    deadline = time.monotonic() + seconds
    while not stop.is_set():
        metadata = look(kafka)
        # Serves error_cb, which the call above does not: why nobody answers is told here. Nothing is
        # subscribed to yet, so no message can come out.
        try:
            kafka.poll(0.0)
        except KafkaException as error:  # a producer that was refused for good
            raise as_ours(error.args[0], "connecting") from error
        listener.check()
        if metadata is not None:
            listener.reached()
            return metadata
        if time.monotonic() >= deadline:
            why = listener.last or "no reply"
            raise KafkaError(
                f"no Kafka broker answered at {servers} within {seconds:g} s ({why})", _advice(why)
            )
        stop.wait(0.2)
    return None


def _advice(why: str) -> str:
    advice = "start it, or correct the bootstrap servers"
    if "refused" in why or "resolve" in why:  # nobody listens there, whether by TLS or not
        return advice
    return f"{advice}; one that wants TLS drops plain connections without a word: then give kafka.security"


def look(kafka: Consumer | Producer | AdminClient) -> ClusterMetadata | None:
    """Take the cluster's metadata; None when no broker answers."""
    try:
        metadata: ClusterMetadata = kafka.list_topics(timeout=METADATA_SECONDS)
    except KafkaException:
        return None
    return metadata


def is_embedded(metadata: ClusterMetadata) -> bool:
    """Whether it is librdkafka's mock: it makes topics by itself, and leaves questions open."""
    return is_id_of_embedded(str(metadata.cluster_id))


def is_id_of_embedded(cluster_id: str) -> bool:
    """Whether a cluster of this id is librdkafka's mock (rdkafka_mock.c makes such ids)."""
    return cluster_id.startswith("mockCluster")
