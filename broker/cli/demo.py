"""``broker-demo``: simulated alerts of both surveys through an embedded Kafka and the real consumer."""

import signal
import threading
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from broker.cli.ending import FAILED, ShowVersion, exit_codes
from broker.errors import ConfigurationError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


@app.command()
def demo(
    alerts: Annotated[int, typer.Option(min=10, max=20_000, help="Simulated messages to publish.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other alerts.")] = 1,
    output: Annotated[Path, typer.Option(help="Folder for the contact sheet, results and logs.")] = Path(
        "demo-output"
    ),
    model: Annotated[Path | None, typer.Option(help="ONNX file. Default: the packaged model.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Alerts of each kind to show.")] = 8,
    keep_running: Annotated[
        bool,
        typer.Option(
            "--keep-running", help="Leave Kafka and the consumer up until Ctrl-C, for other terminals."
        ),
    ] = False,
    show_version: ShowVersion = False,  # noqa: ARG001 - answered before
) -> None:
    """Send simulated alerts through an embedded Kafka and the real broker-consumer, and show what comes out.

    The alerts are drawn on the spot: galaxies, stars, transients and
    artefacts as Rubin and ZTF would see them, a few rarities, and a few
    messages that are broken on purpose. The exit code is 1 unless every
    message came out, either enriched or as a dead letter. Ctrl-C ends all
    that was started.

    The embedded Kafka keeps about 5 MB of each partition and drops older
    messages without a word; it does not look messages up by time.

    For example:
      broker-demo
      broker-demo --alerts 1000 --seed 7
      broker-demo --keep-running
    """
    console = Console()
    stop = _stop_on_signals()
    with exit_codes("broker-demo"):
        if find_spec("matplotlib") is None:
            raise ConfigurationError(
                "matplotlib is not installed, the contact sheet needs it: pip install -e '.[plot]' in the clone"
            )
        from broker.demo.run import Options, demonstrate  # noqa: PLC0415 -- imports matplotlib

        chosen = Options(alerts, seed, output, model, rows, keep_running)
        demonstrate(chosen, console, stop)
    if stop.is_set() and not keep_running:
        console.print("ended early; nothing was left running")
        raise typer.Exit(FAILED)


def _stop_on_signals() -> threading.Event:
    """Set an event on every signal to end: a second Ctrl-C must not leave behind what was started."""
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handle)
    return stop


def main() -> None:
    """Run the program."""
    app()


if __name__ == "__main__":
    main()
