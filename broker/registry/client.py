"""One request to a registry: bounded in time and in size, and told apart by what its failure means.

Written on the standard library: Confluent's own client needs three further packages, and its answers are
bounded by neither. Redirects are not followed, so that a password goes nowhere but to the registry.
"""

import base64
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from broker.backoff import delays
from broker.errors import RegistryError, SettingsError
from broker.settings import RegistryConnection

MOST_BYTES = 4 * 1024 * 1024
"""Of an answer; Rubin's schemas take 0.1 MB."""

FIRST_WAIT, LONGEST_WAIT = 0.25, 2.0
"""Seconds between two tries."""

JSON = "application/vnd.schemaregistry.v1+json"

T = TypeVar("T")


class Trouble(StrEnum):
    """What a failed request means."""

    NOT_FOUND = "not_found"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    WRONG = "wrong"


class RegistryTrouble(RegistryError):
    """A request that failed.

    Parameters
    ----------
    kind : Trouble
    detail : str
        What came in place of an answer.
    """

    def __init__(self, kind: Trouble, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


@dataclass
class _Watch:
    """Ends a connection when its time is over: a socket's own timeout begins anew with each byte."""

    connection: http.client.HTTPConnection
    is_over: bool = False
    _socket: socket.socket | None = None

    def connect(self) -> None:
        self.connection.connect()
        # The connection lets go of its socket where an answer has no stated length, and reads on.
        self._socket = self.connection.sock

    def end(self) -> None:
        self.is_over = True
        with suppress(OSError, AttributeError):
            (self._socket or self.connection.sock).shutdown(socket.SHUT_RDWR)


class RegistryClient:
    """Asks a registry.

    Parameters
    ----------
    settings : RegistryConnection
        With a url.
    sleep : callable
        Waits between two tries.

    Attributes
    ----------
    url : str

    Raises
    ------
    SettingsError
        If the file of the password or of the authority cannot be read.
    """

    def __init__(self, settings: RegistryConnection, sleep: Callable[[float], None] = time.sleep) -> None:
        assert settings.url is not None
        self.url = settings.url.rstrip("/")
        self._timeout = settings.timeout_seconds
        self._retries = settings.retries
        self._sleep = sleep
        self._parts = urlsplit(self.url)
        self._tls = _tls(settings) if self._parts.scheme == "https" else None
        self._headers = {"Accept": f"{JSON}, application/json", "Content-Type": JSON} | _login(settings)

    def ask(self, method: str, path: tuple[str, ...], body: Any = None) -> Any:
        """Make one request.

        Parameters
        ----------
        method : str
        path : tuple of str
            Segments below the registry's url, not yet quoted.
        body : object, optional
            Sent as JSON.

        Returns
        -------
        object
            As parsed from JSON.

        Raises
        ------
        RegistryTrouble
        """
        where = "/".join((self._parts.path, *(quote(part, safe="") for part in path)))
        payload = None if body is None else json.dumps(body).encode()
        with self._watched() as connection:
            connection.request(method, where, payload, self._headers)
            with connection.getresponse() as response:
                raw = response.read(MOST_BYTES + 1)
                missing = response.length
        if len(raw) > MOST_BYTES:
            raise RegistryTrouble(Trouble.WRONG, f"it answered more than {MOST_BYTES} bytes")
        if missing:
            raise RegistryTrouble(Trouble.UNREACHABLE, f"its answer ended {missing} bytes early")
        _refuse_status(response.status, raw)
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            raise RegistryTrouble(Trouble.WRONG, f"it answered no JSON: {_shown(raw)}") from None

    def patiently(self, attempt: Callable[[], T]) -> T:
        """Try until it works, as often as the settings say; what the registry refuses is not tried again.

        Raises
        ------
        RegistryTrouble
            The last one, with the number of tries.
        """
        waits = delays(FIRST_WAIT, LONGEST_WAIT)
        for tries in range(1, self._retries + 2):
            try:
                return attempt()
            except RegistryTrouble as trouble:
                if trouble.kind is Trouble.REFUSED or tries > self._retries:
                    counted = "once" if tries == 1 else f"{tries} times"
                    detail = f"the registry at {self.url} was asked {counted}: {trouble.detail}"
                    raise RegistryTrouble(trouble.kind, detail) from None
            self._sleep(next(waits))
        raise AssertionError("the last try returns or raises")

    @contextmanager
    def _watched(self) -> Iterator[http.client.HTTPConnection]:
        connection = self._connection()
        watch = _Watch(connection)
        timer = threading.Timer(self._timeout, watch.end)
        timer.daemon = True
        timer.start()
        try:
            watch.connect()
            yield connection
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            # Ending a connection under a reader breaks it in any of these ways.
            said = self._late() if watch.is_over or isinstance(error, TimeoutError) else _said(error)
            raise RegistryTrouble(Trouble.UNREACHABLE, said) from error
        else:
            if watch.is_over:
                raise RegistryTrouble(Trouble.UNREACHABLE, self._late())
        finally:
            timer.cancel()
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=self._timeout)
        return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=self._tls)

    def _late(self) -> str:
        return f"it gave no whole answer within {self._timeout:g} s"


def _tls(settings: RegistryConnection) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:  # ssl.SSLError, for a file that holds no certificate, is one
        raise SettingsError(
            f"registry ca_file {settings.ca_file}: {error.strerror or error}: give a PEM file of certificates"
        ) from error


def _login(settings: RegistryConnection) -> dict[str, str]:
    secret = settings.secret()
    if secret is None:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{settings.username}:{secret}".encode()).decode()}


def _refuse_status(status: int, raw: bytes) -> None:
    if status == HTTPStatus.OK:
        return
    said = f"it answered {status}: {_message(raw)}"
    if status == HTTPStatus.NOT_FOUND:
        raise RegistryTrouble(Trouble.NOT_FOUND, said)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
    }:
        raise RegistryTrouble(Trouble.UNREACHABLE, said)
    raise RegistryTrouble(Trouble.REFUSED if status >= HTTPStatus.BAD_REQUEST else Trouble.WRONG, said)


def _message(raw: bytes) -> str:
    """Give what the registry says of its refusal, else the beginning of what came."""
    try:
        answer = json.loads(raw)
        return f"{answer['message']} ({answer.get('error_code')})"[:300]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return _shown(raw)


def _shown(raw: bytes) -> str:
    return repr(raw[:80])[1:] if raw else "nothing"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
