"""`encoder ingest`."""

from pathlib import Path
from typing import Annotated

import typer

from broker.errors import SettingsError
from encoder.cli.options import Output, command, console
from encoder.images.archive import save_images
from encoder.images.foreign import read_images

app = command()


@app.command(epilog="Example: `encoder ingest sdss_w_specz_train.h5 --output galaxies.hdf5`")
def ingest(
    source: Annotated[
        Path,
        typer.Argument(
            help="An .npz with images (n, h, w, bands), or HDF5 with images (n, 5, h, w), specz_redshift and e_bv."
        ),
    ],
    output: Output,
) -> None:
    """Bring images of galaxies into the one layout that `encoder pretrain` reads.

    8-bit images are taken as display pictures, which get geometric views only; others as fluxes.
    """
    if output.suffix not in {".hdf5", ".h5"}:
        raise SettingsError(f"{output} ends in {output.suffix or 'nothing'!r}; wanted .hdf5")
    images = read_images(source)
    save_images(output, images)
    known = int((images.label >= 0).sum())
    console.print(
        f"{len(images)} images ({images.kind.value}; {', '.join(images.bands)}), {known} with a label. "
        f"Next: encoder pretrain --data {output} --output runs/galaxies",
        markup=False,
    )
