"""``broker-plan``: consumers and partitions for a night of visits."""

import math
from typing import Annotated

import typer

from broker.cadence import RUBIN_PERIOD_SECONDS
from broker.cli.ending import ShowVersion, exit_codes
from broker.cli.tables import table
from broker.errors import SettingsError
from broker.sizing import BYTES_OF_ENRICHMENT, HOUR_SECONDS, Capacity, Sizing, Stream, needed, size

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")

KILO = 1000.0


@app.command()
def plan(
    alerts_per_visit: Annotated[int, typer.Option(min=1, help="Of one survey.")] = 10_000,
    period: Annotated[
        float, typer.Option(min=0.1, help="Seconds from visit to visit.")
    ] = RUBIN_PERIOD_SECONDS,
    burst: Annotated[float, typer.Option(min=0.0, help="Seconds over which a visit is published.")] = 5.0,
    surveys: Annotated[int, typer.Option(min=1, help="So many such streams at once.")] = 1,
    alert_kb: Annotated[float, typer.Option(min=0.1, help="Mean size of a packet in kB.")] = 114.0,
    target_age: Annotated[
        float, typer.Option(min=0.1, help="Seconds from publication to output for 99 % of the alerts.")
    ] = 20.0,
    rate: Annotated[
        float, typer.Option(min=0.1, help="Alerts a second of one consumer: measure it where it will run.")
    ] = 400.0,
    latency: Annotated[
        float, typer.Option(min=0.0, help="Seconds that an alert takes without backlog.")
    ] = 1.0,
    memory_mib: Annotated[float, typer.Option(min=1.0, help="Peak of one consumer.")] = 600.0,
    headroom: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of the period that is kept free of backlog.")
    ] = 0.3,
    consumers: Annotated[
        int | None, typer.Option(min=1, help="Say what so many would do. Default: as many as are needed.")
    ] = None,
    night_hours: Annotated[float, typer.Option(min=0.1, max=24.0, help="Hours of visits in a night.")] = 10.0,
    retention_days: Annotated[float, typer.Option(min=0.01, help="Of the outputs.")] = 7.0,
    show_version: ShowVersion = False,  # noqa: ARG001 - answered before
) -> None:
    """Say how many consumers and partitions a stream of visits needs, and what that rests on.

    The defaults are a Rubin night and a guess at one consumer: give what yours does. `broker-consumer` says its own
    rate when it ends, and benchmarks/night.py measures a whole night.

    For example:
      broker-plan --alerts-per-visit 10000 --period 37
      broker-plan --alerts-per-visit 100000 --target-age 60 --rate 900
      broker-plan --surveys 3 --alert-kb 90 --retention-days 30
      broker-plan --consumers 1 --rate 900
    """
    with exit_codes("broker-plan"):
        stream = Stream(alerts_per_visit, period, burst, alert_kb * KILO, surveys, night_hours)
        one = Capacity(rate, latency, memory_mib)
        found = size(stream, one, consumers or needed(stream, one, target_age, headroom), retention_days)
        for line in table(
            ("needed" if consumers is None else "asked", ""), _rows(found, retention_days, night_hours)
        ):
            typer.echo(line)
        if consumers is not None and (short := _short_of(consumers, stream, one, target_age, headroom)):
            typer.echo(f"\n{short}")
        typer.echo("\nassumed:")
        for line in _assumptions(stream, rate, latency, headroom):
            typer.echo(f"  {line}")


def _rows(found: Sizing, days: float, night_hours: float) -> list[tuple[str, str]]:
    return [
        ("consumers", f"{found.consumers}"),
        ("partitions, of input and outputs each", f"{found.partitions}"),
        ("backlog gone after", _seconds(found.drained_seconds, "not before the next visit")),
        ("share of the time with backlog", f"{min(1.0, found.load):.0%}"),
        *_left_over(found, night_hours),
        ("age at output, half of the alerts", _seconds(found.age_p50_seconds)),
        ("age at output, 99 % of the alerts", _seconds(found.age_p99_seconds)),
        ("age at output, the last of a visit", _seconds(found.age_max_seconds)),
        ("in, on average", f"{found.megabytes_in:.0f} MB/s"),
        ("out, on average, one copy", f"{found.megabytes_out:.0f} MB/s"),
        (f"disk of the whole outputs for {days:g} days, one copy", f"{found.disk_gigabytes:,.0f} GB"),
        ("memory of the consumers, together", f"{found.memory_mib:,.0f} MiB"),
    ]


def _left_over(found: Sizing, night_hours: float) -> list[tuple[str, str]]:
    if not found.backlog_alerts:
        return []
    hours = found.backlog_seconds / HOUR_SECONDS
    after = (
        f"gone {hours:.1f} h later" if hours <= 24 - night_hours else "and more after each night: never gone"
    )
    return [("backlog at the end of the first night", f"{found.backlog_alerts:,.0f} alerts, {after}")]


def _seconds(seconds: float, otherwise: str = "grows from visit to visit") -> str:
    return f"{seconds:.1f} s" if math.isfinite(seconds) else otherwise


def _short_of(count: int, stream: Stream, one: Capacity, target: float, headroom: float) -> str:
    """Say by how much so many consumers are too few; nothing where they are enough."""
    try:
        fewest = needed(stream, one, target, headroom)
    except SettingsError as error:
        return str(error)
    if count >= fewest:
        return ""
    return f"too few: {target:g} s for 99 % and {headroom:.0%} spare need {fewest} consumers"


def _assumptions(stream: Stream, rate: float, latency: float, headroom: float) -> list[str]:
    every = f"every {stream.period_seconds:g} s, published over {stream.burst_seconds:g} s"
    nightly = f"for {stream.night_hours:g} h of each night"
    return [
        f"{stream.alerts:,} alerts of {stream.alert_bytes / KILO:g} kB {every}, {nightly}",
        f"surveys: {stream.surveys}, whose visits come at the same moment",
        f"each consumer does {rate:g} alerts/s on processors of its own, and takes {latency:g} s without backlog",
        "Kafka takes and gives what is asked of it: its brokers and disks are not sized here",
        f"{headroom:.0%} of the period stays free of backlog; partitions carry equal shares",
        f"an output is its packet and {BYTES_OF_ENRICHMENT} bytes, as of Rubin, uncompressed; no lite topic is counted",
    ]


def main() -> None:
    """Run the program."""
    app()


if __name__ == "__main__":
    main()
