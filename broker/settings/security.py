"""How a cluster is told who we are; each mode says what librdkafka must be given."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from broker.errors import SettingsError


class Section(BaseModel):
    """A group of settings: frozen, and unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Plaintext(Section):
    """No encryption and no authentication."""

    protocol: Literal["plaintext"] = "plaintext"

    def properties(self) -> dict[str, Any]:
        """Give what librdkafka is told: nothing."""
        return {}


class Scram(Section):
    """SASL/SCRAM-SHA-512 over TLS, as Rubin's alert stream asks for.

    Attributes
    ----------
    username : str
    password : SecretStr or None
        From the environment (``BROKER_KAFKA__SECURITY__PASSWORD``), or else
    password_file : Path or None
        a file that holds nothing but the password.
    ca_file : Path or None
        PEM file of the certificate authority; None takes those the system trusts.
    """

    protocol: Literal["scram"]
    username: str = Field(min_length=1)
    password: SecretStr | None = None
    password_file: Path | None = None
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _one_password(self) -> "Scram":
        if (self.password is None) == (self.password_file is None):
            raise ValueError("needs exactly one of password (by the environment) and password_file")
        return self

    def properties(self) -> dict[str, Any]:
        """Give what librdkafka is told.

        Raises
        ------
        SettingsError
            When the password's file cannot be read.
        """
        authority = {} if self.ca_file is None else {"ssl.ca.location": str(self.ca_file)}
        return {
            "security.protocol": "sasl_ssl",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": self.username,
            "sasl.password": self.secret(),
            **authority,
        }

    def secret(self) -> str:
        """Read the password.

        Raises
        ------
        SettingsError
            When the file cannot be read.
        """
        if self.password is not None:
            return self.password.get_secret_value()
        assert self.password_file is not None
        try:
            return self.password_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(
                f"password_file {self.password_file}: {error.strerror}: mount it, or name another"
            ) from error


Security: TypeAlias = Annotated[Plaintext | Scram, Field(discriminator="protocol")]
