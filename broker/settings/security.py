"""How a cluster is told who we are; each mode says what librdkafka must be given."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from broker.settings.secrets import exactly_one, read


class Section(BaseModel):
    """A group of settings: frozen, and unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Plaintext(Section):
    """No encryption and no authentication."""

    protocol: Literal["plaintext"] = "plaintext"

    def properties(self) -> dict[str, Any]:
        """Give what librdkafka is told: nothing."""
        return {}


class Encrypted(Section):
    """What every mode over TLS has.

    Attributes
    ----------
    ca_file : Path or None
        PEM file of the certificate authority; None takes those the system trusts.
    """

    ca_file: Path | None = None

    def properties(self) -> dict[str, Any]:
        """Give what librdkafka is told.

        Raises
        ------
        SettingsError
            When the file of a secret cannot be read.
        """
        authority = {} if self.ca_file is None else {"ssl.ca.location": str(self.ca_file)}
        return {"security.protocol": "ssl", **authority}


class Tls(Encrypted):
    """TLS without a client certificate: encrypted, and nobody is asked who they are.

    Attributes
    ----------
    ca_file : Path or None
        PEM file of the certificate authority; None takes those the system trusts.
    """

    protocol: Literal["tls"]


class MutualTls(Encrypted):
    """TLS with a client certificate (mTLS).

    Attributes
    ----------
    ca_file : Path or None
        PEM file of the certificate authority; None takes those the system trusts.
    certificate_file : Path
        PEM file of our own certificate, then of the authorities between it and the one the server trusts.
    key_file : Path
        PEM file of its private key.
    key_password : SecretStr or None
        Passphrase of that key, if it has one. Give it by the environment; or else
    key_password_file : Path or None
        a file that holds nothing but the passphrase.
    """

    protocol: Literal["mtls"]
    certificate_file: Path
    key_file: Path
    key_password: SecretStr | None = None
    key_password_file: Path | None = None

    @model_validator(mode="after")
    def _at_most_one_passphrase(self) -> Self:
        if self.key_password is not None and self.key_password_file is not None:
            raise ValueError("needs at most one of key_password (by the environment) and key_password_file")
        return self

    def properties(self) -> dict[str, Any]:
        """Give what librdkafka is told.

        Raises
        ------
        SettingsError
            When the file of the passphrase cannot be read.
        """
        properties = super().properties() | {
            "ssl.certificate.location": str(self.certificate_file),
            "ssl.key.location": str(self.key_file),
        }
        if self.key_password is not None or self.key_password_file is not None:
            passphrase = read("key_password_file", self.key_password, self.key_password_file)
            properties["ssl.key.password"] = passphrase
        return properties


class Sasl(Encrypted):
    """What both modes with a user and a password have.

    Attributes
    ----------
    ca_file : Path or None
        PEM file of the certificate authority; None takes those the system trusts.
    username : str
    password : SecretStr or None
        From the environment (``BROKER_KAFKA__SECURITY__PASSWORD``), or else
    password_file : Path or None
        a file that holds nothing but the password; read again when it changes.
    """

    mechanism: ClassVar[str]

    username: str = Field(min_length=1)
    password: SecretStr | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        exactly_one(self.password, self.password_file)
        return self

    def properties(self) -> dict[str, Any]:
        """Give what librdkafka is told.

        Raises
        ------
        SettingsError
            When the password's file cannot be read.
        """
        return super().properties() | {
            "security.protocol": "sasl_ssl",
            "sasl.mechanism": self.mechanism,
            "sasl.username": self.username,
            "sasl.password": self.secret(),
        }

    def secret(self) -> str:
        """Read the password.

        Raises
        ------
        SettingsError
            When the file cannot be read.
        """
        return read("password_file", self.password, self.password_file)


class Scram(Sasl):
    """SASL/SCRAM-SHA-512 over TLS, as Rubin's alert stream asks for."""

    mechanism = "SCRAM-SHA-512"
    protocol: Literal["scram"]


class Plain(Sasl):
    """SASL/PLAIN over TLS, as many hosted clusters ask for."""

    mechanism = "PLAIN"
    protocol: Literal["plain"]


Security: TypeAlias = Annotated[Plaintext | Tls | MutualTls | Scram | Plain, Field(discriminator="protocol")]
