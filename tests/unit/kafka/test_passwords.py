"""A password's file that changes while we run."""

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import KafkaError as Fault

from broker.errors import ConfigurationError
from broker.kafka import passwords
from broker.kafka.connection import Listener
from broker.kafka.passwords import PasswordFile
from broker.settings import Scram

REFUSED = Fault(Fault._AUTHENTICATION, "Authentication failed")


class Client:
    """Notes what it is given."""

    def __init__(self) -> None:
        self.given: list[tuple[str, str]] = []

    def set_sasl_credentials(self, username: str, password: str, /) -> None:
        self.given.append((username, password))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("old\n", encoding="utf-8")
    return file


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def password(client: Client, file: Path) -> PasswordFile:
    return PasswordFile(client, Scram(protocol="scram", username="me", password_file=file), file)


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time pass without waiting."""
    gone = [1000.0]
    monkeypatch.setattr(passwords.time, "monotonic", lambda: gone[0])

    def more(seconds: float) -> None:
        gone[0] += seconds

    return more


def replace(file: Path, text: str) -> None:
    """Put another file in its place, as mounted secrets are renewed."""
    new = file.with_name("new")
    new.write_text(text, encoding="utf-8")
    new.replace(file)


def test_a_change_is_taken_within_half_a_minute(
    pass_time: Callable[[float], None], password: PasswordFile, client: Client, file: Path
) -> None:
    replace(file, "new\n")
    assert not password.renewed(at_once=False)
    assert client.given == []
    pass_time(31)
    assert password.renewed(at_once=False)
    assert client.given == [("me", "new")]
    pass_time(31)
    assert not password.renewed(at_once=False)
    assert client.given == [("me", "new")]


def test_a_refusal_looks_at_once(password: PasswordFile, client: Client, file: Path) -> None:
    assert not password.renewed(at_once=True)
    replace(file, "new\n")
    assert password.renewed(at_once=True)
    assert client.given == [("me", "new")]


@pytest.mark.parametrize("text", ["", "\n"])
def test_an_empty_file_is_looked_at_again(
    password: PasswordFile, client: Client, file: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    replace(file, text)
    assert not password.renewed(at_once=True)
    assert (
        "is empty: write the secret into it, or name another; going on with the password before"
        in caplog.text
    )
    replace(file, "new")
    assert password.renewed(at_once=True)
    assert client.given == [("me", "new")]


def test_a_file_that_goes_away_changes_nothing(password: PasswordFile, client: Client, file: Path) -> None:
    file.unlink()
    assert not password.renewed(at_once=True)
    assert client.given == []


def test_a_refused_listener_goes_on_with_the_new_password(
    pass_time: Callable[[float], None], client: Client, file: Path
) -> None:
    listener = Listener("source")
    listener.attach(client, {}, Scram(protocol="scram", username="me", password_file=file))
    replace(file, "new")
    listener(REFUSED)
    listener.check()
    assert client.given == [("me", "new")]
    pass_time(1)
    listener(REFUSED)  # of the password before, still on its way
    listener.check()
    pass_time(6)
    listener(REFUSED)
    with pytest.raises(ConfigurationError, match="source: Authentication failed: check the user name"):
        listener.check()
