"""Embeddings of sets of images, by a checkpoint."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from broker.errors import SettingsError
from encoder.features import image_schema, open_output
from encoder.images.archive import ImageSet
from encoder.images.foreign import read_images
from encoder.images.task import load_image_checkpoint, represent
from encoder.images.views import Images

BATCH = 256


def embed_images(paths: Sequence[Path], output: Path, checkpoint: Path) -> int:
    """Write the embedding of every image, in the order of the files; gives how many.

    Raises
    ------
    SettingsError
        The images are of another kind, or have other bands, than those the encoder learned from.
    """
    run = load_image_checkpoint(checkpoint)
    network, encoder = run.config.network, run.moco.base_encoder.eval()
    weights = b"".join(value.numpy().tobytes() for value in encoder.state_dict().values())
    schema = image_schema(network.embedding_size, hashlib.sha256(weights).hexdigest())
    count = 0
    with open_output(output, schema, ids=("object_id",)) as file:
        for path in paths:
            images = read_images(path)
            _check(path, images, (network.kind.value, network.bands))
            for start in range(0, len(images), BATCH):
                some = images.take(slice(start, start + BATCH))
                seen = represent(encoder, Images.of(some), network).embedding.numpy()
                rows = zip(some.object_id.tolist(), seen, strict=True)
                file.write([{"object_id": name, "embedding": row} for name, row in rows])
                count += len(some)
    return count


def _check(path: Path, images: ImageSet, wanted: tuple[str, int]) -> None:
    found = (images.kind.value, images.images.shape[1])
    if found != wanted:
        raise SettingsError(
            f"{path} holds {found[0]} images of {found[1]} bands; the checkpoint learned from {wanted[0]} images of "
            f"{wanted[1]}"
        )
