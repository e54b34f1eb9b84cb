"""Messages in, outcomes out: one for each, in their order, whatever the message."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from broker import flags
from broker.alert import Enriched, Message, Outcome, Rejected
from broker.answers import summarise
from broker.avro.deserializer import Deserializer
from broker.errors import Reason
from broker.inference import Model
from broker.pipeline import MOST_MESSAGES, Pipeline
from broker.survey import WANTED
from broker.testing.packets import Visit, lsst_packet, ztf_packet

Run = Callable[..., list[Outcome]]


@pytest.fixture(scope="module")
def model(untrained_model: Path) -> Model:
    return Model.load(untrained_model)


@pytest.fixture(scope="module")
def run(model: Model) -> Run:
    pipeline = Pipeline(Deserializer(WANTED), model)

    def call(*values: bytes | None) -> list[Outcome]:
        return pipeline([Message(value, "alerts", 0, i) for i, value in enumerate(values)])

    return call


def only(outcomes: list[Outcome]) -> Enriched:
    (outcome,) = outcomes
    assert isinstance(outcome, Enriched), outcome
    return outcome


def test_no_messages_give_no_outcomes(run: Run) -> None:
    assert run() == []


def test_outcomes_keep_the_order_of_a_mixed_topic(run: Run) -> None:
    lsst, ztf = lsst_packet(alert_id=7), ztf_packet(alert_id=8)
    outcomes = run(b"nonsense", lsst, None, ztf, lsst_packet(alert_id=9))
    assert [o.message.offset for o in outcomes] == [0, 1, 2, 3, 4]
    found = [o.alert.alert_id if isinstance(o, Enriched) else o.reason for o in outcomes]
    assert found == [Reason.FRAME_INVALID, 7, Reason.NULL_VALUE, 8, 9]


def test_a_batch_of_nothing_but_rejects_never_reaches_the_network(run: Run) -> None:
    assert all(isinstance(o, Rejected) for o in run(b"", None, b"\x00\x00"))


@pytest.mark.parametrize("packet", [lsst_packet(), ztf_packet()], ids=["lsst", "ztf"])
def test_a_sound_alert_gets_everything(run: Run, model: Model, packet: bytes) -> None:
    enrichment = only(run(packet)).enrichment
    assert enrichment.embedding is not None
    assert np.linalg.norm(enrichment.embedding) == pytest.approx(1, abs=1e-5)
    assert enrichment.morphology is not None
    assert enrichment.top_class in model.contract.morphology_classes
    assert enrichment.redshift is not None
    assert enrichment.redshift.low <= enrichment.redshift.high
    assert enrichment.anomaly is not None
    assert 0 <= enrichment.anomaly <= 1
    for view in (enrichment.anomaly_interesting, enrichment.anomaly_artefact):
        assert view is not None
        assert 0 <= view <= 1
    assert enrichment.anomaly_reason is not None
    assert f"most like {enrichment.top_class}".replace("_", " ") in enrichment.anomaly_reason
    assert enrichment.model.digest == model.contract.weights_digest
    assert not flags.is_partial(enrichment.flags)


@pytest.mark.parametrize("flux", [1e9, 1e12, 1e21, 1e30, 3e38, -3e38])
def test_whatever_the_flux_what_the_packaged_model_gives_is_finite_or_flagged(flux: float) -> None:
    pipeline = Pipeline(Deserializer(WANTED), Model.load())
    packet = lsst_packet(visit=Visit(template_flux=flux))
    enrichment = only(pipeline([Message(packet, "alerts", 0, 0)])).enrichment
    assert enrichment.redshift is None or np.isfinite(enrichment.redshift.pdf).all()
    assert (enrichment.redshift is None) == (flags.MODEL_OUTPUT_INVALID in enrichment.flags)


class Broken:
    """A model one of whose outputs is NaN."""

    def __init__(self, model: Model, output: str) -> None:
        self._model, self._output = model, output
        self.contract = model.contract

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        outputs = self._model(inputs)
        return {**outputs, self._output: np.full_like(outputs[self._output], np.nan)}


@pytest.mark.parametrize(
    ("output", "part"),
    [
        ("embedding", "embedding"),
        ("morphology", "morphology"),
        ("photoz_pdf", "redshift"),
        ("anomaly", "anomaly"),
        ("anomaly_interesting", "anomaly_interesting"),
        ("anomaly_artefact", "anomaly_artefact"),
    ],
)
def test_an_output_that_is_not_finite_is_null_and_flagged(model: Model, output: str, part: str) -> None:
    pipeline = Pipeline(Deserializer(WANTED), Broken(model, output))
    enrichment = only(pipeline([Message(lsst_packet(), "alerts", 0, 0)])).enrichment
    assert flags.MODEL_OUTPUT_INVALID in enrichment.flags
    for name in ("embedding", "morphology", "redshift", "anomaly", "anomaly_interesting", "anomaly_artefact"):
        assert (getattr(enrichment, name) is None) == (name == part)
    assert (enrichment.anomaly_reason is None) == (part == "anomaly")


def test_an_alert_does_not_depend_on_its_neighbours(run: Run) -> None:
    alone = only(run(lsst_packet(alert_id=1))).enrichment
    among = run(ztf_packet(), lsst_packet(alert_id=1), lsst_packet([None, None, None], alert_id=2))[1]
    assert isinstance(among, Enriched)
    assert alone.embedding is not None
    assert among.enrichment.embedding is not None
    np.testing.assert_allclose(among.enrichment.embedding, alone.embedding, atol=1e-5)


def test_without_any_stamp_only_photometry_speaks(run: Run) -> None:
    enrichment = only(run(lsst_packet([None, None, None]))).enrichment
    assert enrichment.embedding is None
    assert enrichment.morphology is None
    assert enrichment.anomaly is enrichment.anomaly_interesting is enrichment.anomaly_artefact is None
    assert enrichment.anomaly_reason is None
    assert enrichment.redshift is not None
    assert enrichment.redshift.source == "photometry"
    assert {"cutout_null:science", "cutout_null:template", "cutout_null:difference"} <= set(enrichment.flags)


def test_without_stamps_or_photometry_there_is_no_redshift(run: Run) -> None:
    assert only(run(ztf_packet([None, None, None]))).enrichment.redshift is None


def test_a_broken_stamp_costs_that_stamp_only(run: Run) -> None:
    science, _, difference = (bytes(stamp or b"") for stamp in only(run(lsst_packet())).alert.cutouts)
    broken = only(run(lsst_packet([science, b"no FITS", difference])))
    assert "cutout_unreadable:template" in broken.enrichment.flags
    assert flags.is_partial(broken.enrichment.flags)
    assert broken.enrichment.embedding is not None


@pytest.mark.parametrize("packet", [lsst_packet(), ztf_packet()], ids=["lsst", "ztf"])
def test_every_flag_is_in_the_vocabulary(run: Run, packet: bytes) -> None:
    assert set(only(run(packet)).enrichment.flags) <= flags.VOCABULARY


def test_summaries_of_an_even_pdf_are_exact() -> None:
    point, low, high = summarise(np.full((1, 10), 0.1, dtype=np.float32), 0.0, 2.0)
    assert (point[0], low[0], high[0]) == (pytest.approx(1.0), pytest.approx(0.32), pytest.approx(1.68))


def test_summaries_of_a_single_bin_stay_inside_it() -> None:
    pdf = np.zeros((1, 4), dtype=np.float32)
    pdf[0, 3] = 1
    point, low, high = summarise(pdf, 0.0, 4.0)
    assert (point[0], low[0], high[0]) == (pytest.approx(3.5), pytest.approx(3.16), pytest.approx(3.84))


def test_percentiles_agree_with_numpy_on_many_draws() -> None:
    rng = np.random.default_rng(1)
    pdf = rng.dirichlet(np.ones(40)).astype(np.float32)[None]
    draws = (rng.choice(40, 400_000, p=pdf[0] / pdf[0].sum()) + rng.random(400_000)) * 0.05
    point, low, high = summarise(pdf, 0.0, 2.0)
    drawn = [draws.mean(), *np.percentile(draws, [16, 84])]
    np.testing.assert_allclose([point[0], low[0], high[0]], drawn, atol=0.01)


class Watched:
    """A model and a deserializer that say when they are used; the model waits until a message was read."""

    def __init__(self, model: Model, wait_for: int) -> None:
        self.contract = model.contract
        self.events: list[str] = []
        self._model = model
        self._deserialize = Deserializer(WANTED)
        self._wait_for = wait_for
        self._is_read = threading.Event()

    def deserialize(self, value: bytes | None) -> Any:
        self.events.append("read")
        if self.events.count("read") >= self._wait_for:
            self._is_read.set()
        return self._deserialize(value)

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        if not self._is_read.wait(30):
            raise TimeoutError("the network was left to itself")
        self.events.append("answered")
        return self._model(inputs)

    def outcomes(self, values: list[bytes]) -> list[Outcome]:
        pipeline = Pipeline(self.deserialize, self)  # type: ignore[arg-type]
        return pipeline([Message(value, "alerts", 0, i) for i, value in enumerate(values)])


def test_the_next_piece_is_read_while_the_network_sees_one(model: Model) -> None:
    count = 2 * MOST_MESSAGES + 1
    watched = Watched(model, wait_for=2 * MOST_MESSAGES)
    found = watched.outcomes([lsst_packet(alert_id=i) for i in range(count)])
    assert [o.alert.alert_id for o in found if isinstance(o, Enriched)] == list(range(count))
    assert watched.events.index("answered") == 2 * MOST_MESSAGES
    assert watched.events.count("answered") == 3


def test_beside_what_inflates_nothing_is_read(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.pipeline.MOST_AHEAD", 0)
    watched = Watched(model, wait_for=0)
    found = watched.outcomes([lsst_packet(alert_id=i) for i in range(2 * MOST_MESSAGES)])
    assert len(found) == 2 * MOST_MESSAGES
    assert watched.events.index("answered") == MOST_MESSAGES


def test_what_ends_the_network_ends_the_pipeline(model: Model) -> None:
    def fails(_inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        raise RuntimeError("no memory")

    fails.contract = model.contract  # type: ignore[attr-defined]
    pipeline = Pipeline(Deserializer(WANTED), fails)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="no memory"):
        pipeline([Message(lsst_packet(), "alerts", 0, 0)])
