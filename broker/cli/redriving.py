"""The work of ``broker-redrive``: over the dead letters twice, and what became of them as a table."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import typer

from broker.alert import Message, Record
from broker.cli.tables import table
from broker.errors import AlertError
from broker.letter_files import LetterFiles
from broker.letters import Letter, LetterReader
from broker.redrive import Choice, Fate, Judge, Kind, kind_of, record_of

BATCH = 100
"""Letters published together; few enough that a progress bar moves."""

LINGER_SECONDS = 0.2

NAMED = 10
"""Messages that are told one by one; the others are only counted."""


class Source(Protocol):
    """Where letters come from."""

    def poll(self, limit: int, linger_seconds: float) -> Sequence[Message]:
        """Take the next messages."""

    @property
    def at_end(self) -> bool:
        """Whether the end that was there at start is reached."""


Turn = Callable[[int], None]
"""Told of how many messages were gone through."""


@dataclass
class Redrive:
    """Goes over the dead letters twice: first to learn what was tried, then to do something about the others.

    Attributes
    ----------
    into : str
        The redrive topic.
    wanted : Choice
    judge : Judge
    publish : callable or None
        Takes records, and returns when they are acknowledged; None publishes nothing.
    files : LetterFiles or None
    again : bool
        Whether what the redrive topic says of earlier runs is left aside.
    tally : Counter
        Letters that were meant, by kind and fate.
    passed_over, unreadable, exported : int
    """

    into: str
    wanted: Choice
    judge: Judge
    publish: Callable[[list[Record]], None] | None = None
    files: LetterFiles | None = None
    again: bool = False
    tally: Counter[tuple[Kind, Fate]] = field(default_factory=Counter)
    passed_over: int = 0
    unreadable: int = 0
    exported: int = 0
    _read: LetterReader = field(default_factory=LetterReader)
    _named: int = 0

    def learn(self, source: Source, stop: threading.Event, turn: Turn) -> None:
        """Go over dead letters and redriven messages, and keep what was tried."""
        for batch in _batches(source, stop):
            for message in batch:
                self._learn(message)
            turn(len(batch))

    def _learn(self, message: Message) -> None:
        ledger = self.judge.ledger
        if message.topic == self.into:
            if not self.again:
                ledger.note_redriven(message)
            return
        ledger.reach(message)
        try:
            letter = self._read(message)
        except AlertError:
            return  # told when its turn comes
        ledger.note(letter.position, letter.count)

    def work(self, source: Source, stop: threading.Event, turn: Turn) -> None:
        """Go over the same dead letters again, and publish, write or only count those that are meant."""
        for batch in _batches(source, stop):
            there = [message for message in batch if self.judge.ledger.has_reached(message)]
            letters = [
                letter for message in there if (letter := self._letter(message)) and self._means(letter)
            ]
            self._do(letters)
            turn(len(there))

    def _letter(self, message: Message) -> Letter | None:
        try:
            return self._read(message)
        except AlertError as error:
            self.unreadable += 1
            place = f"{message.topic}[{message.partition}] offset {message.offset}"
            self._tell(f"{place} is not a dead letter of this broker: {error.detail}")
            return None

    def _means(self, letter: Letter) -> bool:
        is_wanted = self.wanted(letter)
        self.passed_over += not is_wanted
        return is_wanted

    def _do(self, letters: list[Letter]) -> None:
        fates = [self.judge(letter) for letter in letters]
        if self.publish is not None:
            chosen = [one for one, fate in zip(letters, fates, strict=True) if fate is Fate.CHOSEN]
            self.publish([record_of(letter, self.into) for letter in chosen])
        if self.files is not None:
            for letter in letters:
                self.files.write(letter)
            self.exported += len(letters)
        # Counted when it is done: what a table says happened has happened.
        self.tally.update((kind_of(one), fate) for one, fate in zip(letters, fates, strict=True))
        for letter, fate in zip(letters, fates, strict=True):
            if fate is Fate.LEFT_OUT:
                self._tell(f"{letter.position}: the letter does not hold the message's bytes: {letter.error}")

    def _tell(self, line: str) -> None:
        self._named += 1
        if self._named <= NAMED:
            typer.echo(line, err=True)
        elif self._named == NAMED + 1:
            typer.echo("further ones are counted, not named", err=True)

    @property
    def chosen(self) -> int:
        """Letters that are redriven, or would be."""
        return sum(count for (_, fate), count in self.tally.items() if fate is Fate.CHOSEN)


def _batches(source: Source, stop: threading.Event) -> Iterator[Sequence[Message]]:
    while not stop.is_set() and not source.at_end:
        yield source.poll(BATCH, LINGER_SECONDS)


def lines(tally: Counter[tuple[Kind, Fate]], *, is_done: bool) -> list[str]:
    """Lay out what became of letters, by reason, version and schema; fates that nothing met have no column."""
    fates = [fate for fate in Fate if fate is Fate.CHOSEN or any(fate is met for _, met in tally)]
    kinds = sorted({kind for kind, _ in tally})
    rows = [(*kind, sum(tally[kind, f] for f in Fate), *(tally[kind, f] for f in fates)) for kind in kinds]
    names = ["to redrive" if fate is Fate.CHOSEN and not is_done else fate.value for fate in fates]
    return table(["reason", "rejected by", "schema", "letters", *names], rows)
