"""The contact sheet: a readable page whatever the stamps are, with nothing written over anything else."""

import matplotlib.image
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="contact sheets need the plot extra")

from broker.contact_sheet import LINE_LENGTH, PAGE, Column, Triplet, draw_contact_sheet


def triplet(stamps):
    return Triplet(stamps, 0.2, "0.987   edge on 93%", ("z 0.40 [0.20, 0.60]", "x" * 200, "no flags"))


STAMPS = {
    "plain": [np.random.default_rng(i).normal(size=(30, 30)) for i in range(3)],
    "not square": [np.random.default_rng(i).normal(size=(63, 44)) for i in range(3)],
    "missing": [None, None, None],
    "all NaN": [np.full((30, 30), np.nan)] * 3,
    "half NaN": [np.where(np.arange(30) < 15, np.nan, 1.0) * np.ones((30, 1))] * 3,
    "flat": [np.zeros((30, 30))] * 3,
}


@pytest.mark.parametrize("name", STAMPS)
def test_any_stamps_can_be_shown(tmp_path, name):
    path = tmp_path / "sheet.png"
    columns = [Column("Most anomalous", [triplet(STAMPS[name])] * 2), Column("Least anomalous", [])]
    draw_contact_sheet(path, "Title", "subtitle", columns)

    image = matplotlib.image.imread(path)[..., :3]
    assert image.shape[1] == pytest.approx(2 * image.shape[0], rel=3)
    background = np.array([int(PAGE[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    written = np.abs(image - background).max(axis=2) > 0.05
    # The page has margins that nothing runs into: long lines are shortened.
    assert not written[:, -8:].any()
    assert written.any()
    assert LINE_LENGTH < 200


def test_an_empty_sheet_is_still_a_page(tmp_path):
    path = tmp_path / "sheet.png"
    draw_contact_sheet(path, "Title", "nothing", [Column("Most", []), Column("Least", [])])

    assert path.stat().st_size > 1000
