"""Where reading begins in partitions of which the group has committed nothing."""

from collections.abc import Callable, Collection
from datetime import datetime

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from broker.kafka.offsets import at_time, committed, watermarks
from broker.kafka.terms import Place, place_of


def placed(
    consumer: Consumer,
    partitions: list[TopicPartition],
    start: datetime | str,
    there_at_start: Collection[str],
    note: Callable[[dict[Place, int]], None],
) -> list[TopicPartition]:
    """Place partitions where ``start`` says; where the group has committed an offset, that stands.

    Parameters
    ----------
    consumer : Consumer
    partitions : list of TopicPartition
    start : datetime or str
        A time, or the end.
    there_at_start : collection of str
        Topics that were there when the program began: one made since is read from its beginning.
    note : callable
        Told where reading begins, to be committed with the next batch or on leaving: whoever takes over goes on from
        there, not from a later end.

    Returns
    -------
    list of TopicPartition
        The same partitions, with offsets.

    Raises
    ------
    KafkaError
        Where the cluster does not answer; nothing is noted then.
    """
    found = committed(consumer, partitions)
    stands = [partition for partition in found if partition.offset >= 0]
    fresh = [partition for partition in found if partition.offset < 0]
    if isinstance(start, datetime):
        begun = at_time(consumer, fresh, start)
        note({place_of(partition): partition.offset for partition in begun})
        return stands + begun
    new = [partition for partition in fresh if partition.topic not in there_at_start]
    known = {
        place_of(partition): watermarks(consumer, place_of(partition))[1]
        for partition in fresh
        if partition.topic in there_at_start
    }
    note(known)
    at_end = [TopicPartition(*place, offset) for place, offset in known.items()]
    return stands + at_end + [TopicPartition(one.topic, one.partition, OFFSET_BEGINNING) for one in new]
