"""The network between consumer and Kafka is cut, slowed and reset, and the sink made slow.

Toxiproxy stands before a listener of its own, so that source, sink or both pass through it. A slow disk of the cluster
is taken for what a client sees of it: acknowledgements that come late.
"""

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from . import toxiproxy
from .chaos import DELIVERIES, FULL, Record, Stage, alerts, long_form, packets
from .conftest import Cluster, needing
from .toxiproxy import ProxiedServer, Proxy, Toxiproxy

pytestmark = pytest.mark.kafka

COUNT = alerts(10_000)
SESSION_SECONDS = 6.0
POLL_SECONDS = 15.0
"""Above the time of a few pieces of a turn (64 alerts each), between which the consumer has a word with the group."""

SLOW_SECONDS = 25.0
"""Beyond the session, the poll interval and a transaction's time."""

MOST_SILENT_SECONDS = {"short": 2.0, "beyond the session": 12.0}

SLOW_KIB = 100
"""In a second, to a consumer's sink: a batch of a hundred alerts takes some seconds, fewer than a transaction lasts."""

GUESTS = 8 if FULL else 2

SLOW_GROUP = {"BROKER_KAFKA__EXTRA": f'{{"max.poll.interval.ms": {int(1000 * POLL_SECONDS)}}}'}


@pytest.fixture(scope="module")
def proxied() -> Iterator[ProxiedServer]:
    if lacking := toxiproxy.missing():
        pytest.skip(lacking)
    needing()
    with ProxiedServer() as server:
        yield server


@pytest.fixture(scope="module")
def proxy(proxied: ProxiedServer) -> Iterator[Proxy]:
    with Toxiproxy() as toxic:
        yield toxic.before(proxied.behind, proxied.proxied)


@pytest.fixture(params=DELIVERIES)
def stage(
    request: pytest.FixtureRequest, proxied: ProxiedServer, untrained_model: Path, tmp_path: Path
) -> Iterator[Stage]:
    stage = Stage(
        Cluster(proxied.bootstrap_servers), untrained_model, request.param, tmp_path, proxied.proxied
    )
    stage.count = COUNT
    yield stage
    stage.close()


@long_form
def test_a_network_that_is_cut(stage: Stage, proxy: Proxy, record: Record) -> None:
    stage.set()
    stage.consumer()
    cuts = [*MOST_SILENT_SECONDS.values()] * 2
    for number, seconds in enumerate(cuts):
        stage.progress((number + 0.5) / (len(cuts) + 1))
        proxy.cut()
        time.sleep(seconds)
        proxy.mend()
    stage.finish()
    stage.check(f"network cut {len(cuts)} times, the longest for {max(cuts):g} s", record)
    stage.kept_going()


def hurt_again_and_again(
    stage: Stage, toxics: Sequence[contextlib.AbstractContextManager[None]], seconds: float
) -> None:
    """Have the network suffer at even distances, and be well between."""
    stage.set()
    stage.consumer()
    for number, toxic in enumerate(toxics):
        stage.progress((number + 0.5) / (len(toxics) + 1))
        with toxic:
            time.sleep(seconds)
    stage.finish()


@long_form
@pytest.mark.parametrize("lasting", MOST_SILENT_SECONDS)
def test_a_network_that_swallows_everything(stage: Stage, proxy: Proxy, record: Record, lasting: str) -> None:
    """No connection is closed, and nothing comes through."""
    toxics = [proxy.with_toxic("timeout", timeout=0) for _ in range(3)]
    hurt_again_and_again(stage, toxics, MOST_SILENT_SECONDS[lasting])
    stage.check(f"black hole 3 times, {lasting}", record)
    stage.kept_going()


@long_form
def test_connections_that_are_reset(stage: Stage, proxy: Proxy, record: Record) -> None:
    """Each connection ends with RST a moment after it began, again and again."""
    toxics = [proxy.with_toxic("reset_peer", timeout=50 * (number % 4)) for number in range(8)]
    hurt_again_and_again(stage, toxics, 1.5)
    stage.check("8 times connections reset", record)
    stage.kept_going()


@long_form
def test_connections_that_break_in_mid_message(stage: Stage, proxy: Proxy, record: Record) -> None:
    """Each connection ends after so many bytes, most of them within a request or an answer."""
    hurt_again_and_again(stage, [proxy.with_toxic("limit_data", bytes=150_001) for _ in range(4)], 5.0)
    stage.check("connections broken in mid-message", record)
    stage.kept_going()


@long_form
def test_a_network_that_is_slow(stage: Stage, proxy: Proxy, record: Record) -> None:
    stage.set()
    stage.consumer()
    stage.progress(0.1)
    with (
        proxy.with_toxic("latency", latency=150, jitter=100),
        proxy.with_toxic("bandwidth", rate=1_000),
    ):
        before = stage.done()
        stage.until(lambda: stage.done() > before + 0.1 * stage.count, "progress over a slow network")
    stage.finish()
    stage.check("latency of 300 ms both ways together, 1 MB/s", record)
    stage.never_fenced()
    stage.kept_going()


@long_form
@pytest.mark.parametrize("kind", ["bandwidth", "latency"])
def test_a_sink_slower_than_session_and_poll_interval(
    stage: Stage, proxied: ProxiedServer, proxy: Proxy, record: Record, kind: str
) -> None:
    """One write takes longer than the group waits for a member: it stays one, takes no more, and is not fenced."""
    stage.servers = proxied.bootstrap_servers
    stage.settings |= SLOW_GROUP | {"BROKER_SINK__BOOTSTRAP_SERVERS": proxied.proxied}
    stage.set()
    stage.consumer()
    stage.progress(0.2)
    toxic = (
        proxy.with_toxic("bandwidth", ("upstream",), rate=2)
        if kind == "bandwidth"
        else proxy.with_toxic("latency", ("downstream",), latency=int(1000 * SLOW_SECONDS))
    )
    with toxic:
        held = stage.done()
        time.sleep(SLOW_SECONDS)
        slow = stage.done() - held
    stage.finish()
    stage.check(f"a sink slow by {kind} for {SLOW_SECONDS:g} s", record)
    assert slow < 0.2 * stage.count, "the sink was not slow"
    stage.never_fenced()
    stage.kept_going()


def test_partitions_that_change_hands_while_a_transaction_is_written(
    proxied: ProxiedServer, proxy: Proxy, untrained_model: Path, tmp_path: Path, record: Record
) -> None:
    """Others, who write fast, come and go while one holds a batch for seconds: it is theirs or his, never both's."""
    cluster = Cluster(proxied.bootstrap_servers)
    stage = Stage(cluster, untrained_model, "exactly-once", tmp_path, proxied.bootstrap_servers)
    try:
        stage.set(packets(200))
        stage.consumer(BROKER_SINK__BOOTSTRAP_SERVERS=proxied.proxied, BROKER_CONSUMER__BATCH_SIZE="100")
        stage.until(lambda: stage.done() > 0, "the first transaction")
        with proxy.with_toxic("bandwidth", ("upstream",), rate=SLOW_KIB):
            for number in range(1, GUESTS + 1):
                stage.send(packets(200))
                guest = stage.consumer(BROKER_CONSUMER__BATCH_SIZE="20")
                stage.until(lambda: "assigned alerts" in stage.told(number), "the guest")  # noqa: B023
                time.sleep(3.0)
                guest.send_signal(signal.SIGTERM)
                guest.wait(60)
        stage.finish()
        assert stage.told(0).count("revoked alerts") >= GUESTS, stage.told(0)
        assert [process.returncode for process in stage.running] == [0] * (1 + GUESTS), stage.logs()
        ledger = stage.check(f"{GUESTS} others come and go while one writes slowly", record)
        assert (ledger.repeats, ledger.lost) == (0, set())
    finally:
        stage.close()
