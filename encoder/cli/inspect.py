"""`encoder inspect`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from broker.contract import ModelContract
from broker.inference import Model
from encoder.cli.options import command, console

app = command()


@app.command(epilog="Example: `encoder inspect model.onnx`")
def inspect(file: Annotated[Path, typer.Argument(help="An ONNX file.")]) -> None:
    """Say what is in a model file; refuse one that the broker would refuse."""
    model = Model.load(file)
    _print_contract(file, model.contract, model.file_digest)


def _print_contract(file: Path, contract: ModelContract, digest: str) -> None:
    table = Table("field", "value", title=str(file), show_header=False)
    table.add_row("file SHA-256", digest)
    for name, value in contract.model_dump(exclude={"check_outputs"}).items():
        table.add_row(name, str(value))
    console.print(table)
    if not contract.trained:
        console.print("[yellow]untrained: random weights, for tests only")
