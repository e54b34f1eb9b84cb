"""Records and offsets in one Kafka transaction."""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException, TopicPartition

from broker.alert import Message, Record
from broker.errors import ConfigurationError, KafkaError, TooLarge, Unavailable
from broker.kafka.faults import OF_THE_MOMENT, OF_THE_PRODUCER, TAKEN_OVER, TOO_LARGE, as_ours
from broker.kafka.sink import Flight, KafkaSink
from broker.kafka.transactional_ids import fresh
from broker.kafka.watched import left_behind, watched
from broker.settings import Security, SinkSettings

TRANSACTION_SECONDS = 9.0
"""After so long the coordinator may end a transaction that was left. It looks for such each
``transaction.abort.timed.out.transaction.cleanup.interval.ms``, a setting of the cluster: with 1 s there, readers of
committed records wait 10 s at most; with Kafka's default of 10 s, twice that."""

CALL_SECONDS = 1.0
"""One wait inside librdkafka, so that signal handlers and the group get their turn; a call that ran out of time is
called again, and goes on where it was."""

STUCK_SECONDS = 10.0
"""Ten times what a call was given: it does not come back any more, and its producer is left to its fate."""

ANSWER_SECONDS = 30.0
"""How long one producer waits for a coordinator; then a new one takes its place, which looks for it anew: after a
coordinator was killed and came back, librdkafka's connection to it was seen to stay down."""

RIVALRY_SECONDS = 60.0
"""Put out twice within this time, a producer with a stated id has a rival of the same id."""

MOST_LEFT_BEHIND = 30
"""Calls that never came back, each with a producer that cannot be freed: then the process has to begin anew. A producer
was measured to take 1.5 MB and four threads."""


class Group(Protocol):
    """What a transaction must know of the consumer group."""

    def holds(self, message: Message) -> bool:
        """Whether the message's partition is ours, without a break since it was taken."""

    def offsets(self, batch: Sequence[Message]) -> list[TopicPartition]:
        """Positions after `batch`."""

    def settled(self, batch: Sequence[Message]) -> None:
        """Note that the offsets after `batch` are committed."""

    def stands_after(self, batch: Sequence[Message]) -> bool:
        """Whether the cluster has the offsets after `batch` for the group's."""

    def membership(self) -> Any:
        """Metadata of our membership, by which the coordinator refuses those who are members no more."""


class KafkaTransactions(KafkaSink):
    """A transactional producer.

    Parameters
    ----------
    bootstrap_servers, security, settings, connect_seconds, stop, on_wait
        As of `KafkaSink`.
    group : Group
    """

    _all_or_none = True

    def __init__(
        self,
        bootstrap_servers: str,
        security: Security,
        settings: SinkSettings,
        *,
        connect_seconds: float,
        stop: threading.Event,
        on_wait: Callable[[str], None],
        group: Group,
    ) -> None:
        self._group = group
        self._stated = settings.transactional_id
        # Who writes what is guarded by the group's generation, not by the id: a fresh one needs no care to be unique.
        self._id = self._stated or fresh()
        self._put_out_at = self._opened_at = -RIVALRY_SECONDS
        super().__init__(
            bootstrap_servers,
            security,
            settings,
            connect_seconds=connect_seconds,
            stop=stop,
            on_wait=on_wait,
        )
        self._begun = False
        self._doubtful: Sequence[Message] = ()
        self._left_open: dict[tuple[str, int], Record] = {}

    def _owned(self) -> dict[str, Any]:
        milliseconds = int(TRANSACTION_SECONDS * 1000)
        return {
            "transactional.id": self._id,
            "transaction.timeout.ms": milliseconds,
            "message.timeout.ms": milliseconds,
        }

    def _renew(self) -> None:
        super()._renew()
        self._begun = False

    def transact(self, records: Sequence[Record], batch: Sequence[Message]) -> None:
        """Publish records and commit the offsets after `batch`, both or neither.

        Raises
        ------
        Unavailable
            Neither, for a cause that passes, or as a partition of the batch went to others meanwhile.
        TooSlow
            Neither: the records take longer than a transaction lasts.
        TooLarge
            Neither: a record is larger than its topic takes.
        KafkaError
            Neither.
        ConfigurationError
            When the cluster refuses us, or another producer has our id.
        """
        self._begin()
        if self._went_through(batch):
            self._group.settled(batch)
            return
        if self._left_open:
            self._give_up_what_was_left(batch)
        try:
            self._open()
            self.write(records)
            self._send_offsets(batch)
            self._commit(batch)
        except (Unavailable, TooLarge):
            # It is not given up by its own producer, see `_commit`, but by the next, see `_give_up_what_was_left`.
            self._renew()
            for place, numbers in self._flight.places.items():
                self._left_open[place] = min(
                    (records[number] for number in numbers), key=lambda one: one.size
                )
            raise
        self._doubtful = ()
        self._group.settled(batch)

    def _went_through(self, batch: Sequence[Message]) -> bool:
        """Whether this batch was committed, and only the answer to it was lost."""
        if not self._doubtful:
            return False
        places = {(message.topic, message.partition, message.offset) for message in self._doubtful}
        stands = self._group.stands_after(self._doubtful)
        self._doubtful = ()
        if stands:
            # What it wrote is committed, or will be with what comes: it must not be given up.
            self._left_open.clear()
        return stands and all(
            (message.topic, message.partition, message.offset) in places for message in batch
        )

    def _send_offsets(self, batch: Sequence[Message]) -> None:
        """Send the offsets after a batch that is still all ours, in the name of the membership by which it is.

        Partitions change hands while we wait, so both are taken at once and not again: a later membership would
        vouch for partitions that it does not hold. The coordinator knows the generation, not who has what.
        """
        if not all(map(self._group.holds, batch)):
            raise Unavailable("a partition went to others while its records were written")
        offsets, membership = self._group.offsets(batch), self._group.membership()
        self._call(
            "sending offsets",
            lambda: self._producer.send_offsets_to_transaction(offsets, membership, CALL_SECONDS),
        )

    def _commit(self, batch: Sequence[Message]) -> None:
        """Commit, and use a producer no more that had to ask twice.

        A request to end a transaction that was sent again, as the first got no answer, may be taken twice. librdkafka
        keeps its epoch from one transaction to the next, so the coordinator would take the late one for the next: some
        partitions of it would be given up, and the rest committed with its offsets (KIP-890, "hanging transactions").
        A new producer has a new epoch, by which the late one is refused.
        """
        self._doubtful = tuple(batch)
        tries = self._call(
            "committing a transaction",
            lambda: self._producer.commit_transaction(CALL_SECONDS),
            ANSWER_SECONDS,
        )
        if tries > 1:
            self._renew()

    def _begin(self) -> None:
        """Make the producer ready, which also ends what an earlier one of its id has left."""
        if self._begun:
            return
        try:
            self._call(
                "beginning transactions",
                lambda: self._producer.init_transactions(CALL_SECONDS),
                ANSWER_SECONDS,
            )
        except Unavailable:
            self._renew()
            raise
        self._begun = True

    def _give_up_what_was_left(self, batch: Sequence[Message]) -> None:
        """Write to every partition that a failed transaction wrote to, and to the group's offsets, and give that up.

        A coordinator that begins again may take a transaction for given up without telling its partitions (Kafka 4.4
        was seen to, where a broker was killed while it was open). What it wrote there would stay open, and the next
        commit of the same id would be one of these records and offsets too. Giving up ends whatever is open there.

        Raises
        ------
        Unavailable
            When that fails; what was left is kept for another try.
        """
        self._flight = Flight()
        try:
            self._open()
            for number, ((_, partition), record) in enumerate(self._left_open.items()):
                self._produce(number, record, partition)
            while self._flight.waiting:
                self._wait()
            if self._flight.failures:
                raise self._not_given_up()
            self._send_offsets(batch)
            self._call(
                "giving up what was left open",
                lambda: self._producer.abort_transaction(CALL_SECONDS),
                ANSWER_SECONDS,
            )
        finally:
            self._renew()  # no other transaction by one that has given one up, see `_commit`
        self._left_open.clear()
        self._begin()

    def _not_given_up(self) -> KafkaError | ConfigurationError:
        """Tell why; where even the smallest record is too large now, nothing of ours is expected to lie open."""
        error = self._refusal(list(self._left_open.values()))
        places = list(self._left_open)
        for number, fault in self._flight.failures.items():
            if fault.code() in TOO_LARGE:
                del self._left_open[places[number]]
        return Unavailable(str(error)) if isinstance(error, TooLarge) else error

    def _open(self) -> None:
        self._opened_at = time.monotonic()
        try:
            self._producer.begin_transaction()
        except KafkaException as error:
            raise self._broken(error.args[0], "beginning a transaction") from error

    def _call(self, doing: str, call: Callable[[], Any], seconds: float = TRANSACTION_SECONDS) -> int:
        """Call until it is done, by default as long as a transaction lasts; give how often."""
        deadline = time.monotonic() + seconds
        tries = 0
        while True:
            tries += 1
            try:
                watched(call, STUCK_SECONDS, lambda: self._tell(f"{doing}: no answer yet"))
            except TimeoutError as error:
                self._count_left_behind(doing)
                raise Unavailable(f"{doing}: no answer from librdkafka in {STUCK_SECONDS:g} s") from error
            except KafkaException as error:
                fault = error.args[0]
                self._listener.check()
                if not fault.retriable() or time.monotonic() >= deadline:
                    raise self._broken(fault, doing) from error
                self._tell(f"{doing}: {fault.str()}")
            else:
                return tries

    def _count_left_behind(self, doing: str) -> None:
        if left_behind() > MOST_LEFT_BEHIND:
            raise KafkaError(
                f"{doing}: {MOST_LEFT_BEHIND} calls into librdkafka have not come back, each holds a producer: "
                "only a new start frees them"
            )

    def _tell(self, why: str) -> None:
        if self._on_wait is not None:
            self._on_wait(why)

    def _broken(self, fault: Fault, doing: str) -> KafkaError | ConfigurationError:
        """Tell what passes from what does not."""
        if fault.code() in OF_THE_PRODUCER:
            return as_ours(fault, doing)
        if fault.code() in TAKEN_OVER or fault.fatal():
            if fault.code() in TAKEN_OVER:
                self._meet_rival(doing)
            return Unavailable(f"{doing}: {fault.str()}")
        if fault.txn_requires_abort():
            self._doubtful = ()
        if fault.txn_requires_abort() or fault.retriable() or fault.code() in OF_THE_MOMENT:
            return Unavailable(f"{doing}: {fault.str()}")
        return as_ours(fault, doing)

    def _meet_rival(self, doing: str) -> None:
        now = time.monotonic()
        if now - self._opened_at >= TRANSACTION_SECONDS:  # then it was the coordinator, for our slowness
            return
        if self._stated is not None and now - self._put_out_at < RIVALRY_SECONDS:
            raise ConfigurationError(
                f"{doing}: put out twice within {RIVALRY_SECONDS:g} s: another producer has the transactional id "
                f"{self._stated}: give each consumer its own sink.transactional_id, or none"
            )
        self._put_out_at = now

    def close(self) -> None:
        """Drop the connection; what is open is given up, so that readers need not wait for its time to end."""
        with contextlib.suppress(KafkaException, TimeoutError):
            watched(lambda: self._producer.abort_transaction(CALL_SECONDS), 2 * CALL_SECONDS, lambda: None)
        with contextlib.suppress(KafkaException):
            self._producer.purge()
            self._producer.flush(0)
