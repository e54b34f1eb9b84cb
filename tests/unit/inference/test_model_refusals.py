"""A model is served only if its contract holds; otherwise one line says why."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from broker.alert import Enriched, Message
from broker.avro.deserializer import Deserializer
from broker.contract import (
    ANOMALY_VIEWS,
    COMMON_GRID,
    DIGEST_KEY,
    METADATA_KEY,
    OUTPUTS,
    ModelContract,
    check_inputs,
)
from broker.errors import ModelRefused
from broker.inference import Model
from broker.pipeline import Pipeline
from broker.survey import WANTED
from broker.testing.packets import lsst_packet
from broker.weights import weights_digest

onnx = pytest.importorskip("onnx", reason="changing a model file needs onnx")


def rewritten(source: Path, target: Path, change: Callable[[dict[str, str]], None]) -> Path:
    """Copy a model file with other metadata."""
    graph = onnx.load(source)
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    change(metadata)
    onnx.helper.set_model_props(graph, metadata)
    onnx.save(graph, target)
    return target


def resealed(**changes: object) -> Callable[[dict[str, str]], None]:
    """Change the contract and its digest with it, as a careless export would."""

    def change(metadata: dict[str, str]) -> None:
        contract = ModelContract.model_validate_json(metadata[METADATA_KEY])
        metadata.update(contract.model_copy(update=changes).to_metadata())

    return change


def test_a_sound_file_is_loaded_and_says_what_it_is(untrained_model: Path) -> None:
    model = Model.load(untrained_model)
    assert not model.contract.trained
    assert len(model.file_digest) == 64
    assert model.contract.weights_digest != model.file_digest


def test_its_outputs_are_what_the_contract_says(untrained_model: Path) -> None:
    model = Model.load(untrained_model)
    out = model(check_inputs(model.contract.grid))
    assert out["embedding"].shape == (2, model.contract.embedding_size)
    np.testing.assert_allclose(np.linalg.norm(out["embedding"], axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(out["morphology"].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(out["photoz_pdf"].sum(axis=1), 1, atol=1e-5)
    assert ((out["anomaly"] >= 0) & (out["anomaly"] <= 1)).all()


def test_a_batch_larger_than_a_run_gives_the_same_rows(untrained_model: Path) -> None:
    inputs = {name: np.concatenate([array] * 5) for name, array in check_inputs(COMMON_GRID).items()}
    whole = Model.load(untrained_model, batch_size=64)(inputs)
    cut = Model.load(untrained_model, batch_size=3)(inputs)
    for name in whole:
        np.testing.assert_allclose(cut[name], whole[name], atol=1e-5)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="cannot be read"):
        Model.load(tmp_path / "none.onnx")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(untrained_model: Path, tmp_path: Path, share: float) -> None:
    content = untrained_model.read_bytes()
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelRefused):
        Model.load(cut)


def test_another_models_file_is_refused(untrained_model: Path, tmp_path: Path) -> None:
    other = rewritten(untrained_model, tmp_path / "other.onnx", lambda metadata: metadata.clear())
    with pytest.raises(ModelRefused, match="not made by `encoder export`"):
        Model.load(other)


def test_an_edited_contract_is_refused(untrained_model: Path, tmp_path: Path) -> None:
    def edit(metadata: dict[str, str]) -> None:
        contract = json.loads(metadata[METADATA_KEY])
        contract["z_max"] = 9.0
        metadata[METADATA_KEY] = json.dumps(contract)

    with pytest.raises(ModelRefused, match="changed after export"):
        Model.load(rewritten(untrained_model, tmp_path / "edited.onnx", edit))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"z_bins": 7}, "contract says"),
        ({"morphology_classes": ("a", "b")}, "contract says"),
        ({"embedding_size": 32}, "contract says"),
        ({"grid": COMMON_GRID.model_copy(update={"size": 48})}, "48"),
        ({"check_outputs": (0.9, 0.9, 0.9)}, "do not belong together"),
        ({"format": 2}, "format"),
        ({"artefact_class": None}, "contract says"),
        ({"artefact_class": "ghost"}, "'ghost' stands for artefacts, which is none of its classes"),
        ({"bands": ("y", "z", "i", "r", "g", "u")}, "axis orders"),
    ],
)
def test_a_contract_that_the_graph_does_not_keep_is_refused(
    untrained_model: Path, tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(ModelRefused, match=says):
        Model.load(rewritten(untrained_model, tmp_path / "changed.onnx", resealed(**changes)))


def reweighted(source: Path, target: Path, change: Callable[[object], None]) -> Path:
    """Copy a model file with another largest initializer, and the contract as it was."""
    graph = onnx.load(source)
    change(max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data)))
    onnx.save(graph, target)
    return target


def test_weights_that_were_changed_are_refused_though_the_check_would_pass(
    untrained_model: Path, tmp_path: Path
) -> None:
    def nudge(tensor) -> None:
        tensor.raw_data = bytes((tensor.raw_data[0] ^ 1,)) + tensor.raw_data[1:]

    with pytest.raises(ModelRefused, match=r"its weights are \w{12}, its contract says \w{12}"):
        Model.load(reweighted(untrained_model, tmp_path / "other.onnx", nudge))


def test_weights_that_are_not_kept_as_bytes_are_refused(untrained_model: Path, tmp_path: Path) -> None:
    def spread(tensor) -> None:
        values = onnx.numpy_helper.to_array(tensor)
        kept = onnx.helper.make_tensor(tensor.name, tensor.data_type, tensor.dims, values.ravel().tolist())
        tensor.CopyFrom(kept)

    with pytest.raises(ModelRefused, match="not kept as raw bytes"):
        Model.load(reweighted(untrained_model, tmp_path / "spread.onnx", spread))


def test_the_digest_is_the_same_however_protobuf_cuts_the_graph(untrained_model: Path) -> None:
    whole = onnx.load(untrained_model)
    middle = len(whole.graph.initializer) // 2
    first, second = (onnx.ModelProto() for _ in range(2))
    first.graph.initializer.extend(whole.graph.initializer[middle:])
    second.graph.initializer.extend(whole.graph.initializer[:middle])
    cut = first.SerializeToString() + second.SerializeToString()
    assert len(onnx.load_from_string(cut).graph.initializer) == len(whole.graph.initializer)
    assert weights_digest(cut) == weights_digest(untrained_model.read_bytes())


def before_there_were_views(source: Path, target: Path) -> Path:
    """Rewrite a model file as it was exported before anomalies had views."""
    graph = onnx.load(source)
    for output in [output for output in graph.graph.output if output.name in ANOMALY_VIEWS]:
        graph.graph.output.remove(output)
    onnx.save(graph, target)

    def older(metadata: dict[str, str]) -> None:
        contract = json.loads(metadata[METADATA_KEY])
        del contract["artefact_class"]
        text = json.dumps(contract)
        metadata.update({METADATA_KEY: text, DIGEST_KEY: hashlib.sha256(text.encode()).hexdigest()})

    return rewritten(target, target, older)


def test_a_file_made_before_there_were_views_is_served_without_them(
    untrained_model: Path, tmp_path: Path
) -> None:
    old = Model.load(before_there_were_views(untrained_model, tmp_path / "old.onnx"))
    assert old.contract.artefact_class is None
    assert tuple(old(check_inputs(COMMON_GRID))) == OUTPUTS
    messages = [Message(lsst_packet(), "alerts", 0, 0)]
    (said,), (now,) = (
        Pipeline(Deserializer(WANTED), model)(messages) for model in (old, Model.load(untrained_model))
    )
    assert isinstance(said, Enriched)
    assert isinstance(now, Enriched)
    assert said.enrichment.anomaly_interesting is said.enrichment.anomaly_artefact is None
    assert now.enrichment.anomaly_interesting is not None
    assert said.enrichment.anomaly == now.enrichment.anomaly
    assert said.enrichment.anomaly_reason
    assert said.enrichment.flags == now.enrichment.flags


def test_a_provider_that_is_not_there_is_refused_instead_of_replaced(untrained_model: Path) -> None:
    with pytest.raises(ModelRefused, match="NoSuchProvider"):
        Model.load(untrained_model, providers=("NoSuchProvider",))


def test_the_digest_key_belongs_to_the_contract(untrained_model: Path) -> None:
    metadata = {entry.key: entry.value for entry in onnx.load(untrained_model).metadata_props}
    contract = ModelContract.model_validate_json(metadata[METADATA_KEY])
    assert contract.to_metadata()[DIGEST_KEY] == metadata[DIGEST_KEY]


def test_metadata_that_are_no_text_are_refused(untrained_model: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(untrained_model.read_bytes().replace(b'"trained"', b'"\xffrained"', 1))
    with pytest.raises(ModelRefused, match="metadata are not text"):
        Model.load(damaged)


def test_a_graph_that_loads_and_does_not_run_is_refused(untrained_model: Path, tmp_path: Path) -> None:
    graph = onnx.load(untrained_model)
    stamps = next(node for node in graph.graph.input if node.name == "stamps")
    stamps.type.tensor_type.shape.dim[1].dim_value = 80
    onnx.save(graph, tmp_path / "other.onnx")
    with pytest.raises(ModelRefused, match="does not run") as refusal:
        Model.load(tmp_path / "other.onnx")
    assert str(refusal.value).isprintable()


def test_a_contract_that_checks_more_than_there_is_is_refused(untrained_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="checks 99 values"):
        Model.load(rewritten(untrained_model, tmp_path / "more.onnx", resealed(check_outputs=(0.1,) * 99)))


def test_a_path_that_is_none_is_refused() -> None:
    with pytest.raises(ModelRefused, match="cannot be read"):
        Model.load(Path("a\0b"))
