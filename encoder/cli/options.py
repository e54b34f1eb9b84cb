"""Options several commands share, and how a command is declared."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console()

Output = Annotated[Path, typer.Option("--output", help="Where it goes.")]
Data = Annotated[
    Path, typer.Option("--data", help="A shard, or a folder of shards made by `encoder simulate`.")
]
Topic = Annotated[
    str | None,
    typer.Option(
        "--topic", help="Or a Kafka topic of alerts, from its beginning to its end; nothing is committed."
    ),
]
Servers = Annotated[
    str | None, typer.Option("--bootstrap-servers", help="Of that topic, host:port. Default localhost:9092.")
]
Cluster = Annotated[
    Path | None,
    typer.Option("--config", help="YAML as broker-consumer takes it: cluster and security of that topic."),
]
Threads = Annotated[int, typer.Option("--threads", min=0, help="0 uses every core.")]


def command() -> typer.Typer:
    """Make the application of one command."""
    return typer.Typer(rich_markup_mode="markdown", add_completion=False)
