"""What the file of an additional head promises: a small classifier or regression on the embedding."""

import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

HEAD_KEY = "nightjar.head"
HEAD_DIGEST_KEY = "nightjar.head_sha256"
"""The promise's own digest: an edited one is not the one that was written."""


class HeadContract(BaseModel):
    """Everything the broker must know of a head before it serves it.

    Attributes
    ----------
    format : int
    name : str
    kind : {'classification', 'regression'}
    labels : tuple of str
        Classes; of a regression the name of its one value.
    encoder_digest : str
        Hex SHA-256 of the weights whose embedding it was fitted on.
    weights_digest : str
        Hex SHA-256 of its own weights (`broker.weights.head_digest`).
    embedding_size : int
    n_labels, n_objects : int
        Labelled alerts it was fitted on, and objects among them.
    metric : str
    score, low, high : float
        Cross-validated, grouped by object; 95 % of bootstrap draws of objects lie between.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str = Field(min_length=1)
    kind: Literal["classification", "regression"]
    labels: tuple[str, ...] = Field(min_length=1)
    encoder_digest: str = Field(pattern="^[0-9a-f]{64}$")
    weights_digest: str = Field(pattern="^[0-9a-f]{64}$")
    embedding_size: int = Field(ge=1)
    n_labels: int
    n_objects: int
    metric: str
    score: float
    low: float
    high: float

    def to_metadata(self) -> dict[str, str]:
        """Entries for ``metadata_props`` of the ONNX file."""
        text = self.model_dump_json()
        return {HEAD_KEY: text, HEAD_DIGEST_KEY: hashlib.sha256(text.encode()).hexdigest()}
