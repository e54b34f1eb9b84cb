"""Point-spread functions and what is drawn through them."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import galsim
import numpy as np
from scipy.ndimage import uniform_filter

from encoder.simulate.colours import FloatArray

GSPARAMS = galsim.GSParams(
    folding_threshold=2e-2, maxk_threshold=5e-3, kvalue_accuracy=1e-4, maximum_fft_size=8192
)
"""Looser than GalSim's defaults: images are right to a few parts in a thousand, far below the noise."""

MOFFAT_BETAS = (2.5, 3.0, 3.5, 4.5)
"""Wings of ground-based PSFs (Racine 1996, PASP 108, 699; Trujillo et al. 2001, MNRAS 328, 977)."""

OVERSAMPLING = 5
"""Field stars are placed to a fifth of a pixel; whatever an alert is about is drawn where it stands."""

TABLE_SIDE = 41
"""Native pixels across the table for field stars; Rubin's PSF planes have as many."""


@lru_cache(maxsize=len(MOFFAT_BETAS))
def _moffat(beta: float) -> galsim.GSObject:
    # One object per shape: GalSim keeps its Fourier table with it through scaling and shear. Without a
    # truncation it would have no table, and evaluate Bessel functions for every pixel.
    return galsim.Moffat(beta=beta, fwhm=1.0, trunc=9.0, gsparams=GSPARAMS)


@lru_cache(maxsize=4)
def _pixel(scale: float) -> galsim.GSObject:
    # A twentieth of a pixel of charge diffusion: far less than real, but without it GalSim warns that both
    # the pixel and the truncated PSF end in edges, which no image here is sharp enough to show.
    diffusion = galsim.Gaussian(sigma=0.05 * scale, gsparams=GSPARAMS)
    return galsim.Convolve(galsim.Pixel(scale, gsparams=GSPARAMS), diffusion)


@dataclass(frozen=True)
class Psf:
    """An elliptical Moffat.

    Attributes
    ----------
    fwhm : float
        Arcsec.
    beta : float
        One of `MOFFAT_BETAS`.
    g1, g2 : float
        Reduced shear.
    pixel_scale : float
        Arcsec per native pixel.
    """

    fwhm: float
    beta: float
    g1: float
    g2: float
    pixel_scale: float

    @cached_property
    def profile(self) -> galsim.GSObject:
        """GalSim profile of unit flux, without the pixel."""
        return _moffat(self.beta).dilate(self.fwhm).shear(g1=self.g1, g2=self.g2)

    def draw(self, shape: tuple[int, int], x: float, y: float) -> FloatArray:
        """Draw a unit point source at the 0-based pixel (x, y), integrated over pixels; shape (h, w)."""
        return self.draw_seen(None, shape, x, y)

    def draw_seen(
        self, light: galsim.GSObject | None, shape: tuple[int, int], x: float, y: float
    ) -> FloatArray:
        """Draw light through the PSF, its origin at the 0-based pixel (x, y); None is a unit point."""
        height, width = shape
        parts = [self.profile, _pixel(self.pixel_scale), *([] if light is None else [light])]
        image = galsim.Convolve(parts, real_space=False).drawImage(
            nx=width,
            ny=height,
            scale=self.pixel_scale,
            offset=(x - (width - 1) / 2, y - (height - 1) / 2),
            method="no_pixel",
            dtype=np.float64,
        )
        return np.asarray(image.array)

    @cached_property
    def kernel(self) -> FloatArray:
        """Point source centred on a pixel, of unit sum, shape (41, 41)."""
        image = self.draw((TABLE_SIDE, TABLE_SIDE), (TABLE_SIDE - 1) / 2, (TABLE_SIDE - 1) / 2)
        return np.asarray(image / image.sum())

    @cached_property
    def noise_pixels(self) -> float:
        """Effective area in pixels, 1 / sum(P^2): a PSF flux has the noise of this many pixels."""
        return float(1.0 / np.sum(self.kernel**2))

    @cached_property
    def table(self) -> FloatArray:
        """Unit point source on an `OVERSAMPLING` times finer grid, integrated over native pixels."""
        fine = TABLE_SIDE * OVERSAMPLING
        image = self.profile.drawImage(
            nx=fine, ny=fine, scale=self.pixel_scale / OVERSAMPLING, method="no_pixel", dtype=np.float64
        ).array
        return np.asarray(uniform_filter(image, OVERSAMPLING, mode="nearest") * OVERSAMPLING**2)

    def add_star(self, image: FloatArray, flux: float, x: float, y: float) -> None:
        """Add a point source at the 0-based pixel (x, y) to an image in place, to a fifth of a pixel."""
        rows, from_row = self._overlap(y, image.shape[0])
        columns, from_column = self._overlap(x, image.shape[1])
        step = OVERSAMPLING
        patch = self.table[from_row::step, from_column::step][
            : rows.stop - rows.start, : columns.stop - columns.start
        ]
        image[rows.start : rows.start + patch.shape[0], columns.start : columns.start + patch.shape[1]] += (
            flux * patch
        )

    @staticmethod
    def _overlap(position: float, size: int) -> tuple[slice, int]:
        middle = (TABLE_SIDE * OVERSAMPLING - 1) / 2
        first = max(0, int(np.ceil(position - TABLE_SIDE / 2 + 0.5)))
        last = min(size, int(np.floor(position + TABLE_SIDE / 2 - 0.5)) + 1)
        if last <= first:
            return slice(0, 0), 0
        return slice(first, last), round(middle + OVERSAMPLING * (first - position))
