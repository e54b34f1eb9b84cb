"""Who we are to a registry: a password, a certificate, both or nothing."""

import base64
import logging
import socket
import ssl

from broker.errors import SettingsError
from broker.settings import RegistryConnection

OUR_CERTIFICATE = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
"""What the alerts of TLS name by which a server refuses ours, or misses one."""

LISTEN_SECONDS = 1.0
"""For the reason of a server that has ended a connection."""

logger = logging.getLogger("broker.registry")


class Login:
    """The header of a user's name and password.

    A password's file is read again when the registry refuses what it held before, not when it changes: whoever
    changes a password writes the file first, and until the registry knows the new one the old one is good.

    Parameters
    ----------
    settings : RegistryConnection

    Attributes
    ----------
    header : dict
        Of a request.

    Raises
    ------
    SettingsError
        When the password's file cannot be read.
    """

    def __init__(self, settings: RegistryConnection) -> None:
        self._settings = settings
        self.header = _header(settings)

    def renewed(self) -> bool:
        """Read the password again; whether it is another one than before."""
        try:
            found = _header(self._settings)
        except SettingsError as error:  # half written, or just being replaced: the next refusal looks again
            logger.warning("%s; going on with the password before", error)
            return False
        if found == self.header:
            return False
        self.header = found
        logger.info(
            "registry password_file %s has changed: it is used from now on", self._settings.password_file
        )
        return True


def _header(settings: RegistryConnection) -> dict[str, str]:
    secret = settings.secret()
    if secret is None:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{settings.username}:{secret}".encode()).decode()}


def tls(settings: RegistryConnection) -> ssl.SSLContext:
    """Whom we trust, and what we show.

    Raises
    ------
    SettingsError
        When a file cannot be read, or a key does not fit.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:  # ssl.SSLError, for a file that holds no certificate, is one
        raise SettingsError(
            f"registry ca_file {settings.ca_file}: {error.strerror or error}",
            "give a PEM file of certificates",
        ) from error
    if settings.certificate_file is not None:
        _show_ours(context, settings)
    return context


def _show_ours(context: ssl.SSLContext, settings: RegistryConnection) -> None:
    assert settings.certificate_file is not None
    # A passphrase is always given: without one OpenSSL would ask for it on the terminal.
    passphrase = settings.passphrase()
    try:
        context.load_cert_chain(settings.certificate_file, settings.key_file, lambda: passphrase)
    except OSError as error:
        raise SettingsError(
            f"registry certificate_file {settings.certificate_file} with key_file {settings.key_file}: "
            f"{error.strerror or error}",
            "give a certificate and its own key, both PEM, and the key's passphrase if it has one",
        ) from error


def refuses_ours(error: Exception, address: tuple[str, int], context: ssl.SSLContext | None) -> bool:
    """Whether a connection has ended because of the certificate we show, or do not show.

    A server may close before we have read why, while we still write: then we ask again, and only listen.
    """
    if context is not None and isinstance(error, ssl.SSLEOFError | BrokenPipeError | ConnectionResetError):
        return _heard(address, context)
    said = str(error.reason or "") if isinstance(error, ssl.SSLError) else ""
    return "ALERT" in said and any(name in said for name in OUR_CERTIFICATE)


def _heard(address: tuple[str, int], context: ssl.SSLContext) -> bool:
    try:
        with (
            socket.create_connection(address, LISTEN_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=address[0]) as secure,
        ):
            secure.recv(1)
    except ssl.SSLEOFError:
        return False
    except OSError as error:
        return refuses_ours(error, address, None)
    return False
