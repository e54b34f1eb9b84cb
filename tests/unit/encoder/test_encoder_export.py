"""Export: what the file says is what it does, and what the broker accepts."""

import copy
import hashlib

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from broker.alert import BANDS
from broker.contract import ANOMALY_VIEWS, COMMON_GRID, INPUTS, METADATA_KEY, OUTPUTS
from broker.inference import Model
from encoder import export as exporting
from encoder.config import NetworkConfig
from encoder.export import ExportError, Provenance, count_mmac, export, untrained, weights_digest
from encoder.model import AlertModel

pytestmark = pytest.mark.train

SMALL = NetworkConfig(widths=(8, 16), blocks=1, groups=4, hidden=8, prototypes=8)
PROVENANCE = Provenance(
    name="test",
    version="1",
    trained=False,
    simulated_classes=("star",),
    photometry_range={"lsst": (16.0, 26.0), "ztf": (12.0, 21.0)},
    anomaly_reference="none",
    training_data="none",
)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    model = AlertModel(SMALL, ("star", "galaxy", "bogus"))
    model.anomaly.prototypes.normal_(0, 0.1)
    return model.eval()


@pytest.fixture(scope="module")
def graph(small):
    """The graph as torch's exporter makes it, which takes ten seconds."""
    return exporting._graph(small, COMMON_GRID)


@pytest.fixture
def export_again(small, graph, monkeypatch):
    """Export the small model once more, all but torch's part of it."""
    monkeypatch.setattr(exporting, "_graph", lambda _model, _grid: copy.deepcopy(graph))
    return lambda path: export(small, PROVENANCE, path)


@pytest.fixture(scope="module")
def exported(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "small.onnx"
    return path, export(small, PROVENANCE, path)


def drawn(count, bands, seed=0):
    rng = np.random.default_rng(seed)
    shape = (count, bands, 3, COMMON_GRID.size, COMMON_GRID.size)
    mask = (rng.random(shape) > 0.2).astype(np.float32)
    photometry = rng.lognormal(6, 2, (count, len(BANDS))).astype(np.float32)
    photometry[rng.random(photometry.shape) < 0.4] = np.nan
    noise = rng.lognormal(0, 1, (count, bands, 3)).astype(np.float32)
    noise[rng.random(noise.shape) < 0.2] = 0
    return {
        "stamps": (rng.normal(0, 1, shape) * rng.lognormal(1, 2, (count, bands, 3, 1, 1)) * mask).astype(
            np.float32
        ),
        "mask": mask,
        "noise": noise,
        "survey": rng.integers(0, 2, count),
        "band": rng.integers(-1, 6, (count, bands)),
        "photometry": photometry,
    }


@pytest.mark.parametrize(("count", "bands"), [(1, 1), (2, 1), (7, 1), (65, 1), (3, 4)])
def test_onnx_runtime_and_torch_agree(exported, small, count, bands):
    session = onnxruntime.InferenceSession(exported[0])
    inputs = drawn(count, bands)
    found = session.run(list(small.outputs), inputs)
    with torch.no_grad():
        wanted = small(*(torch.from_numpy(inputs[name]) for name in INPUTS))
    for name, one, two in zip(small.outputs, found, wanted, strict=True):
        np.testing.assert_allclose(one, two.numpy(), atol=1e-4, err_msg=name)


def test_the_file_gives_an_alert_the_same_result_in_any_batch(exported):
    session = onnxruntime.InferenceSession(exported[0])
    inputs = drawn(9, 1)
    names = list(exported[1].outputs)
    together = session.run(names, inputs)
    for row in range(9):
        alone = session.run(names, {name: array[row : row + 1] for name, array in inputs.items()})
        for one, many in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[0], many[row], atol=1e-5)


def test_the_broker_accepts_the_file(exported):
    path, contract = exported
    assert Model.load(path).contract == contract


def test_the_digest_is_that_of_the_weights(exported):
    path, contract = exported
    graph = onnx.load(path)
    assert weights_digest(graph) == contract.weights_digest
    slow = hashlib.sha256()
    for name, array in sorted((t.name, numpy_helper.to_array(t)) for t in graph.graph.initializer):
        slow.update(name.encode() + array.tobytes())
    assert slow.hexdigest() == contract.weights_digest
    largest = max(graph.graph.initializer, key=lambda t: len(t.raw_data))
    changed = numpy_helper.to_array(largest).copy()
    changed.flat[0] += 1e-3
    largest.CopyFrom(numpy_helper.from_array(changed, largest.name))
    assert weights_digest(graph) != contract.weights_digest


def test_the_file_names_no_folder_of_the_machine_it_was_made_on(exported):
    content = exported[0].read_bytes()
    assert b"site-packages" not in content
    assert b".py" not in content
    assert str(exporting.__file__).encode() not in content


def test_the_contract_is_in_the_metadata(exported):
    path, contract = exported
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert metadata[METADATA_KEY] == contract.model_dump_json()
    assert contract.morphology_classes == ("star", "galaxy", "bogus")
    assert contract.artefact_class == "bogus"
    assert contract.simulated_classes == ("star",)
    assert len(contract.check_outputs) == contract.embedding_size


def test_a_model_that_knows_no_artefacts_has_no_views_of_its_anomalies(exported, tmp_path):
    torch.manual_seed(0)
    blind = AlertModel(SMALL, ("star", "galaxy")).eval()
    contract = export(blind, PROVENANCE, tmp_path / "blind.onnx")
    assert contract.artefact_class is None
    assert blind.outputs == contract.outputs == OUTPUTS
    assert set(Model.load(tmp_path / "blind.onnx")(drawn(2, 1))) == set(OUTPUTS)
    assert set(Model.load(exported[0])(drawn(2, 1))) == {*OUTPUTS, *ANOMALY_VIEWS}


def test_products_are_counted_as_by_hand():
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    kernel = numpy_helper.from_array(np.zeros((5, 3, 3, 3), np.float32), "kernel")
    matrix = numpy_helper.from_array(np.zeros((5, 7), np.float32), "matrix")
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "matrix"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [image], [out], [kernel, matrix])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    assert count_mmac(model) == pytest.approx((5 * 4 * 4 * 3 * 9 + 5 * 7) / 1e6)


def test_a_network_too_large_to_ship_is_refused(export_again, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "LARGEST_MMAC", 0.1)
    with pytest.raises(ExportError, match="MMAC an alert"):
        export_again(tmp_path / "large.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_computes_something_else_is_refused(export_again, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="ONNX Runtime and torch differ"):
        export_again(tmp_path / "other.onnx")


def test_the_untrained_model_says_that_it_is_untrained(untrained_model):
    contract = Model.load(untrained_model).contract
    assert not contract.trained
    assert contract.mmac <= 40
    assert untrained_model.stat().st_size <= 8 * 2**20


def test_an_untrained_model_is_the_same_each_time_of_a_seed(exported, export_again, tmp_path, monkeypatch):
    # The graph is exported a second time by the fixture: torch's part is repeated too.
    assert export_again(tmp_path / "again.onnx") == exported[1]
    assert (tmp_path / "again.onnx").read_bytes() == exported[0].read_bytes()
    made = []
    monkeypatch.setattr(exporting, "export", lambda model, *_: made.append(model))
    for seed in (0, 0, 1):
        untrained(tmp_path / "none.onnx", seed)
    one, same, other = (torch.cat([p.flatten() for p in model.state_dict().values()]) for model in made)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_every_norm_of_the_network_is_scaled_by_a_convolution(exported):
    path, _ = exported
    nodes = onnx.load(path).graph.node
    norms = sum(node.op_type == "InstanceNormalization" for node in nodes)
    depthwise = sum(any(one.name == "group" and one.i > 1 for one in node.attribute) for node in nodes)
    assert norms == depthwise > 0
