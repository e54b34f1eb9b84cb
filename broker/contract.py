"""What a model file promises and what the broker feeds it.

Training and serving share this module: the encoder writes the contract into the ONNX
file's ``metadata_props`` under `METADATA_KEY`, the broker reads it back and checks it
against the graph before a single alert is enriched.
"""

import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from broker.alert import BANDS, ROLES, SURVEYS

METADATA_KEY = "nightjar.contract"
DIGEST_KEY = "nightjar.contract_sha256"
"""The contract's own digest: an edited contract is not the one that was exported."""

INPUTS: dict[str, str] = {
    "stamps": "tensor(float)",  # (n, bands, 3, size, size): flux per grid pixel, sky subtracted, 0 where masked
    "mask": "tensor(float)",  # (n, bands, 3, size, size): 1 where the pixel is valid, else 0
    "noise": "tensor(float)",  # (n, bands, 3): standard deviation of a grid pixel; 0 where the stamp is missing
    "survey": "tensor(int64)",  # (n,): index in SURVEYS
    "band": "tensor(int64)",  # (n, bands): index in BANDS, -1 where unknown
    "photometry": "tensor(float)",  # (n, 6): nJy in the order of BANDS, NaN where unknown
}
"""Inputs of the graph; ``bands`` is 1 today, the axis is there for hosts seen in several."""

OUTPUTS = ("embedding", "morphology", "photoz_pdf", "anomaly")
"""Outputs of the graph: (n, embedding_size), (n, n_classes), (n, z_bins), (n,), all float32."""


class Grid(BaseModel):
    """The common grid on which stamps of every survey are laid.

    Attributes
    ----------
    size : int
        Side in pixels.
    pixel_scale : dict of str to float
        Arcseconds per grid pixel, by survey.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=8, le=256)
    pixel_scale: dict[str, float]


COMMON_GRID = Grid(size=32, pixel_scale={"lsst": 0.8 / 3, "ztf": 2.0 / 3})
"""Three grid pixels per nominal seeing disc: 0.8 arcsec FWHM for Rubin (LSST Science Requirements, LPM-17: 0.7
median, delivered images somewhat wider), 2.0 for ZTF (Bellm et al. 2019, PASP 131, 018002). One angular scale cannot
serve both: the 6 arcsec of a typical Rubin stamp are six pixels of ZTF."""


class ModelContract(BaseModel):
    """Everything the broker must know of a model before it serves it.

    Attributes
    ----------
    format : int
        Version of this contract.
    name, version : str
    trained : bool
        False marks a network of random weights, for tests.
    weights_digest : str
        Hex SHA-256 over the weights, by which an embedding can be told from another model's.
    grid : Grid
    roles, surveys, bands : tuple of str
        Orders of the axes the graph was built with.
    embedding_size : int
    morphology_classes : tuple of str
    simulated_classes : tuple of str
        Those of the classes that were learned from simulation only.
    z_min, z_max : float
    z_bins : int
    photometry_range : dict of str to (float, float)
        Per survey, the AB magnitudes between which the photo-z head was trained.
    anomaly_reference : str
        The population that ``anomaly`` is calibrated on.
    training_data : str
    mmac : float
        Million multiply-accumulates per alert over the whole graph.
    check_outputs : tuple of float
        First values of the embedding for `broker.inference.check_inputs`, compared at load.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    version: str
    trained: bool
    weights_digest: str = Field(pattern="^[0-9a-f]{64}$")
    grid: Grid = COMMON_GRID
    roles: tuple[str, ...] = ROLES
    surveys: tuple[str, ...] = tuple(s.value for s in SURVEYS)
    bands: tuple[str, ...] = BANDS
    embedding_size: int = Field(default=64, ge=1)
    morphology_classes: tuple[str, ...] = Field(min_length=2)
    simulated_classes: tuple[str, ...] = ()
    z_min: float = 0.0
    z_max: float = Field(gt=0.0)
    z_bins: int = Field(ge=2)
    photometry_range: dict[str, tuple[float, float]]
    anomaly_reference: str
    training_data: str
    mmac: float = Field(gt=0.0)
    check_outputs: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _orders_are_ours(self) -> "ModelContract":
        ours = (ROLES, tuple(s.value for s in SURVEYS), BANDS)
        if (self.roles, self.surveys, self.bands) != ours:
            raise ValueError(
                f"axis orders {self.roles}, {self.surveys}, {self.bands} differ from this broker's {ours}"
            )
        return self

    def to_metadata(self) -> dict[str, str]:
        """Entries for ``metadata_props`` of the ONNX file."""
        text = self.model_dump_json()
        return {METADATA_KEY: text, DIGEST_KEY: hashlib.sha256(text.encode()).hexdigest()}
