"""The schema registry goes down while Kafka is well; and outputs change to its ids midway."""

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import schemas
from broker.testing.minors import minor, rubin_packet

from . import toxiproxy
from .chaos import DELIVERIES, OUTPUTS, Record, Stage, alerts, long_form, packets
from .conftest import Cluster
from .ledger import read_all
from .registry_server import RegistryServer
from .test_registry_on_kafka import FIELD
from .toxiproxy import Proxy, Toxiproxy

pytestmark = [pytest.mark.kafka, long_form]

COUNT = alerts(10_000)
MINORS = {
    1100 + n: minor("lsst.v11_1", f"lsst.v11_{n}", {("diaSource", 9): {**FIELD, "name": f"fresh{n}"}})
    for n in (2, 3, 4)
}
"""Schemas that the bundle lacks, by their id."""

RESERVED = 1_900_000_000
QUIET_SECONDS = 30.0
MOST_HELD_UP_SECONDS = 25.0
"""As documented: for so long at most one lookup holds up the alerts that need none, once in `QUIET_SECONDS`."""

NOISE_SECONDS = 10.0
"""What a busy machine may add."""


@pytest.fixture(scope="module")
def loaded(registry: RegistryServer) -> RegistryServer:
    """The registry, with the schemas of `MINORS`."""
    for schema_id, schema in MINORS.items():
        registry.load(f"chaos-{schema_id}", schema_id, schema)
    return registry


@pytest.fixture(scope="module")
def proxy(loaded: RegistryServer) -> Iterator[Proxy]:
    if lacking := toxiproxy.missing():
        pytest.skip(lacking)
    with Toxiproxy() as toxic:
        yield toxic.before(loaded.address)


@pytest.fixture(params=DELIVERIES)
def stage(
    request: pytest.FixtureRequest, cluster: Cluster, untrained_model: Path, tmp_path: Path
) -> Iterator[Stage]:
    stage = Stage(cluster, untrained_model, request.param, tmp_path, count=COUNT)
    for schema_id, schema in MINORS.items():
        output = schemas.enriched(schema, schema_id)
        stage.known[schemas.fingerprint(output)] = output
    yield stage
    stage.close()


def mixed(count: int, *ids: int) -> list[bytes]:
    """As `packets`, every fifth of them of a schema that the bundle lacks."""
    values = packets(count)
    for number, n in enumerate(range(0, count, 5)):
        schema_id = ids[number % len(ids)]
        values[n] = rubin_packet(MINORS[schema_id], schema_id, alert_id=1_000_000 + n)
    return values


def id_of(value: bytes) -> int:
    """Id that stands in a message, where it is framed."""
    return int.from_bytes(value[1:5], "big") if value.startswith(b"\0") else 0


@contextlib.contextmanager
def out(proxy: Proxy, how: str) -> Iterator[None]:
    """Have the registry down, or silent."""
    if how == "silent":
        with proxy.with_toxic("timeout", timeout=0):
            yield
        return
    proxy.cut()
    try:
        yield
    finally:
        proxy.mend()


def longest_standstill(stage: Stage) -> float:
    """Wait until all that was sent is done; give the longest time in which nothing was."""
    longest, done, since = 0.0, stage.done(), time.monotonic()
    while done < stage.count:
        assert longest < 300, stage.logs()
        now = stage.done()
        longest = max(longest, time.monotonic() - since)
        if now > done:
            done, since = now, time.monotonic()
        time.sleep(0.25)
    return longest


@pytest.mark.parametrize("how", ["down", "silent"])
@pytest.mark.parametrize("when", ["at start", "midway"])
def test_a_registry_that_is_out_of_reach(
    stage: Stage, loaded: RegistryServer, proxy: Proxy, record: Record, when: str, how: str
) -> None:
    """Alerts of schemas not yet known become dead letters, those that are known go on; then it is back."""
    stage.settings |= {
        "BROKER_REGISTRY__URL": loaded.at(proxy.address),
        "BROKER_REGISTRY__CACHE_FOLDER": str(stage.folder / "schemas"),
    }
    part = COUNT // 12 * 4
    stage.set(mixed(part, 1102) if when == "midway" else [])
    consumer = stage.consumer()
    stage.until(lambda: stage.done() == stage.count, "what comes before")
    first = len(stage.sent)
    with out(proxy, how):
        stage.send(mixed(part, 1102, 1103))
        standstill = longest_standstill(stage)
    then = len(stage.sent)
    time.sleep(QUIET_SECONDS)  # until it is asked again: part of the promise
    stage.send(mixed(part, 1102, 1103, 1104))
    stage.finish()
    ledger = stage.check(f"registry {how} {when}, nothing done for {standstill:.0f} s", record)
    assert standstill < MOST_HELD_UP_SECONDS + NOISE_SECONDS
    assert [consumer.returncode] == [process.returncode for process in stage.running] == [0], stage.logs()
    for (topic, partition, offset), value in stage.sent.items():
        hidden = {1103} if when == "midway" else {1102, 1103}
        meanwhile = first <= offset * 4 + partition < then
        rejected = value.startswith(b"no alert") or (meanwhile and id_of(value) in hidden)
        wanted = ["dead-letter"] if rejected else ["enriched", "lite"]
        assert ledger.seen[topic, partition, offset] == wanted, (partition, offset, id_of(value))
    assert ledger.reasons.keys() == {"frame_invalid", "schema_unknown"}


def test_outputs_change_to_the_registrys_ids_midway(
    stage: Stage, registry: RegistryServer, record: Record
) -> None:
    """Killed midway, and begun again with a registry: readers by fingerprint see one stream."""
    stage.set()
    victim = stage.consumer()
    stage.progress(0.4)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    stage.settings |= {"BROKER_REGISTRY__URL": registry.url, "BROKER_REGISTRY__REGISTER_OUTPUT": "true"}
    stage.finish()
    stage.check("from reserved ids to the registry's midway", record)
    for suffix in OUTPUTS:
        messages = read_all(stage.cluster.servers, f"{stage.topic}.{suffix}")
        kinds = {int.from_bytes(message.value()[1:5], "big") > RESERVED for message in messages}
        assert kinds == {False, True}, f"the ids of {suffix} did not change"
