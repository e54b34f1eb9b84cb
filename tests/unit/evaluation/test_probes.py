"""Probes of real alerts: labels by columns, objects never on both sides, what is missing is said."""

from pathlib import Path

import numpy as np
import pytest

from broker.errors import SettingsError
from encoder.evaluation import probes as subject
from encoder.evaluation.probes import evaluate_alerts, numbers, probe, read_columns

COUNT = 240


@pytest.fixture(autouse=True)
def _few_divisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for signals as plain as these."""
    monkeypatch.setattr(subject, "SEEDS", 1)
    monkeypatch.setattr(subject, "FOLDS", 5)
    monkeypatch.setattr(subject, "INNER_FOLDS", 3)


def rows_and_labels(signal: float) -> tuple[list[dict[str, object]], dict[int, dict[str, str]]]:
    rng = np.random.default_rng(1)
    real = rng.random(COUNT) < 0.7
    rows: list[dict[str, object]] = [
        {
            "alert_id": i,
            "object_id": f"o{i // 2}",
            "embedding": rng.normal(size=4) + signal * real[i],
            "p_bogus": 0.1 if real[i] else 0.9,
            "p_star": 0.5,
            "redshift": 0.1,
            "redshift_low": 0.05,
            "redshift_high": 0.15,
        }
        for i in range(COUNT)
    ]
    known = {
        i: {"candid": str(i), "drb": "0.99" if real[i] else "0.01", "spec_z": "0.1" if i < 40 else ""}
        for i in range(COUNT)
    }
    return rows, known


def test_a_probe_finds_a_direction_and_outputs_are_read() -> None:
    rows, known = rows_and_labels(2.0)
    section = evaluate_alerts(rows, known)
    (title,) = [name for name in section.tables if name.startswith("real/bogus")]
    table = section.tables[title]
    assert table["probe on the embedding"]["auc"].value > 0.95
    own = next(row for name, row in table.items() if name.startswith("the model's own p_bogus"))
    assert own["auc"].value == 1.0
    assert section.targets[0].reached
    assert (
        section.tables["redshift of alerts with a spectrum"]["the model's redshift"]["coverage_68"].value == 1
    )


def test_baselines_stand_beside_and_are_told_apart() -> None:
    rows, known = rows_and_labels(0.0)
    rng = np.random.default_rng(3)
    for row in rows:
        real = float(known[row["alert_id"]]["drb"]) > 0.5  # type: ignore[index]
        row["pixels"] = rng.normal(size=30) + 3.0 * real
        row["photometry"] = rng.normal(size=12)
    title, table = next(iter(evaluate_alerts(rows, known).tables.items()))
    real = sum(row["drb"] == "0.99" for row in known.values())
    assert title.endswith(f"{real} against {COUNT - real}")
    assert table["probe on PCA of pixels"]["auc"].value > 0.95
    assert table["probe on the packet's photometry"]["auc"].value == pytest.approx(0.5, abs=0.12)


def test_noise_is_worth_chance() -> None:
    rows, known = rows_and_labels(0.0)
    table = next(iter(evaluate_alerts(rows, known).tables.values()))
    assert table["probe on the embedding"]["auc"].value == pytest.approx(0.5, abs=0.12)


def test_an_object_is_never_on_both_sides() -> None:
    # Twins share everything but chance decides their label: one that has seen the other would know.
    rng = np.random.default_rng(2)
    x = np.repeat(rng.normal(size=(100, 60)), 2, axis=0)
    truth = np.repeat(rng.random(100) < 0.5, 2)
    score = probe(x, truth, np.repeat(np.arange(100), 2))
    assert abs((score[truth].mean() - score[~truth].mean()) / score.std()) < 0.8


def test_what_cannot_be_asked_is_said() -> None:
    rows, known = rows_and_labels(2.0)
    assert any("sgscore1" in remark for remark in evaluate_alerts(rows, known).remarks)


def test_labels_of_other_alerts_are_refused() -> None:
    rows, known = rows_and_labels(2.0)
    with pytest.raises(SettingsError, match="none of 240 alerts"):
        evaluate_alerts(rows, {key + 1000: value for key, value in known.items()})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("drb,candid\n0.5,17\n0.9\n", "line 3: alert_id '' is no whole number"),
        ("candid,drb\n17,0.5\n18,0.9,\n", "line 3 has more than the 2 fields"),
        ("candid,drb\n17,0.5\n18,0.9\n17,0.1\n", "line 4: alert 17 has a row above already"),
        ("candid,drb\n1.7e17,0.5\n", "last digits are lost"),
        (f"candid,drb\n17,{'0' * 200_000}\n", "cannot be read as labels by alert id: field larger"),
    ],
)
def test_rows_that_would_be_misread_are_refused_with_their_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(SettingsError, match=said):
        read_columns(path)


def test_a_field_that_is_left_out_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("candid,drb\n17,0.5\n18\n")
    np.testing.assert_array_equal(numbers([*read_columns(path).values()], "drb"), [0.5, np.nan])


def test_labels_without_ids_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("name,drb\nx,1\n")
    with pytest.raises(SettingsError, match="columns name, drb: wanted one of candid"):
        read_columns(path)
