"""Our topics as Confluent's own deserializer reads them, by a registry and nothing of ours."""

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from broker.testing.packets import lsst_packet, ztf_packet

from .conftest import Cluster
from .registry_server import RegistryServer

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


def test_confluents_own_deserializer_reads_every_output_by_the_registry(
    cluster: Cluster,
    registry: RegistryServer,
    run: Callable[..., tuple[int, str, str]],
    kafka: str,
    untrained_model: Path,
    tmp_path: Path,
) -> None:
    topic = cluster.make()
    cluster.make_named(f"{topic}.lite", 1)
    packets = [lsst_packet(schema_id=701, alert_id=1), lsst_packet(alert_id=2), ztf_packet(alert_id=3)]
    cluster.publish(topic, [*packets, b"no alert"])
    told = {"url": registry.url, "register_output": "true", "cache_folder": str(tmp_path)}
    at = ("--topic", topic, "--bootstrap-servers", kafka, "--group-id", f"group-{topic}", "--exit-at-end")
    code, output, log = run(
        "broker-consumer",
        *(*at, "--lite", "--model", str(untrained_model)),
        **{f"BROKER_REGISTRY__{name.upper()}": value for name, value in told.items()},
    )
    assert (code, output[:24]) == (0, "consumed 4: enriched 3 ("), log

    with SchemaRegistryClient({"url": registry.url}) as client:
        # By the strategy we register under; the default asks an endpoint that few registries have.
        read = AvroDeserializer(client, conf={"subject.name.strategy": topic_record_subject_name_strategy})
        found = {
            suffix: [
                read(message.value(), SerializationContext(message.topic(), MessageField.VALUE))
                for message in cluster.read(f"{topic}.{suffix}")
            ]
            for suffix in ("enriched", "lite", "dead-letter")
        }
    whole, lite = ({alert_id(one): one for one in found[suffix]} for suffix in ("enriched", "lite"))
    assert sorted(whole) == sorted(lite) == [1, 2, 3]
    for number, packet in enumerate(packets, start=1):
        assert whole[number]["enrichment"]["survey"] == ("ztf" if number == 3 else "lsst")
        stamp = stamp_of(whole[number])
        assert stamp
        assert stamp in packet
        assert stamp_of(lite[number]) is None
    (letter,) = found["dead-letter"]
    assert (letter["reason"], letter["value"]) == ("frame_invalid", b"no alert")


def alert_id(record: dict[str, dict[str, int]]) -> int:
    return record["enrichment"]["alert_id"]


def stamp_of(record: dict[str, dict[str, object]]) -> bytes | None:
    """The first stamp: bytes at Rubin's, a record with a name and bytes at ZTF's."""
    name = next(name for name in record["alert"] if name.startswith("cutout"))
    stamp = record["alert"][name]
    return stamp["stampData"] if isinstance(stamp, dict) else stamp
