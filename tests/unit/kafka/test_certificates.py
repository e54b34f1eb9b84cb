"""Certificates of a TLS server, and what is said of those that do not hold."""

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import authority
import pytest
from authority import DAY, Authority, Issued

from broker.kafka.certificates import Certificate, look, refused, split

Serve = Callable[[Issued], str]


def said(found: Certificate | None) -> str:
    """What is wrong with a certificate, and what to do."""
    assert found is not None
    return f"{found.fault}: {found.remedy}"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if (lacking := authority.missing()) is not None:
        pytest.skip(lacking)
    return Authority(tmp_path_factory.mktemp("certificates") / "ours", "our authority")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, ours: Authority) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates") / "other", "other authority")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve TLS with a certificate on a free port of loopback."""
    listeners: list[socket.socket] = []

    def accept(listener: socket.socket, context: ssl.SSLContext) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed: the test is over
                return
            with suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(1)

    def begin(issued: Issued) -> str:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(issued.certificate, issued.key)
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=accept, args=(listener, context), daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield begin
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_a_sound_certificate(ours: Authority, serve: Serve) -> None:
    found = look(serve(ours.issue("sound", ends=10 * DAY)), {"ssl.ca.location": str(ours.ca_file)})
    assert found is not None
    assert (found.fault, found.issuer, found.days_left) == (None, "our authority", 9)
    assert found.names == ("localhost", "127.0.0.1")


@pytest.mark.parametrize(
    ("issued", "told"),
    [
        ({"begins": -40 * DAY, "ends": -10 * DAY}, r"expired on 20\d\d-\d\d-\d\d: have it renewed"),
        ({"begins": DAY}, r"is valid from 20\d\d-.* UTC on: wait, or correct the clock"),
        (
            {"alternatives": "DNS:a.org,DNS:b.org"},
            r"is for a\.org, b\.org: put that name into bootstrap_servers",
        ),
        ({"alternatives": "IP:127.0.0.2"}, r"is for 127\.0\.0\.2: put that name into bootstrap_servers"),
    ],
    ids=["expired", "not yet", "host", "address"],
)
def test_a_certificate_that_does_not_hold(
    ours: Authority, serve: Serve, issued: dict[str, object], told: str
) -> None:
    address = serve(ours.issue("faulty", **issued))
    found = look(address, {"ssl.ca.location": str(ours.ca_file)})
    assert said(found).startswith(f"the certificate of {address} ")
    assert re.search(told, said(found))


def test_an_authority_that_is_not_ours(ours: Authority, other: Authority, serve: Serve) -> None:
    address = serve(ours.issue("sound"))
    assert said(look(address, {"ssl.ca.location": str(other.ca_file)})) == (
        f"the certificate of {address} was issued by our authority, an authority not among {other.ca_file}: "
        "give the authority's certificate as ca_file"
    )
    assert "an authority not among those this system trusts" in said(look(address, {}))


def test_a_certificate_that_is_its_own_authority(ours: Authority, serve: Serve) -> None:
    address = serve(ours.issue("itself", signed_by_itself=True))
    found = look(address, {"ssl.ca.location": str(ours.ca_file)})
    assert found is not None
    assert "was issued by itself, an authority not among" in str(found.fault)


def test_a_certificate_that_is_for_no_server(ours: Authority, other: Authority, serve: Serve) -> None:
    of_an_authority = Issued(other.ca_file, other.ca_file.with_name("ca.key"))
    found = look(serve(of_an_authority), {"ssl.ca.location": str(ours.ca_file)})
    assert "is refused (self-signed certificate): have it corrected" in said(found)


def test_an_authority_that_has_expired(tmp_path: Path, serve: Serve, ours: Authority) -> None:
    former = Authority(tmp_path / "former", "former authority", ends=-DAY)
    found = look(serve(former.issue("sound")), {"ssl.ca.location": str(former.ca_file)})
    assert found is not None
    assert "the authority former authority of the certificate" in str(found.fault)
    assert "has expired: have it renewed" in said(found)


def test_names_are_not_looked_at_where_librdkafka_does_not(ours: Authority, serve: Serve) -> None:
    address = serve(ours.issue("elsewhere", alternatives="DNS:a.org"))
    properties = {"ssl.ca.location": str(ours.ca_file), "ssl.endpoint.identification.algorithm": "none"}
    found = look(address, properties)
    assert found is not None
    assert found.fault is None


def test_the_cause_is_found_by_what_librdkafka_reports(ours: Authority, serve: Serve) -> None:
    address = serve(ours.issue("expired", begins=-40 * DAY, ends=-10 * DAY))
    properties = {"ssl.ca.location": str(ours.ca_file)}
    for report in (f"sasl_ssl://{address}/bootstrap: SSL handshake failed", f"ssl://{address}/1: SSL"):
        assert "expired on" in said(refused(report, properties))
    assert refused("SSL handshake failed", properties) is None


def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        assert look(f"127.0.0.1:{silent.getsockname()[1]}", {}, seconds=0.5) is None
        assert time.monotonic() - began < 3
    assert look("127.0.0.1:1", {}, seconds=0.5) is None


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("kafka.example.org:9093", "kafka.example.org", 9093),
        ("kafka.example.org", "kafka.example.org", 9092),
        ("SASL_SSL://kafka.example.org:9093", "kafka.example.org", 9093),
        ("[::1]:9093", "::1", 9093),
    ],
)
def test_addresses_are_read_as_librdkafka_reads_them(address: str, host: str, port: int) -> None:
    assert split(address) == (host, port)
