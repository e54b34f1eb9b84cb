"""Write the table of settings into `docs/operating.md`, from the settings themselves.

``python tools/settings_page.py`` after a change of `broker/settings`; a test sees that it was done.
"""

import inspect
import re
import types
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from broker.settings import Settings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "operating.md"
BEGIN, END = "<!-- settings: written by tools/settings_page.py -->", "<!-- end of settings -->"
HEADING = "| setting | values | default | meaning |\n|---|---|---|---|"
KINDS = {
    bool: "`true`, `false`",
    int: "whole number",
    float: "number",
    str: "text",
    SecretStr: "text, secret",
    Path: "path",
    datetime: "time",
    list: "list of text",
    dict: "mapping",
}
MORE = {
    "topics": "Topics to read. In the environment with commas between: `BROKER_TOPICS=alerts,more`.",
    "group_id": "Consumer group: its members share the partitions, and go on where the group had been.",
    "extra": "{} In the environment as JSON.",
    "username": "Name of the user.",
    "password": "Given by the environment, or in `password_file`.",
    "key_password": "Passphrase of that key, if it has one: given by the environment, or in `key_password_file`.",
    "password_file": "A file that holds nothing but the password; read again when it changes.",
    "key_password_file": "A file that holds nothing but the passphrase.",
    "log_level": "Least severity of the lines on standard error.",
}
"""What the settings' own docstrings leave to this page; ``{}`` is where their text goes."""

LIMITS = {"gt": "over", "ge": "at least", "lt": "under", "le": "at most"}

Row: TypeAlias = tuple[str, str, str, str]
Model: TypeAlias = type[BaseModel]


def table() -> str:
    """Give every setting with its values, default and meaning."""
    lines = [f"| `{path}` | {' | '.join(cells)} |" for path, *cells in rows(Settings, "", {})]
    return "\n".join([HEADING, *lines])


def rows(model: Model, above: str, alternatives: dict[tuple[Model, ...], str]) -> Iterator[Row]:
    """Walk the settings; a section that has alternatives is listed where it comes first."""
    for name, field in model.model_fields.items():
        path = above + name
        sections = tuple(one for one in branches(field.annotation) if is_section(one))
        if not sections:
            yield path, values(field), default(field), meanings(model)[name]
        elif len(sections) == 1:
            yield from rows(sections[0], f"{path}.", alternatives)
        elif sections in alternatives:
            yield path, f"as `{alternatives[sections]}`", "none", meanings(model)[name]
        else:
            alternatives[sections] = path
            yield from choices(sections, path)


def choices(sections: tuple[Model, ...], path: str) -> Iterator[Row]:
    """Rows of a section of which there are several kinds, told apart by `protocol`."""
    kinds = {get_args(one.model_fields["protocol"].annotation)[0]: one for one in sections}
    told = "; ".join(f"`{kind}`: {summary(one)}" for kind, one in kinds.items())
    yield f"{path}.protocol", ", ".join(f"`{kind}`" for kind in kinds), f"`{next(iter(kinds))}`", told
    told_alike: dict[Row, list[str]] = {}
    for kind, one in kinds.items():
        for name, field in one.model_fields.items():
            if name != "protocol":
                row = f"{path}.{name}", values(field), default(field), meanings(one)[name]
                told_alike.setdefault(row, []).append(f"`{kind}`")
    for (setting, wanted, otherwise, meaning), of in told_alike.items():
        yield setting, wanted, otherwise, f"With {', '.join(of)}. {meaning}".strip()


def branches(annotation: Any) -> tuple[Any, ...]:
    """Members of a union, without what annotates them and without None."""
    if get_origin(annotation) is Annotated:
        return branches(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return tuple(inner for one in get_args(annotation) for inner in branches(one))
    return () if annotation is type(None) else (annotation,)


def is_section(annotation: Any) -> bool:
    """Whether it is a group of settings."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def values(field: FieldInfo) -> str:
    """Tell what may be given."""
    told = []
    for one in branches(field.annotation):
        if get_origin(one) is Literal:
            told += [f"`{choice}`" for choice in get_args(one)]
        else:
            told.append(KINDS[get_origin(one) or one])
    limits = [
        f"{word} {getattr(limit, name):g}"
        for limit in field.metadata
        for name, word in LIMITS.items()
        if hasattr(limit, name)
    ]
    return ", ".join([*told, *limits])


def default(field: FieldInfo) -> str:
    """Tell what holds where nothing is given."""
    if field.is_required():
        return "must be given"
    found = field.get_default(call_default_factory=True)
    if found is None or found in ([], {}):
        return "none"
    return f"`{str(found).lower() if isinstance(found, bool) else format(found)}`"


def summary(model: Model) -> str:
    """Give the first sentence of a class's docstring."""
    return inspect.getdoc(model).partition("\n\n")[0].replace("\n", " ").rstrip(".")


def meanings(model: Model) -> dict[str, str]:
    """Take the text under each name in the section Attributes of a class's docstring, and of its parents'."""
    sections = [one for one in reversed(model.__mro__) if is_section(one)]
    text = "\n".join((inspect.getdoc(one) or "").partition("Attributes\n----------\n")[2] for one in sections)
    told = dict.fromkeys(model.model_fields, "")
    for names, body in re.findall(r"^(\w+(?:, \w+)*) : .*\n?((?:^ +.*\n?|^\n(?= ))*)", text, re.MULTILINE):
        for name in names.split(", "):
            told[name] = re.sub(r"``?([^`]+)``?", r"`\1`", " ".join(body.split())).replace("|", "&#124;")
    return {name: MORE.get(name, "{}").replace("{}", meaning) for name, meaning in told.items()}


def page(old: str) -> str:
    """Put the table of today into a page."""
    before, _, rest = old.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{PAGE} lacks the marks between which the table goes: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
