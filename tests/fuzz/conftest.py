"""What the tests of this folder share."""

from collections.abc import Iterator

import pytest

from .run import Fuzzer
from .seeds import written

SEED = 20260301
"""Of the 5,000 mutations that CI makes: the same each time, so that a failure is never luck."""


@pytest.fixture(scope="package")
def fuzzer() -> Iterator[Fuzzer]:
    """Packets of the project's own writers, and the packaged model."""
    yield Fuzzer(written(), SEED)
