"""Dead letters as the broker writes them, also of messages that were redriven before."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from broker.alert import Message, Record, Rejected
from broker.avro.serializer import DeadLetterSerializer
from broker.errors import Reason
from broker.letters import Letter, LetterReader
from broker.records import RecordBuilder

REJECTED_AT = datetime(2026, 3, 1, 4, tzinfo=UTC)


@pytest.fixture
def message() -> Message:
    """What a survey sent: key, a time, headers that repeat a name and have no value."""
    headers = (("producer_timestamp", b"17"), ("odd", None), ("odd", b"\xff"))
    return Message(b"\0\0\0\x10\x92junk", "alerts", 3, 41, b"\xfekey", headers, 1_600_000_000_123)


@pytest.fixture
def letter_message() -> Callable[..., Message]:
    """Make the message that a dead letter is, from what was rejected."""

    def make(
        message: Message, reason: Reason = Reason.SCHEMA_UNKNOWN, *, offset: int = 0, partition: int = 0
    ) -> Message:
        (record,) = RecordBuilder(lambda _topic: "alerts", "0.1.0")(
            Rejected(message, reason, "unknown schema")
        ).records
        # At a time of our own, in the builder's frame.
        clock = lambda: int(REJECTED_AT.timestamp() * 1e9)  # noqa: E731
        value = DeadLetterSerializer("0.1.0", clock)(Rejected(message, reason, "unknown schema"))
        return Message(value, record.topic, partition, offset, record.key, record.headers, 1)

    return make


@pytest.fixture
def came_back(letter_message) -> Callable[..., Message]:
    """Make the letter of a message that was redriven and rejected again.

    With ``keeps_position`` its headers say where it first stood, as the broker's do; without, only those that it
    carries itself.
    """

    def make(record: Record, *, offset: int, keeps_position: bool = True) -> Message:
        redriven = Message(record.value, record.topic, 0, 900 + offset, record.key, record.headers, 5)
        letter = letter_message(redriven, offset=offset)
        if not keeps_position:
            return letter
        own = tuple(one for one in letter.headers if not one[0].startswith("source-"))
        return replace(letter, headers=(*own, *record.headers[-5:]))

    return make


@pytest.fixture
def read() -> LetterReader:
    return LetterReader()


@pytest.fixture
def letter(message, letter_message, read) -> Letter:
    return read(letter_message(message))
