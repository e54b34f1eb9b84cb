"""A registry that answers as it is told, on a real port."""

import json
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self


class StubRegistry:
    """Serves schemas by id and gives ids to schemas; `before` may answer in its place.

    Attributes
    ----------
    schemas : dict of int to object
    requests : list of (method, path, body)
    before : callable or None
        Given the handler, it answers itself and returns True, or returns False.
    """

    def __init__(self, certificate: Path | None = None, clients: Path | None = None) -> None:
        self.certificate = certificate
        self.clients = clients
        self.schemas: dict[int, Any] = {}
        self.subjects: dict[tuple[str, str], int] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.logins: list[str | None] = []
        self.before: Callable[[BaseHTTPRequestHandler], bool] | None = None

    def __enter__(self) -> Self:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                stub.answer(self)

            do_POST = do_PUT = do_GET  # noqa: N815 - as the handler has it

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                pass  # a client that gave up

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            if self.clients is not None:  # the authority of who may ask
                context.load_verify_locations(self.clients)
                context.verify_mode = ssl.CERT_REQUIRED
            # The handshake belongs to the thread of the connection, not to that which accepts them.
            self.server.socket = context.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "http" if self.certificate is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.server.server_address[1]}/api"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        size = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(size)) if size else None
        self.requests.append((handler.command, handler.path, body))
        self.logins.append(handler.headers.get("Authorization"))
        if self.before is not None and self.before(handler):
            return
        parts = handler.path.removeprefix("/api/").split("/")
        if parts[:2] == ["schemas", "ids"] and int(parts[2]) in self.schemas:
            reply(handler, 200, {"schema": json.dumps(self.schemas[int(parts[2])])})
        elif parts[0] == "subjects":
            key = (parts[1], body["schema"])
            reply(handler, 200, {"id": self.subjects.setdefault(key, 100 + len(self.subjects))})
        elif handler.command == "PUT":
            reply(handler, 200, body)
        else:
            reply(handler, 404, {"error_code": 40403, "message": "Schema not found"})


def reply(handler: BaseHTTPRequestHandler, status: int, content: Any) -> bool:
    """Answer with JSON, or with bytes as they are."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(raw)))
    handler.end_headers()
    handler.wfile.write(raw)
    return True


def dripping(handler: BaseHTTPRequestHandler) -> bool:
    """Answer a byte at a time, each well within a socket's timeout."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b" ")
        time.sleep(0.05)
    return True


def silent(handler: BaseHTTPRequestHandler) -> bool:
    """Say nothing for longer than anybody waits."""
    time.sleep(3)
    return True
