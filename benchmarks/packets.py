"""Real packets for a measurement, and the option that says where they lie."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from broker.alert import Survey

Data: TypeAlias = Annotated[
    Path,
    typer.Option(
        envvar="NIGHTJAR_DATA", help="Folder with lsst/ and ztf/, which hold real packets (*.avro)."
    ),
]

USUAL = Path("../shared/data")


def read_packets(folder: Path, survey: Survey) -> list[bytes]:
    """Read the real packets of a survey."""
    packets = [path.read_bytes() for path in sorted((folder / survey.value).rglob("*.avro"))]
    if not packets:
        raise SystemExit(
            f"no *.avro below {folder / survey.value}: name a folder with lsst/ and ztf/ by --data"
        )
    return packets
