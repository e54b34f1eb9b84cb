"""An image encoder as one ONNX file: what it promises, and how it is run. No torch."""

from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime
from pydantic import BaseModel, ConfigDict, ValidationError

from broker.alert import Float32Array
from broker.errors import ModelRefused
from encoder.extinction import extinction_of
from encoder.images.archive import ImageSet, Kind

KEY = "nightjar_images"
"""Of the metadata that holds the contract."""

INPUTS = ("images", "noise", "dust")
OUTPUT = "embedding"

TOLERANCE = 1e-4
"""Largest difference from the embedding that the file was written with."""

CHECK_SIDE = 40
"""Pixels of the image that a file is checked by."""


class ImageContract(BaseModel):
    """What the file promises.

    Attributes
    ----------
    kind : Kind
    bands : int
    embedding_size : int
    weights_digest : str
        Hex SHA-256 of the weights, as `encoder embed` writes it.
    check : tuple of float
        Embedding of `check_inputs`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    bands: int
    embedding_size: int
    weights_digest: str
    check: tuple[float, ...]


def check_inputs(kind: Kind, bands: int) -> dict[str, Float32Array]:
    """Two images that every file is checked by."""
    rng = np.random.default_rng(0)
    images = rng.normal(40, 30, (2, bands, CHECK_SIDE, CHECK_SIDE)).clip(0, 255)
    noise, dust = np.ones((2, bands)), np.zeros((2, bands))
    if kind is Kind.FLUX:
        noise, dust = rng.uniform(5, 20, (2, bands)), rng.uniform(0, 0.5, (2, bands))
    return {name: one.astype(np.float32) for name, one in zip(INPUTS, (images, noise, dust), strict=True)}


class ServedImageEncoder:
    """Embeds images by ONNX Runtime.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    contract : ImageContract
    """

    def __init__(self, session: onnxruntime.InferenceSession, contract: ImageContract) -> None:
        self._session, self.contract = session, contract

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and check a file of `encoder export --checkpoint`.

        Raises
        ------
        ModelRefused
            It is no such file, or does not compute what it was written with.
        """
        if not path.is_file():
            raise ModelRefused(f"{path} is no file: give a checkpoint or an ONNX file of an image encoder")
        try:
            session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has no tree of errors
            raise ModelRefused(f"{path} is no ONNX file: {str(error).splitlines()[0]}") from error
        metadata = session.get_modelmeta().custom_metadata_map
        if KEY not in metadata:
            raise ModelRefused(
                f"{path} is not for images (no {KEY} in its metadata; found {', '.join(sorted(metadata)) or 'none'}): "
                "`encoder export --checkpoint runs/galaxies/last.pt` writes such a file"
            )
        try:
            contract = ImageContract.model_validate_json(metadata[KEY])
        except ValidationError as error:
            raise ModelRefused(f"{path}: its contract cannot be read: {error.errors()[0]['msg']}") from error
        served = cls(session, contract)
        found = served.run(check_inputs(contract.kind, contract.bands))[0]
        wanted = np.asarray(contract.check, np.float32)
        if (
            not len(found) == len(wanted) == contract.embedding_size
            or np.abs(found - wanted).max() > TOLERANCE
        ):
            raise ModelRefused(f"{path} does not compute what it was written with: export it again")
        return served

    def run(self, inputs: dict[str, Float32Array]) -> Float32Array:
        """Embed what `INPUTS` name: images (n, bands, h, w), noise and dust in magnitudes (n, bands)."""
        return np.asarray(self._session.run([OUTPUT], inputs)[0], np.float32)

    def embed(self, images: ImageSet) -> Float32Array:
        """Embed images (n, embedding_size), de-reddened where E(B-V) is known."""
        noise = np.ones_like(images.noise) if images.kind is Kind.DISPLAY else np.nan_to_num(images.noise)
        dust = np.nan_to_num(images.ebv)[:, None] * extinction_of(images.bands)
        arrays = (np.nan_to_num(images.images.astype(np.float32)), noise, dust)
        return self.run({name: one.astype(np.float32) for name, one in zip(INPUTS, arrays, strict=True)})
