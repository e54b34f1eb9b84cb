"""Views of images: geometry for all, physics for fluxes alone."""

import numpy as np
import pytest
import torch
from torch import Generator

from broker.cutouts import FWHM_PER_SIGMA
from encoder.augment import Placement
from encoder.extinction import SDSS_EXTINCTION
from encoder.images.archive import ImageSet, Kind
from encoder.images.config import ImageNetworkConfig, ImageViewConfig
from encoder.images.views import (
    Images,
    ImageViews,
    as_given,
    lay_images,
    redden,
    restored,
)

pytestmark = pytest.mark.train

BANDS = ("g", "r", "i")
FLUX = ImageNetworkConfig(kind=Kind.FLUX, bands=3, size=48, field=48)
DISPLAY = ImageNetworkConfig(kind=Kind.DISPLAY, bands=3, size=48, field=72)
NOTHING = {
    "rotation": False,
    "jitter": 0.0,
    "zoom": (1.0, 1.0),
    "noise_probability": 0.0,
    "blur_probability": 0.0,
    "reddening_probability": 0.0,
}


def gaussian(fwhm, side=64, flux=1000.0):
    axis = np.arange(side) - (side - 1) / 2
    profile = np.exp(-0.5 * (axis / (fwhm / FWHM_PER_SIGMA)) ** 2)
    image = profile[:, None] * profile[None]
    return (flux * image / image.sum()).astype(np.float32)


def galaxies(count=4, fwhm=6.0, noise=1e-3, ebv=0.0, side=64):
    images = np.tile(gaussian(fwhm, side), (count, 3, 1, 1))
    return Images.of(
        ImageSet.of(
            images,
            kind=Kind.FLUX,
            bands=BANDS,
            noise=np.full((count, 3), noise),
            psf_fwhm=np.full((count, 3), 4.0),
            photometry=np.full((count, 3), 1000.0),
            ebv=np.full(count, ebv),
        )
    )


def views(**changes):
    return ImageViews(ImageViewConfig(**{**NOTHING, **changes}), FLUX, BANDS)


def width(pixels):
    axis = torch.arange(pixels.shape[-1]) - (pixels.shape[-1] - 1) / 2
    profile = pixels.sum(-2)
    return float(torch.sqrt((profile * axis**2).sum() / profile.sum())) * FWHM_PER_SIGMA


def test_no_view_is_the_middle_of_the_image():
    images = galaxies()
    laid = as_given(images, FLUX)
    torch.testing.assert_close(laid.pixels, images.pixels[..., 8:-8, 8:-8], atol=1e-4, rtol=1e-5)
    drawn = views()(images, Generator().manual_seed(0))
    torch.testing.assert_close(drawn.pixels, laid.pixels, atol=1e-4, rtol=1e-4)


def test_a_coarser_grid_keeps_the_flux():
    coarse = ImageNetworkConfig(kind=Kind.FLUX, bands=3, size=32, field=64)
    laid = as_given(galaxies(fwhm=12.0), coarse)
    torch.testing.assert_close(laid.pixels.sum((2, 3)), torch.full((4, 3), 1000.0), rtol=5e-3, atol=0)


def test_display_values_are_not_scaled_by_the_area_of_a_pixel():
    images = Images.of(ImageSet.of(np.full((2, 3, 96, 96), 77, np.uint8), kind=Kind.DISPLAY, bands=BANDS))
    torch.testing.assert_close(as_given(images, DISPLAY).pixels, torch.full((2, 3, 48, 48), 77.0))


def test_display_pictures_get_geometry_alone():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (8, 3, 96, 96)).astype(np.uint8)
    images = Images.of(ImageSet.of(pixels, kind=Kind.DISPLAY, bands=BANDS, ebv=np.full(8, 0.3)))
    config = ImageViewConfig(rotation=False, jitter=0.0, zoom=(1, 1), reddening=2.0, noise_factor=9.0)
    drawn = ImageViews(config, DISPLAY, BANDS)(images, Generator().manual_seed(0))
    torch.testing.assert_close(drawn.pixels, as_given(images, DISPLAY).pixels)


def test_zoom_widens_both_axes_and_keeps_the_flux():
    images = galaxies(count=1)
    enlarged = Placement(torch.eye(2)[None], torch.zeros(1, 2), torch.tensor([1.25]))
    laid = lay_images(images, enlarged, FLUX)
    for pixels in (laid.pixels[0, 0], laid.pixels[0, 0].T):
        assert width(pixels) == pytest.approx(1.25 * width(images.pixels[0, 0]), rel=0.02)
    assert float(laid.pixels[0, 0].sum()) == pytest.approx(1000, rel=0.01)
    assert float(laid.psf_fwhm[0, 0]) == pytest.approx(4.0 * 1.25)


def test_angles_are_isotropic_and_half_are_flipped():
    turn = ImageViews(ImageViewConfig(), DISPLAY, BANDS)._placement(4000, Generator().manual_seed(1)).turn
    angle = torch.atan2(turn[:, 1, 0], turn[:, 0, 0])
    assert float(torch.cos(angle).mean().abs()) < 0.05
    assert float((torch.linalg.det(turn) < 0).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_jitter_is_in_pixels_of_the_image():
    shift = ImageViews(ImageViewConfig(jitter=6.0), DISPLAY, BANDS)._placement(4000, Generator()).shift
    assert float(shift.abs().max()) == pytest.approx(6.0 * 48 / 72, rel=0.01)


def test_dust_dims_each_band_by_its_coefficient():
    laid = as_given(galaxies(), FLUX)
    magnitudes = 0.2 * torch.tensor([SDSS_EXTINCTION[band] for band in BANDS])
    dimmed = redden(laid, magnitudes.expand(4, 3))
    ratio = -2.5 * torch.log10(dimmed.pixels.sum((2, 3)) / laid.pixels.sum((2, 3)))
    torch.testing.assert_close(ratio, magnitudes.expand(4, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(dimmed.noise, laid.noise)


def test_known_dust_is_taken_away_first():
    clean, dusty = as_given(galaxies(), FLUX), galaxies(ebv=0.3)
    found = as_given(dusty, FLUX)
    magnitudes = -2.5 * torch.log10(clean.pixels.sum((2, 3)) / found.pixels.sum((2, 3)))
    expected = 0.3 * torch.tensor([SDSS_EXTINCTION[band] for band in BANDS])
    torch.testing.assert_close(magnitudes, expected.expand(4, 3), atol=1e-4, rtol=0)
    assert (found.noise > clean.noise).all()  # the noise grows with the flux


def test_a_reddened_view_of_a_dusty_galaxy_has_the_dust_that_was_drawn():
    drawn = views(reddening_probability=1.0, reddening=0.2)(
        galaxies(count=64, ebv=0.3), Generator().manual_seed(2)
    )
    magnitudes = -2.5 * torch.log10(drawn.fading)
    per_ebv = (magnitudes / torch.tensor([SDSS_EXTINCTION[band] for band in BANDS])) + 0.3
    assert float(per_ebv.min()) >= -1e-4
    assert float(per_ebv.max()) <= 0.2 + 1e-4
    assert float(per_ebv.std(1).max()) < 1e-4  # one E(B-V), whatever the band


@pytest.mark.parametrize(
    "change",
    [
        {"noise_probability": 1.0, "noise_factor": 2.0},
        {"blur_probability": 1.0, "blur_factor": 2.0},
        {"reddening_probability": 1.0, "reddening": 1.0},
    ],
)
def test_pixels_scatter_as_much_as_is_stated(change):
    side, count = 64, 200
    sky = np.random.default_rng(1).normal(size=(count, 3, side, side)).astype(np.float32)
    images = Images.of(
        ImageSet.of(
            sky, kind=Kind.FLUX, bands=BANDS, noise=np.ones((count, 3)), psf_fwhm=np.full((count, 3), 4.0)
        )
    )
    network = ImageNetworkConfig(kind=Kind.FLUX, bands=3, size=40, field=40)
    config = ImageViewConfig(**{**NOTHING, "rotation": True, **change})
    drawn = ImageViews(config, network, BANDS)(images, Generator().manual_seed(3))
    scatter = drawn.pixels[..., 8:-8, 8:-8].std((2, 3))
    assert float((scatter / drawn.noise).mean()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(("size", "field"), [(40, 40), (40, 39), (48, 36), (30, 40)])
def test_images_as_given_scatter_as_much_as_is_stated(size, field):
    side, count = 64, 200
    sky = np.random.default_rng(2).normal(size=(count, 3, side, side)).astype(np.float32)
    images = Images.of(ImageSet.of(sky, kind=Kind.FLUX, bands=BANDS, noise=np.ones((count, 3))))
    network = ImageNetworkConfig(kind=Kind.FLUX, bands=3, size=size, field=field)
    angle = torch.tensor(np.pi / 4)
    turn = torch.tensor([[torch.cos(angle), -torch.sin(angle)], [torch.sin(angle), torch.cos(angle)]])
    identity = Placement.identity(count)
    turned = Placement(turn.expand(count, 2, 2), identity.shift, identity.magnification)
    for laid in (as_given(images, network), lay_images(images, turned, network)):
        scatter = laid.pixels.square().mean((2, 3)).sqrt()
        assert float((scatter / laid.noise).mean()) == pytest.approx(1.0, abs=0.03)


def test_blur_leaves_a_level_as_it_is_up_to_the_edge():
    level = np.full((64, 3, 64, 64), 7.0, np.float32)
    options = {"noise": np.full((64, 3), 1e-3), "psf_fwhm": np.full((64, 3), 4.0)}
    images = Images.of(ImageSet.of(level, kind=Kind.FLUX, bands=BANDS, **options))
    drawn = views(blur_probability=1.0, blur_factor=1.6)(images, Generator().manual_seed(4))
    torch.testing.assert_close(drawn.pixels, torch.full_like(drawn.pixels, 7.0), atol=0.02, rtol=0)


def test_blur_adds_in_quadrature():
    images = galaxies(count=64)
    drawn = views(blur_probability=1.0, blur_factor=1.6)(images, Generator().manual_seed(4))
    for row in range(0, 64, 8):
        grown = float(drawn.psf_fwhm[row, 0])
        expected = np.sqrt(36 + grown**2 - 16)
        assert width(drawn.pixels[row, 0]) == pytest.approx(expected, rel=0.03)
    assert float(drawn.psf_fwhm.max()) > 5.5


def test_probability_p_means_p():
    drawn = views(noise_probability=0.3)(galaxies(count=4000, side=48), Generator().manual_seed(5))
    assert float((drawn.noise[:, 0] > 1.0001e-3).float().mean()) == pytest.approx(0.3, abs=0.03)


def test_a_withheld_band_is_gone_and_one_is_always_left():
    drawn = views(band_dropout=0.9)(galaxies(count=400), Generator().manual_seed(6))
    gone = drawn.noise == 0
    assert not gone.all(1).any()
    assert 0.5 < float(gone.float().mean()) < 0.95
    assert float(drawn.pixels[gone].abs().max()) == 0


def test_restoring_is_exact_where_nothing_was_taken():
    laid = as_given(galaxies(), FLUX)
    torch.testing.assert_close(restored(laid).pixels, laid.pixels)
