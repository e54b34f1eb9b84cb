"""Memory is bounded whatever comes: small messages that inflate as far as they may, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

long_form = pytest.mark.skipif(
    os.environ.get("NIGHTJAR_CHAOS") != "full", reason="minutes on two cores: make chaos"
)

HERE = Path(__file__).parent
PROJECT = HERE.parents[2]

GIGABYTE = 1_000_000_000
MIB = 1024 * 1024
GROWTH = 384 * MIB
"""What a turn may take beside the process: about twice what it holds (a batch of 32 MiB, a piece and a part of 32 MiB
and one alert each, copies of the part at the producer), so that an allocator's leftovers do not fail the test."""


def peak(kind: str, messages: int, *options: str) -> int:
    """Peak memory in bytes of a consumer of so many messages of a kind."""
    run = subprocess.run(
        (sys.executable, HERE / "inflating.py", kind, str(messages), *options),
        env={**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    resident, consumed, records, *_ = run.stdout.split()
    assert int(consumed) == messages
    assert int(records) == messages * (1 + ("--lite" in options))
    return int(resident)


@pytest.fixture(scope="module")
def usual() -> int:
    """Peak memory with a batch as it comes."""
    return peak("ordinary", 256)


@long_form
@pytest.mark.parametrize(
    ("kind", "messages", "options"),
    [
        ("histories", 16, ()),
        ("histories", 12, ("--lite",)),
        ("histories", 12, ("--lite", "--once")),
        ("datums", 70, ()),
        ("stamps", 40, ("--lite",)),
        ("names", 6, ()),
        ("beside", 200, ("--lite",)),
    ],
)
def test_messages_that_inflate_do_not_add_up(
    usual: int, kind: str, messages: int, options: tuple[str, ...]
) -> None:
    found = peak(kind, messages, *options)
    assert found < GIGABYTE
    assert found - usual < GROWTH


@pytest.mark.timeout(120)
def test_a_history_of_a_schema_of_its_own_stays_below_the_promise() -> None:
    assert peak("detections", 2) < GIGABYTE
