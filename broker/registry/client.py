"""One request to a registry: bounded in time and in size, and told apart by what its failure means.

Written on the standard library: Confluent's own client needs three further packages, and its answers are
bounded by neither. Redirects are not followed, so that a password goes nowhere but to the registry.
"""

import http.client
import json
import socket
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
from broker.errors import RegistryError
from broker.registry.access import Login, refuses_ours, tls
from broker.settings import RegistryConnection
from broker.settings.registry import LONGEST_PAUSE

MOST_BYTES = 4 * 1024 * 1024
"""Of an answer; Rubin's schemas take 0.1 MB."""

FIRST_WAIT = 0.25
"""Seconds before the second try; later ones wait longer."""

OF_A_REGISTRY = range(40400, 40500)
"""Codes by which a registry says what it does not have; a 404 without one is of anything else."""

DENIED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}

JSON = "application/vnd.schemaregistry.v1+json"

T = TypeVar("T")


class Trouble(StrEnum):
    """What a failed request means."""

    NOT_FOUND = "not_found"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    DENIED = "denied"
    WRONG = "wrong"


class RegistryTrouble(RegistryError):
    """A request that failed.

    Parameters
    ----------
    kind : Trouble
    detail : str
        What came in place of an answer.
    code : int, optional
        By which the registry names it.
    """

    def __init__(self, kind: Trouble, detail: str, code: int | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.code = code


@dataclass
class _Watch:
    """Ends a connection when its time is over: a socket's own timeout begins anew with each byte."""

    connection: http.client.HTTPConnection
    is_over: bool = False
    _socket: socket.socket | None = None

    def connect(self, seconds: float) -> None:
        """Connect within so many seconds, whatever the number of addresses behind the name."""
        deadline = time.monotonic() + seconds
        self.connection._create_connection = lambda address, *_: _reached(address, deadline)  # type: ignore[attr-defined]  # noqa: SLF001
        self.connection.connect()
        if self.is_over:
            raise TimeoutError
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
        If a file that the settings name cannot be read.
    """

    def __init__(self, settings: RegistryConnection, sleep: Callable[[float], None] = time.sleep) -> None:
        assert settings.url is not None
        self.url = settings.url.rstrip("/")
        self._timeout = settings.timeout_seconds
        self._retries = settings.retries
        self._sleep = sleep
        self._parts = urlsplit(self.url)
        self._tls = tls(settings) if self._parts.scheme == "https" else None
        self._headers = {"Accept": f"{JSON}, application/json", "Content-Type": JSON}
        self._login = Login(settings)
        self._credentials = [
            *(["username and password"] if settings.username else []),
            *(["certificate_file"] if settings.certificate_file else []),
        ]

    @property
    def remedy(self) -> str:
        """What to do where the registry does not let us in."""
        if not self._credentials:
            return "it asks who we are: give its username and password_file, or certificate_file and key_file"
        return f"check its {' and '.join(self._credentials)}, and what it lets us do"

    def ask(self, method: str, path: tuple[str, ...], body: Any = None) -> Any:
        """Make one request; one more where the password was refused and its file has another by now.

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
        try:
            return self._ask(method, path, body)
        except RegistryTrouble as trouble:
            if trouble.kind is not Trouble.DENIED or not self._login.renewed():
                raise
        return self._ask(method, path, body)

    def _ask(self, method: str, path: tuple[str, ...], body: Any) -> Any:
        where = "/".join((self._parts.path, *(quote(part, safe="") for part in path)))
        payload = None if body is None else json.dumps(body).encode()
        with self._watched() as connection:
            connection.request(method, where, payload, self._headers | self._login.header)
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

    def knock(self) -> None:
        """Ask once for a schema that need not be there: see that a registry answers and lets us in.

        Raises
        ------
        RegistryTrouble
        """
        try:
            self.ask("GET", ("schemas", "ids", "1"))
        except RegistryTrouble as trouble:
            if trouble.kind is not Trouble.NOT_FOUND or trouble.code not in OF_A_REGISTRY:
                raise

    def patiently(self, attempt: Callable[[], T]) -> T:
        """Try until it works, as often as the settings say; what the registry refuses or denies is not tried again.

        Raises
        ------
        RegistryTrouble
            The last one, with the number of tries.
        """
        waits = delays(FIRST_WAIT, LONGEST_PAUSE)
        for tries in range(1, self._retries + 2):
            try:
                return attempt()
            except RegistryTrouble as trouble:
                if trouble.kind in {Trouble.REFUSED, Trouble.DENIED} or tries > self._retries:
                    counted = "once" if tries == 1 else f"{tries} times"
                    detail = f"the registry at {self.url} was asked {counted}: {trouble.detail}"
                    raise RegistryTrouble(trouble.kind, detail, trouble.code) from None
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
            watch.connect(self._timeout)
            yield connection
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            if not watch.is_over and refuses_ours(error, self._address, self._tls):
                raise RegistryTrouble(
                    Trouble.DENIED, f"it refuses our certificate or misses one: {_said(error)}"
                ) from error
            # Ending a connection under a reader breaks it in any of these ways.
            said = self._late() if watch.is_over or isinstance(error, TimeoutError) else _said(error)
            raise RegistryTrouble(Trouble.UNREACHABLE, said) from error
        else:
            if watch.is_over:
                raise RegistryTrouble(Trouble.UNREACHABLE, self._late())
        finally:
            timer.cancel()
            connection.close()

    @property
    def _address(self) -> tuple[str, int]:
        return self._parts.hostname or "", self._parts.port or (80 if self._tls is None else 443)

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(*self._address, timeout=self._timeout)
        return http.client.HTTPSConnection(*self._address, timeout=self._timeout, context=self._tls)

    def _late(self) -> str:
        return f"it gave no whole answer within {self._timeout:g} s"


def _reached(address: tuple[str, int], deadline: float) -> socket.socket:
    """Connect to the first of a name's addresses that answers."""
    last: OSError = TimeoutError("no address answered in time")
    for family, kind, protocol, _, place in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(max(0.001, deadline - time.monotonic()))
            made.connect(place)
        except OSError as error:
            made.close()
            last = error
        else:
            return made
    raise last


def _refuse_status(status: int, raw: bytes) -> None:
    if status == HTTPStatus.OK:
        return
    message, code = _message(raw)
    said = f"it answered {status}: {message}"
    if status == HTTPStatus.NOT_FOUND:
        raise RegistryTrouble(Trouble.NOT_FOUND, said, code)
    if status in DENIED:
        raise RegistryTrouble(Trouble.DENIED, said, code)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
    }:
        raise RegistryTrouble(Trouble.UNREACHABLE, said)
    raise RegistryTrouble(Trouble.REFUSED if status >= HTTPStatus.BAD_REQUEST else Trouble.WRONG, said)


def _message(raw: bytes) -> tuple[str, int | None]:
    """Give what the registry says of its refusal and its number, else the beginning of what came."""
    try:
        answer = json.loads(raw)
        code = answer.get("error_code")
        return f"{answer['message']} ({code})"[:300], code if isinstance(code, int) else None
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return _shown(raw), None


def _shown(raw: bytes) -> str:
    return repr(raw[:80])[1:] if raw else "nothing"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
