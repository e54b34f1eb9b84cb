"""A dead letter, read: the message as it came, where it first stood, how often it was tried."""

import io
from dataclasses import replace

import fastavro
import pytest

import schemas
from broker.alert import Message
from broker.errors import AlertError, Reason
from broker.letters import Position
from broker.redrive import record_of
from broker.testing.broken import broken_messages

from .conftest import REJECTED_AT


def test_a_letter_holds_what_came_and_why_it_was_rejected(letter, message) -> None:
    assert (letter.value, letter.key, letter.headers) == (message.value, message.key, message.headers)
    assert letter.position == Position("alerts", 3, 41, 1_600_000_000_123)
    assert (letter.reason, letter.error, letter.version) == ("schema_unknown", "unknown schema", "0.1.0")
    assert (letter.rejected_at, letter.count, letter.is_left_out) == (REJECTED_AT, 0, False)
    assert (letter.topic, letter.partition, letter.offset) == ("alerts.dead-letter", 0, 0)


@pytest.mark.parametrize("keeps_position", [True, False])
def test_a_letter_that_came_back_knows_its_first_place_and_its_redrives(
    letter, message, came_back, read, *, keeps_position: bool
) -> None:
    again = read(came_back(record_of(letter, "alerts.redrive"), offset=1, keeps_position=keeps_position))
    assert (again.count, again.position, again.headers) == (1, letter.position, message.headers)
    third = read(came_back(record_of(again, "alerts.redrive"), offset=2, keeps_position=keeps_position))
    assert (third.count, third.position, third.headers) == (2, letter.position, message.headers)
    assert third.value == message.value


def test_headers_a_survey_happens_to_call_as_ours_stay_its_own(message, letter_message, read) -> None:
    foreign = (("source-topic", b"theirs"), ("redrive-count", b"7"))
    letter = read(letter_message(replace(message, headers=foreign)))
    assert (letter.headers, letter.count, letter.position.topic) == (foreign, 0, "alerts")


def test_an_unknown_time_stays_unknown(message, letter_message, read) -> None:
    letter = read(letter_message(replace(message, timestamp_ms=None)))
    assert letter.position.timestamp_ms is None
    assert dict(letter.position.headers)["source-timestamp"] == b""


@pytest.mark.parametrize("count", [b"", b"many", b"-3", b"9" * 5000])
def test_a_count_that_is_none_is_zero(message, letter_message, read, count: bytes) -> None:
    letter = letter_message(message)
    assert read(replace(letter, headers=(*letter.headers, ("redrive-count", count)))).count == 0


@pytest.mark.parametrize(
    ("name", "is_left_out"), [("value-sha256", True), ("value-bytes", True), ("value-colour", False)]
)
def test_bytes_left_out_are_told_by_a_header(
    message, letter_message, read, name: str, *, is_left_out: bool
) -> None:
    letter = letter_message(replace(message, value=None))
    assert read(replace(letter, headers=(*letter.headers, (name, b"1")))).is_left_out is is_left_out


def schema_of(value: bytes | None, message, letter_message, read) -> str:
    return read(letter_message(replace(message, value=value))).schema


def test_the_schema_is_told_by_id_or_by_fingerprint(message, letter_message, read) -> None:
    given = {bad.label: bad.value for bad in broken_messages()}
    told = {name: schema_of(value, message, letter_message, read) for name, value in given.items()}
    assert told["unknown schema id"] == "id 4242"
    fingerprint = schemas.entry("ztf.v4_02").fingerprint
    assert told["container without a record"] == f"container {fingerprint}"
    assert {told[name] for name in ("text", "empty value", "container magic alone")} == {"unreadable"}
    assert told["tombstone"] == "none"


def test_the_version_that_a_container_s_schema_gives_is_told(message, letter_message, read) -> None:
    out = io.BytesIO()
    fields = [{"name": "schemavsn", "type": "string"}]
    schema = {"type": "record", "name": "ztf.alert", "version": "9.9", "fields": fields}
    fastavro.writer(out, schema, [{"schemavsn": "9.9"}])
    told = schema_of(out.getvalue(), message, letter_message, read)
    assert told == f"container 9.9 {schemas.fingerprint(schema)}"


@pytest.mark.parametrize("value", [None, b"", b"no letter", schemas.sample("enriched_alert.v2.lsst.v11_1")])
def test_what_is_no_letter_is_refused(read, value: bytes | None) -> None:
    with pytest.raises(AlertError):
        read(Message(value, "alerts.dead-letter", 0, 0))


def test_the_sample_of_the_bundle_is_a_letter(read) -> None:
    letter = read(Message(schemas.sample(schemas.DEAD_LETTER), "alerts.dead-letter", 0, 0))
    assert letter.reason in set(Reason)
