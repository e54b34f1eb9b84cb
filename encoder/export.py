"""One ONNX file that computes what the torch module does, and carries its contract."""

import logging
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from broker.contract import COMMON_GRID, INPUTS, Grid, ModelContract, check_inputs
from broker.errors import NightjarError
from broker.weights import weights_digest as digest_of_file
from encoder.config import NetworkConfig
from encoder.graph import scale_by_convolution
from encoder.model import AlertModel

TOLERANCE = 1e-4
"""Largest difference between torch and ONNX Runtime in any output."""

LARGEST_FILE = 8 * 1024 * 1024
"""Bytes: the model ships inside the package."""

LARGEST_MMAC = 40.0
"""Million multiply-accumulates an alert, over the whole graph."""

BAND_AXIS = ("stamps", "mask", "noise", "band")
"""Inputs with a band axis after the rows."""

UNTRAINED_CLASSES = ("disk", "bulge", "edge_on", "merger", "star", "bogus")
"""Classes of the untrained model of the tests."""


class ExportError(NightjarError):
    """The exported graph does not do what the module does, or is larger than may be served."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a contract says that the weights do not.

    Attributes
    ----------
    name, version : str
    trained : bool
    simulated_classes : tuple of str
    photometry_range : dict of str to (float, float)
        Per survey, the AB magnitudes the photo-z head was trained between.
    anomaly_reference, training_data : str
    """

    name: str
    version: str
    trained: bool
    simulated_classes: tuple[str, ...]
    photometry_range: dict[str, tuple[float, float]]
    anomaly_reference: str
    training_data: str


def export(model: AlertModel, provenance: Provenance, path: Path, grid: Grid = COMMON_GRID) -> ModelContract:
    """Write a model as one ONNX file.

    Parameters
    ----------
    model : AlertModel
    provenance : Provenance
    path : Path
        Written at once: a reader finds the old file or the new one.
    grid : Grid

    Returns
    -------
    ModelContract
        As it stands in the file.

    Raises
    ------
    ExportError
        ONNX Runtime and torch disagree by more than `TOLERANCE`, or the file is too large or too slow.
    """
    model.eval()
    graph = _graph(model, grid)
    strip_traces(graph)
    scale_by_convolution(graph)
    outputs = _agree(model, graph, grid)
    contract = ModelContract(
        name=provenance.name,
        version=provenance.version,
        trained=provenance.trained,
        weights_digest=weights_digest(graph),
        grid=grid,
        embedding_size=model.config.embedding_size,
        morphology_classes=model.classes,
        simulated_classes=provenance.simulated_classes,
        z_max=model.config.z_max,
        z_bins=model.config.z_bins,
        photometry_range=provenance.photometry_range,
        anomaly_reference=provenance.anomaly_reference,
        artefact_class=model.artefact_class,
        training_data=provenance.training_data,
        mmac=round(count_mmac(graph), 3),
        check_outputs=tuple(float(value) for value in outputs["embedding"][0]),
    )
    for key, value in contract.to_metadata().items():
        graph.metadata_props.add(key=key, value=value)
    _write(graph, contract, path)
    return contract


def untrained(path: Path, seed: int = 0, classes: tuple[str, ...] = UNTRAINED_CLASSES) -> ModelContract:
    """Write a network of seeded random weights, marked as untrained: for tests, never shipped.

    Parameters
    ----------
    path : Path
    seed : int
    classes : tuple of str

    Returns
    -------
    ModelContract
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AlertModel(NetworkConfig(), classes)
        model.anomaly.prototypes.normal_(0, 0.1)
    return export(
        model,
        Provenance(
            name="untrained",
            version=f"0.{seed}",
            trained=False,
            simulated_classes=classes,
            photometry_range={"lsst": (16.0, 27.0), "ztf": (12.0, 22.0)},
            anomaly_reference="none: random weights",
            training_data=f"none: random weights of seed {seed}",
        ),
        path,
    )


def weights_digest(graph: onnx.ModelProto) -> str:
    """Hex SHA-256 of the weights, as the broker takes it from the file."""
    return digest_of_file(graph.SerializeToString())


def count_mmac(graph: onnx.ModelProto) -> float:
    """Count the million multiply-accumulates of convolutions and matrix products, for one alert in one band.

    Raises
    ------
    ExportError
        A product whose shape does not follow from the graph's inputs.
    """
    single = onnx.ModelProto()
    single.CopyFrom(graph)
    for entry in single.graph.input:
        for dim in entry.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(single, data_prop=True).graph
    shapes = {entry.name: [dim.dim_value for dim in entry.type.tensor_type.shape.dim]
              for entry in (*inferred.input, *inferred.value_info, *inferred.output)}  # fmt: skip
    shapes |= {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    return sum(_products(node, shapes) for node in inferred.node) / 1e6


def _products(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    if node.op_type not in {"Conv", "Gemm", "MatMul"}:
        return 0
    left, right, out = (
        shapes.get(node.input[0], []),
        shapes.get(node.input[1], []),
        shapes.get(node.output[0], []),
    )
    if not left or not right or not out or 0 in (*left, *right, *out):
        raise ExportError(f"{node.op_type} {node.name}: shapes {left} x {right} -> {out} are not known")
    if node.op_type == "Conv":
        return math.prod(out) * math.prod(right[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(out) * (left[0] if transposed else left[-1])


def _example(grid: Grid, repeat: int, bands: int) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
    inputs = check_inputs(grid)
    return {
        name: np.repeat(
            np.repeat(inputs[name], bands, axis=1) if name in BAND_AXIS else inputs[name], repeat, 0
        )
        for name in INPUTS
    }


def _graph(model: AlertModel, grid: Grid) -> onnx.ModelProto:
    rows, bands = torch.export.Dim("n"), torch.export.Dim("bands")
    # Sizes of 1 would be taken for constants: the example has several rows and bands.
    example = tuple(torch.from_numpy(array) for array in _example(grid, repeat=3, bands=2).values())
    dynamic = tuple({0: rows, 1: bands} if name in BAND_AXIS else {0: rows} for name in INPUTS)
    with quiet():
        program = torch.onnx.export(
            model,
            example,
            dynamo=True,
            dynamic_shapes=dynamic,
            input_names=list(INPUTS),
            output_names=list(model.outputs),
            verbose=False,
        )
    assert program is not None
    return program.model_proto


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what the exporter says about packages we do not use and names it will not reuse."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*will not be used, since it shares the same shape.*")
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            yield
    finally:
        log.setLevel(level)


def strip_traces(graph: onnx.ModelProto) -> None:
    """Remove stack traces: they name folders of the machine the file was made on."""
    body = graph.graph
    for entry in (*body.node, *body.input, *body.output, *body.value_info, *body.initializer):
        del entry.metadata_props[:]
        entry.doc_string = ""
    del body.metadata_props[:]
    del graph.metadata_props[:]
    del body.value_info[:]


def _agree(model: AlertModel, graph: onnx.ModelProto, grid: Grid) -> dict[str, NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {name: check_inputs(grid)[name] for name in INPUTS}
    found = dict(zip(model.outputs, session.run(list(model.outputs), inputs), strict=True))
    with torch.no_grad():
        wanted = model(*(torch.from_numpy(array) for array in inputs.values()))
    for name, tensor in zip(model.outputs, wanted, strict=True):
        worst = float(np.abs(found[name] - tensor.numpy()).max())
        if not worst <= TOLERANCE:
            raise ExportError(
                f"{name}: ONNX Runtime and torch differ by {worst:.2g}, at most {TOLERANCE:g} allowed"
            )
    return found


def _write(graph: onnx.ModelProto, contract: ModelContract, path: Path) -> None:
    content = graph.SerializeToString()
    if len(content) > LARGEST_FILE or contract.mmac > LARGEST_MMAC:
        raise ExportError(
            f"{len(content)} bytes and {contract.mmac:.1f} MMAC an alert, at most {LARGEST_FILE} and "
            f"{LARGEST_MMAC:g} may ship: lower network.widths or network.blocks"
        )
    write_atomically(content, path)


def write_atomically(content: bytes, path: Path) -> None:
    """Write a file at once: a reader finds the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(path)
