"""Properties that go to librdkafka as they are, and which of them may not."""

import re
from typing import TypeAlias

from broker.settings.membership import OWNED_BY_MEMBERSHIP

OWNED_BY_CONNECTION = frozenset(
    {"bootstrap.servers", "metadata.broker.list", "client.id", "statistics.interval.ms"}
)
OWNED_BY_SOURCE = (
    OWNED_BY_CONNECTION
    | OWNED_BY_MEMBERSHIP
    | {
        "group.id",
        "enable.auto.commit",
        "auto.commit.enable",
        "enable.auto.offset.store",
        "enable.partition.eof",
        "auto.offset.reset",
        "isolation.level",
    }
)
OWNED_BY_SINK = OWNED_BY_CONNECTION | {
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "enable.gapless.guarantee",
    # With fewer than without end a record is given up while those behind it go out.
    "retries",
    "message.send.max.retries",
    # Only reports of acknowledgements end a write.
    "delivery.report.only.error",
    "partitioner",
    "transactional.id",
    "transaction.timeout.ms",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "compression.type",
    "compression.codec",
    "message.max.bytes",
}

SECRET = re.compile(
    r"secret|passw|passphrase|\bkey\.pem$|^ssl_key$|sasl\.oauthbearer\.config|jaas", re.IGNORECASE
)
"""Names of properties that would put a secret among ordinary settings, those of later versions too."""

IN_AN_ADDRESS = re.compile(r"://[^/?#\s]*:[^/?#\s]*@")
"""A password within a URL."""

OF_A_PROGRAM = re.compile(r"(_cb|callback)$|^on_|^logger$|^opaque$|^default[._]topic[._]conf(ig)?$")
"""Names of what a program hands over, as functions: no text can stand for them."""

Extra: TypeAlias = dict[str, str | int | float | bool]


def refuse_sources(extra: Extra) -> Extra:
    """See that properties of a consumer are those that may be given.

    Raises
    ------
    ValueError
    """
    return _refuse(extra, OWNED_BY_SOURCE)


def refuse_sinks(extra: Extra) -> Extra:
    """See that properties of a producer are those that may be given.

    Raises
    ------
    ValueError
    """
    return _refuse(extra, OWNED_BY_SINK)


def _refuse(extra: Extra, owned: frozenset[str]) -> Extra:
    if secret := sorted(filter(SECRET.search, extra)):
        raise ValueError(
            f"{secret[0]} is a secret: give it by the section 'security', from environment or file, or by a "
            "property of librdkafka's that names a file"
        )
    if told := sorted(name for name, value in extra.items() if IN_AN_ADDRESS.search(str(value))):
        raise ValueError(f"{told[0]} holds a password in an address: give the address without it")
    if handed := sorted(filter(OF_A_PROGRAM.search, extra)):
        raise ValueError(f"{handed[0]} is no text but a part of a program: leave it out")
    if taken := sorted(owned & extra.keys()):
        raise ValueError(f"{taken[0]} is set by the broker itself, its guarantees rest on it: leave it out")
    return extra
