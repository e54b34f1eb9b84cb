"""The server's certificate, looked at by ourselves: librdkafka only says that it does not verify."""

import re
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

LOOK_SECONDS = 4.0
"""For all handshakes of one look together."""

NO_CHECK_TIME = 0x200000
"""OpenSSL's ``X509_V_FLAG_NO_CHECK_TIME``, which `ssl` has no name for."""

NOT_YET_VALID, EXPIRED = 9, 10
UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
OTHER_NAME = frozenset({62, 64})
"""OpenSSL's ``X509_V_ERR_*``, which `ssl` has no names for."""

SPOKE_TO = re.compile(r"^\w+://(.+:\d+)/")
"""How librdkafka's reports name the broker they are about."""


@dataclass(frozen=True)
class Certificate:
    """What a server shows.

    Attributes
    ----------
    names : tuple of str
        Hosts it is for.
    issuer : str
    begins, ends : datetime
    fault : str or None
        Why it is not accepted.
    remedy : str or None
        What to do then.
    """

    names: tuple[str, ...]
    issuer: str
    begins: datetime
    ends: datetime
    fault: str | None = None
    remedy: str | None = None

    @property
    def days_left(self) -> int:
        """Whole days until it expires."""
        return (self.ends - datetime.now(UTC)).days


UNREAD = Certificate((), "?", datetime.min.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC))
"""Of which nothing is known but that it is refused."""


def spoken_to(report: str) -> str | None:
    """Which broker a report of librdkafka is about, as ``host:port``; None where it names none."""
    found = SPOKE_TO.match(report)
    return found[1] if found else None


def refused(report: str, properties: Mapping[str, Any]) -> Certificate | None:
    """Give the certificate that librdkafka has refused, with its fault; None when that cannot be told.

    Parameters
    ----------
    report : str
        Of librdkafka, which names the broker.
    properties : mapping
        What librdkafka was given.
    """
    address = spoken_to(report)
    certificate = look(address, properties) if address else None
    return certificate if certificate and certificate.fault else None


def look(address: str, properties: Mapping[str, Any], seconds: float = LOOK_SECONDS) -> Certificate | None:
    """Look at the certificate a server shows, and verify it as librdkafka does.

    Parameters
    ----------
    address : str
        ``host:port``.
    properties : mapping
        What librdkafka is given.
    seconds : float
        For everything.

    Returns
    -------
    Certificate or None
        None when the server does not answer, or not by TLS.
    """
    deadline = time.monotonic() + seconds
    try:
        ours = _verifying(properties)
    except OSError as error:
        unread = f"the files of our own certificates cannot be read: {error.strerror or error}"
        return replace(
            UNREAD, fault=unread, remedy="see ca_file, certificate_file, key_file and the passphrase"
        )
    try:
        return _told(_shake(address, ours, deadline)[0])
    except ssl.SSLCertVerificationError as refusal:
        shown = _shown(address, deadline)
        fault, remedy = _fault(refusal, address, shown, properties)
        return replace(shown or UNREAD, fault=fault, remedy=remedy)
    except OSError:
        return None


def _shown(address: str, deadline: float) -> Certificate | None:
    """Read a certificate that does not verify; None for one that is no server's at all."""
    try:
        _, encoded = _shake(address, _any(), deadline)
        return _told(_shake(address, _only(encoded), deadline)[0])
    except OSError:
        return None


def split(address: str) -> tuple[str, int]:
    """Take host and port apart, as librdkafka does: a protocol before them is let go, without a port it is 9092.

    Raises
    ------
    ValueError
        When the port is no number.
    """
    host, found, port = address.rpartition("://")[2].rpartition(":")
    return (host.strip("[]"), int(port)) if found else (port, 9092)


def _shake(address: str, context: ssl.SSLContext, deadline: float) -> tuple[dict[str, Any], bytes]:
    """Shake hands; give the certificate as far as it was verified, and as it came."""
    host, port = split(address)
    left = max(0.1, deadline - time.monotonic())
    with (
        socket.create_connection((host, port), timeout=left) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        return secure.getpeercert() or {}, secure.getpeercert(binary_form=True) or b""


def _verifying(properties: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = properties.get("ssl.endpoint.identification.algorithm") != "none"
    if authority := properties.get("ssl.ca.location"):
        context.load_verify_locations(cafile=authority)
    else:
        context.set_default_verify_paths()
    if own := properties.get("ssl.certificate.location"):
        # A passphrase is always given: without one OpenSSL would ask for it on the terminal.
        passphrase = properties.get("ssl.key.password", "")
        context.load_cert_chain(own, properties.get("ssl.key.location"), lambda: passphrase)
    return context


def _any() -> ssl.SSLContext:
    """Accept whatever is shown: it is looked at, and nothing is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _only(encoded: bytes) -> ssl.SSLContext:
    """Accept this very certificate at any time: `ssl` tells the contents of verified ones only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=encoded)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(NO_CHECK_TIME)
    return context


def _told(shown: Mapping[str, Any]) -> Certificate:
    issuer = dict(pair for part in shown["issuer"] for pair in part)
    names = tuple(name for kind, name in shown.get("subjectAltName", ()) if kind in {"DNS", "IP Address"})
    begins, ends = (
        datetime.fromtimestamp(ssl.cert_time_to_seconds(shown[name]), UTC)
        for name in ("notBefore", "notAfter")
    )
    return Certificate(names, issuer.get("commonName") or issuer.get("organizationName", "?"), begins, ends)


def _fault(
    refusal: ssl.SSLCertVerificationError,
    address: str,
    shown: Certificate | None,
    properties: Mapping[str, Any],
) -> tuple[str, str]:
    it = f"the certificate of {address}"
    told = None if shown is None else _cause(refusal.verify_code, it, shown, properties)
    return told or (
        f"{it} is refused ({refusal.verify_message})",
        "have it corrected by those who run the cluster",
    )


def _cause(code: int, it: str, shown: Certificate, properties: Mapping[str, Any]) -> tuple[str, str] | None:
    """Put OpenSSL's code in words: what the certificate says, and what to do."""
    if code == EXPIRED and shown.days_left >= 0:
        expired = f"the authority {shown.issuer} of {it} has expired"
        return expired, "have it renewed, and give the new one as ca_file"
    if code == EXPIRED:
        return f"{it} expired on {shown.ends:%Y-%m-%d}", "have it renewed by those who run the cluster"
    if code == NOT_YET_VALID:
        begins = f"{it} is valid from {shown.begins:%Y-%m-%d %H:%M} UTC on"
        return begins, "wait, or correct the clock of this machine"
    if code in OTHER_NAME:
        meant = f"{it} is for {', '.join(shown.names) or 'no host'}"
        return meant, "put that name into bootstrap_servers, or have a certificate issued for this one"
    if code in UNKNOWN_AUTHORITY:
        known = properties.get("ssl.ca.location", "those this system trusts")
        issued = f"{it} was issued by {shown.issuer}, an authority not among {known}"
        return issued, "give the authority's certificate as ca_file"
    return None
