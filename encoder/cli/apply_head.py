"""`encoder apply-head`."""

import csv
from pathlib import Path
from typing import Annotated

import typer

from broker.errors import SettingsError
from broker.inference import Head, Model
from encoder.cli.options import Cluster, Servers, Topic, command, console
from encoder.outputs import check_output, whole_text
from encoder.sources import embed_source

app = command()


@app.command(epilog="Example: `encoder apply-head --head my_head.onnx packets/ --output predictions.csv`")
def apply_head(
    head: Annotated[Path, typer.Option(help="Made by `encoder fit-head`.")],
    output: Annotated[Path, typer.Option(help="CSV.")],
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Alert files, tar archives, and folders of them.")
    ] = None,
    topic: Topic = None,
    bootstrap_servers: Servers = None,
    config: Cluster = None,
    model: Annotated[
        Path | None, typer.Option(help="Encoder it was fitted on. Default: the packaged one.")
    ] = None,
) -> None:
    """Write what a head says of every alert of an archive."""
    if bool(paths) == bool(topic):
        raise SettingsError("give files, or --topic, and not both")
    check_output(output)
    if output.suffix != ".csv":
        raise SettingsError(f"--output {output} ends in {output.suffix or 'nothing'!r}: wanted .csv")
    encoder = Model.load(model)
    fitted = Head.load(head, encoder.contract)
    embedded = embed_source(paths or [], topic, bootstrap_servers, config, encoder)
    values, contract = fitted(embedded.embedding), fitted.contract
    classes = contract.kind == "classification"
    with whole_text(output) as file:
        table = csv.writer(file)
        table.writerow(
            ["alert_id", "object_id", "prediction", *(f"p_{c}" for c in contract.labels if classes)]
        )
        for alert, name, row in zip(embedded.alert_id, embedded.object_id, values, strict=True):
            said = (
                [contract.labels[row.argmax()], *(f"{p:.6g}" for p in row)] if classes else [f"{row[0]:.6g}"]
            )
            table.writerow([alert, name.partition(":")[2], *said])
    console.print(f"{len(values)} alerts in {output}; {embedded.left_out} messages left out", markup=False)
    console.print(
        "Alerts that the head was fitted on are among them where they were given: how often it is right on others is "
        "what `encoder fit-head` printed.",
        markup=False,
    )
