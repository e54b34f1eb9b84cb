"""Letters as files: the packet as it came, and why it is there."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from broker.errors import SettingsError
from broker.letter_files import LetterFiles

STEM = "alerts.dead-letter-0-0"


def test_a_packet_has_a_sidecar_that_says_why(letter, message, tmp_path: Path) -> None:
    LetterFiles(tmp_path / "new" / "folder").write(letter)
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == [f"{STEM}.avro", f"{STEM}.json"]
    assert (folder / f"{STEM}.avro").read_bytes() == message.value
    assert json.loads((folder / f"{STEM}.json").read_text()) == {
        "reason": "schema_unknown",
        "error": "unknown schema",
        "version": "0.1.0",
        "rejected_at": "2026-03-01T04:00:00+00:00",
        "schema": "id 4242",
        "bytes": len(message.value),
        "source": {"topic": "alerts", "partition": 3, "offset": 41, "timestamp_ms": 1600000000123},
        "letter": {"topic": "alerts.dead-letter", "partition": 0, "offset": 0},
        "key": {"base64": "/mtleQ=="},
        "headers": [
            {"name": "producer_timestamp", "value": {"text": "17"}},
            {"name": "odd", "value": None},
            {"name": "odd", "value": {"base64": "/w=="}},
        ],
        "redrive_count": 0,
    }


def test_without_a_value_there_is_a_sidecar_alone(letter, tmp_path: Path) -> None:
    LetterFiles(tmp_path).write(replace(letter, value=None))
    assert [path.name for path in tmp_path.iterdir()] == [f"{STEM}.json"]
    assert json.loads((tmp_path / f"{STEM}.json").read_text())["bytes"] is None


def test_a_second_export_finds_its_files_and_leaves_them(letter, tmp_path: Path) -> None:
    LetterFiles(tmp_path).write(letter)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    LetterFiles(tmp_path).write(letter)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_an_empty_file_is_filled_and_one_with_other_content_refused(letter, message, tmp_path: Path) -> None:
    (tmp_path / f"{STEM}.avro").touch()
    (tmp_path / f"{STEM}.json").write_text("mine")
    with pytest.raises(SettingsError, match=r"holds something else \(4 bytes, wanted \d+\): move it away"):
        LetterFiles(tmp_path).write(letter)
    assert (tmp_path / f"{STEM}.avro").read_bytes() == message.value
    assert (tmp_path / f"{STEM}.json").read_text() == "mine"


def test_no_half_file_has_its_name_when_the_disk_is_full(letter, tmp_path: Path, monkeypatch) -> None:
    whole = Path.write_bytes

    def half(path: Path, content: bytes) -> int:
        whole(path, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(SettingsError, match="No space left on device: name another folder"):
        LetterFiles(tmp_path).write(letter)
    assert not (tmp_path / f"{STEM}.avro").exists()


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"--export .*: name a folder to write to"):
        LetterFiles(tmp_path / "file")
