"""The slow way to read a packet: fastavro and astropy, nothing of the broker's own."""

import io
import warnings
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
from astropy.io import fits

import schemas

CUTOUTS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")


@cache
def parsed(schema_id: int) -> Any:
    return fastavro.parse_schema(schemas.by_id(schema_id))


def decode(path: Path) -> dict[str, Any]:
    """Decode the one alert of a packet of either survey."""
    content = path.read_bytes()
    if content[:1] == b"\0":
        schema = parsed(int.from_bytes(content[1:5], "big"))
        return fastavro.schemaless_reader(io.BytesIO(content[5:]), schema, None)
    return next(fastavro.reader(io.BytesIO(content)))


def stamp_bytes(record: dict[str, Any]) -> tuple[bytes | None, ...]:
    """FITS files of an alert as they lie in the packet, in the order of ROLES."""
    cutouts = [record[name] for name in CUTOUTS]
    return tuple(cutout["stampData"] if isinstance(cutout, dict) else cutout for cutout in cutouts)


def planes(content: bytes) -> list[tuple[np.ndarray, fits.Header]]:
    """Every HDU of a stamp as astropy reads it, pixels in native byte order."""
    plain = zlib.decompress(content, 31) if content[:2] == b"\x1f\x8b" else content
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(io.BytesIO(plain), memmap=False) as hdus:
            return [(hdu.data.astype(hdu.data.dtype.newbyteorder("=")), hdu.header) for hdu in hdus]
