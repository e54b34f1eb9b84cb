"""Numbers in documents, written from the JSON of evaluations and never by hand.

A document says which numbers stand where, between a comment in JSON and one that ends it::

    <!-- measured {"file": "dc2", "section": "Photometric", "table": "by number", "metrics": ["crps"]} -->
    <!-- end -->

``section`` and ``table`` are beginnings of titles; without ``metrics`` every metric is shown. With ``targets`` in
place of ``section`` the aims of all ``files`` and whether they were reached are listed.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from broker.errors import SettingsError
from encoder.evaluate import Measured
from encoder.evaluation.result import Evaluation, Section

BLOCK = re.compile(r"(<!-- measured (\{.*?\}) -->\n).*?(<!-- end -->)", re.DOTALL)

Load = Callable[[str], Evaluation]


def filled(text: str, load: Load) -> str:
    """Write the numbers of every block of a document anew.

    Parameters
    ----------
    text : str
        Markdown.
    load : callable
        From the name of a report to the evaluation.

    Returns
    -------
    str

    Raises
    ------
    SettingsError
        A block asks for what its report does not have.
    """
    return BLOCK.sub(
        lambda found: found[1] + "\n" + _block(json.loads(found[2]), load) + "\n\n" + found[3], text
    )


def _block(asked: Mapping[str, Any], load: Load) -> str:
    if asked.get("targets"):
        return _targets([load(name) for name in asked["files"]])
    section: Section = _starting(
        {one.title: one for one in load(asked["file"]).sections}, asked["section"], asked["file"]
    )
    if "table" not in asked:
        return section.method
    return _table(
        _starting(section.tables, asked["table"], section.title), asked.get("metrics"), asked.get("rows")
    )


def _starting(found: Mapping[str, Any], beginning: str, where: str) -> Any:
    for name, one in found.items():
        if name.startswith(beginning):
            return one
    raise SettingsError(f"{where} has {', '.join(found)}: wanted one that begins with {beginning!r}")


def _table(
    rows: Mapping[str, Mapping[str, Measured]], metrics: list[str] | None, wanted: list[str] | None
) -> str:
    shown = metrics or list(dict.fromkeys(name for row in rows.values() for name in row))
    chosen = [name for name in rows if wanted is None or any(part in name for part in wanted)]
    lines = ["| | " + " | ".join(f"`{name}`" for name in shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for name in chosen:
        cells = [str(rows[name][metric]) if metric in rows[name] else "" for metric in shown]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _targets(evaluations: list[Evaluation]) -> str:
    lines = ["| measured on | aim | reached | found |", "|---|---|---|---|"]
    for evaluation in evaluations:
        for section in evaluation.sections:
            lines += _aims(section)
    return "\n".join(lines)


def _aims(section: Section) -> list[str]:
    return [
        f"| {section.title} | {one.text} | {'yes' if one.reached else '**no**'} | {one.found} |"
        for one in section.targets
    ]
