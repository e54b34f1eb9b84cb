"""Packets out of files: alone, in folders, in tar archives as ZTF's nights come, many in one container."""

import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from broker.avro.container import split_container
from broker.avro.frame import CONTAINER_MAGIC, FRAME_MAGIC
from broker.errors import AlertError, SettingsError

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
"""Names of files taken as archives."""

LARGEST_MEMBER = 256 * 1024 * 1024
"""Bytes of one file: a night's container has some 10,000 alerts of 20 kB; more would fill the memory."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One message, as it would stand in a topic.

    Attributes
    ----------
    where : str
        File, and the member of an archive.
    value : bytes
    """

    where: str
    value: bytes


@dataclass
class PacketFiles:
    """Streams the packets of files and folders, one file in memory at a time.

    Attributes
    ----------
    paths : list of Path
        Files as found: those given, and every ``*.avro`` and archive below the folders given, sorted in each.
    skipped : list of (str, str)
        What held no packet, and why; grows while packets are read.
    said : int
        How many of the skipped ones a program has told of.
    remarks : list of (str, str)
        What was split, or is published though it is not readable.
    """

    paths: list[Path]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    said: int = 0
    remarks: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def find(cls, paths: Iterable[Path]) -> "PacketFiles":
        """Find the files meant.

        Raises
        ------
        SettingsError
            A path is not there, or no file is left.
        """
        found: list[Path] = []
        for path in paths:
            if not path.exists():
                raise SettingsError(
                    f"{path} does not exist: give files, archives, or folders that hold *.avro files"
                )
            found += sorted(filter(_is_meant, path.rglob("*"))) if path.is_dir() else [path]
        if not found:
            raise SettingsError(
                "no *.avro file or tar archive below the folders given: name files, or another folder"
            )
        return cls(found)

    @property
    def count(self) -> int | None:
        """Number of files; None where archives hide how many there are."""
        return None if any(map(is_archive, self.paths)) else len(self.paths)

    def __iter__(self) -> Iterator[Packet]:
        for path in self.paths:
            try:
                yield from (
                    self._archived(path) if is_archive(path) else self._packets(str(path), path.read_bytes())
                )
            except (OSError, EOFError, tarfile.TarError) as error:
                self.skipped.append((str(path), f"cannot be read ({_why(error)})"))

    def _archived(self, path: Path) -> Iterator[Packet]:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                where = f"{path}:{member.name}"
                if not member.isfile():
                    continue
                if member.size > LARGEST_MEMBER:
                    self.skipped.append((where, f"has {member.size} bytes, more than {LARGEST_MEMBER}"))
                    continue
                content = archive.extractfile(member)
                assert content is not None
                yield from self._packets(where, content.read())

    def _packets(self, where: str, content: bytes) -> Iterator[Packet]:
        if content.startswith(FRAME_MAGIC):
            yield Packet(where, content)
        elif content.startswith(CONTAINER_MAGIC):
            yield from (Packet(where, part) for part in self._split(where, content))
        else:
            found = f"begins {content[:4]!r}" if content else "is empty"
            self.skipped.append((where, f"is neither a Confluent frame nor an Avro container ({found})"))

    def _split(self, where: str, content: bytes) -> list[bytes]:
        try:
            parts = split_container(content)
        except AlertError as error:
            self.remarks.append((where, f"taken as it is, though not readable: {error.detail}"))
            return [content]
        if len(parts) < 2:  # noqa: PLR2004 -- one alert, or none: nothing to split
            return [content]
        self.remarks.append((where, f"split into {len(parts)} alerts, a container each"))
        return parts


def is_archive(path: Path) -> bool:
    """Tell an archive by its name."""
    return path.name.lower().endswith(ARCHIVES)


def _is_meant(path: Path) -> bool:
    return path.is_file() and (path.suffix.lower() == ".avro" or is_archive(path))


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
