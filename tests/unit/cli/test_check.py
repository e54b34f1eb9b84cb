"""``broker-consumer --check`` where nothing asks who we are."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

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


def check(kafka: EmbeddedKafka, topic: str, *arguments: str) -> Result:
    servers = ("--bootstrap-servers", kafka.bootstrap_servers)
    call = ["--topic", topic, *servers, "--check", *arguments]
    return CliRunner().invoke(consumer.app, call, env={"COLUMNS": "200"})


def test_all_is_well(kafka: EmbeddedKafka) -> None:
    result = check(kafka, "sound")
    assert result.exit_code == 0, result.output
    for cell in ("model", "topic sound.dead-letter", "answers; nothing is encrypted", "2 partitions"):
        assert cell in result.stdout


def test_what_is_not_well_has_what_to_do(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    result = check(kafka, "alone", "--model", str(tmp_path / "none.onnx"))
    assert result.exit_code == 2
    for cell in ("topic alone.enriched", "create it, or correct its name", "give another with --model"):
        assert cell in result.stdout


def test_a_head_that_cannot_be_read(kafka: EmbeddedKafka) -> None:
    result = check(kafka, "sound", "--head", "none.onnx")
    assert result.exit_code == 2
    assert "give another with --head" in result.stdout
