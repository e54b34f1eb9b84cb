"""What an evaluation found: everything the report and the model card say, as one JSON document."""

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from encoder.evaluate import Measured

CHUNK = 1 << 20


class Part(BaseModel):
    """What all parts share: frozen, and nothing that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(Part):
    """Data that was read.

    Attributes
    ----------
    name : str
        File or folder, without its path.
    content : str
        What it was taken as.
    rows : int
    digest : str
        Hex SHA-256 of a file; of names and digests of a folder's files.
    """

    name: str
    content: str
    rows: int
    digest: str


class Curve(Part):
    """A score against the number of labels.

    Attributes
    ----------
    labels : tuple of int
    mean, low, high : tuple of float
    """

    labels: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class Target(Part):
    """What was aimed for, and whether it was reached.

    Attributes
    ----------
    text : str
    reached : bool
    found : str
        The number in words.
    """

    text: str
    reached: bool
    found: str


class Section(Part):
    """One question, its answer in numbers, and how they came about.

    Attributes
    ----------
    title : str
    method : str
        Splits, seeds, baselines and tuning, in words.
    tables : dict of str to (dict of str to (dict of str to Measured))
        Table, then row, then metric.
    curves : dict of str to (dict of str to Curve)
        Plot by its vertical axis, then line.
    targets : tuple of Target
    definitions : dict of str to str
        Of every metric above.
    remarks : tuple of str
        What a reader has to know before believing a number.
    """

    title: str
    method: str
    tables: dict[str, dict[str, dict[str, Measured]]] = {}
    curves: dict[str, dict[str, Curve]] = {}
    targets: tuple[Target, ...] = ()
    definitions: dict[str, str] = {}
    remarks: tuple[str, ...] = ()


class Evaluation(Part):
    """One run of `encoder evaluate`.

    Attributes
    ----------
    encoder : str
        File name of the model or checkpoint.
    weights_digest : str
    version : str
        Of this software.
    made : str
        UTC, ISO 8601.
    sources : tuple of Source
    sections : tuple of Section
    """

    encoder: str
    weights_digest: str
    version: str
    made: str
    sources: tuple[Source, ...]
    sections: tuple[Section, ...]


def digest_of(path: Path) -> str:
    """Hex SHA-256 of a file, or of the names and digests of all files below a folder."""
    if path.is_dir():
        told = "".join(
            f"{one.relative_to(path)} {digest_of(one)}\n" for one in sorted(path.rglob("*")) if one.is_file()
        )
        return hashlib.sha256(told.encode()).hexdigest()
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()
