"""Avro object containers: the file that a ZTF packet is.

A container is a header (magic, metadata with the writer's schema, a sync marker) and blocks of
records. ZTF sends one record in each, and its schema of 25 kB with it, so what a header says
is kept by the header's bytes.
"""

import bz2
import json
import lzma
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import schemas
from broker.avro.encoding import long
from broker.avro.exact import read_sized, read_varint
from broker.avro.frame import CONTAINER_MAGIC
from broker.avro.walker import compile_walker
from broker.errors import ContainerError, DatumError, Reason

MOST_INFLATED = 16 * 1024 * 1024
"""Bytes a block may inflate to: thirty times the largest real packet known (0.5 MB)."""

MOST_HEADERS = 32
"""Headers that are kept; ZTF's surveys have used four in its life."""

LONGEST_HEADER = 256 * 1024
"""Bytes; ZTF's are 25 kB. A longer one costs a second to parse and would fill memory where it is kept."""

MOST_METADATA = 64
"""Entries of a header; ZTF's have two."""

_SYNC_SIZE = 16
_LONG_BYTES = 10


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a container says.

    Attributes
    ----------
    raw : bytes
        The header's bytes up to the sync marker.
    metadata : dict of str to bytes
    schema : object
        The writer's schema, as parsed from JSON.
    fingerprint : str
        Of the schema's canonical form.
    codec : str
    """

    raw: bytes
    metadata: dict[str, bytes]
    schema: Any
    fingerprint: str
    codec: str


class ContainerReader:
    """Reads containers, and remembers the headers it met last."""

    def __init__(self) -> None:
        self._headers: OrderedDict[bytes, Header] = OrderedDict()

    def header(self, value: bytes) -> Header:
        """Read the header of a container.

        Parameters
        ----------
        value : bytes

        Raises
        ------
        ContainerError
            If it ends early, or its schema is none.
        """
        # Comparing with the few that are known costs less than hashing 25 kB of schema.
        for raw in reversed(self._headers):
            if value.startswith(raw):
                self._headers.move_to_end(raw)
                return self._headers[raw]
        header = read_header(value)
        self._headers[header.raw] = header
        if len(self._headers) > MOST_HEADERS:
            self._headers.popitem(last=False)
        return header

    def record(self, value: bytes) -> tuple[Header, bytes | memoryview]:
        """Take the only record out of a container.

        Parameters
        ----------
        value : bytes

        Returns
        -------
        header : Header
        datum : bytes or memoryview
            A view of `value` where the codec is ``null``.

        Raises
        ------
        ContainerError
            If the container cannot be read, or has not one record; with reason ``codec_unsupported`` for
            a codec the standard library does not have.
        """
        header = self.header(value)
        inflate = _inflater(header)
        blocks = [(count, block) for count, block in _blocks(value, header) if count]
        records = sum(count for count, _ in blocks)
        if records != 1:
            raise ContainerError(f"a packet's container holds 1 record, this one {records}")
        return header, inflate(blocks[0][1])


def read_header(value: bytes) -> Header:
    """Read the header of a container, see `ContainerReader.header`."""
    data = memoryview(value)[:LONGEST_HEADER]
    try:
        metadata, at = _metadata(data, len(CONTAINER_MAGIC))
    except DatumError as error:
        if len(value) > LONGEST_HEADER:
            raise ContainerError(
                f"the container's header does not end within {LONGEST_HEADER} bytes"
            ) from None
        raise ContainerError(f"the container's header cannot be read: {error.detail}") from None
    if "avro.schema" not in metadata:
        raise ContainerError(
            f"the container names no schema (avro.schema), only {', '.join(metadata) or 'nothing'}"
        )
    try:
        schema = json.loads(metadata["avro.schema"])
        fingerprint = schemas.fingerprint(schema)
    except (ValueError, RecursionError) as error:
        raise ContainerError(f"the container's schema cannot be read: {error}") from None
    codec = metadata.get("avro.codec", b"null").decode("ascii", "backslashreplace")
    return Header(value[:at], metadata, schema, fingerprint, codec)


def split_container(value: bytes) -> list[bytes]:
    """Split a container of several records into containers of one each.

    Parameters
    ----------
    value : bytes

    Returns
    -------
    list of bytes
        The container itself if it holds one record; else one for each, with codec ``null``, the same
        metadata and the same sync marker.

    Raises
    ------
    AlertError
        If the container or a record in it cannot be read.
    """
    header = read_header(value)
    inflate = _inflater(header)
    blocks = [(count, block) for count, block in _blocks(value, header) if count]
    if sum(count for count, _ in blocks) == 1:
        return [value]
    head = _header_without_codec(header)
    sync = value[len(header.raw) : len(header.raw) + _SYNC_SIZE]
    return [
        b"".join((head, sync, long(1), long(len(datum)), datum, sync))
        for count, block in blocks
        for datum in _records(header, count, inflate(block))
    ]


def _records(header: Header, count: int, block: bytes | memoryview) -> Iterator[memoryview]:
    try:
        walker = compile_walker(header.schema, ())
    except (ValueError, KeyError, TypeError) as error:
        raise ContainerError(f"the records of this schema cannot be told apart: {error}") from None
    data, at = memoryview(block), 0
    for _ in range(count):
        _, end = walker.leading(data, at)
        yield data[at:end]
        at = end
    if at != len(data):
        raise ContainerError(f"{len(data) - at} bytes follow the last of a block's {count} records")


def _metadata(data: memoryview, at: int) -> tuple[dict[str, bytes], int]:
    metadata: dict[str, bytes] = {}
    entries = 0
    while True:
        count, at = read_varint(data, at, "metadata", _LONG_BYTES)
        if count == 0:
            return metadata, at
        if count < 0:  # legal: the size of the block follows
            _, at = read_varint(data, at, "metadata", _LONG_BYTES)
        entries += abs(count)
        if entries > MOST_METADATA:
            raise ContainerError(f"the container's header has more than {MOST_METADATA} entries")
        for _ in range(abs(count)):
            name, at = read_sized(data, at, "metadata")
            content, at = read_sized(data, at, "metadata")
            metadata[bytes(name).decode("utf-8", "backslashreplace")] = bytes(content)


def _inflater(header: Header) -> Callable[[memoryview], bytes | memoryview]:
    inflate = _CODECS.get(header.codec)
    if inflate is None:
        known = ", ".join(_CODECS)
        raise ContainerError(f"codec {header.codec!r} is not read, only {known}", Reason.CODEC_UNSUPPORTED)
    return inflate


def _blocks(value: bytes, header: Header) -> Iterator[tuple[int, memoryview]]:
    """Go through the blocks, not inflated: a count and the bytes."""
    data = memoryview(value)
    start = len(header.raw)
    sync = value[start : start + _SYNC_SIZE]
    if len(sync) < _SYNC_SIZE:
        raise ContainerError("the container ends inside the sync marker of its header")
    at = start + _SYNC_SIZE
    while at < len(data):
        try:
            count, at = read_varint(data, at, "block", _LONG_BYTES)
            block, at = read_sized(data, at, "block")
        except DatumError as error:
            raise ContainerError(f"a block of the container cannot be read: {error.detail}") from None
        if count < 0:
            raise ContainerError(f"a block says it holds {count} records")
        if value[at : at + _SYNC_SIZE] != sync:
            raise ContainerError(f"no sync marker after the block that ends at byte {at}")
        yield count, block
        at += _SYNC_SIZE


def _inflate_deflate(block: memoryview) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    return _bounded(inflater.decompress(block, MOST_INFLATED + 1), is_whole=inflater.eof)


def _inflate_bzip2(block: memoryview) -> bytes:
    inflater = bz2.BZ2Decompressor()
    return _bounded(inflater.decompress(block, MOST_INFLATED + 1), is_whole=inflater.eof)


def _inflate_xz(block: memoryview) -> bytes:
    inflater = lzma.LZMADecompressor(memlimit=4 * MOST_INFLATED)
    return _bounded(inflater.decompress(block, MOST_INFLATED + 1), is_whole=inflater.eof)


def _bounded(inflated: bytes, *, is_whole: bool) -> bytes:
    if len(inflated) > MOST_INFLATED:
        raise ContainerError(f"a block inflates to more than {MOST_INFLATED} bytes")
    if not is_whole:
        raise ContainerError("a block's compressed data end early")
    return inflated


def _refusing(inflate: Callable[[memoryview], bytes]) -> Callable[[memoryview], bytes]:
    def refuse(block: memoryview) -> bytes:
        try:
            return inflate(block)
        except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
            raise ContainerError(f"a block cannot be decompressed: {error}") from None

    return refuse


def _as_it_is(block: memoryview) -> memoryview:
    return block


_CODECS: dict[str, Callable[[memoryview], bytes | memoryview]] = {
    "null": _as_it_is,
    "deflate": _refusing(_inflate_deflate),
    "bzip2": _refusing(_inflate_bzip2),
    "xz": _refusing(_inflate_xz),
}


def _header_without_codec(header: Header) -> bytes:
    if header.codec == "null":
        return header.raw
    entries = {**header.metadata, "avro.codec": b"null"}
    packed = (long(len(raw)) + raw for name, content in entries.items() for raw in (name.encode(), content))
    return b"".join((CONTAINER_MAGIC, long(len(entries)), *packed, long(0)))
