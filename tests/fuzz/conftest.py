"""What the tests of this folder share."""

import pytest

from .run import Fuzzer
from .seeds import written

SEED = 20260301
"""Of the 5,000 mutations that CI makes: the same each time, so that a failure is never luck."""


@pytest.fixture(scope="package")
def fuzzer() -> Fuzzer:
    """Packets of the project's own writers, and the packaged model."""
    return Fuzzer(written(), SEED)
