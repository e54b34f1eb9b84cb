"""Alerts of files or of a topic, whichever was given, embedded."""

from pathlib import Path

from broker.inference import Model
from encoder.embedded import Embedded, embed_files, embed_packets
from encoder.topic import topic_packets


def embed_source(
    paths: list[Path], topic: str | None, servers: str | None, config: Path | None, encoder: Model
) -> Embedded:
    """Embed the alerts of files, archives and folders, or those of a topic where one is named."""
    if topic is None:
        return embed_files(paths, encoder)
    return embed_packets(topic_packets(topic, servers, config), encoder)
