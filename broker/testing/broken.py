"""Messages that cannot be read and stamps that cannot be read, each with what must become of it."""

import gzip
import struct
from dataclasses import dataclass
from functools import cache

import numpy as np

from broker.errors import Reason
from broker.testing.datums import CONTAINER_MAGIC, avro_long, container, frame
from broker.testing.packets import ALERT_ID, Visit, lsst_packet, ztf_packet


@dataclass(frozen=True, slots=True)
class BrokenMessage:
    """A value that no alert can be read from.

    Attributes
    ----------
    label : str
        What is wrong with it.
    value : bytes or None
    reason : Reason
        Why it must become a dead letter.
    """

    label: str
    value: bytes | None
    reason: Reason


@dataclass(frozen=True, slots=True)
class BrokenStamp:
    """A FITS file of one survey that no pixels can be read from: a partial, flagged ``cutout_unreadable``."""

    label: str
    content: bytes


@cache
def broken_messages() -> tuple[BrokenMessage, ...]:
    """Give one message for each way to be broken, of both surveys."""
    rubin, zwicky = lsst_packet(), ztf_packet()
    head = zwicky.index(b"avro.schema")
    return (
        BrokenMessage("tombstone", None, Reason.NULL_VALUE),
        BrokenMessage("empty value", b"", Reason.FRAME_INVALID),
        BrokenMessage("wrong magic byte", b"\x07" + rubin[1:], Reason.FRAME_INVALID),
        BrokenMessage("text", b"this is not an alert", Reason.FRAME_INVALID),
        BrokenMessage("frame cut in its schema id", rubin[:3], Reason.FRAME_INVALID),
        BrokenMessage("unknown schema id", frame(4242, rubin[5:]), Reason.SCHEMA_UNKNOWN),
        BrokenMessage("frame without a datum", frame(1101, b""), Reason.DATUM_INVALID),
        BrokenMessage("Rubin packet cut in its fields", rubin[:60], Reason.DATUM_INVALID),
        BrokenMessage("Rubin packet cut in its last stamp", rubin[:-1000], Reason.DATUM_INVALID),
        BrokenMessage("bytes after the datum", rubin + b"\0", Reason.DATUM_INVALID),
        BrokenMessage("string of negative length", _negative_string(), Reason.DATUM_INVALID),
        BrokenMessage("container without a record", container("ztf.v4_02", []), Reason.CONTAINER_INVALID),
        BrokenMessage("container cut in its header", zwicky[: head + 200], Reason.CONTAINER_INVALID),
        BrokenMessage("container cut in its block", zwicky[:-2000], Reason.CONTAINER_INVALID),
        BrokenMessage("container magic alone", CONTAINER_MAGIC, Reason.CONTAINER_INVALID),
        BrokenMessage("random bytes", np.random.default_rng(6).bytes(4000), Reason.FRAME_INVALID),
        BrokenMessage(
            "random bytes in a frame", frame(1101, np.random.default_rng(7).bytes(4000)), Reason.DATUM_INVALID
        ),
        BrokenMessage("flipped bit in a history", _flipped_bit_in_history(), Reason.DATUM_INVALID),
        *(
            BrokenMessage(
                f"Rubin packet cut at {share:.0%}", rubin[: int(share * len(rubin))], Reason.DATUM_INVALID
            )
            for share in (0.001, 0.01, 0.1, 0.5, 0.9, 0.999)
        ),
        BrokenMessage("codec nobody knows", ztf_packet(codec="lz5"), Reason.CODEC_UNSUPPORTED),
    )


def _flipped_bit_in_history() -> bytes:
    """Write a packet in whose history the union index of one band says 33 where 1 was written."""
    packet = bytearray(lsst_packet(history=[Visit(band="g"), Visit(band="y"), Visit(band="g")]))
    packet[packet.index(b"\x02\x02y")] ^= 0x40
    return bytes(packet)


@cache
def broken_lsst_stamps() -> tuple[BrokenStamp, ...]:
    """Give Rubin stamps that are no FITS images of two axes, or cut short."""
    from_cards = _two_axes()
    return (
        BrokenStamp("no FITS", b"not a FITS file at all"),
        BrokenStamp("NAXIS of 3", from_cards.replace(_naxis(2), _naxis(3), 1)),
        BrokenStamp("cut in its pixels", from_cards[: len(from_cards) // 2]),
    )


@cache
def broken_ztf_stamps() -> tuple[BrokenStamp, ...]:
    """Give ZTF stamps that are no gzip, not whole, or inflate without end."""
    good = gzip.compress(_two_axes(), 1, mtime=0)
    return (
        BrokenStamp("no gzip", b"\x1f\x8bgarbage that no inflater takes"),
        BrokenStamp("gzip cut short", good[: len(good) // 2]),
        BrokenStamp("gzip bomb", gzip.compress(bytes(64 * 1024 * 1024), 6, mtime=0)),
    )


def _naxis(number: int) -> bytes:
    return b"NAXIS   = %20d" % number


def _two_axes() -> bytes:
    cards = (b"SIMPLE  = %20s" % b"T", b"BITPIX  = %20d" % -32, _naxis(2))
    sides = (b"NAXIS1  = %20d" % 30, b"NAXIS2  = %20d" % 30, b"END")
    header = b"".join(card.ljust(80) for card in (*cards, *sides)).ljust(2880)
    return header + struct.pack(">f", 1.0) * 900 + bytes(-3600 % 2880)


def _negative_string() -> bytes:
    """Name an observation reason (a union's string branch) whose length is -1."""
    packet = bytearray(lsst_packet())
    start = 5 + len(avro_long(ALERT_ID))
    packet[start : start + 1] = b"\x02\x01"
    return bytes(packet)
