"""How results leave: the sink, what is written, and what makes it one fact with the offsets."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version

from broker.alert import Outcome, Parcel
from broker.avro.store import SchemaStore
from broker.cli.registries import output_registry
from broker.consumer import Delivery
from broker.delivery import AtLeastOnce, ExactlyOnce
from broker.kafka import KafkaSink, KafkaSource, KafkaTransactions
from broker.metrics import Metrics
from broker.patience import Patience
from broker.probes import Health
from broker.records import RecordBuilder
from broker.settings import Settings


def delivery_of(
    settings: Settings,
    source: KafkaSource,
    health: Health,
    metrics: Metrics,
    store: SchemaStore,
    stop: threading.Event,
    stack: ExitStack,
) -> tuple[Callable[[Outcome], Parcel], Delivery]:
    """Put together what builds records and what delivers them.

    Raises
    ------
    ConfigurationError, KafkaError
    """
    patience = Patience(source, health, metrics, stop, settings.consumer.drain_seconds)
    exactly = settings.consumer.delivery == "exactly-once"
    sink = _transactions(settings, source, patience, stop) if exactly else _sink(settings, patience, stop)
    stack.callback(sink.close)
    limits = sink.require(settings.outputs, settings.consumer.topic_seconds)
    ids = output_registry(settings.registry, settings.outputs)
    pack = RecordBuilder(
        lambda _topic: settings.prefix, version("nightjar"), store, ids, limits=limits, lite=settings.lite
    )
    if isinstance(sink, KafkaTransactions):
        return pack, ExactlyOnce(source, pack.smaller, metrics, patience, sink)
    return pack, AtLeastOnce(source, pack.smaller, metrics, patience, sink)


def _sink(settings: Settings, patience: Patience, stop: threading.Event) -> KafkaSink:
    return KafkaSink(
        *settings.sink_connection,
        settings.sink,
        connect_seconds=settings.consumer.connect_seconds,
        stop=stop,
        on_wait=patience.turn,
    )


def _transactions(
    settings: Settings, source: KafkaSource, patience: Patience, stop: threading.Event
) -> KafkaTransactions:
    return KafkaTransactions(
        *settings.sink_connection,
        settings.sink,
        connect_seconds=settings.consumer.connect_seconds,
        stop=stop,
        on_wait=patience.turn,
        group=source,
    )
