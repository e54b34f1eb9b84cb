"""What operators see: counters, ages, and the three addresses."""

import http.client
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.alert import ModelIdentity, Outcome, Rejected
from broker.errors import Reason, SettingsError
from broker.metrics import Metrics
from broker.probes import Health, Probes

from .test_loop import NOW, enriched, message


def value(metrics: Metrics, metric: str, /, **labels: str) -> float | None:
    """One sample of the rendered text; None where there is none."""
    families = text_string_to_metric_families(metrics.render().decode())
    samples = (sample for family in families for sample in family.samples)
    return next((s.value for s in samples if (s.name, s.labels) == (metric, labels)), None)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(clock=lambda: NOW)


def test_consumed_is_enriched_plus_rejected(metrics: Metrics) -> None:
    outcomes: list[Outcome] = [
        enriched(message(0)),
        enriched(message(1), "cutout_unreadable:science"),
        Rejected(message(2), Reason.DATUM_INVALID, ""),
    ]
    metrics.published(outcomes)
    assert value(metrics, "nightjar_alerts_consumed_total") == 3
    assert value(metrics, "nightjar_alerts_enriched_total", survey="lsst", kind="whole") == 1
    assert value(metrics, "nightjar_alerts_enriched_total", survey="lsst", kind="partial") == 1
    assert value(metrics, "nightjar_alerts_rejected_total", reason="datum_invalid") == 1
    assert value(metrics, "nightjar_flags_total", flag="cutout_unreadable:science") == 1


def test_every_reason_is_there_from_the_start(metrics: Metrics) -> None:
    assert {value(metrics, "nightjar_alerts_rejected_total", reason=reason) for reason in Reason} == {0.0}


def test_age_is_told_since_observation_and_since_publication(metrics: Metrics) -> None:
    metrics.published([enriched(message(0))])
    name = "nightjar_alert_age_seconds_sum"
    assert value(metrics, name, since="observation") == pytest.approx(40, abs=0.01)
    assert value(metrics, name, since="publication") == pytest.approx(5, abs=0.01)


def test_an_alert_without_a_time_does_not_spoil_the_ages(metrics: Metrics) -> None:
    timeless = enriched(message(0))
    timeless = replace(timeless, alert=replace(timeless.alert, mjd=math.nan))
    metrics.published([timeless, enriched(message(1))])
    name = "nightjar_alert_age_seconds_sum"
    assert value(metrics, name, since="observation") == pytest.approx(40, abs=0.01)
    assert value(metrics, name, since="publication") == pytest.approx(10, abs=0.01)


def test_the_model_is_told(metrics: Metrics) -> None:
    metrics.model(ModelIdentity("nightjar", "1.0", "ab" * 32))
    labels = {"name": "nightjar", "version": "1.0", "digest": "ab" * 32}
    assert value(metrics, "nightjar_model_info", **labels) == 1


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def health(now: list[float]) -> Health:
    return Health(10.0, clock=lambda: now[0])


@pytest.fixture
def probes(health: Health, metrics: Metrics) -> Iterator[Probes]:
    with Probes("127.0.0.1", 0, health, metrics.render) as probes:
        yield probes


def ask(probes: Probes, path: str, verb: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", probes.port, timeout=5)
    connection.request(verb, path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, body


def test_a_loop_that_turns_is_alive(probes: Probes, health: Health, now: list[float]) -> None:
    now[0] = 9.0
    assert ask(probes, "/healthz") == (200, "last turn 9.0 s ago, limit 10 s\n")
    now[0] = 11.0
    assert ask(probes, "/healthz")[0] == 503
    health.turned(1)
    assert ask(probes, "/healthz")[0] == 200


@pytest.mark.parametrize(
    ("warm", "partitions", "status"), [(False, 0, 503), (True, 0, 503), (False, 2, 503), (True, 2, 200)]
)
def test_ready_is_a_warm_model_and_partitions(
    probes: Probes, health: Health, *, warm: bool, partitions: int, status: int
) -> None:
    health.model_warm = warm
    health.turned(partitions)
    assert ask(probes, "/readyz")[0] == status


def test_metrics_are_prometheus_text(probes: Probes) -> None:
    status, body = ask(probes, "/metrics")
    assert status == 200
    assert "nightjar_alerts_consumed_total 0.0" in body


@pytest.mark.parametrize("verb", ["POST", "PUT", "DELETE", "PATCH", "HEAD"])
def test_other_verbs_are_refused(probes: Probes, verb: str) -> None:
    assert ask(probes, "/metrics", verb)[0] == 501


def test_other_paths_are_not_found(probes: Probes) -> None:
    assert ask(probes, "/etc/passwd") == (404, "here are /metrics, /healthz and /readyz\n")


def test_a_port_in_use_is_refused_with_its_number(probes: Probes, health: Health) -> None:
    second = Probes("127.0.0.1", probes.port, health, bytes)
    with pytest.raises(SettingsError, match=f"probes cannot listen on 127.0.0.1:{probes.port}"), second:
        pass
