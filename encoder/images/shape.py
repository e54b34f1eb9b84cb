"""The shape of a galaxy in numbers that no turn and no flip changes: labels that cost nothing."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from encoder.images.archive import Kind
from encoder.images.views import ImageView

RINGS, RADII = 6, 3
"""Rings around the centre, as wide as one another, and radii sampled in each."""

ANGLES = 32
REACH = 0.95
"""Outermost radius, of half the side."""

ORDERS = (1, 2, 3, 4)
"""Azimuthal orders of Fourier: lopsided, elongated or barred or two-armed, three-armed, boxy (Rix and Zaritsky 1995,
ApJ 447, 82; Elmegreen, Elmegreen and Montenegro 1992, ApJS 79, 37)."""

HARMONICS = RINGS * (1 + len(ORDERS))
ADVANCE = 2 * (RINGS - 1)

DISPLAY_NOISE = 3.0
"""Of 255: about the scatter of dark sky in a stretched picture."""

AMPLITUDE_FLOOR, LIGHT_FLOOR = 0.1, 1.0
"""Units of a pixel's noise: a ring averages tens of pixels, so what is fainter is not told from noise."""


def shapes(kind: Kind, bands: int) -> int:
    """Numbers that `shape_of` gives of one image."""
    return HARMONICS + ADVANCE + (bands * HARMONICS if kind is Kind.FLUX else 0)


def shape_of(view: ImageView, kind: Kind) -> Tensor:
    """Measure light and its azimuthal harmonics in rings: of all bands together and, of fluxes, of each band.

    The phase of the second order turns with radius along spiral arms, and stands still along a bar or a disk seen
    from the side: its advance from ring to ring is measured without its sense. A blue arc around a red galaxy is told
    from an arm by its bands alone; stretched pictures have no bands in that sense.

    Parameters
    ----------
    view : ImageView
        Images as they are.
    kind : Kind

    Returns
    -------
    Tensor, shape (n, shapes)
        Logarithm of the light of each ring, logarithms of the amplitudes relative to it, and cosine and absolute
        sine of the advance of phase, each shrunk towards 0 where the light is faint; then light and amplitudes of
        each band, NaN where a band is missing.
    """
    rings = rings_of(_white(view, kind))
    found = [_harmonics(rings), _advance(rings[..., 2])]
    if kind is Kind.FLUX:
        seen = view.noise > 0
        scaled = view.pixels / torch.where(seen, view.noise, 1.0)[..., None, None]
        bands = _harmonics(rings_of(scaled.flatten(0, 1))).view(*seen.shape, HARMONICS)
        found.append(torch.where(seen[..., None], bands, torch.nan).flatten(1))
    return torch.cat(found, 1)


def rings_of(picture: Tensor) -> Tensor:
    """Measure complex Fourier components (n, rings, orders from 0) of pictures (n, size, size) in rings."""
    rings = torch.fft.rfft(_polar(picture), dim=2) / ANGLES
    weight = _radii().view(1, RINGS, RADII, 1)
    averaged: Tensor = (rings.reshape(len(picture), RINGS, RADII, -1) * weight).sum(2) / weight.sum(2)
    return averaged


def _harmonics(rings: Tensor) -> Tensor:
    light = rings[..., 0].real.clamp(min=0) + LIGHT_FLOOR
    orders = rings[..., list(ORDERS)]
    amplitude = torch.log((orders.abs() + AMPLITUDE_FLOOR) / light[..., None])
    return torch.cat([torch.log(light), amplitude.flatten(1)], 1)


def _white(view: ImageView, kind: Kind) -> Tensor:
    """All bands as one picture (n, size, size), in units of its noise."""
    if kind is Kind.DISPLAY:
        return view.pixels.mean(1) / DISPLAY_NOISE
    weight = torch.where(view.noise > 0, 1 / view.noise, 0.0)
    seen = (weight > 0).sum(1).clamp(min=1)
    return (view.pixels * weight[..., None, None]).sum(1) / seen.sqrt()[:, None, None]


def _radii() -> Tensor:
    return (torch.arange(RINGS * RADII) + 0.5) * REACH / (RINGS * RADII)


def _polar(picture: Tensor) -> Tensor:
    """Sample (n, size, size) at (n, radii, angles)."""
    angle = torch.arange(ANGLES) * 2 * math.pi / ANGLES
    ray = torch.stack([torch.cos(angle), torch.sin(angle)], -1)
    place = (_radii()[:, None, None] * ray).expand(len(picture), -1, -1, -1)
    return functional.grid_sample(picture[:, None], place, align_corners=False).squeeze(1)


def _advance(second: Tensor) -> Tensor:
    turned = second[:, 1:] * second[:, :-1].conj()
    scale = turned.abs() + AMPLITUDE_FLOOR
    return torch.cat([turned.real / scale, turned.imag.abs() / scale], 1)
