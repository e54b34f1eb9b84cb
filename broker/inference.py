"""The network at work: the one place that knows ONNX Runtime."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import ValidationError

from broker.contract import DIGEST_KEY, INPUTS, METADATA_KEY, ModelContract, check_inputs
from broker.errors import ModelRefused
from broker.heads import HEAD_DIGEST_KEY, HEAD_KEY, HeadContract
from broker.processors import processors
from broker.weights import head_digest, weights_digest

Arrays = Mapping[str, NDArray[Any]]

CHECK_TOLERANCE = 1e-3
"""Largest difference to the embedding exported with the file: ten times what torch and ONNX Runtime may differ by,
so that another processor's rounding passes and another graph does not."""

DEFAULT_PROVIDERS = ("CPUExecutionProvider",)

LEAST_ROWS = 8
"""Of a lane: fewer cost more to hand over than another processor saves."""


class Model:
    """A loaded model whose contract holds.

    On processors a batch is cut into a part for each, and every part is run on one alone: threads that share a run wait
    for each other after every node, which took a sixth more time (docs/performance.md).

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    contract : ModelContract
    file_digest : str
        Hex SHA-256 of the file.
    batch_size : int
        Rows per run; larger batches are cut, so that memory stays bounded.
    lanes : int
        Runs at the same time.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        contract: ModelContract,
        file_digest: str,
        batch_size: int = 64,
        lanes: int = 1,
    ) -> None:
        self._session = session
        self.contract = contract
        self.file_digest = file_digest
        self._batch_size = batch_size
        self._lanes = lanes
        self._pool = ThreadPoolExecutor(lanes, "network") if lanes > 1 else None

    @classmethod
    def load(
        cls,
        path: Path | None = None,
        *,
        threads: int = 0,
        providers: Sequence[str] = DEFAULT_PROVIDERS,
        batch_size: int = 64,
    ) -> Self:
        """Read a model file, check its contract and run it once.

        Parameters
        ----------
        path : Path, optional
            The ONNX file; the packaged model by default.
        threads : int
            Processors to use, by the CPU's provider; 0 uses all that this process may. More than a batch has
            `LEAST_ROWS` are of no use: eight for the pieces of `broker.pipeline`.
        providers : sequence of str
            ONNX Runtime's execution providers in order of preference; the first must be there.
        batch_size : int
            Rows per run.

        Raises
        ------
        ModelRefused
            The file is missing, broken, another model's, or does not keep its contract.
        """
        name, content = _read(path)
        session = _session(name, content, providers)
        contract = _contract(name, _metadata(name, session))
        _check_weights(name, weights_digest, content, contract.weights_digest)
        _check_graph(name, session, contract)
        lanes = (threads or processors()) if tuple(providers) == DEFAULT_PROVIDERS else 1
        model = cls(session, contract, hashlib.sha256(content).hexdigest(), batch_size, lanes)
        _check_values(name, model)
        return model

    def __call__(self, inputs: Arrays) -> dict[str, NDArray[np.float32]]:
        """Run the graph.

        Parameters
        ----------
        inputs : mapping of str to ndarray
            As `broker.contract.INPUTS` states them, n rows each.

        Returns
        -------
        dict of str to ndarray
            As `broker.contract.ModelContract.outputs` names them, n rows each.
        """
        rows, names = len(inputs["survey"]), self.contract.outputs
        share = max(LEAST_ROWS, math.ceil(rows / self._lanes))
        size = min(self._batch_size, share)

        def run(start: int) -> list[NDArray[np.float32]]:
            part = {name: inputs[name][start : start + size] for name in INPUTS}
            return list(self._session.run(list(names), part))

        starts = range(0, rows, size)
        parts = list(map(run, starts) if self._pool is None or rows <= size else self._pool.map(run, starts))
        return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}


class Head:
    """A loaded head that belongs to the encoder in use.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    contract : HeadContract
    """

    def __init__(self, session: onnxruntime.InferenceSession, contract: HeadContract) -> None:
        self._session = session
        self.contract = contract

    @classmethod
    def load(cls, path: Path, encoder: ModelContract) -> Self:
        """Read a head's file and check that it belongs to the encoder.

        Raises
        ------
        ModelRefused
            The file is missing, broken, no head, or was fitted on another encoder's embedding.
        """
        try:
            content = path.read_bytes()
        except (OSError, ValueError) as error:
            raise ModelRefused(
                f"{path} cannot be read ({getattr(error, 'strerror', error)}); give a head made by `encoder fit-head`"
            ) from error
        session = _session(str(path), content, DEFAULT_PROVIDERS)
        contract = _head_contract(path, _metadata(str(path), session))
        _check_weights(str(path), head_digest, content, contract.weights_digest)
        if contract.encoder_digest != encoder.weights_digest:
            raise ModelRefused(
                f"{path}: head {contract.name!r} was fitted on the embedding of weights "
                f"{contract.encoder_digest[:12]}, this model's are {encoder.weights_digest[:12]}: give the model it "
                "was fitted on with --model, or fit it again with `encoder fit-head`"
            )
        taken = [(node.name, node.type, tuple(node.shape[1:])) for node in session.get_inputs()]
        given = [(node.name, tuple(node.shape[1:])) for node in session.get_outputs()]
        wanted = [("embedding", "tensor(float)", (encoder.embedding_size,))]
        if taken != wanted or given != [("values", (len(contract.labels),))]:
            raise ModelRefused(
                f"{path}: the graph takes {taken} and gives {given}, wanted {wanted} and one value for each of "
                f"{len(contract.labels)} labels; fit it again with `encoder fit-head`"
            )
        return cls(session, contract)

    def __call__(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values for each label, shape (n, n_labels), of embeddings, shape (n, embedding_size)."""
        values: NDArray[np.float32] = self._session.run(["values"], {"embedding": embeddings})[0]
        return values


def _head_contract(path: Path, metadata: Mapping[str, str]) -> HeadContract:
    text = metadata.get(HEAD_KEY)
    if text is None:
        raise ModelRefused(f"{path} carries no {HEAD_KEY!r}: it is no head made by `encoder fit-head`")
    if hashlib.sha256(text.encode()).hexdigest() != metadata.get(HEAD_DIGEST_KEY):
        raise ModelRefused(f"{path}: what it says of itself was changed after it was fitted; fit it again")
    try:
        return HeadContract.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors()[0]["msg"]
        raise ModelRefused(f"{path}: {fault}; this broker serves heads of format 1: fit it again") from error


def _read(path: Path | None) -> tuple[str, bytes]:
    source = files("broker").joinpath("models", "default.onnx") if path is None else path
    name = "the packaged model" if path is None else str(path)
    try:
        return name, source.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        raise ModelRefused(
            f"{name} cannot be read ({getattr(error, 'strerror', error)}); "
            "give an ONNX file made by `encoder export` with --model"
        ) from error


def _session(name: str, content: bytes, providers: Sequence[str]) -> onnxruntime.InferenceSession:
    missing = set(providers) - set(onnxruntime.get_available_providers())
    if missing:
        # ONNX Runtime would fall back to the CPU without a word.
        raise ModelRefused(
            f"execution provider {', '.join(sorted(missing))} is not in this ONNX Runtime "
            f"(it has {', '.join(onnxruntime.get_available_providers())}); install the build that has it"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=list(providers))
    except Exception as error:  # ONNX Runtime raises a family of its own without a common root
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelRefused(
            f"{name} ({len(content)} bytes) is not a readable ONNX model: {first_line}; copy or export it again"
        ) from error


def _metadata(name: str, session: onnxruntime.InferenceSession) -> Mapping[str, str]:
    try:
        metadata: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
    except UnicodeDecodeError as error:
        raise ModelRefused(
            f"{name}: its metadata are not text ({error.reason}): the file is damaged; copy or export it again"
        ) from error
    return metadata


def _contract(name: str, metadata: Mapping[str, str]) -> ModelContract:
    text = metadata.get(METADATA_KEY)
    if text is None:
        raise ModelRefused(
            f"{name} carries no {METADATA_KEY!r} in its metadata ({', '.join(metadata) or 'none'} found): "
            "it was not made by `encoder export`"
        )
    if hashlib.sha256(text.encode()).hexdigest() != metadata.get(DIGEST_KEY):
        raise ModelRefused(f"{name}: its contract was changed after export; export it again")
    try:
        return ModelContract.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "contract"
        raise ModelRefused(
            f"{name}: {place}: {first['msg']}; this broker serves contract format 1: export it again"
        ) from error


def _check_weights(name: str, digest_of: Callable[[bytes], str], content: bytes, stated: str) -> None:
    try:
        found = digest_of(content)
    except ValueError as error:
        raise ModelRefused(
            f"{name}: its weights cannot be read ({error}); copy or export it again"
        ) from error
    if found != stated:
        raise ModelRefused(
            f"{name}: its weights are {found[:12]}, its contract says {stated[:12]}: they were changed after they were "
            "exported, or the file is damaged; copy or export it again"
        )


def _check_graph(name: str, session: onnxruntime.InferenceSession, contract: ModelContract) -> None:
    found = {node.name: node.type for node in session.get_inputs()}
    if found != INPUTS:
        raise ModelRefused(f"{name}: the graph takes {found}, wanted {INPUTS}; export it again")
    widths = {node.name: tuple(node.shape[1:]) for node in session.get_outputs()}
    wanted = {
        "embedding": (contract.embedding_size,),
        "morphology": (len(contract.morphology_classes),),
        "photoz_pdf": (contract.z_bins,),
        **{output: () for output in contract.outputs if output.startswith("anomaly")},
    }
    if widths != wanted:
        raise ModelRefused(f"{name}: the graph gives {widths}, its contract says {wanted}; export it again")
    if contract.artefact_class not in (None, *contract.morphology_classes):
        raise ModelRefused(
            f"{name}: its contract says that {contract.artefact_class!r} stands for artefacts, which is none of its "
            f"classes {contract.morphology_classes}; export it again"
        )
    shape = next(node.shape for node in session.get_inputs() if node.name == "stamps")
    if shape[-1:] != [contract.grid.size]:
        raise ModelRefused(
            f"{name}: the graph takes {shape[-1:]} px stamps, its contract says {contract.grid.size}"
        )


def _check_values(name: str, model: Model) -> None:
    try:
        outputs = model(check_inputs(model.contract.grid))
    except Exception as error:  # as in `_session`: a family of its own
        raise ModelRefused(
            f"{name}: the graph does not run: {str(error).splitlines()[0]}; copy or export it again"
        ) from error
    unusable = [key for key, values in outputs.items() if not np.isfinite(values).all()]
    if unusable:
        raise ModelRefused(f"{name}: {', '.join(unusable)} of the check inputs is not finite")
    expected = np.array(model.contract.check_outputs, dtype=np.float32)
    if len(expected) > model.contract.embedding_size:
        raise ModelRefused(
            f"{name}: its contract checks {len(expected)} values of an embedding that has fewer"
        )
    found = outputs["embedding"][0, : len(expected)]
    worst = float(np.abs(found - expected).max(initial=0.0))
    if worst > CHECK_TOLERANCE:
        raise ModelRefused(
            f"{name}: the embedding of the check inputs differs by {worst:.2g} from the one exported with it "
            f"(at most {CHECK_TOLERANCE:g} allowed): weights and contract do not belong together"
        )
