"""Fixtures every test may use."""

import os
from pathlib import Path

import pytest
from filelock import FileLock

PROJECT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("NIGHTJAR_DATA", PROJECT.parent / "shared" / "data"))


def real_packets(*folders: str) -> list[Path]:
    """Real packets below the data folder, in a stable order; empty where there is none."""
    return sorted(path for folder in folders for path in (DATA / folder).rglob("*.avro"))


def _need(paths: list[Path]) -> list[Path]:
    if not paths:
        pytest.skip(f"no real packets below {DATA}: set NIGHTJAR_DATA to a folder that holds lsst/ and ztf/")
    return paths


@pytest.fixture(scope="session")
def lsst_paths() -> list[Path]:
    """Every real Rubin packet."""
    return _need(real_packets("lsst"))


@pytest.fixture(scope="session")
def ztf_paths() -> list[Path]:
    """Every real ZTF packet."""
    return _need(real_packets("ztf"))


@pytest.fixture(scope="session")
def untrained_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file of seeded random weights, marked as untrained; skips where torch is not installed."""
    pytest.importorskip("torch", reason="the untrained model is exported with torch: pip install -e .[train]")
    from encoder.export import untrained  # noqa: PLC0415 -- only where torch is

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # of all workers, the first of whom makes it
    path = shared / "untrained.onnx"
    with FileLock(shared / "untrained.lock"):
        if not path.exists():
            untrained(path)
    return path
