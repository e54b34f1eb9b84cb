"""`encoder embed`: the broker's own numbers for every alert of an archive."""

import csv
import io
import subprocess
import sys
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from broker.alert import Enriched, Message
from broker.avro.deserializer import Deserializer
from broker.errors import SettingsError
from broker.inference import Model
from broker.pipeline import Pipeline
from broker.survey import WANTED
from broker.testing.packets import lsst_packet, ztf_packet
from encoder.cli.commands import app

PACKETS = [lsst_packet(alert_id=2**60 + 1), ztf_packet(alert_id=7), lsst_packet(alert_id=3)]


@pytest.fixture
def night(tmp_path):
    path = tmp_path / "night.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for n, packet in enumerate([*PACKETS[:2], b"\0 no alert", *PACKETS[2:]]):
            info = tarfile.TarInfo(f"{n}.avro")
            info.size = len(packet)
            tar.addfile(info, io.BytesIO(packet))
    return path


def embed(*arguments):
    return CliRunner().invoke(app, ["embed", *map(str, arguments)], catch_exceptions=False)


def published():
    found = Pipeline(Deserializer(WANTED), Model.load())(
        [Message(p, "t", 0, n) for n, p in enumerate(PACKETS)]
    )
    assert all(isinstance(outcome, Enriched) for outcome in found)
    return found


def test_rows_are_what_the_broker_publishes_in_the_order_of_the_files(night, tmp_path):
    result = embed(night, "--output", tmp_path / "f.parquet")
    assert result.exit_code == 0
    table = pq.read_table(tmp_path / "f.parquet")
    assert table["alert_id"].to_pylist() == [2**60 + 1, 7, 3]
    assert table["survey"].to_pylist() == ["lsst", "ztf", "lsst"]
    for row, outcome in zip(table.to_pylist(), published(), strict=True):
        said = outcome.enrichment
        np.testing.assert_allclose(row["embedding"], said.embedding, atol=1e-6)
        assert row["morphology"] == said.top_class
        assert row["redshift"] == pytest.approx(said.redshift.point, abs=1e-5)
        assert row["anomaly"] == pytest.approx(said.anomaly, abs=1e-5)
        for name in ("anomaly_interesting", "anomaly_artefact"):
            assert row[name] == pytest.approx(getattr(said, name), abs=1e-5)
        assert row["anomaly_reason"] == said.anomaly_reason
        assert row[f"p_{said.top_class}"] == pytest.approx(said.morphology.max(), abs=1e-5)
    assert table.schema.metadata[b"weights_digest"].decode() == Model.load().contract.weights_digest


def test_a_matrix_has_its_ids_beside_it(night, tmp_path):
    embed(night, "--output", tmp_path / "f.npy")
    matrix = np.load(tmp_path / "f.npy")
    np.testing.assert_allclose(matrix, [o.enrichment.embedding for o in published()], atol=1e-6)
    with (tmp_path / "f.ids.csv").open() as file:
        assert [row["alert_id"] for row in csv.DictReader(file)] == [str(2**60 + 1), "7", "3"]


def test_what_is_no_alert_is_listed(night, tmp_path):
    result = embed(night, "--output", tmp_path / "f.parquet")
    assert "1 left out (1 " in result.output
    with (tmp_path / "f.left-out.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["where"].endswith("night.tar.gz:2.avro")
    assert row["detail"]


def test_an_alert_without_stamps_has_a_row(tmp_path):
    (tmp_path / "1.avro").write_bytes(lsst_packet([None] * 3, alert_id=5))
    embed(tmp_path / "1.avro", "--output", tmp_path / "f.parquet")
    (row,) = pq.read_table(tmp_path / "f.parquet").to_pylist()
    assert (row["alert_id"], row["embedding"]) == (5, None)
    assert row["flags"]
    embed(tmp_path / "1.avro", "--output", tmp_path / "f.npy")
    assert np.isnan(np.load(tmp_path / "f.npy")).all()


@pytest.mark.parametrize(
    ("name", "said"), [("f.csv", r"wanted \.parquet or \.npy"), ("no/f.npy", "does not exist")]
)
def test_a_wrong_output_is_refused_before_any_work(night, tmp_path, name, said):
    with pytest.raises(SettingsError, match=said):
        embed(night, "--output", tmp_path / name)


def test_it_needs_no_torch(night, tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from encoder.cli.commands import app\n"
        f"app(['embed', {str(night)!r}, '--output', {str(tmp_path / 'f.npy')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "3 alerts in" in done.stdout
