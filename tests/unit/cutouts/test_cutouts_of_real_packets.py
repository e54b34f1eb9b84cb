"""Every stamp of every real packet, against astropy."""

import math

import numpy as np
import oracle
import pytest
from fits_files import readable_or_refused

from broker.alert import Survey
from broker.cutouts import FWHM_OF_EFFECTIVE_AREA, read_cutout


def test_rubin_stamps_read_as_astropy_reads_them(lsst_paths):
    for path in lsst_paths:
        for content in oracle.stamp_bytes(oracle.decode(path)):
            (image, header), (variance, _), (psf, _) = oracle.planes(content)
            cutout = read_cutout(memoryview(content), survey=Survey.LSST)
            np.testing.assert_array_equal(cutout.image, image)
            np.testing.assert_array_equal(cutout.variance, variance)
            assert cutout.image.dtype == np.float32
            assert cutout.image.dtype.isnative
            assert cutout.centre == (header["CRPIX1"] - 1, header["CRPIX2"] - 1)
            area = psf.sum() ** 2 / (psf**2).sum()
            assert cutout.psf_fwhm == pytest.approx(FWHM_OF_EFFECTIVE_AREA * math.sqrt(area))


def test_rubin_orientation_agrees_with_the_matrix_of_the_header(lsst_paths):
    for path in lsst_paths[::10]:
        content = oracle.stamp_bytes(oracle.decode(path))[0]
        header = oracle.planes(content)[0][1]
        matrix = np.array([[header[f"PC{i}_{j}"] for j in (1, 2)] for i in (1, 2)])
        cutout = read_cutout(content, survey=Survey.LSST)
        angle = math.radians(cutout.north_angle)
        step_north = np.array([-math.sin(angle), math.cos(angle)])
        east, north = matrix @ step_north * 3600
        assert north > 0
        assert abs(east) < 0.01 * north
        assert 0.15 < cutout.pixel_scale < 0.21
        assert cutout.parity == -1


def test_ztf_stamps_read_as_astropy_reads_them(ztf_paths):
    for path in ztf_paths:
        for content in oracle.stamp_bytes(oracle.decode(path)):
            ((image, _),) = oracle.planes(content)
            cutout = read_cutout(content, survey=Survey.ZTF)
            np.testing.assert_array_equal(cutout.image, image)
            assert cutout.variance is cutout.psf_fwhm is cutout.centre is None


def test_real_stamps_broken_at_any_byte_read_or_are_refused(lsst_paths, ztf_paths):
    for path, survey in [(lsst_paths[0], Survey.LSST), (ztf_paths[0], Survey.ZTF)]:
        content = oracle.stamp_bytes(oracle.decode(path))[0]
        for position in range(0, len(content), 97):
            broken = bytearray(content)
            broken[position] ^= 0xFF
            readable_or_refused(bytes(broken), survey)
