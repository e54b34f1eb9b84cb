"""Everything about the clusters that can be tried without joining the group or writing anything."""

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._metadata import ClusterMetadata

from broker.errors import NightjarError
from broker.kafka import certificates
from broker.kafka.connection import MAX_MESSAGE_BYTES, Listener, client, is_embedded
from broker.kafka.ends import End, ends
from broker.kafka.limits import CLEANUP, SIZE, is_compacted, topic_settings
from broker.kafka.properties import of_consumer, of_producer
from broker.kafka.rights import granted, spanning
from broker.settings import Sasl, Settings
from broker.topics import how_to_make

CONNECT_SECONDS = 8.0
"""Longest wait for a broker: whoever calls for a check is looking at it."""

UNSEEN = "is not there, or not for us to see"


@dataclass(frozen=True)
class Finding:
    """One thing that was tried.

    Attributes
    ----------
    check : str
        What was tried.
    found : str
    remedy : str or None
        What to do; None when all is well.
    """

    check: str
    found: str
    remedy: str | None = None


def refused(check: str, error: NightjarError, known: str = "") -> Finding:
    """Make an error into a finding, without what the row says already in front of it."""
    found = " ".join(error.cause.split()).removeprefix(known)
    return Finding(check, found, error.remedy or "see what was found")


def findings(settings: Settings, stop: threading.Event) -> Iterator[Finding]:
    """Try the clusters of a consumer, one thing after the other."""
    yield _consumer(settings)
    yield _producer(settings)
    clusters: list[str] = []
    for end in ends(settings):
        yield from _end(end, min(CONNECT_SECONDS, settings.consumer.connect_seconds), stop, clusters)
    if settings.consumer.delivery == "exactly-once" and (fault := spanning(clusters)) is not None:
        yield refused("exactly once", fault)


def _consumer(settings: Settings) -> Finding:
    """Make a consumer as the source will, which then joins nothing."""
    check = "source: settings of the client"
    try:
        client(Consumer, of_consumer(settings.kafka), Listener("source"), settings.kafka.security).close()
    except NightjarError as error:
        return refused(check, error)
    return Finding(check, "librdkafka takes them")


def _producer(settings: Settings) -> Finding:
    """Make a producer as the sink will, which then writes nothing."""
    check = "sink: settings of the client"
    servers, security = settings.sink_connection
    try:
        client(
            Producer, of_producer(servers, security, settings.sink, patient=True), Listener("sink"), security
        )
    except NightjarError as error:
        return refused(check, error)
    return Finding(check, "librdkafka takes them")


def _end(end: End, seconds: float, stop: threading.Event, clusters: list[str]) -> Iterator[Finding]:
    log_in = f"{end.role}: log in"
    try:
        properties = end.properties
        for address in filter(None, map(str.strip, end.servers.split(","))):
            yield _server(f"{end.role}: {address}", address, properties)
        admin, metadata = end.connect(seconds, stop)
    except NightjarError as error:
        yield refused(log_in, error, f"{end.role}: ")
        return
    if metadata is None:
        yield Finding(log_in, "interrupted", "let it run to its end")
        return
    clusters.append(str(metadata.cluster_id))
    yield Finding(log_in, _logged_in(end, metadata))
    yield from _topics(end, metadata)
    yield from _rights(end, admin, metadata)
    yield from _settings(end, admin, metadata)


def _server(check: str, address: str, properties: dict[str, Any]) -> Finding:
    try:
        socket.create_connection(certificates.split(address), certificates.LOOK_SECONDS).close()
    except (OSError, ValueError) as error:
        return Finding(
            check, f"does not answer ({error})", "start it, or correct bootstrap_servers (host:port)"
        )
    if not str(properties.get("security.protocol", "")).lower().endswith("ssl"):
        return Finding(check, "answers; nothing is encrypted")
    certificate = certificates.look(address, properties)
    if certificate is None:
        return Finding(check, "answers, and not by TLS", "correct the port or the security setting")
    if certificate.fault is not None:
        return Finding(check, certificate.fault, certificate.remedy)
    left = _counted(certificate.days_left, "day")
    return Finding(check, f"answers; certificate valid until {certificate.ends:%Y-%m-%d} ({left} left)")


def _logged_in(end: End, metadata: ClusterMetadata) -> str:
    brokers = _counted(len(metadata.brokers), "broker")
    how = f"as {end.security.username} by {end.security.mechanism}" if isinstance(end.security, Sasl) else ""
    return f"{brokers} of cluster {metadata.cluster_id} {how}".rstrip()


def _topics(end: End, metadata: ClusterMetadata) -> Iterator[Finding]:
    wanted = end.read_here(metadata.topics)
    if end.inputs is not None and not wanted:
        yield Finding(f"{end.role}: topics", f"none matches {end.inputs.pattern!r} yet")
    for topic in [*wanted, *end.outputs]:
        check = f"topic {topic}"
        if topic in metadata.topics:
            yield Finding(check, _counted(len(metadata.topics[topic].partitions), "partition"))
        elif topic in end.outputs and is_embedded(metadata):
            yield Finding(check, "not there yet: an embedded Kafka makes it when it is first asked for")
        else:
            yield Finding(check, UNSEEN, f"{how_to_make(topic, end.servers)}, or correct its name")
    for topic in end.inputs.optional if end.inputs else ():
        if topic not in metadata.topics:
            yield Finding(f"topic {topic}", f"{UNSEEN}: only broker-redrive asks for it")


def _rights(end: End, admin: AdminClient, metadata: ClusterMetadata) -> Iterator[Finding]:
    for right, answer in granted(end, admin, metadata).items():
        if answer is None:
            yield Finding(str(right), "not told: found when it is used")
        elif answer:
            yield Finding(str(right), "granted")
        else:
            remedy = f"ask those who run the cluster for an ACL that allows {end.we} to {right.operation}"
            yield Finding(str(right), f"not granted to {end.we}", remedy)


def _settings(end: End, admin: AdminClient, metadata: ClusterMetadata) -> Iterator[Finding]:
    """Look at what outputs are lost by: records refused for their size, or compacted away."""
    there = [topic for topic in end.outputs if topic in metadata.topics]
    for topic, settings in topic_settings(admin, metadata, there).items():
        if settings is None or not settings.keys() >= {SIZE, CLEANUP}:
            # The right to ask (DESCRIBE_CONFIGS) is not needed for work.
            yield Finding(f"settings of {topic}", "not told")
            continue
        small = int(settings[SIZE]) < MAX_MESSAGE_BYTES
        raised = f"raise it to {MAX_MESSAGE_BYTES}, or large alerts become dead letters"
        yield Finding(f"{SIZE} of {topic}", settings[SIZE], raised if small else None)
        compacted = is_compacted(settings)
        deleted = "set it to delete: of each key only the last record would be kept"
        yield Finding(f"{CLEANUP} of {topic}", settings[CLEANUP], deleted if compacted else None)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
