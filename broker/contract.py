"""What a model file promises and what the broker feeds it.

Training and serving share this module: the encoder writes the contract into the ONNX
file's ``metadata_props`` under `METADATA_KEY`, the broker reads it back and checks it
against the graph before a single alert is enriched.
"""

import hashlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray
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

ANOMALY_VIEWS = ("anomaly_interesting", "anomaly_artefact")
"""Further outputs, (n,) float32 each, of a graph whose contract names an artefact class."""

WITHOUT_REDSHIFT = frozenset({"star", "transient", "bogus"})
"""Top classes that are no galaxy: their photo-z means nothing (the model card), and no table or picture shows it."""


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
        Hex SHA-256 over the weights (`broker.weights`), by which an embedding can be told from another model's.
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
        The population that ``anomaly`` and its views are calibrated on.
    artefact_class : str or None
        The one of the classes that stands for artefacts; with one the graph gives `ANOMALY_VIEWS` too. None
        in files made before there were such views.
    training_data : str
    mmac : float
        Million multiply-accumulates per alert over the whole graph.
    check_outputs : tuple of float
        Embedding of the first row of `check_inputs`, compared at load: the file computes here what it did there.
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
    artefact_class: str | None = None
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

    @property
    def outputs(self) -> tuple[str, ...]:
        """Outputs of the graph, in their order."""
        return OUTPUTS if self.artefact_class is None else (*OUTPUTS, *ANOMALY_VIEWS)

    def to_metadata(self) -> dict[str, str]:
        """Entries for ``metadata_props`` of the ONNX file."""
        text = self.model_dump_json()
        return {METADATA_KEY: text, DIGEST_KEY: hashlib.sha256(text.encode()).hexdigest()}


def check_inputs(grid: Grid) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
    """Make inputs for two made-up alerts, one a survey: the same everywhere, without a random generator.

    Parameters
    ----------
    grid : Grid

    Returns
    -------
    dict of str to ndarray
        One array for each of `INPUTS`, n = 2: a round source of 100 sigma, with a rim that is masked.
    """
    axis = np.arange(grid.size, dtype=np.float32) - (grid.size - 1) / 2
    radius2 = axis[:, None] ** 2 + axis[None, :] ** 2
    blob = 100 * np.exp(-radius2 / 8).astype(np.float32)
    mask = (radius2 < (grid.size / 2) ** 2).astype(np.float32)
    gains = np.array([[1.0, 0.6, 0.4], [0.8, 0.0, 0.8]], dtype=np.float32)
    stamps = (gains[:, :, None, None] * (blob * mask))[:, None]
    return {
        "stamps": np.ascontiguousarray(stamps, dtype=np.float32),
        "mask": np.broadcast_to(mask, stamps.shape).astype(np.float32),
        "noise": np.ones((2, 1, len(ROLES)), dtype=np.float32),
        "survey": np.arange(2, dtype=np.int64),
        "band": np.array([[2], [1]], dtype=np.int64),
        "photometry": np.array([[100, 300, 700, 900, 1100, np.nan]] * 2, dtype=np.float32),
    }
