"""Embeddings of sets of images, by an ONNX file or a checkpoint."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from broker.alert import Float32Array
from broker.errors import SettingsError
from encoder.features import image_schema, open_output
from encoder.images.archive import ImageSet
from encoder.images.foreign import read_images
from encoder.images.served import ServedImageEncoder
from encoder.served import CHECKPOINT, need_torch

BATCH = 256


class Embedder(NamedTuple):
    """Whatever embeds images.

    Attributes
    ----------
    embed : callable
        From images to (n, size).
    kind : str
    bands, size : int
    digest : str
        Of the weights.
    """

    embed: Callable[[ImageSet], Float32Array]
    kind: str
    bands: int
    size: int
    digest: str


def embedder(model: Path) -> Embedder:
    """Load an ONNX file, or a checkpoint, which needs torch.

    Raises
    ------
    SettingsError
        It is none of both, or not for images.
    """
    if model.suffix == CHECKPOINT:
        need_torch(model)
        from encoder.images.checkpoint import checkpoint_embedder  # noqa: PLC0415 - needs torch

        return checkpoint_embedder(model)
    served = ServedImageEncoder.load(model)
    promised = served.contract
    return Embedder(
        served.embed, promised.kind.value, promised.bands, promised.embedding_size, promised.weights_digest
    )


def embed_images(paths: Sequence[Path], output: Path, model: Path) -> int:
    """Write the embedding of every image, in the order of the files; gives how many.

    Raises
    ------
    SettingsError
        The images are of another kind, or have other bands, than those the encoder learned from.
    """
    found, count = embedder(model), 0
    with open_output(output, image_schema(found.size, found.digest), ids=("object_id",)) as file:
        for path in paths:
            images = read_images(path)
            _check(path, images, (found.kind, found.bands))
            for start in range(0, len(images), BATCH):
                some = images.take(slice(start, start + BATCH))
                rows = zip(some.object_id.tolist(), found.embed(some), strict=True)
                file.write([{"object_id": name, "embedding": row} for name, row in rows])
                count += len(some)
    return count


def _check(path: Path, images: ImageSet, wanted: tuple[str, int]) -> None:
    found = (images.kind.value, images.images.shape[1])
    if found != wanted:
        raise SettingsError(
            f"{path} holds {found[0]} images of {found[1]} bands; the encoder learned from {wanted[0]} images of "
            f"{wanted[1]}"
        )
