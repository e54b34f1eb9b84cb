"""``broker-embedded-kafka``: a Kafka for demos, in one process."""

import threading
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.ending import ShowVersion, exit_codes, stop_on_signals
from broker.kafka.embedded import AUTOMATIC_PARTITIONS, PARTITION_MEGABYTES, EmbeddedKafka

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


@app.command()
def serve(
    topic: Annotated[
        list[str] | None, typer.Option(help="Make this topic at once, with --partitions; may be given again.")
    ] = None,
    partitions: Annotated[
        int, typer.Option(min=1, max=1000, help="Partitions of the topics made at once.")
    ] = AUTOMATIC_PARTITIONS,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write the bootstrap servers into this file when Kafka is up.")
    ] = None,
    show_version: ShowVersion = False,  # noqa: ARG001 - answered before
) -> None:
    """Host librdkafka's mock cluster on this machine until Ctrl-C.

    Other programs join it with the --bootstrap-servers it prints. It is for demos and tests: about
    5 MB are kept of each partition and older messages vanish without an error; nothing is on disk;
    topics make themselves, with 4 partitions; only this machine reaches it.

    For example:
      broker-embedded-kafka
      broker-embedded-kafka --topic alerts --partitions 8 --ready-file kafka.address
    """
    with exit_codes("broker-embedded-kafka"):
        host(topic or [], partitions, ready_file, stop_on_signals())


def host(topics: list[str], partitions: int, ready_file: Path | None, stop: threading.Event) -> None:
    """Run the cluster until `stop` is set."""
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)  # of one that ran before
    with EmbeddedKafka() as kafka:
        for topic in topics:
            kafka.create_topic(topic, partitions)
        typer.echo(f"--bootstrap-servers {kafka.bootstrap_servers}")
        typer.echo(
            f"keeps about {PARTITION_MEGABYTES} MB a partition, drops older messages silently; Ctrl-C ends",
            err=True,
        )
        if ready_file is not None:
            # Renamed into place: whoever sees the file sees all of it.
            draft = ready_file.with_name(ready_file.name + ".part")
            draft.write_text(kafka.bootstrap_servers + "\n", encoding="utf-8")
            draft.replace(ready_file)
        stop.wait()


def main() -> None:
    """Run the program."""
    app()


if __name__ == "__main__":
    main()
