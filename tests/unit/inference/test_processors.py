"""Processors: those we are bound to, and what a container's limit is worth."""

import os
from pathlib import Path

import numpy as np
import pytest

from broker.contract import COMMON_GRID, check_inputs
from broker.inference import LEAST_ROWS, Model
from broker.processors import processors

BOUND = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        ("max 100000", BOUND),
        ("50000 100000", 1),
        ("100000 100000", 1),
        ("150000 100000", min(2, BOUND)),
        ("100000000 100000", BOUND),
        ("", BOUND),
    ],
)
def test_a_container_s_limit_is_respected(tmp_path: Path, limit: str, wanted: int) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(f"{limit}\n", encoding="ascii")
    assert processors(quota) == wanted


def test_without_control_groups_it_is_what_we_are_bound_to(tmp_path: Path) -> None:
    assert processors(tmp_path / "none") == BOUND


@pytest.mark.parametrize("rows", [1, LEAST_ROWS, LEAST_ROWS + 1, 50, 150])
def test_what_is_cut_for_several_processors_comes_back_in_its_order(untrained_model: Path, rows: int) -> None:
    one, three = (Model.load(untrained_model, threads=threads) for threads in (1, 3))
    rng = np.random.default_rng(rows)
    inputs = {name: np.repeat(array[:1], rows, axis=0) for name, array in check_inputs(COMMON_GRID).items()}
    inputs["photometry"] = rng.lognormal(6, 2, inputs["photometry"].shape).astype(np.float32)
    wanted, found = one(inputs), three(inputs)
    assert found.keys() == wanted.keys()
    for name, values in found.items():
        assert len(values) == rows
        np.testing.assert_allclose(values, wanted[name], atol=1e-5)
