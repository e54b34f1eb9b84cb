"""Alerts as pretraining sees them: views of stamps, and the fluxes its side task regresses."""

import hashlib
from pathlib import Path

import torch
from rich.console import Console
from torch import Generator, Tensor

from broker.alert import BANDS, ROLES, SURVEYS, Survey
from encoder.augment import Views, as_served
from encoder.backbone import Encoder
from encoder.boxes import Boxes, BoxSource, Laid, digest_of
from encoder.config import PretrainConfig
from encoder.heads import asinh_magnitude
from encoder.moco import Batch, MoCo
from encoder.repeats import Repeats
from encoder.train import Run, Watched, read_checkpoint, train
from encoder.world import ALONE, World

APERTURES = (2.5, 7.0)
"""Radii in grid pixels: the alert itself and its host (three pixels are one nominal seeing FWHM)."""

APERTURE_SOFTENING = {Survey.LSST: 100.0, Survey.ZTF: 15.0}
"""nJy and DN: about the noise of one visit within the smaller aperture, below which fluxes count linearly."""

MEASURED = len(APERTURES) * len(ROLES) + len(BANDS)
"""Clean aperture fluxes of each stamp, the packet's photometry."""

TARGETS = len(APERTURES) * len(ROLES) + len(BANDS) + (len(BANDS) - 1)
"""Aperture fluxes of each stamp, magnitudes of the packet's photometry, its colours."""

WATCHED = 2048
"""Objects on which rank and neighbours are watched, by one alert each."""

SIDE = Encoder.context_size + len(SURVEYS)


class AlertTask:
    """Learning from alerts; see `encoder.train.Task`.

    Parameters
    ----------
    config : PretrainConfig
    boxes : Boxes or StoredBoxes
        The training set, in memory or in shards.
    labels : Tensor of int64, shape (n,)
        -1 where unknown. Watched (nearest-neighbour score); trained on only where the recipe gives labels a weight.
    """

    def __init__(self, config: PretrainConfig, boxes: BoxSource, labels: Tensor) -> None:
        self.config = config
        self._boxes = boxes
        self._views = Views(config.views, config.network.size)
        self._repeats = Repeats(boxes.sky_object)
        self._measured = measure(boxes, config.network.size)
        self._mean, self._spread = spread_of_known(_targets(self._measured, boxes.survey))
        rows = self._repeats.one_each(WATCHED)
        self._watched, self._watched_labels = boxes[rows], labels[rows]
        self._label = labels
        self._classes = int(labels.max()) + 1
        self.objects = len(torch.unique(boxes.sky_object))

    def __len__(self) -> int:
        return len(self._boxes)

    def digest(self) -> str:
        """Tell the alerts, and the labels where something is learned from them, from others."""
        if self.config.label_weight == 0:
            return self._boxes.digest()
        return hashlib.sha256((self._boxes.digest() + digest_of([self._label])).encode()).hexdigest()

    def new_moco(self) -> MoCo:
        """Build the network with the weights of the recipe's seed."""
        return new_moco(self.config, self._classes)

    def batch(self, rows: Tensor, generator: Generator) -> Batch:
        """Draw two views of each row, of two visits where there are some."""
        others = self._repeats.another(rows, generator) if self.config.views.other_visits else rows
        query, key = self._views(self._boxes[rows], generator), self._views(self._boxes[others], generator)
        target = (targets(self._measured[rows], query) - self._mean) / self._spread
        return Batch(query, key, target, self._boxes.sky_object[rows], self._label[rows])

    def watch(self, moco: MoCo) -> Watched:
        """Embed some alerts as served."""
        return Watched(*embed(moco, self._watched, self.config.network.size), self._watched_labels)


def pretrain(
    config: PretrainConfig,
    boxes: BoxSource,
    labels: Tensor,
    output: Path,
    *,
    max_minutes: float | None = None,
    console: Console | None = None,
    world: World = ALONE,
) -> Run[PretrainConfig]:
    """Pretrain on alerts without labels, or go on with the run found in ``output``; see `encoder.train.train`."""
    return train(
        AlertTask(config, boxes, labels), output, max_minutes=max_minutes, console=console, world=world
    )


def new_moco(config: PretrainConfig, classes: int = 0) -> MoCo:
    """Build the network for alerts with the weights of the recipe's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return MoCo(config, Encoder(config.network), SIDE, TARGETS, classes)


def load_checkpoint(path: Path) -> Run[PretrainConfig]:
    """Read a checkpoint of `pretrain`; see `encoder.train.read_checkpoint`."""
    return read_checkpoint(path, PretrainConfig, new_moco)


@torch.no_grad()
def embed(moco: MoCo, boxes: Boxes, size: int, chunk: int = 256) -> tuple[Tensor, Tensor]:
    """Embeddings (n, d) of alerts as served, before and after they are brought to unit length; on the CPU."""
    found, device = [], next(moco.base_encoder.parameters()).device
    for start in range(0, len(boxes), chunk):
        stamps, mask, noise, _, band, _ = as_served(boxes[slice(start, start + chunk)], size).network_inputs()
        found.append(moco.base_encoder(*(one.to(device) for one in (stamps, mask, noise, band))))
    return torch.cat([one.raw.cpu() for one in found]), torch.cat([one.embedding.cpu() for one in found])


def spread_of_known(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (t,) of each column of (n, t), of what is not NaN; constants have a spread of 1."""
    known = torch.isfinite(values)
    count = known.sum(0).clamp(min=1)
    filled = torch.where(known, values, torch.zeros(()))
    mean = filled.sum(0) / count
    variance = (torch.where(known, values - mean, torch.zeros(())) ** 2).sum(0) / count
    return mean, torch.where(variance > 1e-6, variance.sqrt(), torch.ones(()))  # noqa: PLR2004


def measure(boxes: BoxSource, size: int, chunk: int = 512) -> Tensor:
    """Measure what the side task regresses: free labels of the alert as it came, before any view.

    Parameters
    ----------
    boxes : Boxes or StoredBoxes
    size : int
        Side of the grid.
    chunk : int
        Rows laid at a time.

    Returns
    -------
    Tensor, shape (n, MEASURED)
        Flux of each aperture and stamp in survey units, photometry in nJy; NaN where unknown.
    """
    parts = [_measure(boxes[slice(start, start + chunk)], size) for start in range(0, len(boxes), chunk)]
    return torch.cat(parts)


def _measure(boxes: Boxes, size: int) -> Tensor:
    laid = as_served(boxes, size)
    axis = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    radius = torch.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2)
    columns = []
    for aperture in APERTURES:
        inside = laid.mask * (radius <= aperture)
        flux = (laid.stamps * inside).sum((2, 3))
        columns.append(torch.where(inside.sum((2, 3)) > 0, flux, torch.full((), torch.nan)))
    return torch.cat([*columns, laid.photometry], dim=1)


def targets(measured: Tensor, view: Laid) -> Tensor:
    """Targets of a view: what was measured, behind the dust the view put in front.

    Parameters
    ----------
    measured : Tensor, shape (n, MEASURED)
    view : Laid

    Returns
    -------
    Tensor, shape (n, TARGETS)
        arcsinh of the aperture fluxes, asinh magnitudes and colours; NaN where unknown.
    """
    own = view.fading.gather(1, view.band.clamp(min=0)[:, None])
    apertures = len(APERTURES) * len(ROLES)
    dimmed = torch.cat([measured[:, :apertures] * own, measured[:, apertures:] * view.fading], dim=1)
    return _targets(dimmed, view.survey)


def _targets(measured: Tensor, survey: Tensor) -> Tensor:
    softening = torch.tensor([APERTURE_SOFTENING[one] for one in SURVEYS])[survey][:, None]
    flux, photometry = torch.split(measured, [len(APERTURES) * len(ROLES), len(BANDS)], dim=1)
    magnitude = asinh_magnitude(photometry)
    return torch.cat([torch.asinh(flux / softening), magnitude, magnitude[:, :-1] - magnitude[:, 1:]], dim=1)
