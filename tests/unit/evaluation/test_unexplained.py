"""Structure is found where light does not explain it; brightness and colour alone are no anomaly."""

import numpy as np
import pytest
import torch

from encoder.evaluation.anomaly import UNEXPLAINED, evaluate_anomalies, recall_at
from encoder.evaluation.unexplained import measured, residual, tail, unexplained
from encoder.images.config import ImageNetworkConfig
from encoder.images.views import Images

pytestmark = pytest.mark.train

COUNT, RARE, SIDE, BANDS = 2000, 20, 36, 2
NETWORK = ImageNetworkConfig(kind="flux", bands=BANDS, size=36, field=36)


def _images(seed: int) -> tuple[Images, np.ndarray]:
    """Round galaxies of very different brightness and size; twenty have a second nucleus."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    flux, width = 10 ** rng.uniform(3, 5, COUNT), rng.uniform(2, 5, COUNT)

    def disk(flux: np.ndarray, width: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
        square = (x - dx[:, None, None]) ** 2 + (y - dy[:, None, None]) ** 2
        profile = np.exp(-square / 2 / width[:, None, None] ** 2)
        return np.asarray(profile * (flux / (2 * np.pi * width**2))[:, None, None])

    nothing = np.zeros(COUNT)
    rare = rng.permutation(COUNT) < RARE
    angle = rng.uniform(0, 2 * np.pi, COUNT)
    second = disk(flux * 0.3 * rare, np.full(COUNT, 1.5), 8 * np.cos(angle), 8 * np.sin(angle))
    scene = disk(flux, width, nothing, nothing) + second
    colour = rng.uniform(0.5, 2, COUNT)[:, None, None]
    pixels = np.stack([scene, scene * colour], 1) + rng.normal(0, 5, (COUNT, BANDS, SIDE, SIDE))
    return _laid(pixels), rare


def _laid(pixels: np.ndarray) -> Images:
    bands = (len(pixels), BANDS)
    return Images(
        noise=torch.full(bands, 5.0),
        psf_fwhm=torch.full(bands, torch.nan),
        photometry=torch.full(bands, torch.nan),
        dust=torch.zeros(bands),
        pixels=torch.from_numpy(pixels.astype(np.float32)),
    )


def test_a_second_nucleus_stands_out_and_brightness_does_not() -> None:
    images, rare = _images(1)
    left = unexplained(images, NETWORK)
    assert recall_at(left.score, rare) > 0.4, "chance is 0.01"
    bright = measured(images, NETWORK)[0].sum(1)
    usual = ~rare
    assert abs(np.corrcoef(bright[usual], left.score[usual])[0, 1]) < 0.25


def test_targets_are_asked_of_it_where_it_is_given() -> None:
    images, rare = _images(2)
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(COUNT, 6))
    section = evaluate_anomalies(
        noise, noise, rare, "made up", lambda _: None, left=unexplained(images, NETWORK)
    )
    table = section.tables["before any vote"]
    assert next(iter(table)) == UNEXPLAINED
    assert section.targets[0].found.startswith(f"{table[UNEXPLAINED]['recall_at_1_percent'].value:.3f}")


def test_what_is_given_is_taken_away_and_the_rest_is_left() -> None:
    rng = np.random.default_rng(4)
    given, rest = rng.normal(size=(1000, 3)), rng.normal(size=(1000, 2))
    asked = (given**2) @ np.ones((3, 2)) + given @ np.ones((3, 2)) + 0.3 * rest
    left = residual(asked, given, np.zeros(1000, np.int64))
    for column in range(2):
        assert abs(np.corrcoef(left[:, column], given.sum(1))[0, 1]) < 0.1
        assert np.corrcoef(left[:, column], rest[:, column])[0, 1] > 0.9


def test_the_largest_residuals_rank_first() -> None:
    residuals = np.zeros((100, 8))
    residuals[7, :5] = -3.0
    assert tail(residuals).argmax() == 7
    assert tail(residuals)[7] == pytest.approx(np.log(100))


def test_a_band_that_is_missing_is_no_anomaly() -> None:
    images, _ = _images(5)
    images.noise[:50, 1] = 0.0
    images.pixels[:50, 1] = 0.0
    left = unexplained(images, NETWORK)
    assert np.isfinite(left.score).all()
    assert np.median(left.score[:50]) < np.quantile(left.score, 0.95)
