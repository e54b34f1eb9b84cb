"""A network that can be cut, slowed and reset: toxiproxy, built by go once, driven over its HTTP API."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .kafka_server import JARS, KafkaServer, end, free_ports

VERSION = "2.5.0"
MODULE = f"github.com/Shopify/toxiproxy/v2/cmd/server@v{VERSION}"
HOME = JARS.parent / f"toxiproxy-{VERSION}"
"""Beside Kafka's jars: a minute to build, once."""

READY_SECONDS = 20.0

BOTH_WAYS = ("upstream", "downstream")


def missing() -> str | None:
    """What this machine lacks to run the proxy; None when nothing."""
    if not (HOME / "server").exists() and shutil.which("go") is None:
        return f"no toxiproxy: neither go on the PATH nor what it would build in {HOME}"
    return None


def fetch() -> None:
    """Build the proxy, once."""
    if (HOME / "server").exists():
        return
    HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME) as folder:
        subprocess.run(["go", "install", MODULE], check=True, env={**os.environ, "GOBIN": folder})
        (Path(folder) / "server").replace(HOME / "server")


@dataclass(frozen=True)
class Proxy:
    """One address that passes on to another.

    Attributes
    ----------
    address : str
        Where clients connect.
    where : str
        Of this proxy in the API.
    """

    address: str
    where: str

    def cut(self) -> None:
        """Close every connection, and take no new one."""
        _ask("POST", self.where, {"enabled": False})

    def mend(self) -> None:
        """Take connections again."""
        _ask("POST", self.where, {"enabled": True})

    @contextlib.contextmanager
    def with_toxic(
        self, kind: str, streams: tuple[str, ...] = BOTH_WAYS, **attributes: int
    ) -> Iterator[None]:
        """Have every connection, old and new, suffer for as long as the context lasts."""
        for stream in streams:
            toxic = {"name": f"{kind}-{stream}", "type": kind, "stream": stream, "attributes": attributes}
            _ask("POST", f"{self.where}/toxics", toxic)
        try:
            yield
        finally:
            for stream in streams:
                _ask("DELETE", f"{self.where}/toxics/{kind}-{stream}")


class Toxiproxy:
    """A context in which the proxy runs."""

    def __init__(self) -> None:
        (self._port,) = free_ports(1)
        self._root = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        fetch()
        self._process = subprocess.Popen(
            [str(HOME / "server"), "-host", "127.0.0.1", "-port", str(self._port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self.__exit__(None, None, None)
                    raise
                time.sleep(0.1)
            else:
                return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self._process)

    def before(self, upstream: str, address: str | None = None) -> Proxy:
        """Begin to pass on to an address."""
        address = address or f"127.0.0.1:{free_ports(1)[0]}"
        name = f"at-{address.rpartition(':')[2]}"
        _ask("POST", f"{self._root}/proxies", {"name": name, "listen": address, "upstream": upstream})
        return Proxy(address, f"{self._root}/proxies/{name}")


class ProxiedServer(KafkaServer):
    """A Kafka with a second listener, whose clients are sent to where a proxy listens.

    Attributes
    ----------
    behind, proxied : str
        Where that listener is, and where it says it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.behind, self.proxied = (f"127.0.0.1:{port}" for port in free_ports(2))

    def _listeners(self) -> dict[str, tuple[str, str]]:
        return super()._listeners() | {"PROXIED": (self.behind, "PLAINTEXT")}

    def _properties(self) -> dict[str, object]:
        properties = super()._properties()
        told = str(properties["advertised.listeners"]).replace(self.behind, self.proxied)
        return {**properties, "advertised.listeners": told}


def _ask(method: str, where: str, body: Any = None) -> None:
    payload = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(where, payload, {"Content-Type": "application/json"}, method=method)
    urllib.request.urlopen(request, timeout=10).close()
