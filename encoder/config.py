"""Every number a training run depends on: frozen, validated, written into each checkpoint."""

import hashlib
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from broker.contract import COMMON_GRID

Share = Annotated[float, Field(ge=0, lt=1)]


class Frozen(BaseModel):
    """Values that do not change and none of which may be misspelled."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Shape(Frozen):
    """What every network has.

    Attributes
    ----------
    embedding_size : int
    hidden : int
        Width of the hidden layer of whatever stands on the embedding.
    widths : tuple of int
        Channels of each stage; every stage after the first halves the side.
    blocks : int
        Residual blocks a stage.
    groups : int
        Groups of each normalisation.
    """

    embedding_size: int = Field(default=64, ge=2)
    hidden: int = Field(default=128, ge=4)
    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(32, 64, 128), min_length=1)
    blocks: int = Field(default=2, ge=1)
    groups: int = Field(default=8, ge=1)

    @model_validator(mode="after")
    def _groups_divide(self) -> Self:
        uneven = [width for width in self.widths if width % self.groups]
        if uneven:
            raise ValueError(f"widths {uneven} are not multiples of groups = {self.groups}")
        return self


class NetworkConfig(Shape):
    """Shape of the network for alerts.

    Attributes
    ----------
    blocks : int
        As `Shape`, but one: every alert of a night goes through this network, most often on a processor, and a second
        one nearly doubles its time (docs/evaluation.md, "A lighter network").
    size : int
        Side of the grid in pixels.
    z_max : float
    z_bins : int
    prototypes : int
        Reference points of the anomaly score, over all surveys.
    quantiles : int
        Entries of the anomaly calibration table, for each survey.
    """

    blocks: int = Field(default=1, ge=1)
    size: int = Field(default=COMMON_GRID.size, ge=8)
    z_max: float = Field(default=2.0, gt=0)
    z_bins: int = Field(default=100, ge=2)
    prototypes: int = Field(default=256, ge=2)
    quantiles: int = Field(default=101, ge=3)


class ViewConfig(Frozen):
    """Which views of a stamp are taken to show the same thing.

    Attributes
    ----------
    rotation : bool
        Any angle, and flips.
    jitter : float
        Largest shift of the centre along each axis, in pixels of the grid.
    size_scaling : tuple of float
        Smallest and largest factor; (1, 1) is off.
    blur_probability, blur_factor : float
        How often a stamp is blurred, and by at most which factor its PSF grows.
    noise_probability, noise_factor : float
        How often noise is added, and at most how much in units of the stamp's own.
    reddening_probability, reddening : float
        How often dust is put in front, and at most how much: E(B-V) in magnitudes.
    role_dropout : float
        How often the difference stamp is withheld.
    other_visits : bool
        Compare an alert with another visit of its object, where there is one, instead of with itself.
    """

    rotation: bool = True
    jitter: float = Field(default=1.5, ge=0)
    size_scaling: tuple[float, float] = (0.9, 1.1)
    blur_probability: float = Field(default=0.5, ge=0, le=1)
    blur_factor: float = Field(default=1.4, ge=1)
    noise_probability: float = Field(default=0.7, ge=0, le=1)
    noise_factor: float = Field(default=1.0, ge=0)
    reddening_probability: float = Field(default=0.5, ge=0, le=1)
    reddening: float = Field(default=0.3, ge=0)
    role_dropout: float = Field(default=0.0, ge=0, lt=1)
    other_visits: bool = True

    @model_validator(mode="after")
    def _scaling_is_a_range(self) -> Self:
        low, high = self.size_scaling
        if not 0 < low <= high:
            raise ValueError(f"size_scaling {self.size_scaling} is not a range of positive factors")
        return self


class Recipe(Frozen):
    """One pretraining run, whatever it learns from.

    Attributes
    ----------
    network : Shape
    seed : int
        Of weights, order and views.
    split_seed, held_out
        Which objects, and which share of them, no training sees: heads are measured on them.
    epochs : int
    batch_size : int
    learning_rate : float
        Peak of the one-cycle cosine.
    weight_decay : float
    warmup : float
        Share of the run in which the learning rate rises.
    momentum : tuple of float
        Of the momentum encoder, at the beginning and at the end; in between by half a cosine, as keys of a
        slow encoder are those of a random one while it has not learned yet.
    temperature : float
    queue : int
        Negatives kept; at most a quarter of the set, or objects meet themselves.
    projection : int
        Width of the space in which views are compared.
    auxiliary_weight : float
        Weight of the regression of clean fluxes and photometry; 0 switches it off.
    spread_weight : float
        Weight of the variance and covariance terms that hold the rank up; 0 switches them off.
    label_weight : float
        Weight of the cross-entropy of the labels that are known (hybrid training, after Walmsley et al. 2022);
        0, the default, trains without any label.
    pieces : int
        Parts of a batch that are drawn apart: as many processes can share it as divide this.
    bf16 : bool
        Run the network in bfloat16 where the machine has instructions for it; elsewhere in float32.
    checkpoint_seconds : float
        Longest time between two checkpoints.
    """

    network: Shape = Shape()
    seed: int = 20261124
    split_seed: int = 1
    held_out: float = Field(default=0.2, gt=0, lt=1)
    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=256, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup: float = Field(default=0.05, gt=0, lt=1)
    momentum: tuple[Share, Share] = (0.994, 0.999)
    temperature: float = Field(default=0.2, gt=0)
    queue: int = Field(default=2048, ge=1)
    projection: int = Field(default=128, ge=2)
    auxiliary_weight: float = Field(default=1.0, ge=0)
    spread_weight: float = Field(default=1.0, ge=0)
    label_weight: float = Field(default=0.0, ge=0)
    pieces: int = Field(default=2, ge=1)
    bf16: bool = True
    checkpoint_seconds: float = Field(default=60.0, gt=0)

    @model_validator(mode="after")
    def _pieces_divide(self) -> Self:
        if self.batch_size % self.pieces:
            raise ValueError(f"a batch of {self.batch_size} does not divide into {self.pieces} pieces")
        return self

    def digest(self) -> str:
        """Hex SHA-256 of the configuration: a checkpoint resumes under the one it was made with."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class PretrainConfig(Recipe):
    """One pretraining run on alerts.

    Attributes
    ----------
    network : NetworkConfig
    views : ViewConfig
    """

    network: NetworkConfig = NetworkConfig()
    views: ViewConfig = ViewConfig()


class HeadsConfig(Frozen):
    """How the heads are fitted on a frozen encoder.

    Attributes
    ----------
    seed : int
        Of the heads' first weights, the order and the views.
    validation : float
        Share of the training objects that choose the epoch and calibrate.
    epochs : int
    batch_size : int
    learning_rate, weight_decay : float
    dropout : float
    withheld_photometry : float
        How often one row's photometry is hidden in training, so that the head stands without it.
    draws : int
        Views of each alert the heads are trained on.
    resamples : int
        Bootstrap resamples of the intervals.
    """

    seed: int = 20261124
    validation: float = Field(default=0.15, gt=0, lt=1)
    epochs: int = Field(default=40, ge=1)
    batch_size: int = Field(default=512, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    withheld_photometry: float = Field(default=0.15, ge=0, le=1)
    draws: int = Field(default=4, ge=1)
    resamples: int = Field(default=1000, ge=10)
