"""Six bands at once: each part of a galaxy is drawn once, in k-space, and seen through six PSFs.

A part's shape is the same in every band, so an image is the sum of parts times fluxes, times the transform of
the band's PSF and pixel, and one small inverse FFT.
"""

from collections.abc import Sequence
from functools import lru_cache

import galsim
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from encoder.simulate.colours import FloatArray
from encoder.simulate.optics import Psf

ComplexArray = NDArray[np.complex128]

PIXEL_SCALE = 0.2
"""Arcsec: Rubin's."""

PERIOD = 128
"""Pixels after which an image repeats: light farther away than this less half a stamp would fold back in, which
is 20 arcsec. Seeing above 0.55 arcsec leaves nothing beyond the Nyquist frequency of a 0.2 arcsec pixel."""

HALF = PERIOD // 2
K_STEP = 2 * np.pi / (PERIOD * PIXEL_SCALE)


@lru_cache(maxsize=1)
def _wave_numbers() -> tuple[FloatArray, FloatArray]:
    """Along rows (PERIOD,) and columns (PERIOD / 2 + 1,), radians a pixel."""
    return 2 * np.pi * fft.fftfreq(PERIOD), 2 * np.pi * fft.rfftfreq(PERIOD)


@lru_cache(maxsize=1)
def _pixel() -> FloatArray:
    rows, columns = (np.sinc(k / (2 * np.pi)) for k in _wave_numbers())
    return np.asarray(rows[:, None] * columns[None, :])


def transform(profile: galsim.GSObject) -> ComplexArray:
    """Fourier transform of a profile about its origin, (PERIOD, PERIOD / 2 + 1), rows as an FFT has them."""
    image = galsim.ImageCD(galsim.BoundsI(0, HALF, -HALF, HALF - 1), scale=K_STEP)
    profile.drawKImage(image, recenter=False)
    return np.asarray(fft.ifftshift(image.array, axes=0))


def shift(x: float, y: float) -> ComplexArray:
    """Factor that puts what stands on pixel 0 onto the 0-based pixel (x, y)."""
    rows, columns = _wave_numbers()
    return np.asarray(np.exp(-1j * y * rows)[:, None] * np.exp(-1j * x * columns)[None, :])


def responses(psfs: Sequence[Psf]) -> ComplexArray:
    """PSF and pixel of each band, (n, PERIOD, PERIOD / 2 + 1)."""
    return np.stack([transform(psf.profile) for psf in psfs]) * _pixel()


def draw(spectra: ComplexArray, side: int) -> FloatArray:
    """Images (n, side, side) of transforms (n, PERIOD, PERIOD / 2 + 1)."""
    return np.asarray(fft.irfft2(spectra, s=(PERIOD, PERIOD))[:, :side, :side])
