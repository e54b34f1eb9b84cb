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
from broker.cutouts import read_cutout
from broker.demo.alerts import SimulatedAlert
from broker.demo.exposure import PIXEL_SCALE
from broker.demo.stream import Tally, header
from broker.errors import CutoutError

CUTOUT_FIELDS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
PACKETS_KEPT = 40
"""About 3 MB: the embedded Kafka takes them all at once."""

HOSTLESS = frozenset({"star", "transient", "bogus"})
"""Classes of the packaged model that have no host, so that the photo-z in their results means nothing."""

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

    @property
    def views(self) -> tuple[str, ...]:
        """Line on the two views of the anomaly; none where the model has none."""
        interesting, artefact = self.enrichment["anomaly_interesting"], self.enrichment["anomaly_artefact"]
        if interesting is None or artefact is None:
            return ()
        return (f"interesting {interesting:.3f}   ·   artefact {artefact:.3f}",)

    @property
    def morphology(self) -> str:
        """Most probable class and its probability."""
        top, chances = self.enrichment["morphology_top"], self.enrichment["morphology"]
        return UNKNOWN if top is None else f"{top.replace('_', ' ')} {max(chances):.0%}"

    @property
    def redshift(self) -> str:
        """Photo-z and its 68 % interval; a dash where there is none, or no host for it to be of."""
        z = self.enrichment["photoz"]
        hostless = self.enrichment["morphology_top"] in HOSTLESS
        return UNKNOWN if z is None or hostless else f"{z['point']:.2f} [{z['low']:.2f}, {z['high']:.2f}]"

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


def extremes(results: Sequence[Result], count: int) -> tuple[list[Result], list[Result]]:
    """Give the most anomalous alerts, and the least anomalous ones, the least first; ties by alert id."""
    scored = [result for result in results if result.anomaly >= 0]
    least = sorted(scored, key=lambda result: (result.anomaly, result.enrichment["alert_id"]))
    n_most, n_least = min(count, (len(scored) + 1) // 2), min(count, len(scored) // 2)
    return scored[:n_most], least[:n_least]


def table(results: Sequence[Result], count: int, *, wide: bool) -> Table:
    """Show the most and the least anomalous alerts, each in one line where there is room, else in two."""
    shown = Table(
        box=SIMPLE_HEAD,
        title="Most and least anomalous simulated alerts",
        title_justify="left",
        caption=FOOTNOTE,
        caption_justify="left",
    )
    pairs = (("morphology", "photo-z [68 %]"), ("alert id", "object id"), ("drawn as", "flags"))
    shown.add_column("anomaly", justify="right", style="bold", vertical="top")
    for heading in chain.from_iterable(pairs) if wide else map("\n".join, pairs):
        shown.add_column(heading, overflow="fold")
    for part in extremes(results, count):
        for result in part:
            cells = _cells(result)
            texts = chain.from_iterable(cells) if wide else map("\n".join, cells)
            shown.add_row(f"{result.anomaly:.3f}", *texts)
        shown.add_section()
    return shown


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
    """Write the contact sheet of the most and the least anomalous."""
    most, least = extremes(results, count)
    model = results[0].enrichment["model"] if results else {"name": "no model", "version": ""}
    draw_contact_sheet(
        path,
        "Nightjar: simulated alerts",
        f"{len(results)} enriched alerts · model {model['name']} {model['version']}",
        [
            Column("Most anomalous", [_triplet(result) for result in most]),
            Column("Least anomalous", [_triplet(result) for result in least]),
        ],
    )


def _triplet(result: Result) -> Triplet:
    e = result.enrichment
    band = e["seen"]["band"] or "?"
    survey = "Rubin-like" if result.survey is Survey.LSST else "ZTF-like"
    return Triplet(
        stamps=result.stamps(),
        pixel_scale=PIXEL_SCALE[result.survey],
        headline=f"{result.anomaly:.3f}   {result.morphology}",
        lines=(
            f"z {result.redshift}   ·   drawn as {result.drawn_as.replace('_', ' ')}",
            f"{survey}, {band} band   ·   alert {e['alert_id']}",
            *result.views,
            ", ".join(e["flags"]) or "no flags",
        ),
    )


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
