"""Settings of the schema registry: where it is, who we are, and what must agree."""

from pathlib import Path

import pytest

from broker.errors import SettingsError
from broker.settings import RegistryConnection, RegistrySettings, checked, load

WANTED = {"topics": ["alerts"]}


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
        ({"url": "http://host", "retries": 11}, "retries"),
        ({"url": "http://host", "cache": "x"}, "cache: is no setting"),
    ],
)
def test_what_cannot_work_is_said(given: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        checked(RegistrySettings, given)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


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
    connection = RegistryConnection(url="http://host", username="ann", password_file=tmp_path / "password")
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
