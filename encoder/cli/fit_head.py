"""`encoder fit-head`."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from broker.errors import SettingsError
from broker.inference import Model
from encoder.cli.options import Cluster, Servers, Topic, command, console
from encoder.embedded import Embedded
from encoder.head_file import write_head
from encoder.head_fit import DEFINITION, METRIC, Kind, Weighting, fit, kind_of, measure, truth_of
from encoder.head_report import calibration, draw, learning_curve, recalls, write_held_out
from encoder.labels import EXAMPLE, FEWEST, MOST, read_labels
from encoder.outputs import check_output
from encoder.sources import embed_source

app = command()
FEW_OF_A_CLASS, UNBALANCED, LISTED = 20, 10, 5


@app.command(
    epilog="Examples: `encoder fit-head --example > my.csv`, "
    "`encoder fit-head --labels my.csv --alerts packets/ --output my_head.onnx`, "
    "`encoder fit-head --labels my.csv --topic alerts --bootstrap-servers HOST:PORT --output my_head.onnx`"
)
def fit_head(
    labels: Annotated[Path | None, typer.Option(help="CSV with the columns alert_id and label.")] = None,
    alerts: Annotated[
        list[Path] | None, typer.Option(help="Alert file, tar archive, or folder of them; repeatable.")
    ] = None,
    topic: Topic = None,
    bootstrap_servers: Servers = None,
    config: Cluster = None,
    output: Annotated[Path | None, typer.Option(help="The head, an ONNX file.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Encoder, an ONNX file. Default: the packaged one.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the head. Default: the output's.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="classification or regression. Default: by the labels.")
    ] = None,
    id_column: Annotated[
        str,
        typer.Option(help="Column of the labels with the alert's id; candid and diaSourceId are found too."),
    ] = "alert_id",
    label_column: Annotated[str, typer.Option(help="Column of the labels with the label.")] = "label",
    weighting: Annotated[
        str, typer.Option(help="balanced: every class counts alike; none: every alert.")
    ] = "balanced",
    example: Annotated[bool, typer.Option("--example", help="Print a labels file to fill in.")] = False,
) -> None:
    """Fit a classifier or regression of your own on the embedding, and measure it on objects it has not seen."""
    if example:
        typer.echo(EXAMPLE, nl=False)
        return
    if labels is None or bool(alerts) == bool(topic) or output is None:
        raise SettingsError(
            "--labels, --output, and either --alerts or --topic are needed; --example prints a labels file"
        )
    if weighting not in ("balanced", "none"):
        raise SettingsError(f"--weighting {weighting}: wanted balanced or none")
    if kind not in (None, "classification", "regression"):
        raise SettingsError(f"--kind {kind}: wanted classification or regression")
    check_output(output)
    if output.suffix != ".onnx":
        raise SettingsError(f"--output {output} ends in {output.suffix or 'nothing'!r}: wanted .onnx")
    encoder = Model.load(model)
    found = read_labels(labels, id_column, label_column)
    with console.status("embedding"):
        embedded = embed_source(alerts or [], topic, bootstrap_servers, config, encoder)
    rows = _join(found, embedded)
    words = [found[embedded.alert_id[i]] for i in rows]
    groups = np.array([embedded.object_id[i] for i in rows])
    chosen: Kind = kind_of(words) if kind is None else kind  # type: ignore[assignment]
    truth, x = truth_of(words, groups, chosen), embedded.embedding[rows]
    _warn(words, groups, chosen)
    with console.status("fitting"):
        weights: Weighting = "balanced" if weighting == "balanced" else "none"
        measured = measure(x, truth, groups, chosen, weights)
        linear = fit(x, truth, groups, chosen, weights)
        curve = learning_curve(x, truth, groups, chosen, weights)
    contract = write_head(
        output,
        linear,
        measured,
        name=name or output.stem,
        encoder_digest=encoder.contract.weights_digest,
        n_labels=len(rows),
        n_objects=len(set(groups)),
    )
    chance = f" (chance {1 / len(linear.labels):.3f})" if chosen == "classification" else ""
    console.print(
        f"{METRIC[chosen]} {contract.score:.3f} [{contract.low:.3f}, {contract.high:.3f}]{chance}, "
        f"{contract.n_labels} labels of {contract.n_objects} objects, cross-validated by object",
        markup=False,
    )
    console.print(DEFINITION[chosen] + "; in brackets 95 % of bootstrap draws of objects", markup=False)
    if chosen == "classification":
        table = Table("class", "recall", "labels")
        for label, (recall, n) in recalls(truth, measured.unseen).items():
            table.add_row(label, f"{recall:.3f}", str(n))
        console.print(table)
        error = calibration(measured, linear, truth)
        console.print(f"expected calibration error of its probabilities {error:.3f}", markup=False)
    else:
        console.print(f"mean absolute error {np.abs(measured.unseen - truth).mean():.4g}", markup=False)
    console.print(curve.sentence(METRIC[chosen]), markup=False)
    picture, beside = output.with_suffix(".png"), output.with_suffix(".cv.csv")
    draw(picture, truth, measured, chosen, curve)
    write_held_out(beside, [embedded.alert_id[i] for i in rows], truth, measured, linear)
    console.print(
        f"{output}, {picture} and {beside} (what each labelled alert was taken for) written", markup=False
    )
    console.print(f"Next: broker-consumer --topic alerts --head {output}", markup=False)


def _join(found: dict[int, str], embedded: Embedded) -> list[int]:
    rows = [i for i, alert in enumerate(embedded.alert_id) if alert in found]
    lost = sorted(found.keys() - set(embedded.alert_id))
    console.print(
        f"{len(rows)} labels with their alert; {len(lost)} labels without an alert"
        + (f" ({', '.join(map(str, lost[:LISTED]))}{', …' if len(lost) > LISTED else ''})" if lost else "")
        + f"; {len(embedded.alert_id) - len(rows)} alerts without a label; {embedded.left_out} messages left out",
        markup=False,
    )
    if not FEWEST <= len(rows) <= MOST:
        raise SettingsError(
            f"{len(rows)} labels have an alert, wanted {FEWEST} to {MOST}: compare the alert_ids, or label more"
        )
    return rows


def _warn(words: list[str], groups: np.ndarray, kind: Kind) -> None:
    of_object = defaultdict(set)
    for word, group in zip(words, groups, strict=True):
        of_object[group].add(word)
    counts = Counter(words)
    if kind == "regression":
        return
    if torn := sorted(str(group) for group, said in of_object.items() if len(said) > 1):
        console.print(f"warning: {len(torn)} objects have several labels, such as {torn[0]}", style="yellow")
    if few := [f"{word} ({n})" for word, n in counts.items() if n < FEW_OF_A_CLASS]:
        console.print(f"warning: fewer than {FEW_OF_A_CLASS} labels: {', '.join(few)}", style="yellow")
    if max(counts.values()) > UNBALANCED * min(counts.values()):
        console.print("warning: the classes are unbalanced; each is weighted alike", style="yellow")
