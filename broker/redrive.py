"""Another try for dead letters: which get one, and what is published of them.

What was tried is known by a message's first position and by how often it was redriven: the headers on the redrive
topic say both. So no offset of any group is to be trusted, and a run that chooses some of the letters passes over
the others for no longer than itself.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

import schemas
from broker.alert import Message, Record
from broker.errors import SettingsError
from broker.letters import COUNT_HEADER, Letter, Position, count_of, position_of, texts_of
from broker.topics import DEAD_LETTER_SUFFIX, REDRIVE_SUFFIX

Kind: TypeAlias = tuple[str, str, str]
"""What letters are counted by: reason, version of the broker, schema of the message."""


class Fate(StrEnum):
    """What becomes of a letter that was chosen; in the order of the table's columns."""

    CHOSEN = "redriven"
    TRIED = "tried before"
    AT_LIMIT = "at the limit"
    LEFT_OUT = "bytes left out"
    TOMBSTONE = "nothing to try"
    LATER = "over --limit"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters are meant; what is empty or None takes all.

    Attributes
    ----------
    reasons, versions : frozenset of str
    since, until : datetime or None
        Of the rejection; the later end does not belong to it.
    """

    reasons: frozenset[str] = frozenset()
    versions: frozenset[str] = frozenset()
    since: datetime | None = None
    until: datetime | None = None

    def __call__(self, letter: Letter) -> bool:
        """Whether a letter is meant."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (not self.versions or letter.version in self.versions)
            and (self.since is None or letter.rejected_at >= self.since)
            and (self.until is None or letter.rejected_at < self.until)
        )


@dataclass
class Ledger:
    """How often each message was redriven, as far as letters and redriven messages tell.

    Attributes
    ----------
    ends : dict of int to int
        Last offset that was looked at in each partition of the dead-letter topic.
    letters : int
    """

    ends: dict[int, int] = field(default_factory=dict)
    letters: int = 0
    _most: dict[Position, int] = field(default_factory=dict)

    def note(self, position: Position, count: int) -> None:
        """Take in that a message was redriven so often: a letter that came back says so too."""
        if count > self._most.get(position, 0):
            self._most[position] = count

    def note_redriven(self, message: Message) -> None:
        """Take in a message of the redrive topic, by its headers; one without them was not written by a redrive."""
        about = texts_of(message.headers)
        if (position := position_of(about)) is not None:
            self.note(position, count_of(about))

    def reach(self, message: Message) -> None:
        """Take in that a message of the dead-letter topic was looked at."""
        self.letters += 1
        self.ends[message.partition] = max(message.offset, self.ends.get(message.partition, -1))

    def has_reached(self, message: Message) -> bool:
        """Whether a message was there to be looked at; later ones may be what this very run has made."""
        return message.offset <= self.ends.get(message.partition, -1)

    def is_tried(self, letter: Letter) -> bool:
        """Whether the message was redriven since it became this letter."""
        return letter.count < self._most.get(letter.position, 0)


@dataclass
class Judge:
    """Says what becomes of each letter.

    Attributes
    ----------
    ledger : Ledger
    most_redrives : int
        Redrives of one message, after which it is left to people.
    tombstones : bool
        Whether messages without a value are tried again.
    limit : int or None
        Letters to redrive in all.
    """

    ledger: Ledger
    most_redrives: int
    tombstones: bool = False
    limit: int | None = None
    _chosen: int = 0

    def __call__(self, letter: Letter) -> Fate:
        """Judge one letter; one that is chosen counts as tried from then on."""
        fate = self._hindrance(letter)
        if fate is not None:
            return fate
        self._chosen += 1
        self.ledger.note(letter.position, letter.count + 1)
        return Fate.CHOSEN

    def _hindrance(self, letter: Letter) -> Fate | None:
        hindrances = (
            (letter.is_left_out, Fate.LEFT_OUT),
            (letter.value is None and not self.tombstones, Fate.TOMBSTONE),
            (self.ledger.is_tried(letter), Fate.TRIED),
            (letter.count >= self.most_redrives, Fate.AT_LIMIT),
            (self.limit is not None and self._chosen >= self.limit, Fate.LATER),
        )
        return next((fate for holds, fate in hindrances if holds), None)


def record_of(letter: Letter, topic: str) -> Record:
    """Make what is published of a letter: the message as it first came, and behind its headers where that was.

    Parameters
    ----------
    letter : Letter
    topic : str
        The redrive topic.
    """
    count = (COUNT_HEADER, str(letter.count + 1).encode())
    time = letter.position.timestamp_ms
    return Record(
        topic=topic,
        value=letter.value,
        key=letter.key,
        headers=(*letter.headers, count, *letter.position.headers),
        timestamp_ms=time if time is not None and time > 0 else None,  # Kafka takes no others
    )


def kind_of(letter: Letter) -> Kind:
    """Say what a letter is counted by."""
    return letter.reason, letter.version, letter.schema


def redrive_topic(topic: str) -> str:
    """Name the redrive topic that belongs to a dead-letter topic.

    Raises
    ------
    SettingsError
    """
    prefix = topic.removesuffix(DEAD_LETTER_SUFFIX)
    if prefix in {topic, ""}:
        raise SettingsError(
            f"--topic {topic} is no topic of dead letters, whose names end in {DEAD_LETTER_SUFFIX}: "
            f"give --topic PREFIX{DEAD_LETTER_SUFFIX}"
        )
    return prefix + REDRIVE_SUFFIX


def checked_reasons(given: Iterable[str]) -> frozenset[str]:
    """Check reasons against the closed list.

    Raises
    ------
    SettingsError
        It names the reasons there are.
    """
    known, asked = _reasons(), frozenset(given)
    for reason in sorted(asked):
        if reason not in known:
            close = difflib.get_close_matches(reason, known, n=1)
            meant = f"did you mean {close[0]}? " if close else ""
            raise SettingsError(f"--reason {reason} is no reason: {meant}There are {', '.join(known)}")
    return asked


def _reasons() -> list[str]:
    (symbols,) = [
        each["type"]["symbols"]
        for each in schemas.load(schemas.DEAD_LETTER)["fields"]
        if each["name"] == "reason"
    ]
    return list(symbols)
