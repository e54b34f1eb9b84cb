"""Every promise of the page names a test that is there."""

import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]


def test_every_test_that_is_named_is_there() -> None:
    page = (PROJECT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    files = [path.read_text(encoding="utf-8") for path in (PROJECT / "tests").rglob("test_*.py")]
    there = {name for text in files for name in re.findall(r"^ *def (test_\w+)", text, re.MULTILINE)}
    assert len(named) > 10
    assert named <= there, f"no such tests: {sorted(named - there)}"
