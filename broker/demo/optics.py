"""Light onto pixels: profiles drawn on a fine grid, blurred by a Moffat and binned to native pixels.

numpy alone and a few milliseconds an alert: good enough to look at and to send through the broker.
Training images are made by `encoder.simulate` with GalSim.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

OVERSAMPLING = 3
"""Fine pixels per native one; odd, so that the middle of a native pixel is the middle of a fine one."""

MOFFAT_BETA = 3.5
"""Wings of ground-based seeing (Trujillo et al. 2001, MNRAS 328, 977)."""

MARGIN = 6
"""Native pixels drawn beyond each edge, so that light from outside blurs in and nothing wraps around."""

EXPONENTIAL_B = 1.678
"""Scale lengths in the half-light radius of an exponential disk."""

DE_VAUCOULEURS_B = 7.669

CORE_ARCSEC = 0.02
"""Softens the cusp of a de Vaucouleurs profile, which a grid cannot hold."""


@dataclass(frozen=True)
class Canvas:
    """Native stamp and the fine grid it is drawn on; the origin is the alert's position.

    Attributes
    ----------
    side : int
        Native pixels.
    pixel_scale : float
        Arcsec per native pixel.
    x, y : float
        0-based native pixel of the alert.
    """

    side: int
    pixel_scale: float
    x: float
    y: float

    @property
    def step(self) -> float:
        """Arcsec per fine pixel."""
        return self.pixel_scale / OVERSAMPLING

    @cached_property
    def axes(self) -> tuple[FloatArray, FloatArray]:
        """Arcsec of the fine pixels' middles: x as a row, y as a column."""
        fine = (np.arange((self.side + 2 * MARGIN) * OVERSAMPLING) + 0.5) / OVERSAMPLING - MARGIN - 0.5
        return ((fine - self.x) * self.pixel_scale)[None, :], ((fine - self.y) * self.pixel_scale)[:, None]

    def bin(self, fine: FloatArray) -> FloatArray:
        """Sum fine pixels to the native stamp, shape (side, side)."""
        edge = MARGIN * OVERSAMPLING
        inner = fine[edge:-edge, edge:-edge]
        blocks = inner.reshape(self.side, OVERSAMPLING, self.side, OVERSAMPLING)
        return np.asarray(blocks.sum(axis=(1, 3)))


@dataclass(frozen=True)
class Seeing:
    """A round Moffat.

    Attributes
    ----------
    fwhm : float
        Arcsec.
    """

    fwhm: float

    def profile(self, radius_squared: FloatArray) -> FloatArray:
        """Surface brightness at squared radii in arcsec, of unit total."""
        width_squared = (self.fwhm / 2) ** 2 / (2 ** (1 / MOFFAT_BETA) - 1)
        norm = (MOFFAT_BETA - 1) / (np.pi * width_squared)
        return np.asarray(norm * (1 + radius_squared / width_squared) ** -MOFFAT_BETA)

    def point(self, canvas: Canvas, x: float = 0.0, y: float = 0.0) -> FloatArray:
        """Point source of unit flux at (x, y) arcsec from the alert; shape (side, side)."""
        columns, rows = canvas.axes
        fine = self.profile((columns - x) ** 2 + (rows - y) ** 2)
        return canvas.bin(fine) * canvas.step**2

    def blur(self, canvas: Canvas, fine: FloatArray) -> FloatArray:
        """Blur light on the fine grid and bin it; shape (side, side)."""
        size = fine.shape[0]
        offsets = (np.arange(size) - size // 2) * canvas.step
        kernel = self.profile(offsets[None, :] ** 2 + offsets[:, None] ** 2)
        kernel = np.fft.ifftshift(kernel / kernel.sum())
        blurred = np.fft.irfft2(np.fft.rfft2(fine) * np.fft.rfft2(kernel), s=fine.shape)
        return canvas.bin(np.maximum(blurred, 0.0))

    def plane(self, side: int, pixel_scale: float) -> FloatArray:
        """Image of the PSF itself, centred and of unit sum; shape (side, side)."""
        middle = (side - 1) / 2
        image = self.point(Canvas(side, pixel_scale, middle, middle))
        return np.asarray(image / image.sum())


@dataclass(frozen=True, slots=True)
class Ellipse:
    """Where and how a profile lies: centre in arcsec from the alert, axis ratio, angle in radians."""

    x: float
    y: float
    axis_ratio: float = 1.0
    angle: float = 0.0

    def coordinates(self, canvas: Canvas) -> tuple[FloatArray, FloatArray]:
        """Arcsec along the major and minor axes, the latter stretched to the plane of the disk."""
        columns, rows = canvas.axes
        dx, dy = columns - self.x, rows - self.y
        c, s = np.cos(self.angle), np.sin(self.angle)
        return c * dx + s * dy, (c * dy - s * dx) / self.axis_ratio

    def radius(self, canvas: Canvas) -> FloatArray:
        """Elliptical radius of every fine pixel in arcsec."""
        u, v = self.coordinates(canvas)
        return np.hypot(u, v)

    def on_sky(self, radius: float, azimuth: float) -> tuple[float, float]:
        """Point of the disk's plane in arcsec from the alert."""
        u, v = radius * np.cos(azimuth), self.axis_ratio * radius * np.sin(azimuth)
        c, s = np.cos(self.angle), np.sin(self.angle)
        return float(self.x + c * u - s * v), float(self.y + s * u + c * v)


def exponential(canvas: Canvas, where: Ellipse, half_light_radius: float) -> FloatArray:
    """Disk of unit total on the fine grid."""
    scale = half_light_radius / EXPONENTIAL_B
    light = np.exp(-where.radius(canvas) / scale) / (2 * np.pi * scale**2 * where.axis_ratio)
    return np.asarray(light * canvas.step**2)


def spiral(
    canvas: Canvas, where: Ellipse, half_light_radius: float, *, arms: int, pitch: float, contrast: float
) -> FloatArray:
    """Exponential disk with logarithmic arms (pitch in radians; negative winds the other way)."""
    u, v = where.coordinates(canvas)
    radius = np.hypot(u, v)
    phase = arms * (np.arctan2(v, u) - np.log(radius / half_light_radius + 1e-3) / np.tan(pitch))
    outside_bulge = 1 - np.exp(-((2 * radius / half_light_radius) ** 2))
    wave = 1 + contrast * outside_bulge * (2 * np.exp(1.2 * (np.cos(phase) - 1)) - 0.9)
    return np.asarray(exponential(canvas, where, half_light_radius) * np.clip(wave, 0.05, None))


def de_vaucouleurs(canvas: Canvas, where: Ellipse, half_light_radius: float) -> FloatArray:
    """Bulge on the fine grid, of unit total within what is drawn."""
    radius = np.hypot(where.radius(canvas), CORE_ARCSEC)
    light = np.exp(-DE_VAUCOULEURS_B * ((radius / half_light_radius) ** 0.25 - 1))
    # Graham & Driver 2005 (PASA 22, 118), equation 4 with n = 4 and the brightness at r_e of 1.
    total = 7.215 * np.pi * half_light_radius**2 * where.axis_ratio
    return np.asarray(light / total * canvas.step**2)


def edge_on(canvas: Canvas, where: Ellipse, half_light_radius: float, thickness: float) -> FloatArray:
    """Disk seen from its side: exponential along, sech squared across (van der Kruit & Searle 1981)."""
    upright = Ellipse(where.x, where.y, 1.0, where.angle)
    along, across = upright.coordinates(canvas)
    scale = half_light_radius / EXPONENTIAL_B
    height = max(thickness * scale, canvas.step / 2)
    light = np.exp(-np.abs(along) / scale) / np.cosh(np.clip(across / height, -30, 30)) ** 2
    return np.asarray(light / (4 * scale * height) * canvas.step**2)


def ring(canvas: Canvas, where: Ellipse, radius: float, width: float) -> FloatArray:
    """Gaussian ring of unit total."""
    light = np.exp(-0.5 * ((where.radius(canvas) - radius) / width) ** 2)
    total = (2 * np.pi) ** 1.5 * radius * width * where.axis_ratio
    return np.asarray(light / total * canvas.step**2)


def arc(canvas: Canvas, where: Ellipse, radius: float, width: float, half_angle: float) -> FloatArray:
    """Part of a ring about its major axis, falling off smoothly over ``half_angle`` radians."""
    u, v = where.coordinates(canvas)
    azimuth = np.arctan2(v, u)
    light = ring(canvas, where, radius, width) * np.exp(-0.5 * (azimuth / half_angle) ** 2)
    return np.asarray(light * (2 * np.pi) ** 0.5 / half_angle)
