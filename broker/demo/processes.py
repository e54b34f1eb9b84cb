"""Programs that the demonstration starts, and ends whatever happens."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from broker.errors import ConfigurationError, NightjarError
from broker.settings import PREFIX

START_SECONDS = 30.0
"""Longest wait for a program to be there."""

END_SECONDS = 10.0
"""From SIGTERM to SIGKILL."""

NO_VARIABLES: Mapping[str, str] = MappingProxyType({})

REFUSED = 2
"""Exit code by which our programs say that their configuration cannot work."""


class Program:
    """One of our command lines as a process of its own.

    Parameters
    ----------
    name : str
        Of the program, such as ``broker-consumer``.
    arguments : list of str
    log : Path
        What it prints, on either stream.
    environment : mapping of str to str
        Variables beside those we have ourselves, which go first.
    """

    def __init__(
        self, name: str, arguments: list[str], log: Path, environment: Mapping[str, str] = NO_VARIABLES
    ) -> None:
        self.name = name
        self.log = log
        module = "broker.cli." + name.removeprefix("broker-").replace("-", "_")
        with log.open("wb") as output:
            # In a session of its own, a Ctrl-C meant for us reaches it by our hand, and in the right order.
            self._process = subprocess.Popen(  # noqa: S603 -- our own modules and arguments
                [sys.executable, "-P", "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Settings of the shell are for the user's own consumer: here they would redirect a topic.
                env={k: v for k, v in os.environ.items() if not k.startswith(PREFIX)} | dict(environment),
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def command(self) -> str:
        """Command line as one would type it."""
        return " ".join([self.name, *map(str, self._process.args[3:])])  # type: ignore[index]

    @property
    def last_words(self) -> str:
        """Last line that the program printed."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it printed nothing"

    def check(self) -> None:
        """Make sure that it is still running.

        Raises
        ------
        ConfigurationError
            When it ended because its configuration cannot work.
        NightjarError
            When it ended in any other way.
        """
        code = self._process.poll()
        if code is not None:
            kind = ConfigurationError if code == REFUSED else NightjarError
            raise kind(f"{self.name} ended with code {code}: {self.last_words} (all of it in {self.log})")

    def end(self) -> int:
        """Ask it to finish, wait, and end it for good if it does not; return its exit code."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


@contextmanager
def running(
    name: str, arguments: list[str], log: Path, environment: Mapping[str, str] = NO_VARIABLES
) -> Iterator[Program]:
    """Run a program for the length of a block."""
    program = Program(name, arguments, log, environment)
    try:
        yield program
    finally:
        program.end()


def await_file(path: Path, program: Program, stop: threading.Event) -> str:
    """Wait for a file that a program writes when it is ready, and read it.

    Raises
    ------
    NightjarError
        When the program ends, or the time is up.
    """
    deadline = time.monotonic() + START_SECONDS
    while not path.exists():
        program.check()
        if stop.wait(0.05):
            return ""
        if time.monotonic() > deadline:
            raise NightjarError(f"{program.name} was not ready within {START_SECONDS:g} s: see {program.log}")
    return path.read_text(encoding="utf-8").strip()
