"""What the topics of a broker should be: partitions, retention, sizes and clean-up, fit for each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from broker.kafka.connection import MAX_MESSAGE_BYTES
from broker.kafka.limits import CLEANUP, SIZE, is_compacted
from broker.topics import DEAD_LETTER_SUFFIX, ENRICHED_SUFFIX, LITE_SUFFIX, REDRIVE_SUFFIX

DAY_MS = 86_400_000
MOST_COPIES = 3
"""Replicas of a topic where nothing is said and the cluster has brokers enough."""

RETENTION, LARGEST = "retention.ms", SIZE
COMPRESSION, IN_SYNC, TIMESTAMPS = "compression.type", "min.insync.replicas", "message.timestamp.type"

COMMON = {CLEANUP: "delete", COMPRESSION: "producer", LARGEST: str(MAX_MESSAGE_BYTES)}
"""Of every topic; long histories make packets exceed Kafka's 1 MB even without their stamps."""

LETTER_DAYS = 90


@dataclass(frozen=True, slots=True)
class Role:
    """One of the topics that belong to a prefix.

    Attributes
    ----------
    suffix : str
    partitions : int or None
        None is as many as the source has.
    settings : mapping of str to str
    """

    suffix: str
    partitions: int | None
    settings: Mapping[str, str]


def _kept(days: int) -> dict[str, str]:
    return {RETENTION: str(days * DAY_MS), **COMMON}


ROLES = (
    Role(ENRICHED_SUFFIX, None, _kept(7)),
    Role(LITE_SUFFIX, None, _kept(14)),
    Role(DEAD_LETTER_SUFFIX, 1, _kept(LETTER_DAYS)),
    # It is also the record of what was tried, so it lasts as long as the letters do. A message is published there
    # with its first time, by which Kafka would take an old one for past its retention: the topic's own time counts.
    Role(REDRIVE_SUFFIX, 1, _kept(LETTER_DAYS) | {TIMESTAMPS: "LogAppendTime"}),
)


INPUT = Role("", None, _kept(7))
"""A stream of one's own; that of a survey is as it is."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is.

    Attributes
    ----------
    name : str
    partitions, replication : int
    settings : mapping of str to str
        Every setting of the topic, defaults too.
    """

    name: str
    partitions: int
    replication: int
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic as it should be.

    Attributes
    ----------
    name : str
    partitions : int or None
        None where nothing says how many: the source is not there.
    replication : int
    settings : mapping of str to str
    """

    name: str
    partitions: int | None
    replication: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """Something of a topic that is not as it should be.

    Attributes
    ----------
    what, found, wanted : str
    is_unfit : bool
        Whether the broker cannot do its work, or loses some of it, while this stands.
    """

    what: str
    found: str
    wanted: str
    is_unfit: bool = False


def plan(
    prefix: str, source: TopicState | None, brokers: int, partitions: int | None, replication: int | None
) -> list[TopicPlan]:
    """Plan the topics of a prefix.

    Parameters
    ----------
    prefix : str
    source : TopicState or None
        None where it is not there.
    brokers : int
        Of the cluster the topics are on.
    partitions : int or None
        Of the topics that follow the source, in place of the source's.
    replication : int or None
        By default a copy on each of at most three brokers.
    """
    copies = replication or min(MOST_COPIES, brokers)
    following = partitions or (source.partitions if source else None)
    safe = {IN_SYNC: "2"} if copies >= MOST_COPIES else {}
    return [
        TopicPlan(prefix + role.suffix, role.partitions or following, copies, {**role.settings, **safe})
        for role in ROLES
    ]


def differences(wanted: TopicPlan, found: TopicState) -> Iterator[Difference]:
    """Compare a topic with its plan.

    More is as good where more does no harm: longer retention, larger messages, further copies
    and partitions.
    """
    if wanted.partitions is not None and found.partitions < wanted.partitions:
        yield Difference("partitions", str(found.partitions), str(wanted.partitions))
    if found.replication < wanted.replication:
        yield Difference("replication", str(found.replication), str(wanted.replication))
    for name, value in wanted.settings.items():
        there = found.settings.get(name, "?")
        if not _suffices(name, there, value):
            yield Difference(name, there, value, is_unfit=is_unfit(name, found.settings))


def _suffices(name: str, found: str, wanted: str) -> bool:
    if name == RETENTION and found == "-1":
        return True
    if name in {RETENTION, LARGEST, IN_SYNC}:
        return found.lstrip("-").isdigit() and int(found) >= int(wanted)
    return found == wanted


def is_unfit(name: str, settings: Mapping[str, str]) -> bool:
    """Tell what of a topic loses records: they are refused for their size, compacted away, or old on arrival.

    Parameters
    ----------
    name : str
        Of a setting that is not as planned.
    settings : mapping of str to str
        All of the topic's.
    """
    if name == CLEANUP:
        return is_compacted(settings)
    if name == TIMESTAMPS:
        return settings.get(RETENTION) != "-1"
    return name == LARGEST
