"""`encoder evaluate`."""

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from encoder.cli.options import command, console
from encoder.evaluate import Measured
from encoder.evaluation.data import Question, Request, examine
from encoder.evaluation.page import page
from encoder.evaluation.result import Evaluation, Section

app = command()

INTERVALS, WIDEST = 2, 4
"""Columns that fit a terminal with their intervals, and without; the report always shows all."""


@app.command(
    epilog="Examples: `encoder evaluate --data packets/ --labels labels.csv --output report`, "
    "`encoder evaluate --encoder runs/galaxies/last.pt --data galaxies.npz --merge spiral=clockwise,anticlockwise "
    "--drop dont_know --output report`, `encoder evaluate --data catalogue.hdf5 --output report`"
)
def evaluate(
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            help="Alert files, archives and folders; a set of images with labels (.npz, .hdf5); a catalogue of "
            "magnitudes and redshifts (.hdf5); a folder of labelled shards. Repeatable.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", help="Folder for report.html and report.json.")],
    encoder: Annotated[
        Path | None, typer.Option(help="ONNX file or checkpoint. Default: the packaged model.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Of alerts: CSV with candid or alert_id, and drb, sgscore1 and distpsnr1, or spec_z."
        ),
    ] = None,
    merge: Annotated[
        list[str] | None, typer.Option(help="Classes of images as one: NAME=CLASS,CLASS.")
    ] = None,
    drop: Annotated[list[str] | None, typer.Option(help="A class of images to leave out.")] = None,
    anomaly: Annotated[
        list[str] | None, typer.Option(help="A class of images to be found as unusual; repeatable.")
    ] = None,
    question: Annotated[
        list[Question] | None,
        typer.Option(help="Of images: ask this alone, as each may take an hour; repeatable. Default: all."),
    ] = None,
    supervise: Annotated[
        bool,
        typer.Option("--supervise", help="Train whole networks on the labels too: an hour on two cores."),
    ] = False,
) -> None:
    """Measure a model beside the baselines a sceptic would ask for; one page to read, one JSON to compute with."""
    request = Request(
        encoder,
        tuple(data),
        labels,
        tuple(merge or ()),
        tuple(drop or ()),
        tuple(anomaly or ()),
        supervise,
        tuple(question or Question),
    )
    with console.status("reading") as status:
        name, digest, sources, sections = examine(request, status.update)
    evaluation = Evaluation(
        encoder=name,
        weights_digest=digest,
        version=version("nightjar"),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        sources=sources,
        sections=sections,
    )
    output.mkdir(parents=True, exist_ok=True)
    (output / "report.json").write_text(evaluation.model_dump_json(indent=1) + "\n")
    (output / "report.html").write_text(page(evaluation), encoding="utf-8")
    for section in sections:
        _tell(section)
    console.print(f"{output / 'report.html'} and report.json written", markup=False)


def _tell(section: Section) -> None:
    for title, rows in section.tables.items():
        metrics = list(dict.fromkeys(metric for row in rows.values() for metric in row))
        shown = metrics[:WIDEST]
        table = Table(Column(no_wrap=True), *shown, title=f"{section.title}: {title}")
        for name, row in rows.items():
            table.add_row(name, *(_cell(row.get(metric), len(shown)) for metric in shown))
        table.caption = f"{', '.join(metrics[WIDEST:])}: see the report" if metrics[WIDEST:] else None
        console.print(table)
    for target in section.targets:
        word = "reached" if target.reached else "missed"
        console.print(f"{word}: {target.text} ({target.found})", markup=False)


def _cell(measured: Measured | None, columns: int) -> str:
    """Write a number; with its interval where a terminal has room for them all."""
    if measured is None:
        return ""
    return str(measured) if columns <= INTERVALS else f"{measured.value:.3f}"
