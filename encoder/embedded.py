"""Embeddings of alert files, by the broker's own pipeline: the numbers it publishes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from broker.alert import Enriched, Float32Array, Message
from broker.avro.container import split_container
from broker.avro.deserializer import Deserializer
from broker.avro.frame import CONTAINER_MAGIC
from broker.errors import AlertError, SettingsError
from broker.inference import Model
from broker.pipeline import Pipeline
from broker.survey import WANTED

BATCH = 64


@dataclass(frozen=True, slots=True)
class Embedded:
    """Alerts with an embedding, each id once, in the order of the files.

    Attributes
    ----------
    alert_id : list of int
    object_id : list of str
        With the survey before it, as in `broker.alert.Alert.key`.
    embedding : Float32Array, shape (n, embedding_size)
    left_out : int
        Messages that could not be read, have no embedding, or repeat an alert.
    """

    alert_id: list[int]
    object_id: list[str]
    embedding: Float32Array
    left_out: int


def embed_files(paths: Sequence[Path], model: Model) -> Embedded:
    """Embed every alert of files and folders.

    Raises
    ------
    SettingsError
        A path is not there, or no alert has an embedding.
    """
    pipeline, packets = Pipeline(Deserializer(WANTED), model), _packets(_files(paths))
    found: dict[int, tuple[str, Float32Array]] = {}
    seen = 0
    while batch := list(islice(packets, BATCH)):
        seen += len(batch)
        for outcome in pipeline([Message(value, "files", 0, n) for n, value in enumerate(batch)]):
            if isinstance(outcome, Enriched) and outcome.enrichment.embedding is not None:
                found.setdefault(outcome.alert.alert_id, (outcome.alert.key, outcome.enrichment.embedding))
    if not found:
        raise SettingsError(f"none of {seen} messages is an alert with an embedding: give other files")
    rows = list(found.values())
    return Embedded(list(found), [key for key, _ in rows], np.stack([e for _, e in rows]), seen - len(rows))


def _files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise SettingsError(f"{path} does not exist: give alert files, or folders that hold *.avro files")
        found += sorted(path.rglob("*.avro")) if path.is_dir() else [path]
    if not found:
        raise SettingsError("no *.avro file below the folders given: name files, or another folder")
    return found


def _packets(paths: Sequence[Path]) -> Iterator[bytes]:
    for path in paths:
        content = path.read_bytes()
        if not content.startswith(CONTAINER_MAGIC):
            yield content
            continue
        try:
            parts = split_container(content)
        except AlertError:
            parts = [content]  # the pipeline rejects it, and it is counted
        yield from parts
