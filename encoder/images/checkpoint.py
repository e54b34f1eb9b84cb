"""A checkpoint as something that embeds images."""

import hashlib
from pathlib import Path

import numpy as np
from torch import nn

from broker.alert import Float32Array
from encoder.images.archive import ImageSet
from encoder.images.features import Embedder
from encoder.images.task import load_image_checkpoint, represent
from encoder.images.views import Images


def checkpoint_embedder(checkpoint: Path) -> Embedder:
    """Load a checkpoint of `encoder pretrain` on images."""
    run = load_image_checkpoint(checkpoint)
    network, encoder = run.config.network, run.moco.base_encoder.eval()

    def embed(images: ImageSet) -> Float32Array:
        seen = represent(encoder, Images.of(images), network).embedding
        return np.asarray(seen.numpy(), np.float32)

    digest = weights_digest(encoder)
    return Embedder(embed, network.kind.value, network.bands, network.embedding_size, digest)


def weights_digest(encoder: nn.Module) -> str:
    """Hex SHA-256 of the weights of an encoder."""
    values = encoder.state_dict().values()
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in values)).hexdigest()
