"""Labels of alerts from a CSV file, as people and spreadsheets write it."""

import csv
from collections.abc import Sequence
from pathlib import Path

from broker.errors import SettingsError

EXAMPLE = "alert_id,label\n1127561442115015003,supernova\n1127561444715015009,bogus\n"
FEWEST, MOST = 20, 20_000
ALERT_ID, SURVEYS_IDS = "alert_id", ("candid", "diaSourceId")
INT64 = 2**63


def read_labels(path: Path, id_column: str = ALERT_ID, label_column: str = "label") -> dict[int, str]:
    """Labels by alert id, from two columns; rows with an empty label are passed over.

    Raises
    ------
    SettingsError
        No such file or columns, an id that is no whole number, or two labels for one alert.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, skipinitialspace=True)
            ids = _id_column(id_column, rows.fieldnames or ())
            if not {ids, label_column} <= set(rows.fieldnames or ()):
                raise SettingsError(
                    f"{path} begins {','.join(rows.fieldnames or ())[:60]!r}: its first line must name {id_column} "
                    f"and {label_column}; `encoder fit-head --example` prints one, --id-column and --label-column "
                    "name others"
                )
            return _labels(path, rows, ids, label_column)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"{path} cannot be read as CSV in UTF-8 ({error})") from error


def _id_column(wanted: str, found: Sequence[str]) -> str:
    """Take what surveys call an alert's id where the file does."""
    if wanted != ALERT_ID or wanted in found:
        return wanted
    return next((name for name in SURVEYS_IDS if name in found), wanted)


def _labels(path: Path, rows: "csv.DictReader[str]", id_column: str, label_column: str) -> dict[int, str]:
    labels: dict[int, str] = {}
    for row in rows:
        label = (row[label_column] or "").strip()
        if not label:
            continue
        alert_id = whole_id(f"{path} line {rows.line_num}", row[id_column] or "")
        if labels.setdefault(alert_id, label) != label:
            raise SettingsError(
                f"{path} line {rows.line_num}: alert {alert_id} is {label!r} here and {labels[alert_id]!r} above: "
                "keep one"
            )
    return labels


def whole_id(where: str, text: str) -> int:
    """Read an alert's id.

    Raises
    ------
    SettingsError
        It is no whole number of 64 bits; begins with ``where``.
    """
    digits = text.strip().strip("'\"")
    if digits.isascii() and digits.isdigit() and int(digits) < INT64:
        return int(digits)
    if any(mark in digits for mark in ".eE"):
        raise SettingsError(
            f"{where}: alert_id {digits!r}: a spreadsheet made a rounded number of it, and the last digits are "
            "lost: export the ids again with that column as text"
        )
    raise SettingsError(f"{where}: alert_id {digits!r} is no whole number of 64 bits")
