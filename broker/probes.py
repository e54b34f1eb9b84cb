"""One small HTTP server: ``/metrics``, ``/healthz``, ``/readyz``; it answers GET and nothing else."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from broker.errors import SettingsError
from broker.metrics import CONTENT_TYPE

PLAIN = "text/plain; charset=utf-8"


@dataclass
class Health:
    """What the loop says of itself, read by the probes.

    Attributes
    ----------
    turn_seconds : float
        Longest time between two turns of a living loop.
    unready_seconds : float
        Longest time that Kafka may not answer while we call ourselves ready.
    clock : callable
        Monotonic seconds.
    """

    turn_seconds: float
    unready_seconds: float = 30.0
    clock: Callable[[], float] = time.monotonic
    model_warm: bool = False
    partitions: int = 0
    waited: float = 0.0
    _turned: float = field(init=False)

    def __post_init__(self) -> None:
        self._turned = self.clock()

    def turned(self, partitions: int) -> None:
        """Note a turn of the loop."""
        self._turned = self.clock()
        self.partitions = partitions

    def waiting(self, seconds: float) -> None:
        """Note how long Kafka has not answered."""
        self.waited = seconds

    def alive(self) -> tuple[bool, str]:
        """Whether the loop turned lately, and a line that says so."""
        age = self.clock() - self._turned
        return age <= self.turn_seconds, f"last turn {age:.1f} s ago, limit {self.turn_seconds:g} s"

    def ready(self) -> tuple[bool, str]:
        """Whether the model is warm, partitions are assigned and Kafka answers, and a line that says so."""
        model = "warm" if self.model_warm else "not loaded"
        silent = self.waited > self.unready_seconds
        kafka = f", Kafka has not answered for {self.waited:.0f} s" if silent else ""
        return (
            self.model_warm and self.partitions > 0 and not silent,
            f"model {model}, {self.partitions} partitions assigned{kafka}",
        )


class Probes:
    """A context in which the server answers, in a thread of its own.

    Parameters
    ----------
    host : str
    port : int
        0 takes a free one.
    health : Health
    render : callable
        The metrics' text.

    Attributes
    ----------
    port : int
        The one that is served.
    """

    def __init__(self, host: str, port: int, health: Health, render: Callable[[], bytes]) -> None:
        self._address = (host, port)
        self._health = health
        self._render = render
        self.port = port

    def __enter__(self) -> Self:
        try:
            self._server = ThreadingHTTPServer(self._address, self._handler())
        except OSError as error:
            host, port = self._address
            raise SettingsError(
                f"probes cannot listen on {host}:{port} ({error.strerror}): give another port, or 0 for any"
            ) from error
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.2,), name="probes", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Status, content type and body for one path."""
        if path == "/metrics":
            return HTTPStatus.OK, CONTENT_TYPE, self._render()
        checks = {"/healthz": self._health.alive, "/readyz": self._health.ready}
        if path not in checks:
            return HTTPStatus.NOT_FOUND, PLAIN, b"here are /metrics, /healthz and /readyz\n"
        well, line = checks[path]()
        return HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, PLAIN, f"{line}\n".encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        probes = self

        class Handler(BaseHTTPRequestHandler):
            """Other verbs have no method here, and are answered 501 by the library."""

            server_version = "nightjar"
            sys_version = ""
            timeout = 10.0

            def do_GET(self) -> None:
                status, kind, body = probes.answer(self.path.split("?")[0])
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
                """Keep silent: a probe each few seconds is no news."""

        return Handler
