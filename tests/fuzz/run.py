"""Mutated messages through the broker, a batch at a time."""

import signal
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import numpy as np

from broker.alert import Enriched, Message, Outcome, Record
from broker.avro.container import split_container
from broker.avro.decode import decode
from broker.avro.deserializer import Deserializer
from broker.avro.store import SchemaStore
from broker.errors import AlertError
from broker.inference import Model
from broker.pipeline import Pipeline
from broker.records import RecordBuilder
from broker.survey import WANTED, read_alert

from .judge import faults, label
from .memory import Peak
from .mutations import MUTATIONS, Mutation
from .seeds import Seed

BATCH = 16
"""Messages of one mutation."""

FEWER = {"container_bomb": 2, "avro_longer_history": 4}
"""Messages in a batch of those that take fastavro seconds to check."""

PACKETS = 6
"""In a batch."""

SLOWEST = 1.0
"""Seconds that a message may take, alone: of the processor, so that a busy machine makes no finding."""

MEMORY = 96 * 1024 * 1024
"""Bytes that a message may take beside eight times its own size: a block of 16 MiB, what is made of it, and xz."""

GIVEN_UP = 60
"""Seconds after which a batch is interrupted."""

TRIES = 5
"""Packets that a mutation is tried on until it changes one: a packet without history has no count."""

NEIGHBOURS_EVERY = 8
"""Batches between two looks at what a mutated message does to those beside it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be.

    Attributes
    ----------
    kind : str
        ``crash``, ``hang``, ``wrong`` or ``memory``.
    mutation : str
    batch : int
        With the run's seed it makes the same bytes again.
    seed : str
        Name of the packet.
    what : str
        The traceback, or what does not hold.
    value : bytes
        The mutated message.
    """

    kind: str
    mutation: str
    batch: int
    seed: str
    what: str
    value: bytes


@dataclass
class Tally:
    """What became of the mutations of one kind."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    peak: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    """One mutated message and where it comes from."""

    seed: Seed
    value: bytes


class Overdue(BaseException):
    """A batch that does not end."""


class Broker:
    """Everything a message passes, but for Kafka."""

    def __init__(self, model: Path | None = None) -> None:
        store = SchemaStore()
        self.pipeline = Pipeline(Deserializer(WANTED, store=store), Model.load(model, threads=1))
        self.build = RecordBuilder(lambda topic: topic, "0.0.fuzz", store)
        self._unvalidated = Deserializer(WANTED, validate="off")

    def __call__(self, messages: Sequence[Message]) -> list[tuple[Outcome, Record]]:
        """Outcomes and records."""
        parcels = map(self.build, self.pipeline(messages))
        return [(parcel.outcome, parcel.records[0]) for parcel in parcels]

    def other_readers(self, value: bytes, record: bytes) -> None:
        """Read as ``--validate off``, ``broker-replay`` and a subscriber do; what they refuse is an `AlertError`."""
        for read in (
            lambda: read_alert(self._unvalidated(value)),
            # Subscribers may be sent anything: the message itself stands for it.
            lambda: decode(value),
            lambda: decode(record[: len(value) // 2]),
            *((lambda: split_container(value),) if value[-1:] < b"\x40" else ()),
        ):
            try:
                read()
            except AlertError:
                continue


class Fuzzer:
    """Runs batches and keeps what it found.

    Parameters
    ----------
    seeds : sequence of Seed
    seed : int
        Of chance: the same gives the same mutations.
    names : sequence of str, optional
        Of `MUTATIONS`; all by default.
    model : Path, optional
        The packaged one by default.
    """

    def __init__(
        self,
        seeds: Sequence[Seed],
        seed: int,
        names: Sequence[str] = tuple(MUTATIONS),
        model: Path | None = None,
    ) -> None:
        self._seeds = seeds
        self._seed = seed
        self._names = names
        self._broker = Broker(model)
        self.tallies = {name: Tally() for name in names}
        self.findings: list[Finding] = []
        self.resident = 0

    def batch(self, number: int) -> None:
        """Make a batch of mutations and judge what becomes of them."""
        name = self._names[number % len(self._names)]
        cases = list(self.cases(number))
        messages = _messages([case.value for case in cases])
        tally = self.tallies[name]
        with Peak() as peak:
            judged, elapsed = self._judged(name, number, cases, messages)
        tally.peak = max(tally.peak, peak.grown)
        if peak.grown > sum(MEMORY + 8 * len(case.value) for case in cases):
            self._found("memory", name, number, cases[0], f"the batch took {peak.grown} bytes")
        tally.outcomes.update(judged)
        if elapsed > SLOWEST:
            elapsed = self._alone(name, number, cases)
        tally.slowest = max(tally.slowest, elapsed)
        if number % NEIGHBOURS_EVERY == 0:
            self._neighbours(name, number, cases)

    def cases(self, number: int) -> Iterator[Case]:
        """Mutated messages of a batch: the same for the same seed and number."""
        random = np.random.default_rng([self._seed, number])
        mutate = MUTATIONS[self._names[number % len(self._names)]]
        # Few packets a batch: they are taken apart once.
        seeds = [self._seeds[int(i)] for i in random.integers(len(self._seeds), size=PACKETS)]
        for _ in range(FEWER.get(self._names[number % len(self._names)], BATCH)):
            yield self._case(mutate, random, seeds)

    def _case(self, mutate: Mutation, random: np.random.Generator, seeds: Sequence[Seed]) -> Case:
        for _ in range(TRIES):
            seed = seeds[int(random.integers(len(seeds)))]
            value = mutate(seed, random, seeds)
            if value != seed.value:
                break
        return Case(seed, value)

    def _judged(
        self, name: str, number: int, cases: Sequence[Case], messages: Sequence[Message]
    ) -> tuple[list[str], float]:
        """Label of each message, and the seconds of the batch; where it fails, each is tried alone."""
        start = time.process_time()
        try:
            with _limit():
                published = self._broker(messages)
        except (Exception, Overdue):  # noqa: BLE001 - a crash is what is looked for
            return [self._judged_alone(name, number, case) for case in cases], 0.0
        elapsed = time.process_time() - start
        if len(published) != len(messages):
            self._found("wrong", name, number, cases[0], f"{len(published)} outcomes of {len(messages)}")
        labels = [
            self._label(name, number, case, message, *one)
            for case, message, one in zip(cases, messages, published, strict=True)
        ]
        return labels, elapsed

    def _judged_alone(self, name: str, number: int, case: Case) -> str:
        (message,) = _messages([case.value])
        try:
            with _limit():
                (published,) = self._broker([message])
        except Overdue:
            return self._found("hang", name, number, case, f"interrupted after {GIVEN_UP} s")
        except Exception:  # noqa: BLE001
            return self._found("crash", name, number, case, traceback.format_exc())
        return self._label(name, number, case, message, *published)

    def _label(
        self, name: str, number: int, case: Case, message: Message, outcome: Outcome, record: Record
    ) -> str:
        try:
            for fault in faults(message, outcome, record):
                self._found("wrong", name, number, case, fault)
            with _limit():
                self._broker.other_readers(case.value, record.value)
        except (Exception, Overdue):  # noqa: BLE001
            self._found("crash", name, number, case, traceback.format_exc())
        return label(outcome)

    def _alone(self, name: str, number: int, cases: Sequence[Case]) -> float:
        """Slowest of a batch, each message alone; only what is slow three times is no noise."""
        slowest = 0.0
        for case in cases:
            took = self._seconds(case)
            if took > SLOWEST:
                took = min(took, *(self._seconds(case) for _ in range(2)))
            if took > SLOWEST:
                self._found("hang", name, number, case, f"takes {took:.2f} s")
            slowest = max(slowest, took)
        return slowest

    def _seconds(self, case: Case) -> float:
        start = time.process_time()
        try:
            with _limit():
                self._broker(_messages([case.value]))
        except (Exception, Overdue):  # noqa: BLE001 - told by `_judged`
            pass
        return time.process_time() - start

    def _neighbours(self, name: str, number: int, cases: Sequence[Case]) -> None:
        """A mutated message between sound ones leaves theirs as they are without it, bit for bit."""
        random = np.random.default_rng([self._seed, number, 1])
        sound = [self._seeds[int(i)].value for i in random.integers(len(self._seeds), size=4)]
        case = cases[int(random.integers(len(cases)))]
        try:
            between = self._broker.pipeline(_messages([*sound[:2], case.value, *sound[2:]]))
        except Exception:  # noqa: BLE001 - told by `_judged`
            return
        without = self._broker.pipeline(_messages(sound))
        if isinstance(between[2], Enriched):
            # The network is compared at one batch size: another may sum in another order.
            without = self._broker.pipeline(_messages([*sound[:2], sound[0], *sound[2:]]))
            del without[2]
        del between[2]
        for one, other in zip(between, without, strict=True):
            if _bits(one) != _bits(other):
                self._found("wrong", name, number, case, "the results of the messages beside it change")
                return

    def _found(self, kind: str, name: str, number: int, case: Case, what: str) -> str:
        self.findings.append(Finding(kind, name, number, case.seed.name, what, case.value))
        return kind


def _messages(values: Sequence[bytes]) -> list[Message]:
    return [
        Message(value, "alerts", 3, offset, b"key", (("their", b"\xff"),), 1_700_000_000_000 + offset)
        for offset, value in enumerate(values)
    ]


def _bits(outcome: Outcome) -> object:
    if not isinstance(outcome, Enriched):
        return outcome.reason, outcome.detail
    enrichment = outcome.enrichment
    arrays = (enrichment.embedding, enrichment.morphology, enrichment.seen.valid_fraction)
    redshift = enrichment.redshift
    return (
        *(None if array is None else array.tobytes() for array in arrays),
        None if redshift is None else (redshift.pdf.tobytes(), redshift.point, redshift.low, redshift.high),
        (enrichment.anomaly, enrichment.anomaly_interesting, enrichment.anomaly_artefact),
        (enrichment.anomaly_reason, enrichment.flags, enrichment.bands_used, enrichment.seen.psf_fwhm),
    )


@contextmanager
def _limit() -> Iterator[None]:
    """Interrupt what does not end; between two bytecodes, which Python code always comes to."""

    def overdue(_number: int, _frame: FrameType | None) -> None:
        raise Overdue

    before = signal.signal(signal.SIGALRM, overdue)
    signal.setitimer(signal.ITIMER_REAL, GIVEN_UP)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
