"""How every program ends: exit codes, signals and the log."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from types import FrameType
from typing import Annotated, NoReturn

import typer

from broker.cli.stuck import dead_man
from broker.errors import ConfigurationError, NightjarError

DONE, FAILED, REFUSED = 0, 1, 2
"""Exit codes: done; anything else; configuration or model refused."""

logger = logging.getLogger("broker")


@contextmanager
def exit_codes(program: str) -> Iterator[None]:
    """Turn our errors into one line on standard error and an exit code; others keep their traceback."""
    try:
        yield
    except NightjarError as error:
        typer.echo(f"{program}: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(REFUSED if isinstance(error, ConfigurationError) else FAILED) from error


def _show_version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"nightjar {version('nightjar')}")
        raise typer.Exit


ShowVersion = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which version this is.")
]


def stop_on_signals() -> threading.Event:
    """Make an event that the first SIGTERM or SIGINT sets; the second ends the process at once."""
    stop = threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        # Only the event: the logging module's locks are not for signal handlers.
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    return stop


def leave(app: Callable[[], object]) -> NoReturn:
    """Run a program that has closed all it used by its end, and go without waiting for what librdkafka still does.

    A call that was left behind keeps a thread and a handle of librdkafka, and the interpreter's own end may wait
    for these for ever. One that stands still is ended by `dead_man`.
    """
    dead_man.watch()
    code: int | str | None = FAILED
    try:
        app()
        code = DONE
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 -- told as the interpreter tells it
        sys.excepthook(*sys.exc_info())
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else DONE if code is None else FAILED)


def counted(number: int, thing: str) -> str:
    """Give a number with its noun, such as ``1 record`` and ``2 records``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def log_to_stderr(level: str) -> None:
    """Log lines of lifecycle and trouble to standard error.

    Without what librdkafka says of each try to connect, some twenty lines a second while a cluster is down:
    `broker.kafka` tells the same once in a while, in a sentence.
    """
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: not record.getMessage().startswith("FAIL ["))
