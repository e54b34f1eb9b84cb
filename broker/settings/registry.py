"""The schema registry: who is asked for schemas that the bundle lacks, and who gives ids to what goes out."""

import ipaddress
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from broker.settings.secrets import read
from broker.settings.security import Section

LONGEST_SECONDS = 60.0
"""Of all tries of one lookup together: the loop waits for them."""

LONGEST_PAUSE = 2.0
"""Seconds between two tries."""


class RegistryConnection(Section):
    """A registry that speaks Confluent's REST.

    Attributes
    ----------
    url : str or None
        Such as ``https://registry.example.org/schema-registry``. None: no registry.
    username : str or None
        For basic authentication; None is without.
    password : SecretStr or None
        From the environment, or else
    password_file : Path or None
        a file that holds nothing but the password; read again when the registry refuses it.
    ca_file : Path or None
        PEM file of the certificate authority; None takes those the system trusts.
    certificate_file : Path or None
        PEM file of our own certificate, for a registry that asks for one (mTLS), with or without a password.
    key_file : Path or None
        PEM file of its private key.
    key_password : SecretStr or None
        Passphrase of that key, if it has one. Give it by the environment; or else
    key_password_file : Path or None
        a file that holds nothing but the passphrase.
    timeout_seconds : float
        Longest time of one request, connection and answer together.
    retries : int
        How often a request that failed is made again, with growing waits of at most two seconds between. All
        tries together may take a minute.
    """

    url: str | None = None
    username: str | None = Field(default=None, min_length=1)
    password: SecretStr | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    key_password: SecretStr | None = None
    key_password_file: Path | None = None
    timeout_seconds: float = Field(default=5.0, gt=0.0, le=60.0)
    retries: int = Field(default=3, ge=0, le=10)

    @field_validator("url")
    @classmethod
    def _http(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:  # it would quote what may be a password
            raise ValueError("is no address: wanted http://host:port/path or https://host/path") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("is no address of a registry: wanted http://host:port/path or https://host/path")
        if parts.username is not None or parts.password is not None:
            raise ValueError("holds a user's name or a password: give username and password_file instead")
        return url

    @model_validator(mode="after")
    def _whole_login(self) -> "RegistryConnection":
        passwords = (self.password is not None) + (self.password_file is not None)
        if passwords != (self.username is not None):
            raise ValueError(
                "a username needs exactly one of password (by the environment) and password_file, and they a username"
            )
        return self

    @model_validator(mode="after")
    def _whole_certificate(self) -> "RegistryConnection":
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together: give both, or neither")
        if self.key_password is not None and self.key_password_file is not None:
            raise ValueError("needs at most one of key_password (by the environment) and key_password_file")
        if self.key_file is None and (self.key_password or self.key_password_file):
            raise ValueError(
                "a passphrase without a key: give certificate_file and key_file, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _nothing_in_the_clear(self) -> "RegistryConnection":
        if self.url is None or urlsplit(self.url).scheme == "https":
            return self
        if self.username is not None and not _is_here(urlsplit(self.url).hostname or ""):
            raise ValueError(
                "a password over http:// is sent in the clear: give an https:// url (http:// only to this machine)"
            )
        if self.ca_file is not None or self.certificate_file is not None:
            raise ValueError("ca_file and certificate_file are of no use with http://: give an https:// url")
        return self

    @model_validator(mode="after")
    def _soon_over(self) -> "RegistryConnection":
        if self.longest_seconds > LONGEST_SECONDS:
            raise ValueError(
                f"retries {self.retries} of timeout_seconds {self.timeout_seconds:g} could hold all alerts up for "
                f"{self.longest_seconds:g} s, {LONGEST_SECONDS:g} s are the most: lower one of them"
            )
        return self

    @property
    def longest_seconds(self) -> float:
        """What all tries of one lookup may take together, with the pauses between."""
        return (self.retries + 1) * self.timeout_seconds + self.retries * LONGEST_PAUSE

    def secret(self) -> str | None:
        """Read the password; None where there is no login.

        Raises
        ------
        SettingsError
            When the file cannot be read, or is empty.
        """
        if self.username is None:
            return None
        return read("registry password_file", self.password, self.password_file)

    def passphrase(self) -> str:
        """Read the passphrase of the key; empty where there is none.

        Raises
        ------
        SettingsError
            When the file cannot be read, or is empty.
        """
        if self.key_password is None and self.key_password_file is None:
            return ""
        return read("registry key_password_file", self.key_password, self.key_password_file)


class RegistrySettings(RegistryConnection):
    """The registry of the alerts, and whether what goes out is registered.

    Attributes
    ----------
    cache_folder : Path or None
        Where schemas of the registry are kept; None takes ``nightjar/schemas`` in the user's cache.
    register_output : bool
        Whether what goes out is registered and has the registry's ids; else the ids of the reserved block.
    output : RegistryConnection or None
        Another registry for what goes out, where that of the alerts takes nothing, such as Rubin's; None takes
        that of the alerts.
    """

    cache_folder: Path | None = None
    register_output: bool = False
    output: RegistryConnection | None = None

    @model_validator(mode="after")
    def _somewhere_to_register(self) -> "RegistrySettings":
        if self.output is not None and self.output.url is None:
            raise ValueError("output needs a url: give the address of the registry for what goes out")
        if self.register_output and self.output_connection.url is None:
            raise ValueError("register_output needs a registry: give url, or output.url")
        return self

    @property
    def output_connection(self) -> RegistryConnection:
        """Where what goes out is registered."""
        return self.output or self


def _is_here(host: str) -> bool:
    """Whether a host is this machine, of which nothing leaves it."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
