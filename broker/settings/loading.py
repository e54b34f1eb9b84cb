"""Settings from the command line, the environment and a file; what is refused is told in one line."""

import difflib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from broker.errors import SettingsError
from broker.settings.secrets import refuse_in_file
from broker.settings.security import Section
from broker.settings.whole import PREFIX, Settings

MOST_KEYS = 1000
"""Of a mapping in a file of settings, merged ones counted."""

MOST_SHOWN = 60
"""Characters of a value that is refused."""

WANTED = {
    "literal_error": "{expected}",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
}
"""What was wanted, by pydantic's name of a fault. Only of such as no secret can have, as what was found is shown."""

Checked = TypeVar("Checked", bound=Section)


def load(overrides: Mapping[str, Any], config: Path | None = None) -> Settings:
    """Gather the settings.

    Parameters
    ----------
    overrides : mapping
        What the command line said, nested like the settings; None means not said.
    config : Path, optional
        YAML file.

    Raises
    ------
    SettingsError
        One line that names the setting, what was found and what was wanted.
    """
    _refuse_unknown_environment(os.environ)
    from_file = {} if config is None else _read(config)

    class Gathered(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=from_file)

    try:
        return Gathered(**_said(overrides))
    except ValidationError as error:
        raise SettingsError(_one_line(error, config)) from error
    except ValueError as error:  # pydantic-settings: a value that should be JSON and is not
        named = ", ".join(_no_json(os.environ)) or "a variable of the environment"
        raise SettingsError(
            f'{named} holds no JSON: a mapping is given as such, {{"name": "value"}}'
        ) from error
    except (RecursionError, OverflowError) as error:  # JSON, or a regular expression
        raise SettingsError(f"a setting is nested too deep or too large: {error}") from error


def checked(section: type[Checked], given: Mapping[str, Any]) -> Checked:
    """Make one section of settings by itself.

    Raises
    ------
    SettingsError
        One line that names the setting, what was found and what was wanted.
    """
    try:
        return section.model_validate(given)
    except ValidationError as error:
        raise SettingsError(_one_line(error, None)) from error


def _said(overrides: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: _said(value) if isinstance(value, Mapping) else value for name, value in overrides.items()}
    return {name: value for name, value in said.items() if value not in (None, {}, [])}


def _read(config: Path) -> dict[str, Any]:
    try:
        content = yaml.load(config.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise SettingsError(f"--config {config}: {error.strerror}: give the path of a YAML file") from error
    except Exception as error:  # PyYAML lets out whatever int(), datetime and its own tables raise
        raise SettingsError(f"--config {config} is no YAML: {_why(error)}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise SettingsError(
            f"--config {config} holds a {type(content).__name__}, wanted a mapping of settings"
        )
    try:
        refuse_in_file(content, PREFIX)
    except SettingsError as error:
        raise SettingsError(f"--config {config}: {error}") from None
    except RecursionError as error:
        raise SettingsError(f"--config {config} holds itself, or is too deep: write it out") from error
    return content


class _Loader(yaml.SafeLoader):
    """Refuses what a few lines of merge keys (``<<``) would make of each other: mappings without end."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MOST_KEYS:
            raise yaml.constructor.ConstructorError(
                None, None, f"a mapping has more than {MOST_KEYS} keys", node.start_mark
            )


def _why(error: Exception) -> str:
    """Say what is wrong and where, without the line itself: a secret may stand in it."""
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return _without_quotes(str(error))
    said = filter(None, (getattr(error, "context", None), getattr(error, "problem", None)))
    return f"{_without_quotes(', '.join(said))} in line {mark.line + 1}, column {mark.column + 1}"


def _without_quotes(text: str) -> str:
    return re.sub(r"(['\"]).*\1", "…", text, flags=re.DOTALL)


def _refuse_unknown_environment(environment: Iterable[str]) -> None:
    for name in sorted(environment):
        if not name.upper().startswith(PREFIX):
            continue
        top, *below = name[len(PREFIX) :].lower().split("__")
        if below and top in Settings.model_fields and not _is_section(_annotation(top)):
            raise SettingsError(
                f"environment variable {name} is no setting: {PREFIX}{top.upper()} has none below it"
            )
        if top not in Settings.model_fields:
            known = ", ".join(f"{PREFIX}{field.upper()}" for field in Settings.model_fields)
            raise SettingsError(
                f"environment variable {name} is no setting: known are {known} (and __ below them)"
            )


def _no_json(environment: Mapping[str, str]) -> Iterator[str]:
    """Name the variables that stand for mappings and hold no JSON."""
    for name, value in environment.items():
        top, *below = name.upper().removeprefix(PREFIX).lower().split("__")
        is_mapping = below[-1:] == ["extra"] or not below
        if name.upper().startswith(PREFIX) and is_mapping and (below or _is_section(_annotation(top))):
            try:
                json.loads(value)
            except (ValueError, RecursionError):
                yield name


def _annotation(name: str) -> Any:
    return getattr(Settings.model_fields.get(name), "annotation", None)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _one_line(error: ValidationError, config: Path | None) -> str:
    faults = "; ".join(_told(fault) for fault in error.errors(include_url=False))
    return faults + (f" (with {config})" if config else "")


def _told(fault: ErrorDetails) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    # Whatever stands in `extra` may be a secret in a place where none is looked for.
    if (
        fault["type"] in WANTED
        and "extra" not in fault["loc"]
        and isinstance(fault["input"], str | int | float)
    ):
        wanted = WANTED[fault["type"]].format(**fault.get("ctx", {}))
        return f"{where} is {_shortened(fault['input'])}, wanted {wanted}"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        message = f"is no setting{_meant(fault['loc'])}: correct its name or remove it"
        variable = f"{PREFIX}{'__'.join(map(str, fault['loc']))}".upper()
        where = variable if variable in map(str.upper, os.environ) else where
    return f"{where}: {message}" if where else message


def _meant(place: Sequence[int | str]) -> str:
    """Say which setting has a name close to one that is none."""
    fields: Mapping[str, FieldInfo] = Settings.model_fields
    for part in place[:-1]:
        section: Any = getattr(fields.get(str(part)), "annotation", None)
        if not _is_section(section):
            return ""
        fields = section.model_fields
    close = difflib.get_close_matches(str(place[-1]), fields, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _shortened(found: object) -> str:
    text = repr(found)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"
