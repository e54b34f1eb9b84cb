"""How a program ends that cannot: stuck in a call, told to stop."""

import signal
import subprocess
import sys
import textwrap

STUCK = """
    import ctypes
    from broker.cli import ending

    ending.STUCK_SECONDS = {seconds}

    def app():
        ending.stop_on_signals()
        libc = ctypes.CDLL(None)
        print("stuck", flush=True)
        while True:
            {stuck}

    ending.leave(app)
"""


def _told_to_stop(stuck: str, seconds: float) -> tuple[int, str]:
    script = textwrap.dedent(STUCK.format(stuck=stuck, seconds=seconds))
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "stuck\n"
            program.send_signal(signal.SIGTERM)
            _, said = program.communicate(timeout=30)
            return program.returncode, said
        finally:
            program.kill()


def test_a_program_that_is_stuck_in_a_call_says_where_and_ends() -> None:
    # A call from C that begins again after a signal, as a wait within librdkafka does: no Python runs meanwhile.
    code, said = _told_to_stop("[libc.sleep(1) for _ in iter(int, 1)]", 0.5)
    assert code == 1
    assert said.startswith("Timeout (0:00:00.5")
    assert "in app" in said


def test_a_program_that_ends_in_time_is_left_alone() -> None:
    code, said = _told_to_stop("libc.sleep(1); break", 20.0)
    assert (code, said) == (0, "")
