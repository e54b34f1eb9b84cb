"""An image encoder written as one ONNX file: laying, de-reddening and scaling live in the graph."""

from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from encoder.export import ExportError, quiet, strip_traces, write_atomically
from encoder.images.archive import Kind
from encoder.images.checkpoint import weights_digest
from encoder.images.config import ImageNetworkConfig
from encoder.images.network import ImageEncoder
from encoder.images.served import (
    INPUTS,
    KEY,
    OUTPUT,
    TOLERANCE,
    ImageContract,
    ServedImageEncoder,
    check_inputs,
)
from encoder.images.task import load_image_checkpoint
from encoder.images.views import noise_of_interpolation

OPSET = 20


class Served(nn.Module):
    """From images as they are kept to embeddings: `encoder.images.views.as_given` and the encoder, of any size.

    Parameters
    ----------
    encoder : ImageEncoder
    config : ImageNetworkConfig
    """

    offset: Tensor

    def __init__(self, encoder: ImageEncoder, config: ImageNetworkConfig) -> None:
        super().__init__()
        self.encoder, self._flux = encoder, config.kind is Kind.FLUX
        self._step = config.field / config.size
        axis = torch.arange(config.size, dtype=torch.float32) - (config.size - 1) / 2
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)
        self.register_buffer("offset", self._step * grid)

    def forward(self, images: Tensor, noise: Tensor, dust: Tensor) -> Tensor:
        """Embed (n, bands, h, w) with noise and dust in magnitudes (n, bands): (n, d) of unit length."""
        one = torch.ones_like(images[0, 0])
        extent = torch.stack([one[0].sum(), one[:, 0].sum()])
        native = (extent - 1) / 2 + self.offset
        place = 2 * native / (extent - 1) - 1
        rows = torch.ones_like(images[:, 0, 0, 0])[:, None, None, None]
        pixels = functional.grid_sample(images, rows * place, align_corners=True, padding_mode="reflection")
        if self._flux:
            area = self._step * self._step
            brighter = 10 ** (0.4 * dust)
            present = (noise > 0).to(images.dtype)
            pixels = pixels * (area * brighter * present)[..., None, None]
            noise = noise * area * noise_of_interpolation(native[None]) * brighter.clamp(min=1)
        embedding: Tensor = self.encoder(pixels, noise).embedding
        return embedding


def export_images(checkpoint: Path, path: Path) -> ImageContract:
    """Write the encoder of a checkpoint as one ONNX file.

    Parameters
    ----------
    checkpoint : Path
        Made by `encoder pretrain` on images.
    path : Path
        Written at once: a reader finds the old file or the new one.

    Raises
    ------
    ExportError
        ONNX Runtime and torch disagree by more than `TOLERANCE`.
    """
    run = load_image_checkpoint(checkpoint)
    network, encoder = run.config.network, run.moco.base_encoder.eval()
    assert isinstance(encoder, ImageEncoder)
    inputs = check_inputs(network.kind, network.bands)
    tensors = tuple(torch.from_numpy(inputs[name]) for name in INPUTS)
    with torch.no_grad():
        wanted = Served(encoder, network)(*tensors).numpy()
    contract = ImageContract(
        kind=network.kind,
        bands=network.bands,
        embedding_size=network.embedding_size,
        weights_digest=weights_digest(encoder),
        check=tuple(float(value) for value in wanted[0]),
    )
    graph = _graph(Served(encoder, network).eval(), tensors)
    graph.metadata_props.add(key=KEY, value=contract.model_dump_json())
    write_atomically(graph.SerializeToString(), path)
    found = ServedImageEncoder.load(path).run(inputs)
    if not np.allclose(found, wanted, atol=TOLERANCE):
        raise ExportError(f"ONNX Runtime and torch differ by {np.abs(found - wanted).max():.2g}")
    return contract


def _graph(module: nn.Module, tensors: tuple[Tensor, ...]) -> onnx.ModelProto:
    rows, high, wide = (torch.export.Dim(name, min=2) for name in ("n", "h", "w"))
    with quiet():
        program = torch.onnx.export(
            module,
            tensors,
            dynamo=True,
            dynamic_shapes=({0: rows, 2: high, 3: wide}, {0: rows}, {0: rows}),
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    strip_traces(program.model_proto)
    return program.model_proto
