"""Embeddings of alert files, by the broker's own pipeline: the numbers it publishes."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from broker.alert import Enriched, Float32Array, Message, Outcome
from broker.avro.deserializer import Deserializer
from broker.errors import SettingsError
from broker.inference import Model
from broker.packet_files import Packet, PacketFiles
from broker.pipeline import Pipeline
from broker.survey import WANTED


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


def outcomes(packets: Iterable[Packet], model: Model) -> Iterator[tuple[Packet, Outcome]]:
    """Run every packet through the broker's pipeline, in the order of the files."""
    read: deque[Packet] = deque()

    def messages() -> Iterator[Message]:
        for number, packet in enumerate(packets):
            read.append(packet)
            yield Message(packet.value, "files", 0, number)

    for outcome in Pipeline(Deserializer(WANTED), model).outcomes(messages()):
        yield read.popleft(), outcome


def embed_files(paths: Sequence[Path], model: Model) -> Embedded:
    """Embed every alert of files, archives and folders; see `embed_packets`."""
    files = PacketFiles.find(paths)
    embedded = embed_packets(files, model)
    return replace(embedded, left_out=embedded.left_out + len(files.skipped))


def embed_packets(packets: Iterable[Packet], model: Model) -> Embedded:
    """Embed every alert.

    Raises
    ------
    SettingsError
        No alert has an embedding.
    """
    found: dict[int, tuple[str, Float32Array]] = {}
    seen = 0
    for _, outcome in outcomes(packets, model):
        seen += 1
        if isinstance(outcome, Enriched) and outcome.enrichment.embedding is not None:
            found.setdefault(outcome.alert.alert_id, (outcome.alert.key, outcome.enrichment.embedding))
    if not found:
        raise SettingsError(f"none of {seen} messages is an alert with an embedding: give other alerts")
    rows = list(found.values())
    return Embedded(list(found), [key for key, _ in rows], np.stack([e for _, e in rows]), seen - len(rows))
