"""Which Kafka the small programs talk to: told as for ``broker-consumer``, by the very same file."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from broker.kafka.connection import of_connection
from broker.settings import Extra, Security, Settings, SinkSettings, SourceSettings, checked, load

Servers = Annotated[str | None, typer.Option(help="Kafka, host:port. Default localhost:9092.")]
"""Option of the programs that talk to one cluster."""

ResultsConfig = Annotated[
    Path | None,
    typer.Option(
        help="YAML file as broker-consumer takes it: cluster and security of its section sink, else kafka."
    ),
]
"""Option of the programs that read results."""

Connection: TypeAlias = tuple[str, Security]

NO_GROUP = "nightjar-subscribe"
"""Kafka asks for a group's name even of readers without one; nothing is ever stored under it."""


def settings_of(config: Path | None) -> Settings:
    """Gather the settings from environment and file.

    Topics are told on the command line here, so those of the file are set aside.

    Raises
    ------
    SettingsError
    """
    # An empty pattern is none: it keeps one in the file from being asked for as well.
    return load({"topics": ["unread"], "topic_pattern": "", "output_prefix": "unread"}, config)


def of_results(settings: Settings, servers: str | None, group_id: str | None) -> SourceSettings:
    """Where results are read: the cluster of the section ``sink``, else that of ``kafka``.

    Parameters
    ----------
    settings : Settings
    servers : str or None
        In place of those of the settings, with their security.
    group_id : str or None
        The consumer's own group is never taken: a subscriber must not move its offsets.
    """
    there, security = settings.sink_connection
    same = settings.sink.bootstrap_servers is None
    extra = settings.kafka.extra if same else of_connection(settings.sink.extra)
    return checked(
        SourceSettings,
        {
            "bootstrap_servers": servers or there,
            "security": security,
            "group_id": group_id or NO_GROUP,
            "extra": extra,
        },
    )


def of_redrive(settings: Settings, servers: str | None) -> tuple[Connection, SinkSettings]:
    """Where dead letters are published again: where they stand, the cluster of ``sink``, else that of ``kafka``."""
    there, security = settings.sink_connection
    return (servers or there, security), settings.sink


def of_topics(settings: Settings, servers: str | None) -> tuple[Connection, Extra]:
    """Where the topics of results are made, and librdkafka's properties by which it is reached."""
    there, security = settings.sink_connection
    same = settings.sink.bootstrap_servers is None
    extra = settings.kafka.extra | settings.sink.extra if same else settings.sink.extra
    return (servers or there, security), of_connection(extra)


def of_source_topics(settings: Settings, servers: str | None) -> tuple[Connection, Extra]:
    """Where the topics of alerts are; `servers` go before the settings, unless results have a cluster of their own."""
    own = settings.sink.bootstrap_servers is not None
    there = settings.kafka.bootstrap_servers if own or servers is None else servers
    return (there, settings.kafka.security), of_connection(settings.kafka.extra)


def of_alerts(settings: Settings, servers: str | None) -> tuple[Connection, SinkSettings]:
    """Where alerts are published: the cluster of the section ``kafka``, which the consumer reads.

    The producer's settings are those of ``sink``, unless that is another cluster.
    """
    connection = servers or settings.kafka.bootstrap_servers, settings.kafka.security
    extra = of_connection(settings.kafka.extra)
    if settings.sink.bootstrap_servers is not None:
        return connection, SinkSettings(extra=extra)
    return connection, settings.sink.model_copy(update={"extra": settings.sink.extra | extra})
