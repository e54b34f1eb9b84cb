"""The ledger finds what it is there to find: each fault is made by hand, and must be seen."""

import hashlib
import io
from collections.abc import Callable
from typing import Any

import fastavro
import pytest

import schemas
from broker.testing.packets import lsst_packet, ztf_packet

from .ledger import DIGEST_DIGITS, FRAME_SIZE, Form, Ledger, Position, datum_of

TOPIC = "alerts"
FORMS = {"lsst": "enriched_alert.v2.lsst.v11_1", "ztf": "enriched_alert.v2.ztf.v4_02"}
SENT = {
    (TOPIC, 0, 0): lsst_packet(alert_id=1),
    (TOPIC, 0, 1): ztf_packet(alert_id=2),
    (TOPIC, 0, 2): b"no alert",
}


class Published:
    """What confluent_kafka gives of a record."""

    def __init__(self, topic: str, value: bytes, headers: dict[str, str]) -> None:
        self._topic, self._value, self._headers = topic, value, headers

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 0

    def key(self) -> bytes:
        return b"key"

    def value(self) -> bytes:
        return self._value

    def headers(self) -> list[tuple[str, bytes]]:
        return [(name, value.encode()) for name, value in self._headers.items()]


def at(place: Position) -> dict[str, str]:
    topic, partition, offset = place
    return {
        "source-topic": topic,
        "source-partition": str(partition),
        "source-offset": str(offset),
        "source-timestamp": "17",
    }


def enriched(place: Position, *, lite: bool = False, alert: bytes | None = None, **changed: str) -> Published:
    """What a broker makes of an alert, with another datum or other headers where a fault is wanted."""
    name = FORMS["ztf" if SENT[place].startswith(b"Obj") else "lsst"]
    schema, sample = schemas.load(name), schemas.sample(name)
    form = Form(schema)
    attached, _ = form.split(sample)
    datum = datum_of(SENT[place]) if alert is None else alert
    value = sample[:FRAME_SIZE] + attached + (form.again(datum, stamps=False) if lite else datum)
    told: dict[str, Any] = form.read(value)["enrichment"]
    model = told["model"]
    headers = {
        "survey": told["survey"],
        "alert-id": str(told["alert_id"]),
        "model": f"{model['name']}-{model['version']}-{model['weights_digest'][:DIGEST_DIGITS]}",
        "schema-fingerprint": schemas.fingerprint(schema),
        **at(place),
    }
    return Published(f"{TOPIC}.lite" if lite else f"{TOPIC}.enriched", value, headers | changed)


def letter(value: bytes | None, **more: str) -> Published:
    """A dead letter about the last of those sent."""
    place = (TOPIC, 0, 2)
    schema = schemas.load(schemas.DEAD_LETTER)
    record = Form(schema).read(schemas.sample(schemas.DEAD_LETTER))
    record |= {"value": value, "topic": TOPIC, "partition": 0, "offset": 2, "reason": "frame_invalid"}
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), record)
    headers = {"reason": "frame_invalid", "schema-fingerprint": schemas.fingerprint(schema), **at(place)}
    return Published(f"{TOPIC}.dead-letter", bytes(FRAME_SIZE) + stream.getvalue(), headers | more)


FIRST, SECOND, THIRD = SENT
SOUND = (
    enriched(FIRST),
    enriched(FIRST, lite=True),
    enriched(SECOND),
    enriched(SECOND, lite=True),
    letter(SENT[THIRD]),
)


def entered(*outputs: Published) -> Ledger:
    ledger = Ledger(set(SENT))
    for output in outputs:
        ledger._enter(output, SENT)  # type: ignore[arg-type]
    return ledger


def verdict(ledger: Ledger) -> tuple[int, int, int, int, bool, int]:
    return (
        len(ledger.lost),
        ledger.repeats,
        len(ledger.broken),
        len(ledger.torn),
        ledger.told_apart(),
        ledger.out_of_order,
    )


def test_what_is_sound_is_found_sound() -> None:
    assert verdict(entered(*SOUND)) == (0, 0, 0, 0, True, 0)


def test_repeats_are_counted_and_told_apart() -> None:
    assert verdict(entered(*SOUND, *SOUND)) == (0, 5, 0, 0, True, 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: enriched(FIRST, model="another-1-0123456789abcdef"),
        lambda: enriched(FIRST, **{"source-timestamp": "18"}),
        lambda: enriched(SECOND, **at(FIRST)),
        lambda: enriched(FIRST, lite=True, **{"alert-id": "3"}),
    ],
    ids=["another model", "another time", "another's place", "another id"],
)
def test_a_repeat_of_another_identity_is_not_told_apart(make: Callable[[], Published]) -> None:
    assert not entered(*SOUND, make()).told_apart()


@pytest.mark.parametrize(
    "make",
    [
        lambda: enriched(FIRST, alert=datum_of(lsst_packet(alert_id=9))),
        lambda: enriched(SECOND, alert=datum_of(ztf_packet(alert_id=9))),
        lambda: enriched(FIRST, lite=True, alert=datum_of(lsst_packet(alert_id=9))),
        lambda: enriched(SECOND, lite=True, alert=datum_of(ztf_packet(alert_id=9))),
        lambda: letter(None),
        lambda: letter(b"other bytes"),
        lambda: letter(None, **{"value-bytes": "8", "value-sha256": hashlib.sha256(b"").hexdigest()}),
        lambda: enriched(FIRST, **{"alert-id": "3"}),
        lambda: Published(f"{TOPIC}.lite", enriched(FIRST).value(), enriched(FIRST)._headers),
    ],
    ids=[
        "another Rubin alert",
        "another ZTF alert",
        "another Rubin alert, lite",
        "another ZTF alert, lite",
        "a letter without its bytes",
        "a letter with other bytes",
        "a letter with another digest",
        "a header with another id",
        "a lite record with stamps",
    ],
)
def test_what_does_not_hold_what_came_in_is_broken(make: Callable[[], Published]) -> None:
    assert len(entered(make()).broken) == 1


def test_a_letter_that_says_which_bytes_did_not_fit_is_sound() -> None:
    sent = SENT[THIRD]
    digest = {"value-bytes": str(len(sent)), "value-sha256": hashlib.sha256(sent).hexdigest()}
    ledger = entered(letter(None, **digest))
    assert (ledger.broken, ledger.without_value) == ([], 1)


@pytest.mark.parametrize("missing", [0, 1], ids=["whole", "lite"])
def test_whole_or_lite_alone_is_torn(missing: int) -> None:
    ledger = entered(*SOUND[:missing], *SOUND[missing + 1 :])
    assert ledger.torn == {FIRST}
    assert ledger.lost == ({FIRST} if missing == 0 else set())


def test_a_step_back_is_seen_on_either_topic() -> None:
    assert entered(SOUND[2], SOUND[0]).out_of_order == 1
    assert entered(SOUND[3], SOUND[1]).out_of_order == 1
