"""The three stamps of a Rubin packet, found from its bytes without reading what precedes them.

For ``validate off``. In every schema from 7.0 to 11.1 the cutouts are the last three
fields, so a valid datum without null stamps ends in a chain of three times (union index,
length, bytes). The chain is found by the signature of the first FITS file and holds only if
each link begins with that signature and the last ends with the datum. The first such chain
is the one: a stamp that itself contains a chain lies inside a link of the outer one. Anything
else (a null, a stamp that is not FITS, bytes that follow) gives None, and the datum is read
from its beginning.
"""

from broker.avro.exact import read_index, read_sized
from broker.errors import DatumError

SIGNATURE = b"SIMPLE  ="
"""First bytes of every FITS file (FITS standard 4.0, section 4.4.1)."""

_LINKS = 3
_HEADS = (4, 3, 5, 2, 6)
"""Bytes a union index and a length take, the likeliest first: 4 is for stamps of 8 kB to 1 MB."""

Stamps = tuple[memoryview, memoryview, memoryview]


def stamps_at_the_end(value: bytes, start: int) -> Stamps | None:
    """Find the last three fields of a datum, of type null or bytes in this order.

    Parameters
    ----------
    value : bytes
        Ends with the datum.
    start : int
        Where to look from: the end of what was read of the datum.

    Returns
    -------
    tuple of three memoryview, or None
        In the order of the fields; None where no chain holds.
    """
    data = memoryview(value)
    first = value.find(SIGNATURE, start)
    if first < 0:
        return None
    for head in _HEADS:
        stamps = _chain(data, first - head) if first - head >= start else None
        if stamps is not None:
            return stamps
    return None


def _chain(data: memoryview, at: int) -> Stamps | None:
    links: list[memoryview] = []
    try:
        for _ in range(_LINKS):
            index, at = read_index(2, data, at, "stamp")
            stamp, at = read_sized(data, at, "stamp")
            if index != 1 or stamp[: len(SIGNATURE)] != SIGNATURE:
                return None
            links.append(stamp)
    except DatumError:
        return None
    return (links[0], links[1], links[2]) if at == len(data) else None
