"""The command line from simulation to a file the broker serves, at the smallest size."""

import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from broker.errors import KafkaError, ModelRefused
from broker.inference import Model
from broker.testing.packets import lsst_packet
from encoder import cli
from encoder.cli import commands
from encoder.config import NetworkConfig, PretrainConfig
from encoder.export import ExportError
from encoder.fitted import load_fitted

pytestmark = pytest.mark.train


def call(monkeypatch, *arguments):
    """Exit code of the program."""
    monkeypatch.setattr("sys.argv", ["encoder", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code or 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("encoder")


@pytest.fixture(scope="module")
def recipe(folder):
    network = NetworkConfig(widths=(8, 16), blocks=1, groups=4, hidden=8, prototypes=8)
    path = folder / "recipe.json"
    path.write_text(PretrainConfig(network=network, batch_size=16, queue=16, epochs=1).model_dump_json())
    return path


def test_simulate_pretrain_fit_export_inspect(folder, recipe, monkeypatch, capfd):
    shards, run, heads, onnx = (folder / name for name in ("shards", "run", "heads", "models/model.onnx"))
    assert call(monkeypatch, "simulate", "--output", shards, "--count", 140, "--processes", 1) == 0
    assert call(monkeypatch, "pretrain", "--data", shards, "--output", run, "--config", recipe) == 0
    checkpoint = run / "last.pt"
    assert (
        call(monkeypatch, "fit-heads", "--data", shards, "--checkpoint", checkpoint, "--output", heads) == 0
    )
    assert call(monkeypatch, "export", "--heads", heads, "--output", onnx) == 0
    check_the_checkpoint_embeds_as_the_model(monkeypatch, folder, checkpoint, onnx)
    check_alerts_without_labels_fit_no_heads(monkeypatch, folder, checkpoint, capfd)
    capfd.readouterr()
    assert call(monkeypatch, "inspect", onnx) == 0

    contract = Model.load(onnx).contract
    assert contract.weights_digest[:16] in capfd.readouterr().out  # a narrow terminal breaks the rest
    assert contract.trained
    assert contract.morphology_classes == contract.simulated_classes
    card = (onnx.parent / "MODEL_CARD.md").read_text()
    report = load_fitted(heads).report
    accuracy = report.tables["morphology"]["this model"]["accuracy"]
    assert str(accuracy) in card
    assert contract.weights_digest in card
    assert set(json.loads((heads / "metrics.json").read_text())["definitions"]) >= {
        metric for table in report.tables.values() for row in table.values() for metric in row
    }
    counts = report.counts
    assert counts["training"] + counts["validation"] + counts["held_out"] == 140


def check_the_checkpoint_embeds_as_the_model(monkeypatch, folder, checkpoint, onnx):
    packets = folder / "packets"
    packets.mkdir()
    for number in (1, 2):
        (packets / f"{number}.avro").write_bytes(
            lsst_packet(alert_id=number, schema_id=1101 if number == 1 else 701)
        )
    for name, model in (("checkpoint", checkpoint), ("model", onnx)):
        output = folder / f"{name}.parquet"
        assert call(monkeypatch, "embed", packets, "--model", model, "--output", output) == 0
    bare, whole = (pq.read_table(folder / f"{name}.parquet") for name in ("checkpoint", "model"))
    np.testing.assert_allclose(*([*table["embedding"].to_pylist()] for table in (bare, whole)), atol=1e-4)
    assert "anomaly" not in bare.column_names
    assert "anomaly" in whole.column_names


def check_alerts_without_labels_fit_no_heads(monkeypatch, folder, checkpoint, capfd):
    assert call(monkeypatch, "ingest", folder / "packets", "--output", folder / "real") == 0
    data = ("--data", folder / "real", "--checkpoint", checkpoint)
    assert call(monkeypatch, "fit-heads", *data, "--output", folder / "none") == 2
    assert "no alert has a label" in " ".join(capfd.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pretrain", "--data", "nowhere", "--output", "out"), "no shards (*.npz) at nowhere"),
        (
            ("fit-heads", "--data", "nowhere", "--checkpoint", "none.pt", "--output", "out"),
            "no checkpoint at none.pt",
        ),
        (("export", "--heads", "nowhere", "--output", "out.onnx"), "run `encoder fit-heads"),
        (("inspect", "nowhere.onnx"), "nowhere.onnx cannot be read"),
    ],
)
def test_what_cannot_work_ends_with_2_and_one_line(arguments, words, monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *arguments) == 2
    said = capfd.readouterr().err
    assert words in said.replace("\n", " ")
    assert "Traceback" not in said


@pytest.mark.parametrize(("kind", "code"), [(KafkaError, 1), (ExportError, 1), (ModelRefused, 2)])
def test_every_error_of_ours_ends_with_its_code_and_one_line(kind, code, monkeypatch, capfd):
    def fail():
        raise kind("found this,\n  wanted that")

    monkeypatch.setattr(commands, "app", fail)
    assert call(monkeypatch) == code
    told = capfd.readouterr().err
    assert told.startswith("encoder: found this,")
    assert told.endswith(" wanted that\n")
    assert told.count("\n") == 1


def test_the_recipe_that_is_shown_is_one_that_is_taken(monkeypatch, capfd):
    assert call(monkeypatch, "pretrain", "--show-recipe") == 0
    assert PretrainConfig.model_validate_json(capfd.readouterr().out) == PretrainConfig()


@pytest.mark.parametrize("content", ['{"epochs": "many"}', "no JSON", '{"views": {"colour_jitter": 1}}'])
def test_what_is_no_recipe_is_refused_in_one_line(content, monkeypatch, capfd, tmp_path):
    monkeypatch.setenv("COLUMNS", "1000")
    (tmp_path / "recipe.json").write_text(content)
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "pretrain", "--data", ".", "--output", "out", "--config", "recipe.json") == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert "recipe.json is no recipe: " in line
    assert "--show-recipe" in line


def test_a_recipe_with_an_unknown_field_is_refused(monkeypatch, capfd, tmp_path):
    (tmp_path / "recipe.json").write_text('{"colour_jitter": 1}')
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "pretrain", "--data", ".", "--output", "out", "--config", "recipe.json") == 2
    assert "colour_jitter" in capfd.readouterr().err


@pytest.mark.parametrize("command", ["simulate", "pretrain", "fit-heads", "export", "inspect"])
def test_every_command_shows_an_example(command, monkeypatch, capfd):
    assert call(monkeypatch, command, "--help") == 0
    assert f"encoder {command}" in capfd.readouterr().out


def test_a_command_whose_extra_is_missing_says_what_to_install(monkeypatch, capfd):
    monkeypatch.setattr(commands, "find_spec", lambda _: None)
    assert call(monkeypatch, "pretrain", "--help") == 2
    assert "pip install -e '.[train]'" in " ".join(capfd.readouterr().err.split())


def test_what_needs_no_torch_does_not_load_it():
    said = "import encoder.cli.inspect, encoder.cli.commands, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", said], check=False).returncode == 0


def test_new_shards_are_not_mixed_with_old_ones(monkeypatch, capfd, tmp_path):
    (tmp_path / "old.npz").write_bytes(b"a shard of another simulation")
    assert call(monkeypatch, "simulate", "--output", tmp_path, "--count", 2) == 2
    assert "holds shards already" in " ".join(capfd.readouterr().err.split())
