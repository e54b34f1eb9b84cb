"""Settings of the schema registry: where it is, who we are, and what must agree."""

from pathlib import Path

import pytest

from broker.errors import SettingsError
from broker.settings import RegistryConnection, RegistrySettings, checked, load

WANTED = {"topics": ["alerts"]}
OURS = {"certificate_file": "me.pem", "key_file": "me.key"}


def test_by_default_there_is_none() -> None:
    registry = load(WANTED).registry
    assert (registry.url, registry.register_output, registry.output) == (None, False, None)


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_REGISTRY__URL", "https://registry.example.org/path")
    monkeypatch.setenv("BROKER_REGISTRY__USERNAME", "ann")
    monkeypatch.setenv("BROKER_REGISTRY__PASSWORD", "secret")
    monkeypatch.setenv("BROKER_REGISTRY__REGISTER_OUTPUT", "true")
    registry = load(WANTED).registry
    assert registry.secret() == "secret"
    assert registry.output_connection is registry
    assert "secret" not in repr(registry)


def test_outputs_may_have_a_registry_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_REGISTRY__OUTPUT__USERNAME", "ann")
    monkeypatch.setenv("BROKER_REGISTRY__OUTPUT__PASSWORD", "secret")
    told = {**WANTED, "registry": {"register_output": True, "output": {"url": "http://localhost:8081"}}}
    registry = load(told).registry
    assert (registry.url, registry.output_connection.url) == (None, "http://localhost:8081")
    assert registry.output_connection.secret() == "secret"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "localhost:8081"}, "url: is no address of a registry: wanted http://host:port/path"),
        ({"url": "ftp://host"}, "url: is no address"),
        ({"url": "http://"}, "url: is no address"),
        ({"url": "http://host:port"}, "url: "),
        ({"url": "http://host?a=b"}, "url: is no address"),
        ({"url": "http://ann:secret@host"}, "url: holds a user's name or a password"),
        ({"url": "http://host", "username": "ann"}, "a username needs exactly one of password"),
        ({"url": "http://host", "password": "x"}, "a username needs exactly one of password"),
        ({"url": "http://host", "username": "a", "password": "x", "password_file": "y"}, "needs exactly one"),
        ({"register_output": True}, "register_output needs a registry: give url, or output.url"),
        ({"url": "http://host", "output": {}}, "output needs a url"),
        ({"url": "http://host", "timeout_seconds": 0}, "timeout_seconds"),
        (
            {"url": "http://host", "username": "ann", "password": "secret"},
            "a password over http:// is sent in the clear: give an https:// url",
        ),
        ({"url": "http://10.0.0.1:8081", "username": "ann", "password_file": "y"}, "sent in the clear"),
        ({"url": "http://host", "ca_file": "ca.pem"}, "are of no use with http://: give an https:// url"),
        ({"url": "https://host", "certificate_file": "me.pem"}, "certificate_file and key_file go together"),
        ({"url": "https://host", "key_password": "secret"}, "a passphrase without a key"),
        (
            {"url": "https://host", **OURS, "key_password": "secret", "key_password_file": "y"},
            "at most one of key_password",
        ),
        (
            {"url": "http://host", "timeout_seconds": 60, "retries": 10},
            "could hold all alerts up for 680 s, 60 s are the most: lower one of them",
        ),
        ({"url": "http://host", "timeout_seconds": 15}, "retries 3 of timeout_seconds 15 could hold all"),
        ({"url": "http://host", "retries": 11}, "retries"),
        ({"url": "http://host", "cache": "x"}, "cache: is no setting"),
    ],
)
def test_what_cannot_work_is_said(given: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        checked(RegistrySettings, given)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://localhost:8081", "http://127.0.0.1", "http://[::1]:8081", "https://a.org"]
)
def test_a_password_goes_over_tls_or_stays_here(url: str) -> None:
    assert checked(RegistryConnection, {"url": url, "username": "ann", "password": "x"}).secret() == "x"


def test_tries_of_a_minute_are_accepted_and_the_default_is_well_below() -> None:
    assert RegistryConnection(url="http://host").longest_seconds == 26
    assert RegistryConnection(url="http://host", timeout_seconds=60, retries=0).longest_seconds == 60


@pytest.mark.parametrize("section", ["registry", "registry.output"])
def test_a_certificate_and_its_passphrase(
    section: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(f"BROKER_{section.upper().replace('.', '__')}__KEY_PASSWORD", "hush")
    told = {"url": "https://host", **OURS}
    settings = load({**WANTED, "registry": told if section == "registry" else {"output": told}})
    registry = settings.registry.output_connection
    assert registry.passphrase() == "hush"
    assert "hush" not in f"{settings!r} {settings.model_dump_json()}"
    (tmp_path / "passphrase").write_text("other\n")
    from_file = checked(RegistryConnection, {**told, "key_password_file": tmp_path / "passphrase"})
    assert from_file.passphrase() == "other"


@pytest.mark.parametrize("section", ["registry", "registry.output"])
def test_a_password_in_a_file_of_settings_is_refused(section: str, tmp_path) -> None:
    inner = "{url: http://host, username: ann, password: hush}"
    path = tmp_path / "consumer.yaml"
    path.write_text(f"registry: {inner}" if section == "registry" else f"registry: {{output: {inner}}}")
    with pytest.raises(
        SettingsError, match=rf"{section}\.password: a secret in a file of settings"
    ) as caught:
        load(WANTED, path)
    assert f"BROKER_{section.upper().replace('.', '__')}__PASSWORD" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_password_file_is_read_when_it_is_needed(tmp_path) -> None:
    connection = RegistryConnection(url="https://host", username="ann", password_file=tmp_path / "password")
    with pytest.raises(SettingsError, match="mount it, or name another"):
        connection.secret()
    (tmp_path / "password").write_text("hush\n")
    assert connection.secret() == "hush"


@pytest.mark.parametrize(("content", "why"), [(b"\xff\xfe", "is no text"), (b" \n", "is empty")])
def test_a_file_that_holds_no_password_is_refused_in_one_line(
    tmp_path: Path, content: bytes, why: str
) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    settings = RegistrySettings(url="http://localhost:1", username="u", password_file=file)
    with pytest.raises(SettingsError, match=f"registry password_file .* {why}"):
        settings.secret()
