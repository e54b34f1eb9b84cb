"""``broker-consumer --check`` where nothing asks who we are."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from stub_registry import StubRegistry, reply
from typer.testing import CliRunner, Result

from broker import native
from broker.cli import consumer
from broker.kafka import EmbeddedKafka


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """The program takes SIGTERM and SIGINT; give them back."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def kafka() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as kafka:
        for topic in ("sound", "sound.enriched", "sound.dead-letter", "alone"):
            kafka.create_topic(topic, 2)
        yield kafka


def check(kafka: EmbeddedKafka, topic: str, *arguments: str, **registry: str) -> Result:
    servers = ("--bootstrap-servers", kafka.bootstrap_servers)
    call = ["--topic", topic, *servers, "--check", *arguments]
    told = {f"BROKER_REGISTRY__{name.upper()}": value for name, value in registry.items()}
    return CliRunner().invoke(consumer.app, call, env={"COLUMNS": "200", **told})


def row(result: Result, check: str) -> list[str]:
    """What was found and what to do; in a pipe a row is one line, however long."""
    lines = (line.split("│")[1:-1] for line in result.stdout.splitlines() if "│" in line)
    rows = [[cell.strip() for cell in cells] for cells in lines]
    (cells,) = [cells for cells in rows if cells[1] == check]
    assert cells[0] == ("NO" if cells[3] else "ok")
    return cells[2:]


def test_all_is_well(kafka: EmbeddedKafka) -> None:
    result = check(kafka, "sound")
    assert result.exit_code == 0, result.output
    for cell in ("model", "topic sound.dead-letter", "answers; nothing is encrypted", "2 partitions"):
        assert cell in result.stdout
    assert row(result, "reading alerts") == [native.in_use(), ""]
    assert result.stdout.rstrip().endswith("things tried, none to be mended: the consumer can start")


def test_what_is_not_well_has_what_to_do(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    result = check(kafka, "alone", "--model", str(tmp_path / "none.onnx"))
    assert result.exit_code == 2
    assert "give another with --model" in result.stdout
    assert "things tried, 1 to be mended" in result.stdout


def test_an_embedded_kafka_makes_topics_by_itself(kafka: EmbeddedKafka) -> None:
    result = check(kafka, "alone")
    assert result.exit_code == 0
    assert row(result, "topic alone.enriched")[0].startswith("not there yet: an embedded Kafka makes it")


def test_an_input_that_is_missing_is_told_there_too(kafka: EmbeddedKafka) -> None:
    result = check(kafka, "misspelt")
    assert result.exit_code == 2
    assert row(result, "topic misspelt")[0] == "is not there, or not for us to see"


@pytest.mark.parametrize("end", ["kafka", "sink"])
def test_a_property_that_librdkafka_does_not_know(
    kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setenv(f"BROKER_{end.upper()}__EXTRA", '{"no.such.property": 1}')
    result = check(kafka, "sound")
    assert result.exit_code == 2
    found, remedy = row(result, f"{'source' if end == 'kafka' else 'sink'}: settings of the client")
    assert "no.such.property" in found
    assert remedy == "correct or remove it in kafka.extra or sink.extra"


def test_a_head_that_cannot_be_read(kafka: EmbeddedKafka) -> None:
    result = check(kafka, "sound", "--head", "none.onnx")
    assert result.exit_code == 2
    assert "give another with --head" in result.stdout


def test_both_registries_are_tried(kafka: EmbeddedKafka) -> None:
    with StubRegistry() as ours, StubRegistry() as theirs:
        result = check(
            kafka,
            "sound",
            url=theirs.url,
            output__url=ours.url,
            output__username="ann",
            output__password="hush",
        )
        assert result.exit_code == 0, result.output
        assert row(result, f"registry: {theirs.url}") == ["answers", ""]
        assert row(result, f"registry of the outputs: {ours.url}") == ["answers, and lets ann in", ""]
        asked = [("GET", "/api/schemas/ids/1", None)]
        assert (ours.requests, theirs.requests) == (asked, asked), "nothing is registered"


@pytest.mark.parametrize(
    ("answer", "found", "remedy"),
    [
        (
            (401, {"message": "Unauthorized", "error_code": 401}),
            "it answered 401",
            "check its username and password",
        ),
        (
            (403, {"message": "Forbidden", "error_code": 403}),
            "it answered 403",
            "check its username and password",
        ),
        ((404, b"<html>"), "it answered 404", "correct the path of url: no schema registry answers there"),
        ((200, b"<html>"), "it answered no JSON", "correct url: no schema registry answers there"),
        ((503, b""), "it answered 503", "start it, or correct url"),
    ],
)
def test_a_registry_that_is_not_well(
    kafka: EmbeddedKafka, answer: tuple[int, object], found: str, remedy: str
) -> None:
    with StubRegistry() as registry:
        registry.before = lambda handler: reply(handler, *answer)
        result = check(kafka, "sound", url=registry.url, username="ann", password="hush")
        assert result.exit_code == 2
        there = row(result, f"registry: {registry.url}")
    assert found in there[0]
    assert remedy in there[1]
    assert "hush" not in result.output
    assert len(registry.requests) == 1


def test_a_registry_that_is_not_there_and_a_password_that_is_not(
    kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    result = check(kafka, "sound", url="http://127.0.0.1:1")
    assert row(result, "registry: http://127.0.0.1:1")[1] == "start it, or correct url"
    result = check(
        kafka, "sound", url="https://127.0.0.1:1", username="ann", password_file=str(tmp_path / "none")
    )
    assert row(result, "registry: https://127.0.0.1:1")[1] == "mount it, or name another"


def test_no_broker_has_one_thing_to_do() -> None:
    call = ["--topic", "alerts", "--bootstrap-servers", "127.0.0.1:1", "--check"]
    environment = {"COLUMNS": "200", "BROKER_CONSUMER__CONNECT_SECONDS": "0.5"}
    result = CliRunner().invoke(consumer.app, call, env=environment)
    found, remedy = row(result, "source and sink: log in")
    assert found.startswith("no Kafka broker answered at 127.0.0.1:1 within 0.5 s (")
    assert found.endswith(")")
    # Nobody listens there: TLS, which may be what is missing where a connection is dropped, is no part of that.
    assert remedy == "start it, or correct the bootstrap servers"
