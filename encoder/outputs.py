"""Files that are written: where they cannot be is said before the work, and what is half written has another name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from broker.errors import SettingsError


def check_output(path: Path) -> None:
    """Check that a file can be written, before what is to be in it is worked out.

    Raises
    ------
    SettingsError
        Its folder is not there or cannot be written to, or it is a folder itself.
    """
    if path.is_dir():
        raise SettingsError(f"{path} is a folder: give a file as --output")
    if not path.parent.is_dir():
        raise SettingsError(f"the folder {path.parent} does not exist: make it, or give another --output")
    if not os.access(path.parent, os.W_OK):
        raise SettingsError(f"the folder {path.parent} cannot be written to: give another --output")


@contextmanager
def whole_text(path: Path) -> Iterator[TextIO]:
    """Open a text file to write, UTF-8 and with line ends as given; an interrupted write leaves none of that name."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", newline="", encoding="utf-8") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
