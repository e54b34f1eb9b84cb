"""Views of one alert: what may change in a stamp without changing what it shows.

Each view is a small class with one piece of physics. Geometry goes from the native box to the common grid in
one interpolation, by the rule of `broker.geometry`, which it equals where nothing is moved. There is no
colour jitter, no clipping and no scaling by image: colours and fluxes are what redshifts are read from.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor
from torch.nn import functional

from broker.alert import BANDS, ROLES, SURVEYS, Survey
from broker.geometry import BILINEAR_NOISE, VALID_WEIGHT
from encoder.boxes import Boxes, Laid
from encoder.config import ViewConfig

EXTINCTION = {
    Survey.LSST: (4.81, 3.64, 2.70, 2.06, 1.58, 1.31),
    Survey.ZTF: (4.239, 3.172, 2.271, 1.682, 1.322, 1.087),
}
"""A_band / E(B-V) in the order of BANDS, R_V = 3.1: Rubin's own filters (LSST MAF), and Pan-STARRS1's for
ZTF, whose catalogue the packet's photometry is from (Schlafly and Finkbeiner 2011, ApJ 737, 103, table 6; u
is SDSS's)."""

FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))

DIFFERENCE = ROLES.index("difference")
TEMPLATE = ROLES.index("template")


@dataclass(frozen=True, slots=True)
class Placement:
    """How the grid lies on each box.

    Attributes
    ----------
    turn : Tensor, shape (n, 2, 2)
        Orthogonal: from an offset on the grid to one in the box, (x, y) order.
    shift : Tensor, shape (n, 2)
        Of the grid's middle from the alert, in grid pixels.
    magnification : Tensor, shape (n,)
        By which the sky is enlarged, both axes alike; flux is conserved.
    """

    turn: Tensor
    shift: Tensor
    magnification: Tensor

    @classmethod
    def identity(cls, count: int) -> "Placement":
        """Return the placement of serving: nothing is moved."""
        return cls(torch.eye(2).repeat(count, 1, 1), torch.zeros(count, 2), torch.ones(count))

    @classmethod
    def draw(cls, config: ViewConfig, count: int, generator: Generator) -> "Placement":
        """Draw angles, flips, shifts and magnifications."""
        turn = random_turns(count, generator) if config.rotation else torch.eye(2).repeat(count, 1, 1)
        shift = (2 * torch.rand(count, 2, generator=generator) - 1) * config.jitter
        low, high = (math.log(edge) for edge in config.size_scaling)
        magnification = torch.exp(low + (high - low) * torch.rand(count, generator=generator))
        return cls(turn, shift, magnification)


def random_turns(count: int, generator: Generator) -> Tensor:
    """Rotations by any angle, half of them flipped; shape (count, 2, 2)."""
    angle = 2 * math.pi * torch.rand(count, generator=generator)
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)  # noqa: PLR2004
    cos, sin = torch.cos(angle), torch.sin(angle)
    return torch.stack([torch.stack([cos * flip, -sin], -1), torch.stack([sin * flip, cos], -1)], -2)


def lay(boxes: Boxes, placement: Placement, size: int) -> Laid:
    """Lay boxes on the grid with one bilinear interpolation.

    Parameters
    ----------
    boxes : Boxes
    placement : Placement
    size : int
        Side of the grid.

    Returns
    -------
    Laid
    """
    axis = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    offset = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)
    step = boxes.ratio / placement.magnification
    moved = (offset[None] + placement.shift[:, None, None]) @ placement.turn.transpose(1, 2)[:, None]
    native = boxes.centre[:, None, None] + step[:, None, None, None] * moved
    flux, valid = boxes.pixels()
    # grid_sample counts from -1 to 1 over the outermost pixel centres.
    place = 2 * native / (boxes.box.shape[-1] - 1) - 1
    sampled = functional.grid_sample(torch.cat([flux, valid], 1), place, align_corners=True)
    total, weight = sampled.chunk(2, dim=1)
    noise = boxes.noise * (step * step * BILINEAR_NOISE)[:, None]
    covered = (weight >= VALID_WEIGHT) & (noise > 0)[..., None, None]
    area = (step * step)[:, None, None, None]
    stamps = torch.where(covered, total / weight.clamp(min=VALID_WEIGHT) * area, torch.zeros(()))
    present = covered.flatten(2).any(2)
    return Laid(
        stamps=stamps,
        mask=covered.to(stamps.dtype),
        noise=torch.where(present, noise, torch.zeros(())),
        survey=boxes.survey,
        band=boxes.band,
        psf_fwhm=boxes.psf_fwhm * placement.magnification[:, None],
        photometry=boxes.photometry,
    )


def _chosen(count: int, probability: float, generator: Generator) -> Tensor:
    return torch.rand(count, generator=generator) < probability


@dataclass(frozen=True, slots=True)
class Blur:
    """Another visit's worse seeing: the PSF grows in quadrature, the noise of a pixel stays.

    Science and difference stamp come from one visit and share a factor; the template has its own. A stamp
    whose PSF is unknown is left as it is.

    Attributes
    ----------
    probability : float
    factor : float
        The PSF's FWHM grows by a factor drawn from U(1, factor).
    """

    probability: float
    factor: float

    def __call__(self, laid: Laid, generator: Generator) -> Laid:
        """Blur; see the class."""
        count = len(laid.stamps)
        growth = 1 + (self.factor - 1) * torch.rand(count, 2, generator=generator)
        growth = torch.where(
            torch.rand(count, 2, generator=generator) < self.probability, growth, torch.ones(())
        )
        growth = growth[:, [int(role == TEMPLATE) for role in range(len(ROLES))]]
        sigma = laid.psf_fwhm / FWHM_PER_SIGMA * torch.sqrt(growth**2 - 1)
        sigma = torch.nan_to_num(sigma, nan=0.0)
        kernel = gaussian_kernel(sigma, laid.stamps.shape[-1])
        total = kernel @ (laid.stamps * laid.mask) @ kernel
        weight = kernel @ laid.mask @ kernel
        blurred = torch.where(laid.mask > 0, total / weight.clamp(min=1e-3), torch.zeros(()))
        # Blurring averages the noise away; a visit of worse seeing has no less of it.
        left = middle_power(kernel)
        lost = laid.noise * torch.sqrt((1 - left * left).clamp(min=0))
        added = torch.randn(laid.stamps.shape, generator=generator) * lost[..., None, None] * laid.mask
        width = torch.where(sigma > 0, laid.psf_fwhm * growth, laid.psf_fwhm)
        return replace(laid, stamps=blurred + added, psf_fwhm=width)


def gaussian_kernel(sigma: Tensor, size: int) -> Tensor:
    """Symmetric matrices that convolve one axis with a Gaussian.

    Parameters
    ----------
    sigma : Tensor, shape (...)
        Pixels; 0 gives the identity. The Gaussian is integrated over pixels, less the width of a pixel
        itself, so that variances add up exactly also for narrow kernels.
    size : int

    Returns
    -------
    Tensor, shape (..., size, size)
        Rows sum to 1, except where the kernel reaches over the edge.
    """
    axis = torch.arange(size, dtype=torch.float32)
    distance = axis[:, None] - axis[None, :]
    # A Gaussian integrated over pixels gains 1/12 of variance; below that width the three middle taps carry
    # it all.
    wide = torch.sqrt((sigma**2 - 1 / 12).clamp(min=1e-8))[..., None, None] * math.sqrt(2)
    integrated = 0.5 * (torch.erf((distance + 0.5) / wide) - torch.erf((distance - 0.5) / wide))
    half = (0.5 * sigma**2)[..., None, None]
    taps = (distance == 0) * (1 - 2 * half) + (distance.abs() == 1) * half
    narrow = (sigma < 0.5)[..., None, None]  # noqa: PLR2004
    return torch.where(narrow, taps, integrated)


def middle_power(kernel: Tensor) -> Tensor:
    """Share of white noise's standard deviation that two axes of a kernel (..., size, size) leave."""
    middle = kernel[..., kernel.shape[-1] // 2, :]
    return (middle * middle).sum(-1)


@dataclass(frozen=True, slots=True)
class Redden:
    """Dust of our Galaxy in front: every flux of a band fades by A_band, the packet's photometry too.

    Attributes
    ----------
    probability : float
    reddening : float
        E(B-V) is drawn from U(0, reddening), in magnitudes. An alert of unknown band is left as it is.
    """

    probability: float
    reddening: float

    def __call__(self, laid: Laid, generator: Generator) -> Laid:
        """Redden; see the class."""
        count = len(laid.stamps)
        ebv = self.reddening * torch.rand(count, generator=generator)
        applied = _chosen(count, self.probability, generator) & (laid.band >= 0)
        return self.apply(laid, torch.where(applied, ebv, torch.zeros(())))

    @staticmethod
    def apply(laid: Laid, ebv: Tensor) -> Laid:
        """Redden by given E(B-V), shape (n,)."""
        coefficients = torch.tensor([EXTINCTION[survey] for survey in SURVEYS])[laid.survey]
        fading = 10 ** (-0.4 * coefficients * ebv[:, None])
        own = fading.gather(1, laid.band.clamp(0, len(BANDS) - 1)[:, None])
        return replace(laid, stamps=laid.stamps * own[..., None, None], photometry=laid.photometry * fading)


@dataclass(frozen=True, slots=True)
class Noise:
    """A shallower visit: Gaussian noise in units of each stamp's own, and its stated noise grows with it.

    Attributes
    ----------
    probability : float
    factor : float
        Standard deviation added, drawn from U(0, factor) times that of the stamp.
    """

    probability: float
    factor: float

    def __call__(self, laid: Laid, generator: Generator) -> Laid:
        """Add noise; see the class."""
        count = len(laid.stamps)
        factor = self.factor * torch.rand(count, generator=generator)
        factor = torch.where(_chosen(count, self.probability, generator), factor, torch.zeros(()))
        added = torch.randn(laid.stamps.shape, generator=generator) * laid.noise[..., None, None] * laid.mask
        return replace(
            laid,
            stamps=laid.stamps + added * factor[:, None, None, None],
            noise=laid.noise * torch.sqrt(1 + factor**2)[:, None],
        )


@dataclass(frozen=True, slots=True)
class RoleDropout:
    """A packet without its difference stamp.

    Attributes
    ----------
    probability : float
    """

    probability: float

    def __call__(self, laid: Laid, generator: Generator) -> Laid:
        """Withhold; see the class."""
        count = len(laid.stamps)
        kept = torch.ones(count, len(ROLES))
        kept[:, DIFFERENCE] = (~_chosen(count, self.probability, generator)).float()
        pixels = kept[..., None, None]
        return replace(laid, stamps=laid.stamps * pixels, mask=laid.mask * pixels, noise=laid.noise * kept)


class Views:
    """Draws one view of each alert: place, blur, redden, add noise, withhold.

    Parameters
    ----------
    config : ViewConfig
    size : int
        Side of the grid.
    """

    def __init__(self, config: ViewConfig, size: int) -> None:
        self._config = config
        self._size = size
        self._steps = (
            Blur(config.blur_probability, config.blur_factor),
            Redden(config.reddening_probability, config.reddening),
            Noise(config.noise_probability, config.noise_factor),
            RoleDropout(config.role_dropout),
        )

    def __call__(self, boxes: Boxes, generator: Generator) -> Laid:
        """Draw a view of every row of ``boxes``."""
        laid = lay(boxes, Placement.draw(self._config, len(boxes), generator), self._size)
        for step in self._steps:
            laid = step(laid, generator)
        return laid


def as_served(boxes: Boxes, size: int) -> Laid:
    """Lay boxes as the broker does: no view at all."""
    return lay(boxes, Placement.identity(len(boxes)), size)
