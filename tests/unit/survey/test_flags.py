"""The vocabulary of flags and its page are one."""

import re
from pathlib import Path

import pytest

from broker import flags
from broker.alert import ROLES

PAGE = Path(__file__).resolve().parents[3] / "docs" / "flags.md"


def told() -> set[str]:
    words = re.findall(r"^\| `([a-z_]+)(:<role>)?` \|", PAGE.read_text(), re.MULTILINE)
    return {f"{word}:{role}" for word, stamp in words if stamp for role in ROLES} | {
        word for word, stamp in words if not stamp
    }


def test_the_page_tells_every_flag_and_no_other():
    assert told() == flags.VOCABULARY


@pytest.mark.parametrize(
    ("words", "partial"),
    [
        ((), False),
        (("edge", "no_host", "nan_pixels:science"), False),
        (("edge", "cutout_null:template"), True),
        (("cutout_unreadable:science",), True),
        (("model_output_invalid",), True),
    ],
)
def test_an_alert_is_partial_where_something_is_missing(words, partial):
    assert flags.is_partial(words) is partial
