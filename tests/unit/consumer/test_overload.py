"""Under load: what is late is passed on, flagged, in its place; nothing is dropped."""

from collections.abc import Sequence

import pytest

from broker.alert import Enriched, Message, Outcome
from broker.avro.deserializer import Deserializer
from broker.flags import SHED, is_partial
from broker.inference import Model
from broker.overload import Admission
from broker.pipeline import Pipeline
from broker.survey import WANTED
from broker.testing.packets import lsst_packet, ztf_packet

NOW = 1_772_337_600.0


def message(offset: int, age: float, value: bytes | None = None) -> Message:
    made = lsst_packet(alert_id=offset) if value is None else value
    return Message(made, "alerts", 0, offset, timestamp_ms=int((NOW - age) * 1000))


@pytest.fixture(scope="module")
def pipeline(untrained_model) -> Pipeline:
    admits = Admission(60.0, clock=lambda: NOW)
    return Pipeline(Deserializer(WANTED), Model.load(untrained_model), admits=admits)


def shed(outcomes: Sequence[Outcome]) -> list[bool]:
    return [isinstance(one, Enriched) and SHED in one.enrichment.flags for one in outcomes]


def test_the_late_are_passed_on_in_their_place(pipeline: Pipeline) -> None:
    messages = [message(n, age) for n, age in enumerate((10, 90, 10, 90))]
    outcomes = pipeline(messages)
    assert shed(outcomes) == [False, True, False, True]
    assert [outcome.message.offset for outcome in outcomes] == [0, 1, 2, 3]
    fresh, late = outcomes[0], outcomes[1]
    assert isinstance(fresh, Enriched)
    assert isinstance(late, Enriched)
    assert fresh.enrichment.embedding is not None
    assert (late.enrichment.embedding, late.enrichment.anomaly, late.enrichment.redshift) == (
        None,
        None,
        None,
    )
    assert is_partial(late.enrichment.flags)
    assert late.alert.alert_id == 1


def test_what_cannot_be_read_is_rejected_late_or_not(pipeline: Pipeline) -> None:
    messages = [message(0, 90, b"no alert"), message(1, 90, ztf_packet())]
    outcomes = pipeline(messages)
    assert not isinstance(outcomes[0], Enriched)
    assert shed(outcomes) == [False, True]


def test_a_share_of_the_late_is_admitted_and_the_same_one_again() -> None:
    admits = Admission(60.0, 0.25, clock=lambda: NOW)
    messages = [message(n, 90, b"") for n in range(400)]
    first = [one.offset for one in messages if admits(one)]
    assert 60 < len(first) < 140
    assert sorted(one.offset for one in messages[200:] + messages[:200] if admits(one)) == first


def test_what_does_not_say_when_it_was_published_is_not_late() -> None:
    assert Admission(60.0, clock=lambda: NOW)(Message(b"", "alerts", 0, 0))
