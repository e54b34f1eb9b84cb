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

from broker.alert import BANDS, ROLES, SURVEYS
from broker.cutouts import FWHM_PER_SIGMA
from broker.geometry import BILINEAR_NOISE, VALID_WEIGHT
from encoder.boxes import Boxes, Laid
from encoder.config import ViewConfig
from encoder.extinction import EXTINCTION

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
        """Draw angles, flips, shifts and magnifications of a recipe."""
        return cls.drawn(config.rotation, config.jitter, config.size_scaling, count, generator)

    @classmethod
    def drawn(
        cls, rotation: bool, jitter: float, scaling: tuple[float, float], count: int, generator: Generator
    ) -> "Placement":
        """Draw angles and flips, shifts up to ``jitter`` grid pixels, magnifications even in their logarithm."""
        turn = random_turns(count, generator) if rotation else torch.eye(2).repeat(count, 1, 1)
        shift = (2 * torch.rand(count, 2, generator=generator) - 1) * jitter
        low, high = (math.log(edge) for edge in scaling)
        magnification = torch.exp(low + (high - low) * torch.rand(count, generator=generator))
        return cls(turn, shift, magnification)


def random_turns(count: int, generator: Generator) -> Tensor:
    """Rotations by any angle, half of them flipped; shape (count, 2, 2)."""
    angle = 2 * math.pi * torch.rand(count, generator=generator)
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)  # noqa: PLR2004
    cos, sin = torch.cos(angle), torch.sin(angle)
    return torch.stack([torch.stack([cos * flip, -sin], -1), torch.stack([sin * flip, cos], -1)], -2)


def lay(boxes: Boxes, placement: Placement, size: int, white: Tensor | None = None) -> Laid:
    """Lay boxes on the grid with one bilinear interpolation.

    Parameters
    ----------
    boxes : Boxes
    placement : Placement
    size : int
        Side of the grid.
    white : Tensor, shape (n, 3, side, side), optional
        Noise of unit variance on the native pixels, from which the grain of the grid is made.

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
    layers = [flux, valid] if white is None else [flux, valid, white * valid]
    # grid_sample counts from -1 to 1 over the outermost pixel centres.
    place = 2 * native / (boxes.box.shape[-1] - 1) - 1
    sampled = functional.grid_sample(torch.cat(layers, 1), place, align_corners=True)
    total, weight, *rest = torch.split(sampled, len(ROLES), dim=1)
    noise = boxes.noise * (step * step * BILINEAR_NOISE)[:, None]
    covered = (weight >= VALID_WEIGHT) & (noise > 0)[..., None, None]
    area = (step * step)[:, None, None, None]
    share = covered / weight.clamp(min=VALID_WEIGHT)
    stamps = total * share * area
    grain = rest[0] * share / BILINEAR_NOISE if rest else torch.zeros(()).expand_as(stamps)
    present = covered.flatten(2).any(2)
    return Laid(
        stamps=stamps,
        mask=covered.to(stamps.dtype),
        noise=torch.where(present, noise, torch.zeros(())),
        survey=boxes.survey,
        band=boxes.band,
        psf_fwhm=boxes.psf_fwhm * placement.magnification[:, None],
        photometry=boxes.photometry,
        ebv=boxes.ebv,
        step=step,
        grain=grain,
        kept=torch.ones_like(noise),
        fading=torch.ones_like(boxes.photometry),
    )


def restore_noise(laid: Laid) -> Laid:
    """Add what noise the views took away, or ask for, so that pixels scatter as much as is stated.

    The noise added is correlated between pixels as that of the stamp is, by the same interpolation.
    """
    lacking = laid.noise * torch.sqrt((1 - laid.kept**2).clamp(min=0))
    return replace(
        laid, stamps=laid.stamps + laid.grain * lacking[..., None, None], kept=torch.ones_like(laid.kept)
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
        left = noise_left(kernel, laid.step)
        width = torch.where(sigma > 0, laid.psf_fwhm * growth, laid.psf_fwhm)
        return replace(laid, stamps=blurred, psf_fwhm=width, kept=laid.kept * left)


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


def noise_left(kernel: Tensor, step: Tensor) -> Tensor:
    """Share of the noise's standard deviation that a kernel on both axes leaves on interpolated pixels.

    Parameters
    ----------
    kernel : Tensor, shape (n, 3, size, size)
    step : Tensor, shape (n,)
        Native pixels per grid pixel.

    Returns
    -------
    Tensor, shape (n, 3)
        Exact for white native noise on axes that are not turned.
    """
    middle = kernel[..., kernel.shape[-1] // 2, :]
    axis = torch.arange(kernel.shape[-1], dtype=torch.float32)
    distance = (axis[:, None] - axis[None, :]).abs() * step[:, None, None]
    # Linear interpolation at any phase: its autocorrelation is the cubic B-spline.
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance).clamp(min=0) ** 3 / 6
    correlation = torch.where(distance < 1, near, far) / (2 / 3)
    return torch.einsum("nri,nij,nrj->nr", middle, correlation, middle)


@dataclass(frozen=True, slots=True)
class Redden:
    """Dust of our Galaxy in front: every flux of a band fades by A_band, the packet's photometry too.

    Dust that is known to be there is taken away first. The sky's noise does not fade (`restore_noise` brings it back),
    but grows with the flux where more dust is taken away than put in front.

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
        return self.apply(laid, torch.where(applied, ebv - laid.ebv, torch.zeros(())))

    @staticmethod
    def apply(laid: Laid, ebv: Tensor) -> Laid:
        """Redden by given E(B-V), shape (n,); negative ones take dust away."""
        coefficients = torch.tensor([EXTINCTION[survey] for survey in SURVEYS])[laid.survey]
        fading = 10 ** (-0.4 * coefficients * ebv[:, None])
        own = fading.gather(1, laid.band.clamp(0, len(BANDS) - 1)[:, None])
        grown = own.clamp(min=1)
        return replace(
            laid,
            stamps=laid.stamps * own[..., None, None],
            photometry=laid.photometry * fading,
            noise=laid.noise * grown,
            kept=laid.kept * own / grown,
            fading=laid.fading * fading,
        )


@dataclass(frozen=True, slots=True)
class Noise:
    """A shallower visit: more Gaussian noise, in units of each stamp's own, which `restore_noise` adds.

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
        growth = torch.sqrt(1 + factor**2)[:, None]
        return replace(laid, noise=laid.noise * growth, kept=laid.kept / growth)


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
    """Draws one view of each alert: place, blur, redden, withhold, add noise.

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
        white = torch.randn(boxes.box.shape, generator=generator)
        laid = lay(boxes, Placement.draw(self._config, len(boxes), generator), self._size, white)
        for step in self._steps:
            laid = step(laid, generator)
        return restore_noise(laid)


def as_served(boxes: Boxes, size: int) -> Laid:
    """Lay boxes as the broker does: no view at all."""
    return lay(boxes, Placement.identity(len(boxes)), size)
