"""What Prometheus is told; the only import of prometheus_client.

Alerts consumed are alerts enriched plus alerts rejected, at every scrape: an alert rule rests on it.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from broker.alert import Enriched, ModelIdentity, Outcome, Rejected
from broker.errors import Reason
from broker.flags import is_partial

CONTENT_TYPE = CONTENT_TYPE_LATEST

STAGES = ("poll", "process", "write", "commit")

LOOKUP_RESULTS = ("found", "cached", "not_found", "unreachable", "refused", "wrong")

STAGE_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
AGE_BUCKETS = (1.0, 3.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 1200.0, 3600.0, 86400.0)
"""Seconds; 60 is Rubin's own promise from readout to publication."""

UNIX_EPOCH_MJD = 40587.0
SECONDS_PER_DAY = 86400.0


RETRIED = ("write", "transaction")
"""What is begun again."""


class Metrics:
    """Counters of one consumer, in a registry of their own.

    Parameters
    ----------
    clock : callable
        Seconds since the Unix epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        # No second series of each that says when the process began.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._clock = clock
        self._lock = threading.Lock()
        self._registry = registry = CollectorRegistry()
        self._consumed = Counter(
            "nightjar_alerts_consumed_total", "Messages whose outcome is published.", registry=registry
        )
        self._enriched = Counter(
            "nightjar_alerts_enriched_total",
            "Alerts enriched, whole or partial (something of the enrichment is missing).",
            ["survey", "kind"],
            registry=registry,
        )
        self._rejected = Counter(
            "nightjar_alerts_rejected_total",
            "Messages written as dead letters.",
            ["reason"],
            registry=registry,
        )
        self._flags = Counter(
            "nightjar_flags_total", "Flags set on enriched alerts.", ["flag"], registry=registry
        )
        self._stage = Histogram(
            "nightjar_batch_seconds",
            "Time of one batch in one stage.",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self._age = Histogram(
            "nightjar_alert_age_seconds",
            "Age of an alert when its output is acknowledged, since observation or since its publication.",
            ["since"],
            buckets=AGE_BUCKETS,
            registry=registry,
        )
        self._model = Gauge(
            "nightjar_model_info", "The model at work.", ["name", "version", "digest"], registry=registry
        )
        self._partitions = Gauge("nightjar_partitions_assigned", "Partitions held.", registry=registry)
        self._lag = Gauge(
            "nightjar_lag_messages", "Messages not yet read in the partitions held.", registry=registry
        )
        self._waiting = Gauge(
            "nightjar_waiting_seconds",
            "How long a write has waited for Kafka; 0 when none does.",
            registry=registry,
        )
        self._retries = Counter(
            "nightjar_retries_total",
            "Writes and transactions that were begun again for a cause that passes.",
            ["what"],
            registry=registry,
        )
        for what in RETRIED:
            self._retries.labels(what)
        self._lookups = Counter(
            "nightjar_registry_lookups_total",
            "Lookups of schemas that the bundle lacks, by result.",
            ["result"],
            registry=registry,
        )
        for result in LOOKUP_RESULTS:
            self._lookups.labels(result)
        for reason in Reason:
            self._rejected.labels(reason.value)

    def model(self, identity: ModelIdentity) -> None:
        """State which model is at work."""
        self._model.labels(identity.name, identity.version, identity.digest).set(1)

    def stage(self, name: str, seconds: float) -> None:
        """Note how long one batch took in one of `STAGES`."""
        self._stage.labels(name).observe(seconds)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Note how long what stands within takes; not what fails."""
        began = time.monotonic()
        yield
        self.stage(name, time.monotonic() - began)

    def assigned(self, partitions: int) -> None:
        """Note how many partitions are held."""
        self._partitions.set(partitions)

    def lag(self, messages: int) -> None:
        """Note how far behind the source is."""
        self._lag.set(messages)

    def waiting(self, seconds: float) -> None:
        """Note how long a write has waited."""
        self._waiting.set(seconds)

    def retried(self, what: str) -> None:
        """Count one more attempt at one of `RETRIED`."""
        self._retries.labels(what).inc()

    def lookup(self, result: str) -> None:
        """Count a lookup in the schema registry that ended in one of `LOOKUP_RESULTS`."""
        self._lookups.labels(result).inc()

    def published(self, outcomes: Sequence[Outcome]) -> None:
        """Count outcomes whose records are acknowledged."""
        with self._lock:
            self._consumed.inc(len(outcomes))
            for outcome in outcomes:
                if isinstance(outcome, Rejected):
                    self._rejected.labels(outcome.reason.value).inc()
                else:
                    self._count(outcome)

    def _count(self, outcome: Enriched) -> None:
        kind = "partial" if is_partial(outcome.enrichment.flags) else "whole"
        self._enriched.labels(outcome.alert.survey.value, kind).inc()
        for flag in outcome.enrichment.flags:
            self._flags.labels(flag).inc()
        now = self._clock()
        if not math.isnan(outcome.alert.mjd):  # one NaN would stay in the sum for ever
            observed = (outcome.alert.mjd - UNIX_EPOCH_MJD) * SECONDS_PER_DAY
            self._age.labels("observation").observe(now - observed)
        if outcome.message.timestamp_ms is not None:
            self._age.labels("publication").observe(now - outcome.message.timestamp_ms / 1000)

    def render(self) -> bytes:
        """Everything, in Prometheus' text format."""
        with self._lock:
            return generate_latest(self._registry)
