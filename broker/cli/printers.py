"""How records of the broker are shown: lines in columns, or JSON lines.

Numbers and names are never cut. Where a terminal is too narrow for one line, each record takes two; what has
no fixed length (flags, the text of an error) is broken over lines. Into a pipe goes one line a record, however
long: what reads it may cut it.
"""

import base64
import json
import math
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from rich.console import Console
from rich.text import Text

from broker.contract import WITHOUT_REDSHIFT

GAP = "  "
INDENT = "    "
FREE_WIDTH = 28
"""Least room, in characters, for the part of a line that is broken where it does not fit: the longest flag."""

Columns: TypeAlias = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns and their widths in characters; the last column takes what is left of its line.

    Attributes
    ----------
    columns : tuple of (str, int)
    second_line : int
        Number of the column that a second line begins with, in a narrow terminal.
    """

    columns: Columns
    second_line: int

    @property
    def width(self) -> int:
        """Characters of a record in one line."""
        return sum(width + len(GAP) for _, width in self.columns[:-1]) + FREE_WIDTH

    def heading(self, room: int | None) -> str:
        """Names of the columns, laid out like a record."""
        return self.lines([name for name, _ in self.columns], room)

    def lines(self, cells: Sequence[str], room: int | None) -> str:
        """Lay a record out.

        Parameters
        ----------
        cells : sequence of str
        room : int or None
            Characters of a line; None is without limit.
        """
        widths = [width for _, width in self.columns]
        if room is None or room >= self.width:
            return _line(cells, widths, room)
        first = _line(cells[: self.second_line], widths, None)
        second = _line(cells[self.second_line :], widths[self.second_line :], room - len(INDENT))
        return f"{first}\n{textwrap.indent(second, INDENT)}"


def _line(cells: Sequence[str], widths: Sequence[int], room: int | None) -> str:
    """Align cells; the last is broken over lines of its own column where it does not fit."""
    *fixed, free = cells
    line = "".join(cell.ljust(width) + GAP for cell, width in zip(fixed, widths, strict=False))
    if room is None:
        return (line + free).rstrip()
    left = max(FREE_WIDTH, room - len(line))
    return (
        textwrap.fill(
            line.replace(" ", "\0") + free,  # the columns before it are no place to break the line
            len(line) + left,
            subsequent_indent=" " * len(line),
            break_on_hyphens=False,
            replace_whitespace=False,
        )
        .replace("\0", " ")
        .rstrip()
    )


ENRICHED = Layout(
    (
        ("alert id", 19),
        ("object id", 19),
        ("ra", 10),
        ("dec", 10),
        ("morphology", 10),
        ("photo-z", 7),
        ("68 %", 11),
        ("anomaly", 7),
        ("interesting", 11),
        ("flags", 0),
    ),
    second_line=5,
)
LETTER = Layout(
    (("topic", 24), ("partition", 9), ("offset", 9), ("reason", 17), ("bytes", 8), ("error", 0)),
    second_line=5,
)


class TablePrinter:
    """Prints batches in columns; the heading comes once for each kind of record.

    Parameters
    ----------
    console : Console
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._heading: Layout | None = None

    def __call__(self, records: Iterable[dict[str, Any]]) -> None:
        """Print a batch."""
        for record in records:
            if "enrichment" in record:
                self._print(ENRICHED, _enriched_row(record["enrichment"]))
            else:
                self._print(LETTER, _letter_row(record))
        self._console.file.flush()

    def _print(self, layout: Layout, row: Sequence[str]) -> None:
        room = self._console.width if self._console.is_terminal else None
        if layout is not self._heading:
            self._console.print(Text(layout.heading(room), style="bold"), soft_wrap=True)
            self._heading = layout
        self._console.print(Text(layout.lines(row, room)), soft_wrap=True)


class LinePrinter:
    """Prints records as JSON, one a line.

    Parameters
    ----------
    with_alert : bool
        The original alert too, its stamps in base64 (a dead letter's original bytes likewise).
    """

    def __init__(self, *, with_alert: bool) -> None:
        self._with_alert = with_alert

    def __call__(self, records: Iterable[dict[str, Any]]) -> None:
        """Print a batch."""
        for record in records:
            sys.stdout.write(json.dumps(_plain(self._chosen(record)), allow_nan=False) + "\n")
        sys.stdout.flush()

    def _chosen(self, record: dict[str, Any]) -> dict[str, Any]:
        if self._with_alert:
            return record
        return {name: value for name, value in record.items() if name not in {"alert", "value"}}


def _plain(value: Any) -> Any:
    """Put a decoded value into JSON's few types: NaN is null, bytes are base64, times are ISO 8601."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _enriched_row(enrichment: Mapping[str, Any]) -> list[str]:
    photoz = enrichment["photoz"] if enrichment["morphology_top"] not in WITHOUT_REDSHIFT else None
    return [
        str(enrichment["alert_id"]),
        enrichment["object_id"],
        f"{enrichment['ra']:.6f}",
        f"{enrichment['dec']:+.6f}",
        enrichment["morphology_top"] or "-",
        f"{photoz['point']:.3f}" if photoz else "-",
        f"{photoz['low']:.3f}-{photoz['high']:.3f}" if photoz else "-",
        _score(enrichment["anomaly"]),
        _score(enrichment.get("anomaly_interesting")),  # records of schema version 1 have none
        " ".join(enrichment["flags"]),
    ]


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _letter_row(letter: Mapping[str, Any]) -> list[str]:
    return [
        letter["topic"],
        str(letter["partition"]),
        str(letter["offset"]),
        letter["reason"],
        "null" if letter["value"] is None else str(len(letter["value"])),
        letter["error"],
    ]
