"""Secrets come from the environment or from files that hold nothing else; never from a file of settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from broker.errors import SettingsError

NAMES = frozenset({"password", "key_password"})
"""Settings that are secrets, wherever they stand; each has a neighbour ``<name>_file``."""


def exactly_one(password: SecretStr | None, password_file: Path | None) -> None:
    """See that a password comes from one place.

    Raises
    ------
    ValueError
    """
    if (password is None) == (password_file is None):
        raise ValueError("needs exactly one of password (by the environment) and password_file")


def read(name: str, given: SecretStr | None, file: Path | None) -> str:
    """Give a secret: as it was given, or what its file holds now.

    Parameters
    ----------
    name : str
        Of the setting that names the file.
    given : SecretStr or None
    file : Path or None

    Raises
    ------
    SettingsError
        When the file cannot be read, or is empty.
    """
    if given is not None:
        return given.get_secret_value()
    assert file is not None
    try:
        found = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{name} {file}: {error.strerror}", "mount it, or name another") from error
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{name} {file} is no text", "write the secret in UTF-8, or name another"
        ) from error
    if not found:
        raise SettingsError(f"{name} {file} is empty", "write the secret into it, or name another")
    return found


def refuse_in_file(content: Mapping[str, Any], prefix: str, *above: str) -> None:
    """See that a file of settings holds no secret, at any depth.

    Parameters
    ----------
    content : mapping
        Of the file, or of one of its sections.
    prefix : str
        Of the environment's variables.
    *above : str
        Names of the sections around it.

    Raises
    ------
    SettingsError
        It names the variable to use, and not what was found.
    """
    for name, value in content.items():
        path = (*above, str(name))
        if name in NAMES:
            raise SettingsError(
                f"{'.'.join(path)}: a secret in a file of settings is read by too many: give it as "
                f"{prefix}{'__'.join(path).upper()}, or name a file that holds nothing else as {name}_file"
            )
        if isinstance(value, Mapping):
            refuse_in_file(value, prefix, *path)
