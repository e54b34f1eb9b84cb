"""Azimuthal harmonics against galaxies whose shape is known."""

import math
from dataclasses import replace

import pytest
import torch

from encoder.augment import Placement
from encoder.images.archive import ImageSet, Kind
from encoder.images.config import ImageNetworkConfig
from encoder.images.shape import ORDERS, RINGS, shape_of, shapes
from encoder.images.views import Images, lay_images

pytestmark = pytest.mark.train

NETWORK = ImageNetworkConfig(kind=Kind.DISPLAY, bands=1, size=48, field=48)
TWO = ORDERS.index(2)


def shape(picture, turn=0.0, flip=1.0):
    """Numbers of one picture after a turn: light (rings), amplitudes (rings, orders), cosine and sine of advance."""
    images = Images.of(
        ImageSet.of(picture[None, None].numpy().astype("float32"), kind=Kind.DISPLAY, bands=("r",))
    )
    angle = torch.tensor(turn)
    matrix = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]]) @ torch.diag(
        torch.tensor([flip, 1.0])
    )
    still = Placement.identity(1)
    laid = lay_images(images, Placement(matrix[None], still.shift, still.magnification), NETWORK)
    found = shape_of(laid, Kind.DISPLAY)[0]
    assert found.shape == (shapes(Kind.DISPLAY, 1),)
    light, amplitude, advance = torch.split(found, [RINGS, RINGS * len(ORDERS), 2 * (RINGS - 1)])
    return found, light, amplitude.view(RINGS, len(ORDERS)), advance.view(2, RINGS - 1)


def polar():
    axis = torch.arange(48.0) - 23.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.hypot(x, y), torch.atan2(y, x)


def galaxy(kind):
    radius, angle = polar()
    disk = 200 * torch.exp(-radius / 7)
    if kind == "disk":
        return disk
    if kind == "bar":
        return disk * (1 + 0.6 * torch.cos(2 * angle))
    if kind == "lopsided":
        return disk * (1 + 0.6 * torch.cos(angle))
    return disk * (1 + 0.6 * torch.cos(2 * angle - 4 * torch.log(radius + 1)))


def test_each_order_is_told():
    quiet = shape(galaxy("disk"))[2].exp()
    # The grid's corners give a round disk some of order 4.
    assert (quiet[:4, :3] < 0.05).all()
    barred, lopsided = shape(galaxy("bar"))[2].exp(), shape(galaxy("lopsided"))[2].exp()
    # A cosine of amplitude a has a Fourier component of a / 2.
    torch.testing.assert_close(barred[1:4, TWO], torch.full((3,), 0.3), rtol=0.1, atol=0)
    torch.testing.assert_close(lopsided[1:4, 0], torch.full((3,), 0.3), rtol=0.1, atol=0)
    assert (barred[:4, 0] < 0.05).all()
    assert (lopsided[:4, TWO] < 0.05).all()


def test_arms_advance_and_a_bar_does_not():
    cosine, sine = shape(galaxy("bar"))[3]
    assert (cosine[:4] > 0.9).all()
    assert (sine[:4] < 0.1).all()
    assert shape(galaxy("spiral"))[3][1].max() > 0.9


@pytest.mark.parametrize("kind", ["bar", "lopsided", "spiral"])
def test_no_turn_and_no_flip_changes_it(kind):
    whole = shape(galaxy(kind))[0]
    torch.testing.assert_close(shape(galaxy(kind), math.pi / 2)[0], whole, atol=1e-3, rtol=0)
    torch.testing.assert_close(shape(galaxy(kind), 0.0, -1.0)[0], whole, atol=1e-3, rtol=0)
    turned = shape(galaxy(kind), 0.7)
    torch.testing.assert_close(turned[1], shape(galaxy(kind))[1], atol=0.1, rtol=0)
    torch.testing.assert_close(turned[2][:4, TWO], shape(galaxy(kind))[2][:4, TWO], atol=0.15, rtol=0)


def test_light_is_per_pixel_and_faint_rings_say_nothing():
    light = shape(galaxy("disk"))[1].exp() - 1
    radius, _ = polar()
    first = galaxy("disk")[radius < 0.95 * 24 / RINGS].mean() / 3
    assert light[0] == pytest.approx(float(first), rel=0.1)
    assert shape(torch.zeros(48, 48))[3].abs().max() == 0


def test_each_band_of_fluxes_has_its_own_and_a_missing_one_none():
    network = ImageNetworkConfig(kind=Kind.FLUX, bands=2, size=48, field=48)
    picture = torch.stack([galaxy("disk"), galaxy("bar")])[None].numpy().astype("float32")
    noise = torch.tensor([[2.0, 2.0]])
    images = Images.of(ImageSet.of(picture, kind=Kind.FLUX, bands=("r", "i"), noise=noise.numpy()))
    laid = lay_images(images, Placement.identity(1), network)
    found = shape_of(laid, Kind.FLUX)[0]
    assert found.shape == (shapes(Kind.FLUX, 2),)
    per_band = found[-2 * RINGS * (1 + len(ORDERS)) :].view(2, RINGS * (1 + len(ORDERS)))
    amplitude = per_band[:, RINGS:].view(2, RINGS, len(ORDERS)).exp()
    assert (amplitude[0, :4, TWO] < 0.05).all()
    torch.testing.assert_close(amplitude[1, 1:4, TWO], torch.full((3,), 0.3), rtol=0.1, atol=0)
    blind = replace(laid, noise=torch.tensor([[2.0, 0.0]]))
    told = shape_of(blind, Kind.FLUX)[0]
    assert told[-RINGS * (1 + len(ORDERS)) :].isnan().all()
    assert told[: -RINGS * (1 + len(ORDERS))].isfinite().all()
