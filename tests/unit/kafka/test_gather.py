"""A batch is bounded in messages and bytes, whatever comes, and does not wait to be full."""

from collections.abc import Sequence

from broker.kafka.gather import MOST_AT_ONCE, Gatherer


class Given:
    """A message of a size."""

    def __init__(self, size: int) -> None:
        self._value = bytes(size)

    def error(self) -> None:
        return None

    def value(self) -> bytes:
        return self._value

    def key(self) -> bytes | None:
        return None

    def headers(self) -> list[tuple[str, bytes]] | None:
        return None


class Queue:
    """Messages that are there; asked for more it takes the time it is given."""

    def __init__(self, *sizes: int) -> None:
        self.left = [Given(size) for size in sizes]
        self.now = 0.0
        self.asked: list[int] = []

    def consume(self, limit: int, seconds: float) -> Sequence[Given]:
        self.asked.append(limit)
        taken, self.left = self.left[:limit], self.left[limit:]
        if len(taken) < limit:
            self.now += seconds
        return taken

    def gatherer(self, most: int) -> Gatherer:
        return Gatherer(self.consume, most)  # type: ignore[arg-type]


def test_messages_bound_a_batch() -> None:
    queue = Queue(*[10] * 100)
    assert len(queue.gatherer(2**30)(30, 1.0)) == 30
    assert queue.now == 0.0


def test_only_the_first_message_is_waited_for() -> None:
    queue = Queue(10, 10)
    assert len(queue.gatherer(2**30)(30, 1.0)) == 2
    assert queue.now == 0.0
    assert queue.gatherer(2**30)(30, 1.0) == []
    assert queue.now == 1.0


def test_bytes_bound_a_batch_once_sizes_are_known() -> None:
    queue = Queue(*[1_000_000] * 200)
    gather = queue.gatherer(4_000_000)
    first = gather(100, 1.0)
    assert 4 <= len(first) <= 5
    assert 4 <= len(gather(100, 1.0)) <= 5


def test_small_messages_after_a_giant_come_in_large_batches_again() -> None:
    queue = Queue(10_000_000, *[100] * 5000)
    gather = queue.gatherer(20_000_000)
    sizes = [len(gather(256, 0.0)) for _ in range(8)]
    assert sizes[-1] == 256


def test_giants_behind_small_ones_exceed_the_bound_by_few() -> None:
    queue = Queue(*[100] * 1000, *[10_000_000] * 100)
    gather = queue.gatherer(20_000_000)
    for _ in range(3):
        gather(256, 0.0)
    while queue.left:
        assert sum(len(one.value()) for one in gather(256, 0.0)) <= 20_000_000 + MOST_AT_ONCE * 10_000_000


class Laden(Given):
    """A message that is small but for its key and headers."""

    def __init__(self, size: int) -> None:
        super().__init__(10)
        self._load = bytes(size // 2)

    def key(self) -> bytes:
        return self._load

    def headers(self) -> list[tuple[str, bytes]]:
        return [("h", self._load)]


def test_keys_and_headers_count() -> None:
    queue = Queue()
    queue.left = [Laden(1_000_000) for _ in range(100)]
    assert len(queue.gatherer(4_000_000)(100, 1.0)) <= 5


def test_it_can_be_broken_off_between_two_steps() -> None:
    queue = Queue(*[10] * 100)
    gather = Gatherer(queue.consume, 10**9, lambda: len(queue.asked) == 2)  # type: ignore[arg-type]
    assert len(gather(100, 1.0)) == sum(queue.asked)
    assert len(queue.asked) == 2
