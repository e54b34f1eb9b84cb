"""Views: each changes what it says, by how much it says, and nothing else."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.alert import BANDS, SURVEYS, Survey
from broker.contract import COMMON_GRID
from broker.geometry import resample, weights
from encoder.augment import (
    Blur,
    Noise,
    Placement,
    Redden,
    RoleDropout,
    Views,
    as_served,
    gaussian_kernel,
    lay,
    random_turns,
    restore_noise,
)
from encoder.boxes import Boxes, split_by_object
from encoder.config import ViewConfig
from encoder.extinction import EXTINCTION

pytestmark = pytest.mark.train

SIZE = COMMON_GRID.size


def source(count=1, sigma=(2.5, 2.5), at=(0.0, 0.0), flux=1000.0, noise=1e-4, ratio=1.0, side=64, fwhm=3.0):
    """Boxes that hold one Gaussian source each, at an offset in native pixels from the alert."""
    axis = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
    x, y = axis[None, :] - at[0], axis[:, None] - at[1]
    image = torch.exp(-0.5 * ((x / sigma[0]) ** 2 + (y / sigma[1]) ** 2))
    box = (flux * image / image.sum()).expand(count, 3, side, side).clone()
    return Boxes(
        box=box,
        centre=torch.full((count, 2), (side - 1) / 2),
        noise=torch.full((count, 3), noise),
        ratio=torch.full((count,), ratio),
        survey=torch.arange(count) % 2,
        band=torch.arange(count) % len(BANDS),
        psf_fwhm=torch.full((count, 3), fwhm),
        photometry=torch.full((count, len(BANDS)), 500.0),
        ebv=torch.zeros(count),
        sky_object=torch.arange(count),
    )


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def moments(image):
    """Flux, centroid and second moments of (size, size)."""
    image = image.double()
    axis = torch.arange(image.shape[-1], dtype=torch.float64) - (image.shape[-1] - 1) / 2
    flux = image.sum()
    x, y = (image.sum(0) @ axis) / flux, (image.sum(1) @ axis) / flux
    xx = (image.sum(0) @ (axis - x) ** 2) / flux
    yy = (image.sum(1) @ (axis - y) ** 2) / flux
    return float(flux), (float(x), float(y)), (float(xx), float(yy))


@settings(deadline=None, max_examples=25)
@given(
    x=st.floats(28, 36),
    y=st.floats(28, 36),
    ratio=st.sampled_from([0.4, 0.66, 1.0, 4 / 3, 1.7]),
    holes=st.floats(0, 0.6),
    seed=st.integers(0, 1000),
)
def test_without_a_view_stamps_are_laid_as_the_broker_lays_them(x, y, ratio, holes, seed):
    rng = np.random.default_rng(seed)
    box = rng.normal(size=(1, 3, 64, 64)).astype(np.float32)
    box[rng.random(box.shape) < holes] = np.nan
    boxes = replace(
        source(),
        box=torch.from_numpy(box),
        centre=torch.tensor([[x, y]]),
        ratio=torch.tensor([ratio]),
        noise=torch.ones(1, 3),
    )
    laid = as_served(boxes, SIZE)
    wanted, mask = resample(
        np.nan_to_num(box[0]), np.isfinite(box[0]), (float(boxes.centre[0, 0]), float(boxes.centre[0, 1])),
        1.0, float(boxes.ratio[0]), SIZE,
    )  # fmt: skip
    # Where half of the weight is valid to the last bits, rounding decides.
    rows, columns = (
        weights(64, float(boxes.centre[0, axis]), float(boxes.ratio[0]), SIZE) for axis in (1, 0)
    )
    share = rows @ np.isfinite(box[0]).astype(np.float32) @ columns.T
    clear = np.abs(share - 0.5) > 1e-4
    np.testing.assert_array_equal(laid.mask[0].numpy()[clear], mask[clear])
    both = (laid.mask[0].numpy() > 0) & (mask > 0)
    np.testing.assert_allclose(laid.stamps[0].numpy()[both], wanted[both], atol=1e-4)


def test_turns_are_isotropic_and_half_of_them_mirror():
    turns = random_turns(20_000, seeded())
    np.testing.assert_allclose(turns @ turns.transpose(1, 2), torch.eye(2).expand_as(turns), atol=1e-5)
    mirrored = torch.linalg.det(turns) < 0
    assert abs(float(mirrored.float().mean()) - 0.5) < 0.02
    angle = torch.atan2(turns[:, 1, 1], turns[:, 0, 1])
    counts = torch.histc(angle, bins=12, min=-math.pi, max=math.pi) / len(angle)
    assert (counts - 1 / 12).abs().max() < 0.01


def test_a_turn_moves_an_offset_source_on_a_circle_and_keeps_its_flux():
    boxes = source(64, at=(5.0, 0.0), ratio=1.0)
    placement = replace(Placement.identity(64), turn=random_turns(64, seeded()))
    found = [moments(image) for image in lay(boxes, placement, SIZE).stamps[:, 0]]
    radii = [math.hypot(*centroid) for _, centroid, _ in found]
    np.testing.assert_allclose(radii, 5.0, atol=0.05)
    np.testing.assert_allclose([flux for flux, _, _ in found], 1000, rtol=0.01)
    assert np.std([centroid[0] for _, centroid, _ in found]) > 2


@pytest.mark.parametrize("magnification", [0.8, 1.25])
def test_magnification_scales_both_axes_and_conserves_flux(magnification):
    boxes = source(sigma=(4.0, 2.5))
    placement = replace(Placement.identity(1), magnification=torch.tensor([magnification]))
    flux, _, (xx, yy) = moments(lay(boxes, placement, SIZE).stamps[0, 0])
    plain_flux, _, (plain_xx, plain_yy) = moments(as_served(boxes, SIZE).stamps[0, 0])
    assert flux == pytest.approx(plain_flux, rel=0.02)
    assert math.sqrt(xx / plain_xx) == pytest.approx(magnification, rel=0.02)
    assert math.sqrt(yy / plain_yy) == pytest.approx(magnification, rel=0.02)


def test_a_shift_moves_the_source_by_as_many_grid_pixels():
    boxes = source(ratio=1.5)
    placement = replace(Placement.identity(1), shift=torch.tensor([[1.5, -0.75]]))
    _, centroid, _ = moments(lay(boxes, placement, SIZE).stamps[0, 0])
    assert centroid == pytest.approx((-1.5, 0.75), abs=0.02)


def test_jitter_is_even_on_both_axes_and_bounded():
    shift = Placement.draw(ViewConfig(jitter=2.0), 20_000, seeded()).shift
    assert shift.abs().max() <= 2
    np.testing.assert_allclose(shift.mean(0), 0, atol=0.03)
    np.testing.assert_allclose(shift.std(0), 2 / math.sqrt(3), rtol=0.02)


def test_flux_per_grid_pixel_does_not_depend_on_the_scale_of_the_grid():
    fine, coarse = (moments(as_served(source(ratio=r), SIZE).stamps[0, 0])[0] for r in (0.66, 4 / 3))
    assert fine == pytest.approx(1000, rel=0.01)
    assert coarse == pytest.approx(1000, rel=0.01)


@pytest.mark.parametrize("sigma", [0.0, 0.2, 0.45, 0.6, 1.0, 2.0])
def test_the_blur_kernel_has_the_variance_it_should(sigma):
    kernel = gaussian_kernel(torch.tensor(sigma), SIZE)
    axis = torch.arange(SIZE) - SIZE // 2
    middle = kernel[SIZE // 2]
    assert float(middle.sum()) == pytest.approx(1, abs=1e-4)
    assert float(middle @ axis.float() ** 2) == pytest.approx(sigma**2, abs=0.01)


def test_blur_adds_in_quadrature_and_conserves_flux():
    fwhm = 3.0
    boxes = source(200, sigma=(fwhm / 2.3548, fwhm / 2.3548), fwhm=fwhm)
    laid = as_served(boxes, SIZE)
    blurred = Blur(probability=1.0, factor=1.8)(laid, seeded())
    for before, after, stated in zip(
        laid.stamps[:, 0], blurred.stamps[:, 0], blurred.psf_fwhm[:, 0], strict=True
    ):
        flux, _, (xx, _) = moments(after)
        plain_flux, _, (plain_xx, _) = moments(before)
        assert flux == pytest.approx(plain_flux, rel=0.01)
        added = (float(stated) ** 2 - fwhm**2) / 2.3548**2
        assert xx - plain_xx == pytest.approx(added, abs=0.05)
    assert blurred.psf_fwhm.max() <= 1.8 * fwhm
    assert blurred.psf_fwhm[:, 0].std() > 0.3


def noisy(count, ratio, noise=2.0):
    """Stamps of nothing but white native noise, with the grain for more."""
    boxes = source(count, flux=0.0, noise=noise, ratio=ratio)
    box = noise * torch.randn(boxes.box.shape, generator=seeded(1))
    boxes = replace(boxes, box=box, centre=31 + torch.rand(count, 2, generator=seeded(3)))
    return lay(boxes, Placement.identity(count), SIZE, torch.randn(boxes.box.shape, generator=seeded(2)))


def scatter(laid):
    """Standard deviation of pixels away from the edge, over the stated one."""
    return float((laid.stamps / laid.noise[..., None, None])[..., 6:-6, 6:-6].std())


def neighbours(laid):
    """Correlation of pixels side by side."""
    inside = (laid.stamps / laid.noise[..., None, None])[..., 6:-6, 6:-6]
    return float((inside[..., 1:] * inside[..., :-1]).mean() / inside.square().mean())


@pytest.mark.parametrize("ratio", [0.66, 1.0, 4 / 3])
@pytest.mark.parametrize(
    "view",
    [Blur(1.0, 1.8), Redden(1.0, 0.5), Noise(1.0, 2.0)],
    ids=lambda view: type(view).__name__,
)
def test_after_a_view_pixels_scatter_as_much_as_is_stated(view, ratio):
    laid = noisy(400, ratio)
    assert scatter(laid) == pytest.approx(1, abs=0.02)
    assert scatter(restore_noise(view(laid, seeded()))) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("ratio", [0.66, 4 / 3])
def test_added_noise_is_correlated_as_that_of_the_stamp(ratio):
    laid = noisy(400, ratio)
    more = restore_noise(Noise(1.0, 2.0)(laid, seeded()))
    assert neighbours(more) == pytest.approx(neighbours(laid), abs=0.02)


def test_blur_gives_science_and_difference_one_seeing_and_the_template_its_own():
    blurred = Blur(probability=1.0, factor=1.6)(as_served(source(50), SIZE), seeded())
    science, template, difference = blurred.psf_fwhm.T
    np.testing.assert_array_equal(science, difference)
    assert (science - template).abs().min() > 0


def test_blur_leaves_a_stamp_of_unknown_psf_alone():
    laid = as_served(replace(source(8), psf_fwhm=torch.full((8, 3), torch.nan)), SIZE)
    np.testing.assert_allclose(Blur(1.0, 2.0)(laid, seeded()).stamps, laid.stamps, atol=1e-4)


@pytest.mark.parametrize("survey", list(Survey))
@pytest.mark.parametrize("band", range(len(BANDS)))
def test_reddening_is_exact_in_magnitudes_for_stamps_and_photometry(survey, band):
    laid = replace(
        as_served(source(), SIZE), survey=torch.tensor([SURVEYS.index(survey)]), band=torch.tensor([band])
    )
    red = Redden.apply(laid, torch.tensor([0.3]))
    dimming = -2.5 * torch.log10(red.stamps.sum() / laid.stamps.sum())
    assert float(dimming) == pytest.approx(0.3 * EXTINCTION[survey][band], abs=1e-3)
    packet = -2.5 * torch.log10(red.photometry / laid.photometry)[0]
    np.testing.assert_allclose(packet, 0.3 * np.array(EXTINCTION[survey]), atol=1e-3)
    np.testing.assert_array_equal(red.noise, laid.noise)


def test_known_dust_is_taken_away_before_other_dust_comes():
    clean = lay(source(count=6, flux=1e4), Placement.identity(6), 32)
    seen = replace(Redden.apply(clean, torch.full((6,), 0.4)), ebv=torch.full((6,), 0.4))
    bare = Redden(1.0, 0.0)(seen, seeded())
    torch.testing.assert_close(bare.stamps, clean.stamps, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(bare.photometry, clean.photometry, rtol=1e-4, atol=0)
    torch.testing.assert_close(bare.fading, torch.ones_like(bare.fading), rtol=1e-4, atol=0)
    # Flux was divided by the dust's transmission, and the noise with it.
    own = seen.fading.gather(1, seen.band[:, None])
    torch.testing.assert_close(bare.noise, seen.noise / own, rtol=1e-4, atol=0)


def test_reddening_is_uniform_up_to_its_limit_and_leaves_unknown_bands_alone():
    laid = as_served(source(2000, side=8), 8)
    red = Redden(1.0, 0.4)(laid, seeded())
    ebv = -2.5 * torch.log10(red.photometry[:, 2] / laid.photometry[:, 2])
    ebv = ebv / torch.tensor([EXTINCTION[survey][2] for survey in SURVEYS])[laid.survey]
    assert 0.39 < float(ebv.max()) <= 0.4 + 1e-5
    assert float(ebv.mean()) == pytest.approx(0.2, abs=0.01)
    unknown = replace(laid, band=torch.full_like(laid.band, -1))
    np.testing.assert_array_equal(Redden(1.0, 0.4)(unknown, seeded()).photometry, laid.photometry)


def test_noise_is_uniform_up_to_its_limit():
    laid = as_served(source(500, flux=0.0, noise=3.0), SIZE)
    factor = torch.sqrt((Noise(probability=1.0, factor=2.0)(laid, seeded()).noise / laid.noise) ** 2 - 1)
    assert 1.9 < float(factor.max()) <= 2.001
    assert float(factor.mean()) == pytest.approx(1.0, abs=0.06)


def test_noise_leaves_masked_pixels_empty():
    boxes = source(4)
    boxes.box[..., :30] = torch.nan
    views = Views(ViewConfig(noise_probability=1.0), SIZE)(boxes, seeded())
    assert views.mask.min() == 0
    assert (views.stamps[views.mask == 0] == 0).all()


@pytest.mark.parametrize("probability", [0.0, 0.2, 0.7, 1.0])
def test_a_probability_means_what_it_says(probability):
    laid = as_served(source(4000, side=8), 8)
    generator = seeded()
    changed = {
        "blur": Blur(probability, 2.0)(laid, generator).psf_fwhm[:, 0] != laid.psf_fwhm[:, 0],
        "redden": Redden(probability, 0.5)(laid, generator).photometry[:, 0] != laid.photometry[:, 0],
        "noise": Noise(probability, 2.0)(laid, generator).noise[:, 0] != laid.noise[:, 0],
        "dropout": RoleDropout(probability)(laid, generator).noise[:, 2] == 0,
    }
    for name, rows in changed.items():
        assert float(rows.float().mean()) == pytest.approx(probability, abs=0.03), name


def test_a_seed_gives_the_same_views_and_another_gives_others():
    boxes, views = source(8, noise=1.0), Views(ViewConfig(), SIZE)
    one, two, other = views(boxes, seeded(1)), views(boxes, seeded(1)), views(boxes, seeded(2))
    assert torch.equal(one.stamps, two.stamps)
    assert not torch.allclose(one.stamps, other.stamps)


def test_a_missing_stamp_stays_missing():
    boxes = source(8)
    boxes.box[:, 1] = torch.nan
    laid = Views(ViewConfig(), SIZE)(boxes, seeded())
    assert (laid.mask[:, 1] == 0).all()
    assert (laid.noise[:, 1] == 0).all()


def test_alerts_of_one_object_stay_on_one_side_of_a_split():
    names = np.array([f"object {i // 3}" for i in range(3000)])
    held_out = split_by_object(names, 0.2, seed=1)
    assert (held_out.reshape(-1, 3).std(axis=1) == 0).all()
    assert held_out.mean() == pytest.approx(0.2, abs=0.04)
    np.testing.assert_array_equal(split_by_object(names[:30], 0.2, seed=1), held_out[:30])
    assert (split_by_object(names, 0.2, seed=2) != held_out).any()
