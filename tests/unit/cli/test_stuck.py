"""How a program ends that cannot: stuck in a call, whether that holds the interpreter or not."""

import signal
import subprocess
import sys
import textwrap
import time

import pytest

PROGRAM = """
    import ctypes
    from broker.cli.ending import leave, stop_on_signals
    from broker.cli.stuck import dead_man

    dead_man.patience = {patience}
    dead_man.still_seconds = {still}

    def app():
        stop = stop_on_signals()
        print("begun", flush=True)
        {stuck}

    leave(app)
"""

LOCKED_TWICE = (
    "m = ctypes.create_string_buffer(64); [ctypes.{dll}(None).pthread_mutex_lock(m) for _ in range(2)]"
)
"""A call that no signal ends, and after which no Python runs: the second lock of a mutex by its owner."""


def _ended(
    stuck: str, *signals: signal.Signals, patience: float = 60.0, still: float = 60.0
) -> tuple[int, str]:
    script = textwrap.dedent(PROGRAM.format(stuck=stuck, patience=patience, still=still))
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "begun\n"
            time.sleep(0.2)  # until it is in its call
            for number in signals:
                program.send_signal(number)
            _, said = program.communicate(timeout=30)
            return program.returncode, said
        finally:
            program.kill()


def test_a_program_that_is_stuck_in_a_call_ends_after_a_signal_and_says_where() -> None:
    code, said = _ended(LOCKED_TWICE.format(dll="CDLL"), signal.SIGTERM, patience=0.5)
    assert code == 1
    assert said.startswith("Timeout (0:00:00.5")
    assert "in app" in said


def test_a_call_that_holds_the_interpreter_ends_it_without_a_signal() -> None:
    code, said = _ended(LOCKED_TWICE.format(dll="PyDLL"), still=1.0)
    assert code == 1
    assert "in app" in said


def test_a_program_that_works_is_left_alone_however_long() -> None:
    code, said = _ended("stop.wait(3)", still=1.0)
    assert (code, said) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_program_that_ends_in_time_is_left_alone(number: signal.Signals) -> None:
    code, said = _ended("stop.wait(30)", number)
    assert (code, said) == (0, "")
