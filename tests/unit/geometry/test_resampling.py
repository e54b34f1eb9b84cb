"""The rule of the grid, against loops that anyone can follow."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.geometry import grid_noise, resample

SIZE, MIDDLE = 32, 15.5


def slow_resample(image, mask, *, centre, ratio, size):
    """The rule of `broker.resampling` for one stamp, pixel by pixel."""
    laid, covered = np.zeros((size, size)), np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            y = centre[1] + (i - (size - 1) / 2) * ratio
            x = centre[0] + (j - (size - 1) / 2) * ratio
            total = weight = 0.0
            for row in (math.floor(y), math.floor(y) + 1):
                for column in (math.floor(x), math.floor(x) + 1):
                    if 0 <= row < image.shape[0] and 0 <= column < image.shape[1] and mask[row, column]:
                        share = (1 - abs(y - row)) * (1 - abs(x - column))
                        total += share * image[row, column]
                        weight += share
            if weight >= 0.5:
                laid[i, j] = total / weight * ratio**2
                covered[i, j] = 1
    return laid, covered


def gaussian(shape, centre, sigma, flux=1.0):
    y, x = np.mgrid[: shape[0], : shape[1]]
    profile = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))
    return (flux * profile / (2 * math.pi * sigma**2)).astype(np.float32)


@given(
    shape=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    native_scale=st.floats(0.1, 1.5),
    share=st.sampled_from([0.0, 0.0, 0.1, 0.6, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_resampling_follows_the_rule(shape, place, native_scale, share, seed):
    rng = np.random.default_rng(seed)
    image = rng.normal(100, 10, shape).astype(np.float32)
    mask = rng.uniform(size=shape) >= share
    centre = (place[0] * (shape[1] - 1), place[1] * (shape[0] - 1))
    size = 8 + seed % 2
    laid, covered = resample(image[None], mask[None], centre, native_scale, 0.4, size)
    slow, slow_covered = slow_resample(image, mask, centre=centre, ratio=0.4 / native_scale, size=size)
    # Where the weight is 0.5 to the last digit, either side of it is right.
    agree = covered[0] == slow_covered
    assert (~agree).sum() <= 0.15 * size**2
    np.testing.assert_allclose(laid[0][agree], slow[agree], rtol=2e-4, atol=1e-4 * (0.4 / native_scale) ** 2)


def test_stamps_of_a_stack_do_not_touch_each_other():
    rng = np.random.default_rng(3)
    image = rng.normal(size=(3, 40, 30)).astype(np.float32)
    mask = rng.uniform(size=image.shape) > 0.2
    together = resample(image, mask, (14.2, 20.7), 0.2, 0.8 / 3, SIZE)
    for k in range(3):
        alone = resample(image[k : k + 1], mask[k : k + 1], (14.2, 20.7), 0.2, 0.8 / 3, SIZE)
        np.testing.assert_allclose(together[0][k], alone[0][0], atol=1e-6)
        np.testing.assert_array_equal(together[1][k], alone[1][0])


@given(
    centre=st.tuples(st.floats(24.5, 25.5), st.floats(24.5, 25.5)),
    scales=st.sampled_from([(0.2, 0.8 / 3), (0.168, 0.8 / 3), (1.01, 2 / 3)]),
)
def test_a_source_at_the_alert_lands_on_the_middle_with_its_flux(centre, scales):
    native_scale, grid_scale = scales
    image = gaussian((51, 51), centre, sigma=2.0, flux=1000.0)[None]
    laid, covered = resample(image, np.isfinite(image), centre, native_scale, grid_scale, SIZE)
    assert laid.sum() == pytest.approx(1000.0, rel=0.02)
    y, x = np.mgrid[:SIZE, :SIZE]
    assert (laid[0] * x).sum() / laid.sum() == pytest.approx(MIDDLE, abs=0.02)
    assert (laid[0] * y).sum() / laid.sum() == pytest.approx(MIDDLE, abs=0.02)
    assert covered.all()


def test_the_grid_treats_all_directions_alike():
    image = gaussian((51, 51), (25, 25), sigma=2.0)[None]
    laid = resample(image, np.isfinite(image), (25, 25), 0.2, 0.8 / 3, SIZE)[0][0]
    np.testing.assert_allclose(laid, laid.T, atol=1e-6)
    np.testing.assert_allclose(laid, laid[::-1], atol=1e-6)
    np.testing.assert_allclose(laid, laid[:, ::-1], atol=1e-6)


def test_what_lies_beyond_the_stamp_is_masked():
    image = np.ones((1, 10, 20), np.float32)
    laid, covered = resample(image, np.isfinite(image), (9.5, 4.5), 1.0, 1.0, SIZE)
    assert covered.sum() == 200
    assert (laid[covered == 1] == 1).all()
    assert (laid[covered == 0] == 0).all()


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 3e38])
def test_masked_pixels_never_show(garbage):
    image = np.ones((1, 40, 40), np.float32)
    mask = np.ones_like(image, dtype=bool)
    mask[0, 10:14, 5:30] = False
    image[~mask] = garbage
    laid, covered = resample(image, mask, (19.5, 19.5), 0.5, 0.5, SIZE)
    np.testing.assert_allclose(laid[covered == 1], 1.0)
    assert covered.sum() == SIZE**2 - 100


def test_a_stamp_that_is_all_masked_leaves_nothing():
    laid, covered = resample(
        np.full((1, 30, 30), np.nan, np.float32), np.zeros((1, 30, 30), bool), (14.5, 14.5), 1, 1, 8
    )
    assert not laid.any()
    assert not covered.any()


@pytest.mark.parametrize(("native_scale", "grid_scale"), [(0.2, 0.8 / 3), (0.168, 0.8 / 3), (1.01, 2 / 3)])
def test_the_noise_of_a_grid_pixel_is_what_white_noise_becomes(native_scale, grid_scale):
    rng = np.random.default_rng(8)
    noise = rng.normal(0, 7.0, (200, 60, 60)).astype(np.float32)
    found = [
        resample(
            noise[k : k + 1],
            np.isfinite(noise[k : k + 1]),
            tuple(rng.uniform(29, 30, 2)),
            native_scale,
            grid_scale,
            SIZE,
        )[0]
        for k in range(len(noise))
    ]
    assert np.std(found) == pytest.approx(grid_noise(7.0, native_scale, grid_scale), rel=0.03)
