"""The page says what the JSON says, escaped, with its plots inside."""

from encoder.evaluate import Measured
from encoder.evaluation.page import page
from encoder.evaluation.result import Curve, Evaluation, Section, Source, Target

NUMBER = Measured(value=0.512, low=0.4, high=0.6, n=1200)
EVALUATION = Evaluation(
    encoder="a<b>.onnx",
    weights_digest="abc",
    version="1",
    made="2026-11-24T00:00:00+00:00",
    sources=(Source(name="sky", content="alerts", rows=12, digest="0" * 64),),
    sections=(
        Section(
            title="Question",
            method="how & why",
            tables={"table": {"method": {"macro_f1": NUMBER}}},
            curves={
                "F1": {"method": Curve(labels=(50, 100), mean=(0.4, 0.5), low=(0.3, 0.4), high=(0.5, 0.6))}
            },
            targets=(Target(text="at least 1", reached=False, found="0.5"),),
            definitions={"macro_f1": "mean F1"},
        ),
    ),
)


def test_it_says_everything() -> None:
    html = page(EVALUATION)
    for text in ("a&lt;b&gt;.onnx", "how &amp; why", "0.512", "[0.400, 0.600]", "1,200", "missed", "mean F1"):
        assert text in html
    assert "<b>.onnx" not in html
    assert html.count("<svg") == 1
    assert "<script" not in html


def test_json_comes_back_equal() -> None:
    assert Evaluation.model_validate_json(EVALUATION.model_dump_json()) == EVALUATION
