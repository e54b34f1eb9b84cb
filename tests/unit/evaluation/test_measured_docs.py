"""What documents say was measured is what the reports say."""

from pathlib import Path

import pytest

from broker.errors import SettingsError
from broker.inference import Model
from encoder.evaluate import Measured
from encoder.evaluation.result import Evaluation, Section, Target
from encoder.evaluation.summary import BLOCK, filled

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = ("docs/evaluation.md", "README.md")


def load(name):
    return Evaluation.model_validate_json((ROOT / "docs" / "measured" / f"{name}.json").read_text())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_numbers_in_documents_are_those_of_the_reports(name):
    text = (ROOT / name).read_text()
    assert BLOCK.search(text), "no number is measured"
    assert filled(text, load) == text, "run python tools/evaluation_tables.py"


def test_every_report_is_used_and_names_no_path():
    told = "".join((ROOT / name).read_text() for name in DOCUMENTS)
    for path in (ROOT / "docs" / "measured").glob("*.json"):
        assert f'"{path.stem}"' in told
        report = load(path.stem)
        assert not any("/" in source.name for source in report.sources)


def test_real_alerts_were_measured_with_the_model_that_is_packaged():
    assert load("ztf").weights_digest == Model.load().contract.weights_digest


def made_up(_):
    score = {
        "auc": Measured(value=0.5, low=0.25, high=0.75, n=9),
        "crps": Measured(value=1, low=1, high=1, n=9),
    }
    section = Section(
        title="Sky: deep",
        method="m",
        tables={"by N": {"ours, N = 5": score, "theirs, N = 5": score}},
        targets=(Target(text="better", reached=False, found="worse"),),
    )
    return Evaluation(encoder="e", weights_digest="", version="0", made="", sources=(), sections=(section,))


def block(asked, inside=""):
    return f"before\n<!-- measured {asked} -->\n{inside}<!-- end -->\nafter\n"


def test_a_table_is_written_between_the_comments_and_only_there():
    asked = '{"file": "x", "section": "Sky", "table": "by", "metrics": ["auc"], "rows": ["ours"]}'
    once = filled(block(asked, "old\n"), made_up)
    assert "| ours, N = 5 | 0.500 [0.250, 0.750] |" in once
    assert "old" not in once
    assert "theirs" not in once
    assert once.startswith("before\n")
    assert once.endswith("after\n")
    assert filled(once, made_up) == once


def test_a_miss_is_shown():
    assert "| Sky: deep | better | **no** | worse |" in filled(
        block('{"targets": true, "files": ["x"]}'), made_up
    )


def test_what_a_report_does_not_have_is_told():
    with pytest.raises(SettingsError, match="Sky: deep: wanted one that begins with 'Sea'"):
        filled(block('{"file": "x", "section": "Sea"}'), made_up)
