"""How many consumers and partitions a stream of visits needs, by the model of a queue.

How far its ages were from those of a visit of 40,000 alerts is in docs/performance.md. More than one consumer was not
held against it.

Visits are bursts into a queue that drains at a constant rate, the consumers' together: what a visit brings beyond the
rate waits, the last alert longest. While a visit of N alerts is published over b seconds and drained at R a second, its
last alert leaves max(0, N / R - b) seconds after its publication, and the latency of a quiet alert later; the one at
share q of the visit waits q of that. Backlog is 0 before the next visit where N / R is below the period; above it, it
grows with each visit.
"""

import math
from dataclasses import dataclass

from broker.errors import SettingsError

BYTES_OF_ENRICHMENT = 1860
"""What is put in front of a packet, with key and headers: the mean of 60 real Rubin packets, 1,826 to 2,011. ZTF's
outputs are some 24 kB smaller than its packets, as their schema is left out."""

GIGABYTE = 1e9
HOUR_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Stream:
    """What comes in.

    Attributes
    ----------
    alerts_per_visit : int
    period_seconds : float
        From visit to visit.
    burst_seconds : float
        Over which a visit is published.
    alert_bytes : float
        Mean size of a packet.
    surveys : int
        So many such streams at once, each visit of all of them at the same time: the worst case.
    night_hours : float
        For so long visits come each night. Rubin's ten million alerts a night are 10.3 h of visits of 10,000.
    """

    alerts_per_visit: int
    period_seconds: float
    burst_seconds: float
    alert_bytes: float
    surveys: int = 1
    night_hours: float = 10.0

    @property
    def alerts(self) -> int:
        """Of a visit of every survey."""
        return self.alerts_per_visit * self.surveys


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one consumer does, on processors of its own.

    Attributes
    ----------
    rate : float
        Alerts a second while there is backlog.
    latency_seconds : float
        Of an alert that meets no backlog.
    memory_mib : float
        At its peak.
    """

    rate: float
    latency_seconds: float
    memory_mib: float


@dataclass(frozen=True, slots=True)
class Sizing:
    """What so many consumers do, and what the stream takes.

    Attributes
    ----------
    consumers, partitions : int
    drained_seconds : float
        After the first alert of a visit; infinite, as are the ages, where the backlog grows from visit to visit.
    age_p50_seconds, age_p99_seconds, age_max_seconds : float
        From publication to output.
    load : float
        Share of the time that there is backlog; 1 or more where there always is.
    backlog_alerts, backlog_seconds : float
        What is left at the end of a night, and how long it takes from then on.
    megabytes_in, megabytes_out : float
        A second, on average over the period.
    disk_gigabytes : float
        Of the outputs of so many days, one copy.
    memory_mib : float
        Of all consumers.
    """

    consumers: int
    partitions: int
    drained_seconds: float
    age_p50_seconds: float
    age_p99_seconds: float
    age_max_seconds: float
    load: float
    backlog_alerts: float
    backlog_seconds: float
    megabytes_in: float
    megabytes_out: float
    disk_gigabytes: float
    memory_mib: float


def age(stream: Stream, rate: float, latency_seconds: float, share: float) -> float:
    """Age at output of the alert at a share of a visit, in seconds.

    Parameters
    ----------
    stream : Stream
    rate : float
        Alerts a second of all consumers.
    latency_seconds : float
    share : float
        0 the first, 1 the last.
    """
    return latency_seconds + share * max(0.0, stream.alerts / rate - stream.burst_seconds)


def needed(stream: Stream, consumer: Capacity, target_seconds: float, headroom: float) -> int:
    """Find the fewest consumers that keep a target.

    Parameters
    ----------
    stream : Stream
    consumer : Capacity
    target_seconds : float
        The 99th percentile of the age at output.
    headroom : float
        Share of the period that is kept free of backlog: for a consumer that restarts, a visit that is larger.

    Raises
    ------
    SettingsError
        Where no number of consumers keeps it.
    """
    spare = target_seconds - consumer.latency_seconds
    if spare <= 0:
        raise SettingsError(
            f"an age of {target_seconds:g} s is below the latency of a quiet alert, {consumer.latency_seconds:g} s: "
            "no number of consumers keeps it"
        )
    to_drain = stream.period_seconds * (1 - headroom)
    rate = stream.alerts / min(to_drain, spare / 0.99 + stream.burst_seconds)
    return max(1, math.ceil(rate / consumer.rate))


def size(stream: Stream, consumer: Capacity, count: int, retention_days: float) -> Sizing:
    """Say what so many consumers do, and what the stream takes.

    Parameters
    ----------
    stream : Stream
    consumer : Capacity
    count : int
        Of consumers.
    retention_days : float

    Returns
    -------
    Sizing
    """
    together = count * consumer.rate
    flow = stream.alerts * stream.alert_bytes / stream.period_seconds
    out = stream.alerts * (stream.alert_bytes + BYTES_OF_ENRICHMENT) / stream.period_seconds
    load = stream.alerts / together / stream.period_seconds
    median, p99, last = (
        age(stream, together, consumer.latency_seconds, share) if load < 1 else math.inf
        for share in (0.5, 0.99, 1.0)
    )
    left = max(0.0, stream.alerts / stream.period_seconds - together) * stream.night_hours * HOUR_SECONDS
    return Sizing(
        consumers=count,
        partitions=count * math.ceil(4 / count) if count < 4 else count,  # noqa: PLR2004 -- room to grow
        drained_seconds=max(stream.burst_seconds, stream.alerts / together) if load < 1 else math.inf,
        age_p50_seconds=median,
        age_p99_seconds=p99,
        age_max_seconds=last,
        load=load,
        backlog_alerts=left,
        backlog_seconds=left / together,
        megabytes_in=flow / 1e6,
        megabytes_out=out / 1e6,
        disk_gigabytes=out * _hours(stream, retention_days) * HOUR_SECONDS / GIGABYTE,
        memory_mib=count * consumer.memory_mib,
    )


def _hours(stream: Stream, days: float) -> float:
    """Give the most hours of visits that so many days hold: whole nights, and what of one fits into the rest."""
    whole = math.floor(days)
    return whole * stream.night_hours + min(24 * (days - whole), stream.night_hours)
