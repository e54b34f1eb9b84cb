"""Dead letters as files: the packet as it came, and beside it why it is there."""

import base64
import json
import os
from pathlib import Path
from typing import Any

from broker.errors import SettingsError
from broker.letters import Letter


class LetterFiles:
    """A folder of packets with sidecars, named by where each letter stands.

    Parameters
    ----------
    folder : Path
        It is made where it is missing.

    Raises
    ------
    SettingsError
        If there can be no such folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"--export {folder}: {error.strerror}: name a folder to write to") from error

    def write(self, letter: Letter) -> None:
        """Write a letter's packet, if it has one, and then the sidecar; what is there already is left.

        Raises
        ------
        SettingsError
            If a file of that name holds something else, or the folder cannot be written to.
        """
        stem = f"{letter.topic}-{letter.partition}-{letter.offset}"
        if letter.value is not None:
            self._write(f"{stem}.avro", letter.value)
        text = json.dumps(sidecar(letter), indent=2, ensure_ascii=False)
        self._write(f"{stem}.json", f"{text}\n".encode())

    def _write(self, name: str, content: bytes) -> None:
        path = self._folder / name
        try:
            if path.exists() and (there := path.read_bytes()):
                _refuse_another(path, there, content)
                return
            # Under its own name a file is whole, whenever this ends.
            unfinished = path.with_name(f".{name}.{os.getpid()}")
            unfinished.write_bytes(content)
            unfinished.replace(path)
        except OSError as error:
            raise SettingsError(
                f"{path} cannot be written: {error.strerror}: name another folder by --export"
            ) from error


def _refuse_another(path: Path, there: bytes, content: bytes) -> None:
    if there != content:
        raise SettingsError(
            f"{path} is there and holds something else ({len(there)} bytes, wanted {len(content)}): "
            "move it away, or name another folder by --export"
        )


def sidecar(letter: Letter) -> dict[str, Any]:
    """Say why a packet is a dead letter, in the types of JSON."""
    source = letter.position
    return {
        "reason": letter.reason,
        "error": letter.error,
        "version": letter.version,
        "rejected_at": letter.rejected_at.isoformat(),
        "schema": letter.schema,
        "bytes": None if letter.value is None else len(letter.value),
        "source": {
            "topic": source.topic,
            "partition": source.partition,
            "offset": source.offset,
            "timestamp_ms": source.timestamp_ms,
        },
        "letter": {"topic": letter.topic, "partition": letter.partition, "offset": letter.offset},
        "key": _plain(letter.key),
        "headers": [{"name": name, "value": _plain(value)} for name, value in letter.headers],
        "redrive_count": letter.count,
    }


def _plain(value: bytes | None) -> dict[str, str] | None:
    """Give bytes as text where they are, else in base64; which of them is said."""
    if value is None:
        return None
    try:
        return {"text": value.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}
