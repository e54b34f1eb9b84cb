"""Features on disk: what the model says of each row of an archive, written as it is read.

A ``.parquet`` file has a column for each output; a ``.npy`` file is the matrix of embeddings, with a CSV
beside it that says whose row each is.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from broker.alert import Enriched
from broker.contract import ANOMALY_VIEWS, ModelContract
from broker.errors import SettingsError

Row = Mapping[str, Any]

IDS = ("alert_id", "object_id", "survey")
"""Columns that stand beside a matrix."""


class Writer(Protocol):
    """Where rows go."""

    def write(self, rows: Sequence[Row]) -> None:
        """Append rows."""

    def close(self) -> None:
        """Make the file whole."""

    def abandon(self) -> None:
        """Leave nothing."""


class ParquetWriter:
    """Rows into a Parquet file; an interrupted run leaves no file of that name.

    Parameters
    ----------
    path : Path
    schema : pyarrow.Schema
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path, self._partial, self._schema = path, _partial(path), schema
        self._file = pq.ParquetWriter(self._partial, schema)

    def write(self, rows: Sequence[Row]) -> None:
        """Append rows as a group of their own."""
        self._file.write_table(pa.Table.from_pylist(list(rows), schema=self._schema))

    def close(self) -> None:
        """Make the file whole."""
        self._file.close()
        self._partial.replace(self._path)

    def abandon(self) -> None:
        """Leave nothing."""
        self._file.close()
        self._partial.unlink()


class MatrixWriter:
    """Embeddings into a ``.npy`` matrix, float32, and their ids into a CSV; a missing embedding is NaN.

    Parameters
    ----------
    path : Path
    size : int
        Numbers of an embedding.
    ids : sequence of str
        Columns of the CSV.
    """

    def __init__(self, path: Path, size: int, ids: Sequence[str] = IDS) -> None:
        self._path, self._partial, self._size = path, _partial(path), size
        self._beside = ids_path(path)
        self._count = 0
        self._file = self._partial.open("wb")
        self._header()
        self._ids = _partial(self._beside).open("w", newline="")
        self._table = csv.writer(self._ids)
        self._columns = ids
        self._table.writerow(ids)

    def _header(self) -> None:
        # NumPy leaves room in the header for the first axis to grow.
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": "<f4", "fortran_order": False, "shape": (self._count, self._size)}
        )

    def write(self, rows: Sequence[Row]) -> None:
        """Append rows."""
        missing = np.full(self._size, np.nan, np.float32)
        for row in rows:
            embedding = missing if row["embedding"] is None else row["embedding"]
            self._file.write(np.asarray(embedding, "<f4").tobytes())
            self._table.writerow([row[name] for name in self._columns])
        self._count += len(rows)

    def close(self) -> None:
        """Make both files whole."""
        self._file.seek(0)
        self._header()
        self._file.close()
        self._ids.close()
        _partial(self._beside).replace(self._beside)
        self._partial.replace(self._path)

    def abandon(self) -> None:
        """Leave nothing."""
        for file, path in ((self._file, self._partial), (self._ids, _partial(self._beside))):
            file.close()
            path.unlink()


class Output:
    """A writer in a ``with``: whole at its end, nothing where it fails.

    Parameters
    ----------
    writer : Writer
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def __enter__(self) -> Self:
        return self

    def write(self, rows: Sequence[Row]) -> None:
        """Append rows."""
        self._writer.write(rows)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._writer.close()
        else:
            self._writer.abandon()


def open_output(path: Path, schema: pa.Schema, ids: Sequence[str] = IDS) -> Output:
    """Open a file for rows of a schema; its ending says which.

    Raises
    ------
    SettingsError
        The ending is neither, or the folder is not there.
    """
    if not path.parent.is_dir():
        raise SettingsError(f"the folder {path.parent} does not exist: make it, or give another --output")
    if path.suffix == ".parquet":
        return Output(ParquetWriter(path, schema))
    if path.suffix == ".npy":
        return Output(MatrixWriter(path, schema.field("embedding").type.list_size, ids))
    raise SettingsError(f"{path} ends in {path.suffix or 'nothing'!r}; wanted .parquet or .npy")


def ids_path(path: Path) -> Path:
    """Where the ids of a matrix stand."""
    return path.with_suffix(".ids.csv")


def alert_schema(contract: ModelContract, *, heads: bool = True) -> pa.Schema:
    """Columns of alerts; without ``heads`` the embedding alone."""
    fields = [
        pa.field("alert_id", pa.int64(), nullable=False),
        pa.field("object_id", pa.string(), nullable=False),
        pa.field("survey", pa.string(), nullable=False),
        pa.field("embedding", pa.list_(pa.float32(), contract.embedding_size)),
        pa.field("flags", pa.list_(pa.string())),
    ]
    if heads:
        fields += [
            pa.field("morphology", pa.string()),
            *(pa.field(f"p_{name}", pa.float32()) for name in contract.morphology_classes),
            *(
                pa.field(name, pa.float32())
                for name in ("redshift", "redshift_low", "redshift_high", "anomaly", *ANOMALY_VIEWS)
            ),
            pa.field("redshift_source", pa.string()),
            pa.field("anomaly_reason", pa.string()),
        ]
    digest = {"model": contract.name, "version": contract.version, "weights_digest": contract.weights_digest}
    return pa.schema(fields, metadata=digest)


def alert_row(outcome: Enriched, *, heads: bool = True) -> Row:
    """Say of an alert what its record says; see `alert_schema`."""
    alert, said = outcome.alert, outcome.enrichment
    row: dict[str, Any] = {
        "alert_id": alert.alert_id,
        "object_id": alert.object_id,
        "survey": alert.survey.value,
        "embedding": said.embedding,
        "flags": list(said.flags),
    }
    if not heads:
        return row
    if said.morphology is not None:
        row["morphology"] = said.top_class
        row |= {f"p_{name}": p for name, p in zip(said.morphology_classes, said.morphology, strict=True)}
    if said.redshift is not None:
        row |= {
            "redshift": said.redshift.point,
            "redshift_low": said.redshift.low,
            "redshift_high": said.redshift.high,
            "redshift_source": said.redshift.source,
        }
    return row | {
        "anomaly": said.anomaly,
        "anomaly_interesting": said.anomaly_interesting,
        "anomaly_artefact": said.anomaly_artefact,
        "anomaly_reason": said.anomaly_reason,
    }


def image_schema(size: int, digest: str) -> pa.Schema:
    """Columns of images."""
    return pa.schema(
        [
            pa.field("object_id", pa.int64(), nullable=False),
            pa.field("embedding", pa.list_(pa.float32(), size), nullable=False),
        ],
        metadata={"weights_digest": digest},
    )


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")
