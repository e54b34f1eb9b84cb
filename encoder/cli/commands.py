"""The commands of `encoder`, by name: what each does, where it is, and what it needs installed.

Loaded one by one, so that those that need no torch run where none is installed.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup

from broker.errors import ConfigurationError, NightjarError, SettingsError


@dataclass(frozen=True, slots=True)
class Entry:
    """One command.

    Attributes
    ----------
    summary : str
        As the list of commands has it.
    extra : str or None
        What has to be installed beyond the broker: ``train`` or ``fit``.
    needs : tuple of str
        Modules by which the extra is known to be there.
    """

    summary: str
    extra: str | None = None
    needs: tuple[str, ...] = ()

    @classmethod
    def training(cls, summary: str) -> "Entry":
        """Make a command that needs torch."""
        return cls(summary, "train", ("torch",))


COMMANDS = {
    "simulate": Entry("Simulate labelled alerts: shards, packets, or both.", "train", ("galsim",)),
    "pretrain": Entry.training("Pretrain the encoder without labels, or go on with a run."),
    "fit-heads": Entry.training("Fit morphology, redshift and anomaly on a frozen encoder."),
    "fit-head": Entry("Fit a classifier or regression of your own from labels.", "fit", ("sklearn", "onnx")),
    "apply-head": Entry("Predictions of a head for an archive of alerts."),
    "export": Entry.training("Write one ONNX file and its model card."),
    "ingest": Entry("Bring alerts or images of galaxies into what training reads.", "train", ("h5py",)),
    "embed": Entry("Write the representation of an archive of alerts or images.", "fit", ("pyarrow",)),
    "evaluate": Entry(
        "Measure a model beside its baselines: one page, one JSON.", "fit", ("sklearn", "matplotlib")
    ),
    "inspect": Entry("Say what is in a model file."),
}
"""Module `encoder.cli.<name>` holds each, as ``app``."""


class HelpFormatter(Protocol):
    """What is used of the formatter of the help's text."""

    def section(self, name: str) -> AbstractContextManager[None]:
        """Begin a section."""

    def write_dl(self, rows: Sequence[tuple[str, str]]) -> None:
        """Write a list of definitions."""


class Commands(TyperGroup):
    """Loads a command when it is called."""

    def list_commands(self, ctx: object) -> list[str]:
        """Names in the order of work."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | None:
        """Load one command; None where there is none of the name."""
        del ctx
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        if not all(map(find_spec, entry.needs)):
            raise SettingsError(
                f"`encoder {cmd_name}` needs {', '.join(entry.needs)}, which is not installed: "
                f"pip install -e '.[{entry.extra}]' in the clone"
            )
        module = import_module(f"encoder.cli.{cmd_name.replace('-', '_')}")
        command = typer.main.get_command(module.app)
        assert isinstance(command, TyperCommand)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: object, formatter: HelpFormatter) -> None:
        """List the commands without loading them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


app = typer.Typer(cls=Commands, no_args_is_help=True, rich_markup_mode=None, add_completion=False)


@app.callback(
    epilog="Example: `encoder simulate --output shards --count 2000`, then what it says comes next. "
    "`encoder COMMAND --help` has examples.",
)
def encoder() -> None:
    """Simulate alerts, learn from them without labels, fit heads, export one ONNX file."""


FAILED, REFUSED = 1, 2
"""Exit codes: an error of ours; what was given cannot work."""


def main() -> None:
    """Run the program: our errors end it with one line and an exit code, others with their traceback."""
    try:
        app()
    except NightjarError as error:
        line = " ".join(str(error).split())
        Console(stderr=True).print(f"encoder: {line}", style="red", highlight=False, markup=False)
        raise SystemExit(REFUSED if isinstance(error, ConfigurationError) else FAILED) from error
