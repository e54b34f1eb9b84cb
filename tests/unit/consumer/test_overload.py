"""Under load: what is late is passed on, flagged, in its place; nothing is dropped."""

from collections.abc import Iterable, Iterator, Sequence

import pytest

from broker.alert import Enriched, Message, Outcome
from broker.avro.deserializer import Deserializer
from broker.flags import SHED, is_partial
from broker.inference import Model
from broker.overload import Shedding
from broker.pipeline import Pipeline
from broker.survey import WANTED
from broker.testing.packets import lsst_packet, ztf_packet

NOW = 1_772_337_600.0


def message(offset: int, age: float, value: bytes | None = None) -> Message:
    made = lsst_packet(alert_id=offset) if value is None else value
    return Message(made, "alerts", 0, offset, timestamp_ms=int((NOW - age) * 1000))


@pytest.fixture(scope="module")
def pipeline(untrained_model) -> Pipeline:
    return Pipeline(Deserializer(WANTED), Model.load(untrained_model))


def shed(outcomes: Sequence[Outcome]) -> list[bool]:
    return [isinstance(one, Enriched) and SHED in one.enrichment.flags for one in outcomes]


def test_the_late_are_passed_on_in_their_place(pipeline: Pipeline) -> None:
    messages = [message(n, age) for n, age in enumerate((10, 90, 10, 90))]
    outcomes = list(Shedding(pipeline, 60.0, clock=lambda: NOW).outcomes(messages))
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
    outcomes = list(Shedding(pipeline, 60.0, clock=lambda: NOW).outcomes(messages))
    assert not isinstance(outcomes[0], Enriched)
    assert shed(outcomes) == [False, True]


def test_a_share_of_the_late_is_seen_and_the_same_one_again(pipeline: Pipeline) -> None:
    packet = ztf_packet()
    messages = [message(n, 90, packet) for n in range(400)]
    seen: list[Message] = []

    class Counting:
        def outcomes(self, some: Iterable[Message]) -> Iterator[Outcome]:
            some = list(some)
            seen.extend(some)
            return pipeline.pass_on(some)

        pass_on = staticmethod(pipeline.pass_on)

    sample = Shedding(Counting(), 60.0, 0.25, clock=lambda: NOW)
    list(sample.outcomes(messages))
    first, seen[:] = [one.offset for one in seen], []
    assert 60 < len(first) < 140
    list(sample.outcomes(messages[200:] + messages[:200]))
    assert sorted(one.offset for one in seen) == first
