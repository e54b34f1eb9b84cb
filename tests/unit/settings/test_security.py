"""How a cluster is told who we are: what each mode gives librdkafka, and where secrets may come from."""

import re
from pathlib import Path
from typing import Any

import pytest

from broker.errors import SettingsError
from broker.settings import MutualTls, Plain, Scram, Security, Settings, Tls, checked, load
from broker.settings.sections import SourceSettings


def of(**given: Any) -> Security:
    """Make one mode, as a section of the settings is made."""
    return checked(SourceSettings, {"security": given}).security


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("hush\n", encoding="utf-8")
    return file


TLS = {"security.protocol": "ssl", "ssl.ca.location": "ca.pem"}
SASL = {
    **TLS,
    "security.protocol": "sasl_ssl",
    "sasl.username": "me",
    "sasl.password": "hush",
}
CERTIFICATE = {"ssl.certificate.location": "me.pem", "ssl.key.location": "me.key"}
OURS = {"certificate_file": "me.pem", "key_file": "me.key"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"protocol": "plaintext"}, {}),
        ({"protocol": "tls"}, {"security.protocol": "ssl"}),
        ({"protocol": "tls", "ca_file": "ca.pem"}, TLS),
        ({"protocol": "mtls", "ca_file": "ca.pem", **OURS}, TLS | CERTIFICATE),
        (
            {"protocol": "mtls", "ca_file": "ca.pem", **OURS, "key_password": "hush"},
            TLS | CERTIFICATE | {"ssl.key.password": "hush"},
        ),
        (
            {"protocol": "scram", "ca_file": "ca.pem", "username": "me", "password": "hush"},
            SASL | {"sasl.mechanism": "SCRAM-SHA-512"},
        ),
        (
            {"protocol": "plain", "ca_file": "ca.pem", "username": "me", "password": "hush"},
            SASL | {"sasl.mechanism": "PLAIN"},
        ),
    ],
    ids=["plaintext", "tls", "tls and ca", "mtls", "mtls and passphrase", "scram", "plain"],
)
def test_what_librdkafka_is_told(given: dict[str, Any], told: dict[str, Any]) -> None:
    assert of(**given).properties() == told


def test_secrets_are_read_from_their_files(file: Path) -> None:
    sasl = of(protocol="plain", username="me", password_file=file)
    assert sasl.properties()["sasl.password"] == "hush"
    mutual = of(protocol="mtls", **OURS, key_password_file=file)
    assert mutual.properties()["ssl.key.password"] == "hush"
    file.write_text("changed", encoding="utf-8")
    assert sasl.properties()["sasl.password"] == mutual.properties()["ssl.key.password"] == "changed"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"password_file .*secret: No such file or directory: mount it"),
        (b"\n", r"password_file .*secret is empty: write the secret into it"),
        (b"\xff", r"password_file .*secret is no text: write the secret in UTF-8"),
    ],
)
def test_a_file_without_a_secret(file: Path, content: bytes | None, said: str) -> None:
    security = of(protocol="scram", username="me", password_file=file)
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=said):
        security.properties()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"protocol": "scram", "username": "me"}, r"exactly one of password .* and password_file"),
        (
            {"protocol": "plain", "username": "me", "password": "hush", "password_file": "x"},
            r"exactly one of password .* and password_file",
        ),
        ({"protocol": "plain", "password": "hush"}, r"plain\.username: Field required"),
        ({"protocol": "mtls", "key_file": "me.key"}, r"mtls\.certificate_file: Field required"),
        ({"protocol": "mtls", "certificate_file": "me.pem"}, r"mtls\.key_file: Field required"),
        (
            {"protocol": "mtls", **OURS, "key_password": "hush", "key_password_file": "x"},
            r"at most one of key_password .* and key_password_file",
        ),
        ({"protocol": "tls", "password": "hush"}, r"tls\.password: is no setting"),
        ({"protocol": "plaintext", "ca_file": "ca.pem"}, r"plaintext\.ca_file: is no setting"),
    ],
)
def test_what_does_not_go_together(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        of(**given)
    assert "hush" not in str(caught.value)


MODES = [("scram", "password", Scram), ("plain", "password", Plain), ("mtls", "key_password", MutualTls)]


def from_environment(
    monkeypatch: pytest.MonkeyPatch, section: str, protocol: str, secret: str, **more: str
) -> Settings:
    """Settings of which everything about security comes from the environment."""
    said = {"username": "me"} if secret == "password" else OURS
    for name, value in {"protocol": protocol, **said, secret: "hush", **more}.items():
        monkeypatch.setenv(f"BROKER_{section}__SECURITY__{name}".upper(), value)
    return load({"topics": ["alerts"], "sink": {"bootstrap_servers": "ours:9092"}})


@pytest.mark.parametrize("section", ["kafka", "sink"])
@pytest.mark.parametrize(("protocol", "secret", "kind"), MODES)
def test_a_secret_of_the_environment_shows_nowhere(
    monkeypatch: pytest.MonkeyPatch, section: str, protocol: str, secret: str, kind: type
) -> None:
    settings = from_environment(monkeypatch, section, protocol, secret)
    security = getattr(settings, section).security
    assert isinstance(security, kind)
    assert "hush" in security.properties().values()
    assert "hush" not in f"{settings!r} {settings} {settings.model_dump_json()}"


@pytest.mark.parametrize(("protocol", "secret", "kind"), MODES)
def test_a_refused_secret_shows_nowhere(
    monkeypatch: pytest.MonkeyPatch, protocol: str, secret: str, kind: type
) -> None:
    with pytest.raises(SettingsError, match="colour: is no setting") as caught:
        from_environment(monkeypatch, "kafka", protocol, secret, colour="red")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("section", ["kafka", "sink"])
@pytest.mark.parametrize("secret", ["password", "key_password"])
def test_a_secret_in_the_file_of_settings_is_refused(tmp_path: Path, section: str, secret: str) -> None:
    config = tmp_path / "nightjar.yaml"
    config.write_text(f"{section}:\n  security:\n    {secret}: hush\n", encoding="utf-8")
    variable = f"BROKER_{section.upper()}__SECURITY__{secret.upper()}"
    with pytest.raises(
        SettingsError, match=f"{section}.security.{secret}: .* give it as {variable}, "
    ) as caught:
        load({"topics": ["alerts"]}, config)
    assert "hush" not in str(caught.value)


def test_tls_alone_asks_nobody_who_they_are() -> None:
    assert isinstance(of(protocol="tls"), Tls)
    assert of(protocol="tls").properties() == {"security.protocol": "ssl"}


@pytest.mark.parametrize("section", ["kafka", "sink"])
@pytest.mark.parametrize(
    "name",
    [
        "sasl.password",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.keystore.password",
        "sasl.oauthbearer.config",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "sasl.oauthbearer.assertion.private.key.pem",
    ],
)
def test_no_property_of_librdkafka_holds_a_secret(
    monkeypatch: pytest.MonkeyPatch, section: str, name: str
) -> None:
    monkeypatch.setenv(f"BROKER_{section.upper()}__EXTRA", f'{{"{name}": "hush"}}')
    with pytest.raises(SettingsError, match=f"{re.escape(name)} is a secret: give it by") as caught:
        load({"topics": ["alerts"]})
    assert "hush" not in str(caught.value)


def test_a_password_in_the_address_of_a_property_is_refused() -> None:
    address = {"sasl.oauthbearer.token.endpoint.url": "https://me:hush@example.org/token"}
    with pytest.raises(SettingsError, match=r"endpoint\.url holds a password in an address") as caught:
        load({"topics": ["alerts"], "kafka": {"extra": address}})
    assert "hush" not in str(caught.value)


def test_files_and_addresses_are_no_secrets_and_what_is_passed_on_shows_nowhere() -> None:
    extra = {
        "ssl.ca.pem": "-----BEGIN",
        "sasl.kerberos.keytab": "me.keytab",
        "sasl.oauthbearer.assertion.private.key.file": "me.key",
        "sasl.oauthbearer.token.endpoint.url": "https://example.org:8080/token",
    }
    settings = load({"topics": ["alerts"], "kafka": {"extra": extra}})
    assert settings.kafka.extra == extra
    assert "BEGIN" not in f"{settings!r} {settings}"
