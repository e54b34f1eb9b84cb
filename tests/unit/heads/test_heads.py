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
from typer.testing import CliRunner

from encoder.cli.commands import app
from encoder.head_file import write_head
from encoder.head_fit import Measured, _linear, fit, folds, measure
from encoder.head_report import LearningCurve, calibration, learning_curve
from encoder.labels import EXAMPLE, read_labels
from encoder.outputs import whole_text

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(90, 64)).astype(np.float32)
GROUPS = np.repeat(np.arange(45), 2)
MODEL = Model.load()


def written(path: Path, linear, digest=MODEL.contract.weights_digest) -> Path:
    score = Measured(0.5, 0.4, 0.6, np.zeros(1), None)
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


def test_weights_that_were_changed_are_refused(tmp_path):
    path = written(tmp_path / "h.onnx", linear := _linear(X, X[:, 0], "regression", 1.0))
    weight = linear.weight.astype(np.float32).tobytes()
    path.write_bytes(path.read_bytes().replace(weight, bytes((weight[0] ^ 1,)) + weight[1:]))
    with pytest.raises(ModelRefused, match="changed after they were exported"):
        Head.load(path, MODEL.contract)


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


def test_other_columns_can_be_named_and_those_found_are_said(tmp_path):
    path = tmp_path / "my.csv"
    path.write_text("candid,drb,class\n17,0.9,real\n", encoding="utf-8")
    assert read_labels(path, "candid", "class") == {17: "real"}
    with pytest.raises(SettingsError, match=r"begins 'candid,drb,class'.*must name alert_id and label"):
        read_labels(path)


def test_a_field_longer_than_csv_takes_is_refused_in_one_line(tmp_path):
    path = tmp_path / "my.csv"
    path.write_text(f"alert_id,label\n17,{'x' * 200_000}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="cannot be read as CSV"):
        read_labels(path)


@pytest.mark.parametrize(("output", "said"), [("no/out", "no does not exist"), (".", "is a folder")])
@pytest.mark.parametrize(
    "arguments",
    [["apply-head", "--head", "none.onnx", "none"], ["fit-head", "--labels", "no.csv", "--alerts", "none"]],
)
def test_a_wrong_output_is_refused_before_any_work(arguments, output, said, tmp_path):
    with pytest.raises(SettingsError, match=said):
        CliRunner().invoke(app, [*arguments, "--output", f"{tmp_path}/{output}"], catch_exceptions=False)


def test_a_table_that_was_not_finished_does_not_take_the_place_of_another(tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_text("of yesterday")

    def interrupted():
        with whole_text(path) as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "of yesterday"
    assert list(tmp_path.iterdir()) == [path]


def learnable(count):
    rng = np.random.default_rng(2)
    truth = np.where(rng.random(count) < 0.5, "a", "b")
    return rng.normal(size=(count, 64)) + 0.6 * (truth == "a")[:, None] * np.eye(64)[0], truth


def test_the_learning_curve_rises_where_there_is_something_to_learn():
    x, truth = learnable(400)
    curve = learning_curve(x, truth, np.arange(400), "classification", "balanced")
    assert len(curve.labels) == 4
    assert curve.labels[-1] == 320
    assert curve.score[-1] > curve.score[0]


def test_nothing_is_promised_where_nothing_is_learned():
    x = learnable(160)[0]
    truth = np.where(np.arange(160) % 2 == 0, "a", "b")
    curve = learning_curve(x, truth, np.arange(160), "classification", "none")
    assert "cannot be told" in curve.sentence("balanced accuracy")


def test_too_few_of_a_class_for_a_curve_is_said():
    x, truth = learnable(60)
    truth[:] = "a"
    truth[:6] = "b"
    curve = learning_curve(x, truth, np.arange(60), "classification", "balanced")
    assert "so few of the rarest class" in curve.sentence("balanced accuracy")


def test_the_gain_of_a_logarithmic_curve_is_exact():
    labels = np.array([50.0, 100.0, 150.0, 200.0])
    curve = LearningCurve(labels, 0.3 + 0.1 * np.log(labels), np.full(4, 0.001))
    gain, error = curve.gain(200)
    assert gain == pytest.approx(0.1 * np.log(2))
    assert error < gain
    assert curve.sentence("R2") == f"Another 200 labels would bring about {gain:+.3f} ± {error:.3f} of R2."


def test_probabilities_that_are_right_are_calibrated():
    x, truth = learnable(600)
    groups = np.arange(600)
    found = measure(x, truth, groups, "classification")
    linear = fit(x, truth, groups, "classification")
    assert found.probability.sum(1) == pytest.approx(1)
    assert calibration(found, linear, truth) < 0.12
    sure = Measured(0, 0, 0, found.unseen, np.eye(2)[(found.unseen == "b").astype(int)])
    assert calibration(sure, linear, truth) > calibration(found, linear, truth)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_from_labels_to_predictions_by_the_commands(kind, tmp_path):
    """A head that others fitted in the broker's own form, its picture, and a table of predictions."""
    names = range(10, 50)
    for n in names:
        (tmp_path / f"{n}.avro").write_bytes(ztf_packet(alert_id=n, object_id=f"ZTF{n:011d}"))
    said = [f"{n},{('odd', 'even')[n % 2 == 0] if kind == 'classification' else n / 7}" for n in names]
    (tmp_path / "my.csv").write_text(
        "\n".join(["alert_id,label", *said, "5,odd" if kind == "classification" else "5,1"])
    )
    head = tmp_path / "head.onnx"
    arguments = ["--labels", f"{tmp_path}/my.csv", "--alerts", str(tmp_path), "--output", str(head)]
    result = CliRunner().invoke(app, ["fit-head", *arguments], catch_exceptions=False)
    text = " ".join(result.output.split())
    assert result.exit_code == 0
    assert "40 labels with their alert; 1 labels without an alert (5)" in text
    assert ("recall" in text) == (kind == "classification")
    assert ("mean absolute error" in text) == (kind == "regression")
    assert head.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    held_out = head.with_suffix(".cv.csv").read_text().splitlines()
    assert held_out[0].startswith("alert_id,label,held_out_prediction")
    assert [int(line.split(",")[0]) for line in held_out[1:]] == list(names)
    table = tmp_path / "predictions.csv"
    arguments = ["--head", str(head), str(tmp_path), "--output", str(table)]
    assert CliRunner().invoke(app, ["apply-head", *arguments], catch_exceptions=False).exit_code == 0
    assert len(table.read_text().splitlines()) == 41


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--labels", "my.csv"], "either --alerts or --topic"),
        (["--labels", "m", "--alerts", "a", "--topic", "t", "--output", "h"], "either --alerts or --topic"),
        (
            ["--labels", "m", "--alerts", "a", "--output", "h", "--weighting", "odd"],
            "wanted balanced or none",
        ),
    ],
)
def test_arguments_that_do_not_go_together(arguments, said):
    with pytest.raises(SettingsError, match=said):
        CliRunner().invoke(app, ["fit-head", *arguments], catch_exceptions=False)


@pytest.mark.parametrize("name", ["alert_id", "candid", "diaSourceId"])
def test_ids_are_found_under_the_names_that_surveys_use(name, tmp_path):
    (tmp_path / "my.csv").write_text(f"{name},label\n7,a\n8,b\n")
    assert read_labels(tmp_path / "my.csv") == {7: "a", 8: "b"}
