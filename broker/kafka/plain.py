"""Whether a port speaks Kafka without TLS, asked of it: librdkafka only guesses."""

import socket
import struct

from broker.kafka.certificates import split

ASK_SECONDS = 2.0
"""For the connection, and for each part of the answer."""

API_VERSIONS, OURS = 18, 0x6E6A
"""The one question that any Kafka answers before it knows who asks, and the number by which we know its answer."""

QUESTION = struct.pack(">ihhih", 10, API_VERSIONS, 0, OURS, -1)
"""Its length, kind, version, our number, and no name."""

HEAD = struct.Struct(">ii")
"""How an answer begins: its length, and our number."""


def speaks_plainly(address: str, seconds: float = ASK_SECONDS) -> bool:
    """Whether a Kafka answers at ``host:port`` to who speaks without TLS.

    A listener of TLS does not, nor does one that is just starting or going, nor a proxy before it.
    """
    try:
        with socket.create_connection(split(address), seconds) as connection:
            connection.sendall(QUESTION)
            with connection.makefile("rb") as answer:
                head = answer.read(HEAD.size)
    except (OSError, ValueError):
        return False
    return len(head) == HEAD.size and HEAD.unpack(head)[1] == OURS
