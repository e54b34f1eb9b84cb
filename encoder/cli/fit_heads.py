"""`encoder fit-heads`."""

import os
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.table import Table

from encoder.alert_task import load_checkpoint
from encoder.cli.labelled import load_labelled
from encoder.cli.options import Data, Output, Threads, command, console
from encoder.config import HeadsConfig
from encoder.fitted import fit, save_fitted
from encoder.report import Report

app = command()


@app.command(
    epilog="Example: `encoder fit-heads --data shards --checkpoint runs/pretrain/last.pt --output runs/heads`"
)
def fit_heads(
    data: Data,
    checkpoint: Annotated[Path, typer.Option("--checkpoint", help="Made by `encoder pretrain`.")],
    output: Output,
    seed: Annotated[int, typer.Option(help="Of the heads' weights and views.")] = HeadsConfig().seed,
    threads: Threads = 0,
) -> None:
    """Fit morphology, redshift and anomaly on the frozen encoder and measure them on held-out objects."""
    torch.set_num_threads(threads or os.cpu_count() or 1)
    run = load_checkpoint(checkpoint)
    alerts, classes = load_labelled(data)
    with console.status("fitting and measuring the heads"):
        fitted = fit(run, alerts, classes, HeadsConfig(seed=seed))
    save_fitted(fitted, output)
    _print_report(fitted.report)
    console.print(f"Next: encoder export --heads {output} --output model.onnx")


def _print_report(report: Report) -> None:
    for title, rows in report.tables.items():
        metrics = list(dict.fromkeys(name for row in rows.values() for name in row))
        table = Table("", *metrics, title=f"{title}, held out")
        for name, row in rows.items():
            table.add_row(name, *(str(row.get(metric, "")) for metric in metrics))
        console.print(table)
