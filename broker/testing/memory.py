"""A source and a sink in memory, with the manners of Kafka's.

They are the ones the project's own tests turn the loop with, and are shipped for whoever writes a pipeline of
their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from broker.alert import Message, Record
from broker.errors import KafkaError


@dataclass
class MemorySource:
    """Messages from a list, as one member of a group that holds every partition.

    Attributes
    ----------
    messages : list of Message
    committed : dict
        Next offset by topic and partition, as committed; a source made with it begins there.
    closed : bool
    """

    messages: list[Message]
    committed: dict[tuple[str, int], int] = field(default_factory=dict)
    closed: bool = False
    _taken: int = 0

    def poll(self, limit: int, linger_seconds: float) -> Sequence[Message]:  # noqa: ARG002 -- nothing to wait for
        """Take the next messages that are not committed."""
        batch: list[Message] = []
        while self._taken < len(self.messages) and len(batch) < limit:
            message = self.messages[self._taken]
            self._taken += 1
            if message.offset >= self.committed.get((message.topic, message.partition), 0):
                batch.append(message)
        return batch

    def keep_alive(self) -> None:
        """There is nobody to lose it to."""

    def holds(self, message: Message) -> bool:  # noqa: ARG002 -- see above
        """Every partition stays ours."""
        return True

    @property
    def silent_seconds(self) -> float:
        """Memory always answers."""
        return 0.0

    def commit(self, batch: Sequence[Message]) -> None:
        """Keep the offsets after `batch`."""
        for message in batch:
            self.committed[message.topic, message.partition] = message.offset + 1

    @property
    def assigned(self) -> int | None:
        """Partitions that have messages."""
        return len({(message.topic, message.partition) for message in self.messages})

    @property
    def at_end(self) -> bool:
        """Whether all were taken."""
        return self._taken == len(self.messages)

    @property
    def lag(self) -> int:
        """Messages not yet taken."""
        return len(self.messages) - self._taken

    def close(self) -> None:
        """Note that it was left."""
        self.closed = True


@dataclass
class MemorySink:
    """Records kept in a list.

    Attributes
    ----------
    records : list of Record
        What was acknowledged.
    capacity : int or None
        Records taken before the sink refuses, as a full disk would.
    closed : bool
    """

    records: list[Record] = field(default_factory=list)
    capacity: int | None = None
    closed: bool = False

    def write(self, records: Sequence[Record]) -> None:
        """Keep records.

        Raises
        ------
        KafkaError
            When they exceed the capacity; those that fit are kept, as on a real cluster.
        """
        room = len(records) if self.capacity is None else self.capacity - len(self.records)
        self.records.extend(records[:room])
        if room < len(records):
            raise KafkaError(
                f"{len(records) - room} of {len(records)} records were not written: sink is full"
            )

    def close(self) -> None:
        """Note that it was left."""
        self.closed = True
