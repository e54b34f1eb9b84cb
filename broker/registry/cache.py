"""Schemas that a registry gave, kept on disk: a restart while it is down reads what was read before."""

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import schemas

MOST_BYTES = 8 * 1024 * 1024
"""Of a file; an answer of the registry is at most half of it."""

logger = logging.getLogger("broker.registry")


class SchemaCache:
    """One JSON file an id, in a folder of the registry's own.

    Parameters
    ----------
    folder : Path
        Of all registries; made when something is kept.
    url : str
        Of the registry.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self._url = url
        self._folder = folder / hashlib.sha256(url.encode()).hexdigest()[:16]
        self._told = False

    def read(self, schema_id: int) -> Any:
        """Give the schema of an id; None where there is none, or a file that is not as it was written."""
        try:
            with self._path(schema_id).open("rb") as file:
                kept = json.loads(file.read(MOST_BYTES))
            schema = kept["schema"]
            written = (self._url, schema_id, schemas.fingerprint(schema))
        except (OSError, ValueError, RecursionError, LookupError, TypeError):
            return None
        return schema if (kept.get("url"), kept.get("id"), kept.get("fingerprint")) == written else None

    def keep(self, schema_id: int, schema: Any) -> None:
        """Write a schema; where that fails the process goes on without, and says so once."""
        mark = schemas.fingerprint(schema)
        content = json.dumps({"url": self._url, "id": schema_id, "fingerprint": mark, "schema": schema})
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _write(self._path(schema_id), content)
        except OSError as error:
            if not self._told:
                logger.warning(
                    "schemas of the registry are not kept on disk, in %s: %s: give a registry.cache_folder "
                    "that can be written to",
                    self._folder,
                    error.strerror,
                )
            self._told = True

    def _path(self, schema_id: int) -> Path:
        return self._folder / f"{schema_id}.json"


def default_folder() -> Path:
    """Where schemas are kept unless told otherwise: the user's cache."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (
        (Path(root) if Path(root).is_absolute() else Path("~/.cache").expanduser()) / "nightjar" / "schemas"
    )


def _write(path: Path, content: str) -> None:
    """Write beside it and rename: two processes may keep the same id at once, and one may be killed."""
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
        Path(beside).replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            Path(beside).unlink()
        raise
