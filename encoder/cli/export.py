"""`encoder export`."""

from pathlib import Path
from typing import Annotated

import typer

from encoder.card import model_card
from encoder.cli.options import Output, command, console
from encoder.export import export as export_model
from encoder.fitted import load_fitted

CARD = "MODEL_CARD.md"

app = command()


@app.command(epilog="Example: `encoder export --heads runs/heads --output model.onnx`")
def export(
    heads: Annotated[Path, typer.Option("--heads", help="Folder made by `encoder fit-heads`.")],
    output: Output,
) -> None:
    """Write one ONNX file and, beside it, its model card."""
    fitted = load_fitted(heads)
    with console.status("exporting"):
        contract = export_model(fitted.model, fitted.provenance, output)
    card = output.with_name(CARD)
    card.write_text(model_card(contract, fitted.report))
    console.print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, {contract.mmac:.1f} MMAC; card: {card}")
