"""What is shown of the results: a table, a contact sheet and files to go on with.

Results are decoded as any subscriber would, with fastavro and the ``schemas`` package.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table

import schemas
from broker.alert import Message, Survey
from broker.contact_sheet import Column, Triplet, draw_contact_sheet
from broker.contract import ANOMALY_VIEWS as VIEWS
from broker.contract import WITHOUT_REDSHIFT
from broker.cutouts import read_cutout
from broker.demo.alerts import SimulatedAlert
from broker.demo.exposure import PIXEL_SCALE
from broker.demo.stream import Tally, header
from broker.errors import CutoutError
from broker.flags import CUTOUT_NULL, CUTOUT_UNREADABLE

CUTOUT_FIELDS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
PACKETS_KEPT = 40
"""About 3 MB: the embedded Kafka takes them all at once."""

FOOTNOTE = "A redshift is meant for the hosts of alerts on galaxies; no other is shown."

UNKNOWN = "–"  # noqa: RUF001 -- a dash in a table


@dataclass(frozen=True, slots=True)
class Result:
    """One enriched alert, decoded.

    Attributes
    ----------
    message : Message
    drawn_as : str
        What the simulation drew.
    enrichment, alert : dict
        The record's two parts.
    """

    message: Message
    drawn_as: str
    enrichment: dict[str, Any]
    alert: dict[str, Any]

    @property
    def survey(self) -> Survey:
        """Survey of the alert."""
        return Survey(self.enrichment["survey"])

    @property
    def anomaly(self) -> float:
        """Anomaly score; below all others where there is none."""
        score = self.enrichment["anomaly"]
        return -1.0 if score is None else float(score)

    def score(self, name: str) -> float | None:
        """Give a score by its name in the record."""
        found: float | None = self.enrichment[name]
        return found

    @property
    def morphology(self) -> str:
        """Most probable class and its probability."""
        top, chances = self.enrichment["morphology_top"], self.enrichment["morphology"]
        return UNKNOWN if top is None else f"{top.replace('_', ' ')} {max(chances):.0%}"

    @property
    def redshift(self) -> str:
        """68 % interval of the photo-z, whose mean may lie outside; a dash where there is none, or no host for it."""
        z = self.enrichment["photoz"]
        hostless = self.enrichment["morphology_top"] in WITHOUT_REDSHIFT
        return UNKNOWN if z is None or hostless else f"{z['low']:.2f} to {z['high']:.2f}"

    def stamps(self) -> list[NDArray[np.float32] | None]:
        """Science, template and difference in native pixels; None where there is none to read."""
        return [self._stamp(field) for field in CUTOUT_FIELDS]

    def _stamp(self, field: str) -> NDArray[np.float32] | None:
        content = self.alert[field]
        if content is None:
            return None
        try:
            packed = content["stampData"] if self.survey is Survey.ZTF else content
            return read_cutout(packed, survey=self.survey, psf=False).image
        except CutoutError:
            return None


def decode(tally: Tally) -> list[Result]:
    """Decode every enriched alert, most anomalous first, the same scores by alert id."""
    drawn = {str(alert.alert_id): alert.drawn_as for alert in tally.published}
    results = []
    for message in tally.enriched.values():
        record = _record(message)
        kind = drawn[header(message, "alert-id")]
        results.append(Result(message, kind, record["enrichment"], record["alert"]))
    return sorted(results, key=lambda result: (-result.anomaly, result.enrichment["alert_id"]))


def _record(message: Message) -> dict[str, Any]:
    assert message.value is not None
    schema = _schema(int.from_bytes(message.value[1:5], "big"))
    record: dict[str, Any] = fastavro.schemaless_reader(io.BytesIO(message.value[5:]), schema, None)  # type: ignore[assignment]
    return record


@cache
def _schema(schema_id: int) -> Any:
    return fastavro.parse_schema(schemas.by_id(schema_id))


@dataclass(frozen=True, slots=True)
class Part:
    """Alerts that stand out in one score.

    Attributes
    ----------
    title : str
    score : str
        Its name in the record.
    results : sequence of Result
        The foremost first; ties by alert id.
    """

    title: str
    score: str
    results: Sequence[Result]


def parts(results: Sequence[Result], count: int) -> tuple[Part, Part]:
    """Choose the most interesting and those most like artefacts or, without views, the most and least anomalous."""
    if any(result.score(VIEWS[0]) is not None for result in results):
        # What lacks a stamp is unusual for that: a fault of the packet, not of the sky.
        most, least = _foremost(_whole(results), VIEWS[0], -1), _foremost(results, VIEWS[1], -1)
        titles, scores = ("Most interesting", "Most like artefacts"), VIEWS
    else:
        most, least = _foremost(results, "anomaly", -1), _foremost(results, "anomaly", 1)
        titles, scores = ("Most anomalous", "Least anomalous"), ("anomaly", "anomaly")
    # No more than there are, so that a few alerts do not stand in both parts.
    n_most, n_least = min(count, (len(most) + 1) // 2), min(count, len(least) // 2)
    return Part(titles[0], scores[0], most[:n_most]), Part(titles[1], scores[1], least[:n_least])


def _whole(results: Sequence[Result]) -> list[Result]:
    """Alerts all of whose stamps were there and could be read."""
    lacking = (CUTOUT_NULL, CUTOUT_UNREADABLE)
    return [one for one in results if not any(flag.startswith(lacking) for flag in one.enrichment["flags"])]


def _foremost(results: Sequence[Result], name: str, sign: int) -> list[Result]:
    """Sort those that have a score; a sign of -1 brings the highest to the front."""
    scored = [(score, result) for result in results if (score := result.score(name)) is not None]
    return [
        one for _, one in sorted(scored, key=lambda pair: (sign * pair[0], pair[1].enrichment["alert_id"]))
    ]


def table(results: Sequence[Result], count: int, *, wide: bool) -> Table:
    """Show the alerts that stand out, each in one line where there is room, else in two."""
    chosen = parts(results, count)
    shown = Table(
        box=SIMPLE_HEAD,
        title=f"{chosen[0].title} and {chosen[1].title[0].lower()}{chosen[1].title[1:]}, of simulated alerts",
        title_justify="left",
        caption=FOOTNOTE,
        caption_justify="left",
    )
    scores = tuple(dict.fromkeys(part.score for part in chosen))
    pairs = (("morphology", "photo-z, 68 %"), ("alert id", "object id"), ("drawn as", "flags"))
    names = tuple(score.removeprefix("anomaly_") for score in scores)
    # A narrow table has room for one: that of the part.
    for heading in names if wide or len(names) == 1 else ["score"]:
        shown.add_column(heading, justify="right", style="bold", vertical="top")
    for heading in chain.from_iterable(pairs) if wide else map("\n".join, pairs):
        shown.add_column(heading, overflow="fold", no_wrap="object id" in heading)  # ids are copied whole
    for part in chosen:
        for result in part.results:
            values = [_number(result.score(score)) for score in (scores if wide else [part.score])]
            cells = _cells(result)
            texts = chain.from_iterable(cells) if wide else map("\n".join, cells)
            shown.add_row(*values, *texts)
        shown.add_section()
    return shown


def _number(score: float | None) -> str:
    return UNKNOWN if score is None else f"{score:.3f}"


def _cells(result: Result) -> tuple[tuple[str, str], ...]:
    e = result.enrichment
    return (
        (result.morphology, f"z {result.redshift}"),
        (str(e["alert_id"]), f"{result.survey.value}:{e['object_id']}"),
        (result.drawn_as.replace("_", " "), f"[yellow]{', '.join(e['flags'])}[/]"),
    )


def dead_letter_table(tally: Tally) -> Table:
    """Show dead letters by reason, with the text of one of each."""
    shown = Table(
        box=SIMPLE_HEAD, title="Dead letters (these messages were broken on purpose)", title_justify="left"
    )
    shown.add_column("n", justify="right", style="bold")
    shown.add_column("reason", no_wrap=True)
    shown.add_column("for example", overflow="fold", style="dim")
    for reason, number in sorted(tally.reasons.items()):
        example = next(message for message in tally.dead.values() if header(message, "reason") == reason)
        shown.add_row(str(number), reason, _record(example)["error"])
    return shown


def draw_sheet(path: Path, results: Sequence[Result], count: int) -> None:
    """Write the contact sheet of the alerts that stand out."""
    model = results[0].enrichment["model"] if results else {"name": "no model", "version": ""}
    draw_contact_sheet(
        path,
        "Nightjar: simulated alerts",
        f"{len(results)} enriched alerts · model {model['name']} {model['version']}",
        [
            Column(part.title, [_triplet(result, part.score) for result in part.results])
            for part in parts(results, count)
        ],
    )


def _triplet(result: Result, score: str) -> Triplet:
    e = result.enrichment
    band = e["seen"]["band"] or "?"
    survey = "Rubin-like" if result.survey is Survey.LSST else "ZTF-like"
    others = [name for name in ("anomaly", *VIEWS) if name != score and e[name] is not None]
    return Triplet(
        stamps=result.stamps(),
        pixel_scale=PIXEL_SCALE[result.survey],
        headline=f"{_number(e[score])}   {result.morphology}",
        lines=(
            f"z {result.redshift}   ·   drawn as {result.drawn_as.replace('_', ' ')}",
            f"{survey}, {band} band   ·   alert {e['alert_id']}",
            *([_others(e, others)] if others else []),
            ", ".join(e["flags"]) or "no flags",
        ),
    )


def _others(enrichment: dict[str, Any], names: Sequence[str]) -> str:
    return "   ·   ".join(f"{name.removeprefix('anomaly_')} {enrichment[name]:.3f}" for name in names)


def write_jsonl(path: Path, results: Sequence[Result]) -> None:
    """Write what was attached to each alert, a line each, with what was drawn."""
    with path.open("w", encoding="utf-8") as lines:
        for result in results:
            lines.write(
                json.dumps({"drawn_as": result.drawn_as, **result.enrichment}, default=_as_text) + "\n"
            )


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def write_samples(folder: Path, results: Sequence[Result], published: Sequence[SimulatedAlert]) -> None:
    """Write the most anomalous alert as it came from Kafka, and some packets as they went in."""
    if results:
        (folder / "enriched_alert.bin").write_bytes(results[0].message.value or b"")
    packets = folder / "packets"
    packets.mkdir(exist_ok=True)
    for old in packets.glob("*.avro"):
        old.unlink()
    for alert in [a for a in published if a.readable and a.value][:PACKETS_KEPT]:
        (packets / f"{alert.survey}-{alert.alert_id}.avro").write_bytes(alert.value or b"")
