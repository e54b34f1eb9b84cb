"""The network: what it may and may not depend on."""

import numpy as np
import pytest
import torch

from broker.contract import COMMON_GRID, INPUTS, check_inputs
from encoder.backbone import Encoder, Scaling
from encoder.config import NetworkConfig
from encoder.heads import AB_ZERO_POINT, PhotometryFeatures, asinh_magnitude
from encoder.model import AlertModel

pytestmark = pytest.mark.train

SMALL = NetworkConfig(widths=(8, 16), blocks=1, groups=4, hidden=8, prototypes=8)


def inputs(count=6, bands=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, bands, 3, 32, 32)
    mask = (torch.rand(shape, generator=generator) > 0.1).float()
    return (
        10 * torch.randn(shape, generator=generator) * mask,
        mask,
        0.5 + torch.rand(count, bands, 3, generator=generator),
        torch.arange(count) % 2,
        torch.randint(-1, 6, (count, bands), generator=generator),
        1000 * torch.rand(count, 6, generator=generator),
    )


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    built = AlertModel(SMALL, ("a", "b", "c")).eval()
    built.anomaly.prototypes.normal_(0, 0.1)
    return built


def run(model, *arrays):
    with torch.no_grad():
        return model(*arrays)


def test_outputs_are_what_the_contract_says(model):
    embedding, morphology, pdf, anomaly = run(model, *inputs())
    assert embedding.shape == (6, 64)
    np.testing.assert_allclose(embedding.norm(dim=1), 1, atol=1e-5)
    np.testing.assert_allclose(morphology.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(pdf.sum(1), 1, atol=1e-5)
    assert ((anomaly >= 0) & (anomaly <= 1)).all()


def test_an_alert_does_not_depend_on_its_neighbours(model):
    arrays = inputs()
    alone = run(model, *(array[2:3] for array in arrays))
    among = run(model, *arrays)
    others = run(
        model,
        *(torch.cat([new[:2], old[2:3], new[3:]]) for new, old in zip(inputs(seed=9), arrays, strict=True)),
    )
    for one, two, three in zip(alone, among, others, strict=True):
        np.testing.assert_allclose(one[0], two[2], atol=1e-5)
        np.testing.assert_allclose(two[2], three[2], atol=1e-5)


def test_a_missing_stamp_says_nothing_whatever_it_holds(model):
    stamps, mask, noise, *rest = inputs()
    noise[:, :, 2] = 0
    garbage = stamps.clone()
    garbage[:, :, 2] = 1e6
    for one, two in zip(
        run(model, stamps, mask, noise, *rest), run(model, garbage, mask, noise, *rest), strict=True
    ):
        np.testing.assert_array_equal(one, two)


def test_masked_pixels_say_nothing(model):
    stamps, mask, *rest = inputs()
    garbage = stamps + 1e4 * (1 - mask)
    np.testing.assert_array_equal(run(model, stamps, mask, *rest)[0], run(model, garbage, mask, *rest)[0])


def test_an_alert_without_any_stamp_and_photometry_is_still_finite(model):
    stamps, mask, noise, survey, band, photometry = inputs()
    empty = run(model, stamps * 0, mask * 0, noise * 0, survey, band, torch.full_like(photometry, torch.nan))
    assert all(torch.isfinite(array).all() for array in empty)


def test_bands_that_were_not_seen_do_not_count(model):
    one = inputs(bands=1)
    padded = [torch.cat([array, array * 0], dim=1) if array.ndim > 1 else array for array in one[:5]]
    with torch.no_grad():
        single = model.encoder(one[0], one[1], one[2], one[4])
        double = model.encoder(padded[0], padded[1], padded[2], padded[4])
    np.testing.assert_allclose(single.embedding, double.embedding, atol=1e-5)
    np.testing.assert_allclose(single.context, double.context, atol=1e-6)


def test_the_order_of_bands_does_not_matter(model):
    stamps, mask, noise, _, band, _ = inputs(bands=3)
    with torch.no_grad():
        forth = model.encoder(stamps, mask, noise, band).embedding
        back = model.encoder(stamps.flip(1), mask.flip(1), noise.flip(1), band.flip(1)).embedding
    np.testing.assert_allclose(forth, back, atol=1e-5)


def test_scaling_is_arcsinh_of_significance():
    flux = torch.tensor([-1e6, -3.0, 0.0, 1e-3, 30.0, 1e6]).reshape(1, 1, 1, 6).expand(1, 3, 1, 6)
    noise = torch.tensor([[1.0, 10.0, 0.0]])
    scaled = Scaling()(flux, torch.ones_like(flux), noise)
    np.testing.assert_allclose(scaled[0, 0], torch.asinh(flux[0, 0] / 3), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scaled[0, 1], torch.asinh(flux[0, 0] / 30), rtol=1e-4, atol=1e-6)
    assert (scaled[0, 2] == 0).all()
    assert scaled[0, 3:5].min() == 1
    assert scaled[0, 5].max() == 0


def test_features_do_not_depend_on_the_unit_of_flux():
    torch.manual_seed(0)
    encoder = Encoder(SMALL).eval()
    stamps, mask, noise, _, band, _ = inputs()
    with torch.no_grad():
        njy = encoder(stamps, mask, noise, band).embedding
        jansky = encoder(stamps * 64, mask, noise * 64, band).embedding
    np.testing.assert_allclose(njy, jansky, atol=1e-5)


def test_asinh_magnitudes_are_pogsons_for_bright_sources_and_finite_below_zero():
    flux = torch.tensor([1e4, 1e6, 1e8])
    np.testing.assert_allclose(asinh_magnitude(flux), AB_ZERO_POINT - 2.5 * torch.log10(flux), atol=1e-3)
    faint = asinh_magnitude(torch.tensor([-500.0, 0.0, 500.0]))
    assert torch.isfinite(faint).all()
    assert (faint.diff() < 0).all()


def test_unknown_photometry_is_zero_and_says_so():
    photometry = torch.tensor([[torch.nan, 1e5, 2e5, torch.nan, 0.0, -5.0]])
    described = PhotometryFeatures()(photometry)[0]
    magnitudes, colours, known = described[:6], described[6:11], described[11:]
    assert known.tolist() == [0, 1, 1, 0, 1, 1]
    assert magnitudes[0] == magnitudes[3] == 0
    assert [bool(value) for value in colours != 0] == [False, True, False, False, True]
    np.testing.assert_allclose(colours[1], 2.5 * np.log10(2), atol=1e-3)


def test_the_check_inputs_run(model):
    arrays = check_inputs(COMMON_GRID)
    outputs = run(model, *(torch.from_numpy(arrays[name]) for name in INPUTS))
    assert all(torch.isfinite(array).all() for array in outputs)


def test_a_network_whose_widths_do_not_divide_into_groups_is_refused():
    with pytest.raises(ValueError, match="multiples of groups"):
        NetworkConfig(widths=(30,), groups=8)
