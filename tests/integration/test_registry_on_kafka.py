"""``broker-consumer`` with a real schema registry and a real Apache Kafka."""

import copy
import io
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import fastavro
import pytest

import schemas
from broker.testing.minors import minor, rubin_packet
from broker.testing.packets import lsst_packet, ztf_packet

from .conftest import Cluster
from .registry_server import RegistryServer
from .test_consumer_on_kafka import Run, headers

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

NOWHERE = "http://127.0.0.1:1/apis/ccompat/v7"
WEATHER = {
    "name": "weather",
    "type": {
        "type": "record",
        "name": "weather",
        "fields": [
            {"name": "seeing", "type": "float"},
            {"name": "sky", "type": {"type": "enum", "name": "skies", "symbols": ["CLEAR", "THIN"]}},
        ],
    },
    "default": {"seeing": 0.5, "sky": "THIN"},
}
FIELD = {"name": "fresh", "type": ["null", {"type": "array", "items": "double"}], "default": None}
NEXT_MINOR = minor("lsst.v11_1", "lsst.v11_2", {("", 3): WEATHER, ("diaSource", 9): FIELD, ("", 99): FIELD})

Consume = Callable[..., tuple[int, str, str]]


@pytest.fixture
def consume_with(run: Run, kafka: str, untrained_model: Path, tmp_path: Path) -> Consume:
    """Run the consumer over a topic to its end, with settings of the registry."""

    def over(topic: str, **registry: str) -> tuple[int, str, str]:
        told = {"cache_folder": str(tmp_path / "cache"), "timeout_seconds": "2", "retries": "1", **registry}
        environment = {f"BROKER_REGISTRY__{name.upper()}": value for name, value in told.items()}
        source = ("--topic", topic, "--bootstrap-servers", kafka, "--group-id", f"group-{topic}")
        rest = ("--model", str(untrained_model), "--exit-at-end")
        return run("broker-consumer", *source, *rest, **environment)

    return over


@pytest.fixture(scope="module")
def rubins(registry: RegistryServer) -> RegistryServer:
    """The registry, with a minor version of Rubin's that the bundle lacks, under Rubin's own number."""
    registry.load("alert-packet", 1102, NEXT_MINOR)
    return registry


def read_whole(schema: Any, value: bytes) -> dict[str, Any]:
    source = io.BytesIO(value[5:])
    record = fastavro.schemaless_reader(source, fastavro.parse_schema(copy.deepcopy(schema)), None)
    assert not source.read(), "bytes are left after the record"
    return record


def schema_of(registry: RegistryServer, value: bytes) -> dict[str, Any]:
    """Schema of the id on the wire, from the registry."""
    schema_id = int.from_bytes(value[1:5], "big")
    assert schema_id < 1_900_000_000, "an id of the reserved block"
    return json.loads(registry.ask("GET", f"/schemas/ids/{schema_id}")["schema"])


def test_an_unknown_minor_is_read_without_a_release_of_ours(
    cluster: Cluster, consume_with: Consume, rubins: RegistryServer, run: Run, kafka: str, tmp_path: Path
) -> None:
    topic = cluster.make()
    packets = [rubin_packet(NEXT_MINOR, 1102, alert_id=n + 1) for n in range(20)] + [lsst_packet(alert_id=21)]
    cluster.publish(topic, packets)
    code, output, log = consume_with(topic, url=rubins.url)
    assert (code, output[:26]) == (0, "consumed 21: enriched 21 ("), log
    assert log.count("schema id 1102 is from the registry") == 1
    assert [path.name for path in (tmp_path / "cache").rglob("*.json")] == ["1102.json"]
    found = [
        m for m in cluster.read(f"{topic}.enriched") if m.value()[1:5] == (1_900_021_102).to_bytes(4, "big")
    ]
    # What a subscriber does who has neither our next release nor a registry of ours: Rubin's, and the rule.
    theirs = json.loads(rubins.ask("GET", "/schemas/ids/1102")["schema"])
    output_schema = schemas.enriched(theirs, 1102)
    assert {headers(message)["schema-fingerprint"] for message in found} == {
        schemas.fingerprint(output_schema)
    }
    records = [read_whole(output_schema, message.value()) for message in found]
    assert sorted(record["alert"]["diaSourceId"] for record in records) == list(range(1, 21))
    assert records[0]["alert"]["weather"] == {"seeing": 0.5, "sky": "THIN"}
    assert all(
        message.value().endswith(packets[r["alert"]["diaSourceId"] - 1][5:])
        for message, r in zip(found, records, strict=True)
    )
    reading = (
        "--topic",
        f"{topic}.enriched",
        "--bootstrap-servers",
        kafka,
        "--exit-at-end",
        "--format",
        "jsonl",
    )
    code, output, log = run(
        "broker-subscribe",
        *reading,
        BROKER_REGISTRY__URL=rubins.url,
        BROKER_REGISTRY__CACHE_FOLDER=str(tmp_path),
    )
    assert (code, len(output.splitlines())) == (0, 21), log
    code, output, log = run("broker-subscribe", *reading)
    assert (code, len(output.splitlines())) == (0, 1), log
    assert "20 not readable" in log


def test_a_registry_that_is_down_makes_dead_letters_that_are_read_when_they_come_again(
    cluster: Cluster, consume_with: Consume, rubins: RegistryServer
) -> None:
    topic = cluster.make()
    packets = [rubin_packet(NEXT_MINOR, 1102, alert_id=n + 1) for n in range(10)]
    cluster.publish(topic, [*packets, ztf_packet(), lsst_packet()])
    code, output, log = consume_with(topic, url=NOWHERE)
    assert (code, output[:26]) == (0, "consumed 12: enriched 2 (o"), log
    letters = [
        read_whole(schemas.load(schemas.DEAD_LETTER), m.value()) for m in cluster.read(f"{topic}.dead-letter")
    ]
    assert {letter["reason"] for letter in letters} == {"schema_unknown"}
    assert "schema id 1102 is none of the bundle's" in letters[0]["error"]
    assert f"the registry at {NOWHERE} was asked 2 times: ConnectionRefusedError" in letters[0]["error"]
    assert log.count("not asked again for 30 s") == 1
    cluster.publish(topic, [letter["value"] for letter in letters])
    code, output, log = consume_with(topic, url=rubins.url)
    assert (code, output[:26]) == (0, "consumed 10: enriched 10 ("), log


def test_what_goes_out_is_registered_and_read_by_the_registrys_ids_alone(
    cluster: Cluster, consume_with: Consume, rubins: RegistryServer, run: Run, kafka: str, tmp_path: Path
) -> None:
    topic = cluster.make()
    forms = [lsst_packet(schema_id=701), lsst_packet(schema_id=900), lsst_packet(), ztf_packet()]
    cluster.publish(topic, [*forms * 3, rubin_packet(NEXT_MINOR, 1102), b"broken"])
    code, output, log = consume_with(topic, url=rubins.url, register_output="true")
    assert (code, output[:26]) == (0, "consumed 14: enriched 13 ("), log
    messages = [*cluster.read(f"{topic}.enriched"), *cluster.read(f"{topic}.dead-letter")]
    names = set()
    for message in messages:
        schema = schema_of(rubins, message.value())
        assert schemas.fingerprint(schema) == headers(message)["schema-fingerprint"]
        record = read_whole(schema, message.value())
        assert record.keys() & {"enrichment", "reason"}
        names.add((message.topic(), json.loads(schemas.canonical_form(schema))["name"]))
    ours = [
        f"nightjar.{form}.EnrichedAlert"
        for form in ("lsst.v7_1", "lsst.v9_0", "lsst.v11_1", "lsst.v11_2", "ztf.v4_02")
    ]
    expected = {(f"{topic}.enriched", name) for name in ours} | {
        (f"{topic}.dead-letter", "nightjar.DeadLetter")
    }
    assert names == expected
    subjects = {subject for subject in rubins.ask("GET", "/subjects") if subject.startswith(f"{topic}.")}
    assert subjects == {f"{where}-{name}" for where, name in expected}
    for subject in subjects:
        assert rubins.ask("GET", f"/config/{subject}")["compatibilityLevel"] == "FULL"
    reading = (
        "--topic",
        f"{topic}.enriched",
        "--bootstrap-servers",
        kafka,
        "--exit-at-end",
        "--format",
        "jsonl",
    )
    told = {"BROKER_REGISTRY__URL": rubins.url, "BROKER_REGISTRY__CACHE_FOLDER": str(tmp_path / "subscriber")}
    code, output, log = run("broker-subscribe", *reading, **told)
    assert (code, log) == (0, "13 records\n")


def test_a_topic_changes_from_reserved_ids_to_those_of_a_registry_midway(
    cluster: Cluster, consume_with: Consume, rubins: RegistryServer, run: Run, kafka: str
) -> None:
    topic = cluster.make(partitions=1)
    both = [lsst_packet(alert_id=1), ztf_packet(alert_id=2), b"broken"]
    for registry in ({}, {"url": rubins.url, "register_output": "true"}, {}):
        cluster.publish(topic, both)
        code, _, log = consume_with(topic, **registry)
        assert code == 0, log
    ids = [int.from_bytes(message.value()[1:5], "big") for message in cluster.read(f"{topic}.enriched")]
    assert [schema_id > 1_900_000_000 for schema_id in ids] == [True, True, False, False, True, True]
    at = ("--bootstrap-servers", kafka, "--exit-at-end", "--format", "jsonl")
    code, output, log = run("broker-subscribe", "--topic", f"{topic}.enriched", *at)
    assert (code, log) == (0, "6 records\n")
    assert [json.loads(line)["enrichment"]["alert_id"] for line in output.splitlines()] == [1, 2] * 3
    code, output, log = run("broker-subscribe", "--topic", f"{topic}.dead-letter", *at)
    assert (code, log) == (0, "3 records\n")


def test_a_registry_that_gives_no_ids_stops_the_consumer_before_the_commit(
    cluster: Cluster, consume_with: Consume, rubins: RegistryServer
) -> None:
    topic = cluster.make()
    cluster.publish(topic, [lsst_packet(), ztf_packet()])
    code, output, log = consume_with(topic, url=NOWHERE, register_output="true")
    assert (code, output) == (1, "")
    assert f"no schema id for subject {topic}.dead-letter-nightjar.DeadLetter" in log.splitlines()[-1]
    with dead_letters_only() as url:
        code, output, log = consume_with(topic, url=url, register_output="true")
    assert (code, output) == (1, "")
    assert f"no schema id for subject {topic}.enriched-nightjar" in log.splitlines()[-1]
    assert cluster.committed(topic, f"group-{topic}") == 0
    assert not cluster.read(f"{topic}.enriched")
    code, output, log = consume_with(topic, url=rubins.url, register_output="true")
    assert (code, output[:25]) == (0, "consumed 2: enriched 2 (o"), log


class dead_letters_only:  # noqa: N801 - a context
    """A registry that breaks down once it has given the id of dead letters."""

    def __enter__(self) -> str:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                body = b'{"id": 7}'
                self.send_response(200 if "DeadLetter" in self.path else 503)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.mark.parametrize("form", schemas.INPUT_FORMS)
def test_the_registry_itself_finds_the_versions_of_the_enrichment_fully_compatible(
    form: str, registry: RegistryServer
) -> None:
    """Each is registered after the other, in both orders, where the subject asks for FULL."""
    for first, second in ((1, 2), (2, 1)):
        texts = [
            json.dumps(schemas.load(schemas.enriched_name(form, version))) for version in (first, second)
        ]
        subject = f"v{first}.enriched-nightjar.{form}.EnrichedAlert"
        registry.ask("POST", f"/subjects/{subject}/versions", {"schema": texts[0]})
        registry.ask("PUT", f"/config/{subject}", {"compatibility": "FULL"})
        where = f"/compatibility/subjects/{subject}/versions/latest"
        assert registry.ask("POST", where, {"schema": texts[1]}) == {"is_compatible": True}
        assert registry.ask("POST", f"/subjects/{subject}/versions", {"schema": texts[1]})["id"] > 0
    broken = json.loads(texts[0])
    broken["fields"][0]["type"]["fields"].append({"name": "without_default", "type": "int"})
    assert registry.ask("POST", where, {"schema": json.dumps(broken)})["is_compatible"] is False
