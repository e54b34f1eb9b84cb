"""`encoder export`."""

from pathlib import Path
from typing import Annotated

import typer

from broker.errors import SettingsError
from encoder.card import model_card
from encoder.cli.options import Output, command, console
from encoder.export import export as export_model
from encoder.fitted import load_fitted

CARD = "MODEL_CARD.md"

app = command()


@app.command(
    epilog="Examples: `encoder export --heads runs/heads --output model.onnx`, "
    "`encoder export --checkpoint runs/galaxies/last.pt --output galaxies.onnx`, which `encoder embed --model` takes"
)
def export(
    output: Output,
    heads: Annotated[
        Path | None,
        typer.Option("--heads", help="Folder made by `encoder fit-heads`: the model of the broker."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint", help="Made by `encoder pretrain` from images: an encoder of such images."
        ),
    ] = None,
) -> None:
    """Write one ONNX file; beside the broker's model its card."""
    if (heads is None) == (checkpoint is None):
        raise SettingsError("give --heads for the broker's model, or --checkpoint for an encoder of images")
    if checkpoint is not None:
        _export_images(checkpoint, output)
    if heads is not None:
        _export_alerts(heads, output)


def _export_alerts(heads: Path, output: Path) -> None:
    fitted = load_fitted(heads)
    with console.status("exporting"):
        contract = export_model(fitted.model, fitted.provenance, output)
    card = output.with_name(CARD)
    card.write_text(model_card(contract, fitted.report))
    console.print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, {contract.mmac:.1f} MMAC; card: {card}")


def _export_images(checkpoint: Path, output: Path) -> None:
    from encoder.images.export import export_images  # noqa: PLC0415 - needs h5py, which alerts do not

    with console.status("exporting"):
        contract = export_images(checkpoint, output)
    console.print(
        f"{output}: {output.stat().st_size / 1e6:.1f} MB; {contract.kind} images of {contract.bands} bands. "
        f"Next: encoder embed galaxies.npz --model {output} --output galaxies.parquet",
        markup=False,
    )
