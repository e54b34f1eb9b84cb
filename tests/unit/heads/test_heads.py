"""A head of one's own: fitted, written, bound to its encoder, attached to alerts."""

from pathlib import Path

import numpy as np
import pytest

from broker.alert import Message
from broker.avro.deserializer import Deserializer
from broker.errors import ModelRefused, SettingsError
from broker.inference import Head, Model
from broker.pipeline import Pipeline
from broker.survey import WANTED
from broker.testing.packets import ztf_packet

pytest.importorskip("sklearn")
pytest.importorskip("onnx")

from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from encoder.head_file import write_head
from encoder.head_fit import Measured, _linear, folds, measure
from encoder.labels import EXAMPLE, read_labels

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(90, 64)).astype(np.float32)
GROUPS = np.repeat(np.arange(45), 2)
MODEL = Model.load()


def written(path: Path, linear, digest=MODEL.contract.weights_digest) -> Path:
    score = Measured(0.5, 0.4, 0.6, np.zeros(1))
    write_head(path, linear, score, name="mine", encoder_digest=digest, n_labels=90, n_objects=45)
    return path


@pytest.mark.parametrize("classes", [2, 3])
def test_the_file_gives_the_probabilities_of_scikit_learn(classes, tmp_path):
    truth = np.array([f"c{n % classes}" for n in range(90)])
    there = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5000, class_weight="balanced"))
    expected = there.fit(X.astype(float), truth).predict_proba(X)
    head = Head.load(written(tmp_path / "h.onnx", _linear(X, truth, "classification", 0.1)), MODEL.contract)
    assert np.abs(head(X) - expected).max() < 1e-5


def test_the_file_gives_the_values_of_ridge(tmp_path):
    truth = X[:, 0] * 2.0 + 1
    expected = make_pipeline(StandardScaler(), Ridge(alpha=10)).fit(X.astype(float), truth).predict(X)
    head = Head.load(written(tmp_path / "h.onnx", _linear(X, truth, "regression", 0.1)), MODEL.contract)
    assert np.abs(head(X)[:, 0] - expected).max() < 1e-5


def test_another_encoder_is_refused_with_what_to_do(tmp_path):
    path = written(tmp_path / "h.onnx", _linear(X, X[:, 0], "regression", 1.0), "0" * 64)
    with pytest.raises(ModelRefused, match=r"--model, or fit it again"):
        Head.load(path, MODEL.contract)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_no_object_is_on_both_sides(kind):
    truth = np.array(["a", "b", "c"])[np.arange(90) % 3] if kind == "classification" else X[:, 0]
    for train, test in folds(truth, GROUPS, kind):
        assert not set(GROUPS[train]) & set(GROUPS[test])


def test_labels_that_mean_nothing_score_as_chance():
    truth = np.where(RANDOM.random(90) < 0.5, "a", "b")
    found = measure(X, truth, GROUPS, "classification")
    assert found.low < 0.5 < found.high


def test_the_pipeline_attaches_what_the_head_says(tmp_path):
    truth = np.array(["a", "b", "c"])[np.arange(90) % 3]
    head = Head.load(written(tmp_path / "h.onnx", _linear(X, truth, "classification", 1.0)), MODEL.contract)
    pipeline = Pipeline(Deserializer(WANTED), MODEL, [head])
    whole, blind = ztf_packet(), ztf_packet(stamps=(None, None, None))
    seen, unseen = (o.enrichment for o in pipeline([Message(v, "t", 0, 0) for v in (whole, blind)]))
    (said,) = seen.heads
    assert (said.name, said.digest, said.labels) == ("mine", head.contract.weights_digest, ("a", "b", "c"))
    assert np.allclose(said.values, head(seen.embedding[None])[0], atol=1e-6)
    assert unseen.embedding is None
    assert unseen.heads == ()


def test_a_spreadsheets_mark_and_quotes_are_passed_over(tmp_path):
    path = tmp_path / "my.csv"
    path.write_text('\ufeffalert_id,label\n"1127561442115015003", real\n', encoding="utf-8")
    assert read_labels(path) == {1127561442115015003: "real"}


def test_an_id_a_spreadsheet_destroyed_is_refused_with_why(tmp_path):
    path = tmp_path / "my.csv"
    path.write_text("alert_id,label\n1.70e17,real\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="last digits are lost"):
        read_labels(path)


def test_the_example_is_a_labels_file(tmp_path):
    (tmp_path / "my.csv").write_text(EXAMPLE, encoding="utf-8")
    assert len(read_labels(tmp_path / "my.csv")) == 2
