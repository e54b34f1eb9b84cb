"""Registries as the settings name them."""

from collections.abc import Callable, Iterable
from pathlib import Path

from broker.avro.decode import Decoder
from broker.avro.serializer import DeadLetterSerializer
from broker.registry import OutputRegistration, RegistryClient, SchemaCache, SchemaLookup
from broker.registry.cache import default_folder
from broker.settings import RegistryConnection, RegistrySettings
from broker.topics import DEAD_LETTER_SUFFIX


def input_registry(
    settings: RegistrySettings, count: Callable[[str], None] = lambda _result: None
) -> SchemaLookup | None:
    """Who is asked for schemas of alerts that the bundle lacks; None where no registry is named.

    Raises
    ------
    SettingsError
        If a file that the settings name cannot be read.
    """
    return _lookup(settings, settings.cache_folder, count)


def output_registry(settings: RegistrySettings, topics: Iterable[str]) -> OutputRegistration | None:
    """Who gives ids to what goes out; None where the reserved ones are used.

    Dead letters are registered at once: that of an alert whose schema no registry tells must not need one.

    Raises
    ------
    SettingsError
        If a file that the settings name cannot be read.
    RegistryError, ConfigurationError
        If the registry is down, or refuses us.
    """
    if not settings.register_output:
        return None
    ids = OutputRegistration(RegistryClient(settings.output_connection))
    for topic in topics:
        if topic.endswith(DEAD_LETTER_SUFFIX):
            DeadLetterSerializer.register(topic, ids)
    return ids


def decoder(settings: RegistrySettings) -> Decoder:
    """Make what reads published records, with the help of the registries that the settings name.

    Raises
    ------
    SettingsError
        If a file that the settings name cannot be read.
    """
    alerts = input_registry(settings)
    if settings.output is None:
        return Decoder(alerts, alerts)
    return Decoder(_lookup(settings.output, settings.cache_folder, lambda _result: None), alerts)


def _lookup(
    connection: RegistryConnection, folder: Path | None, count: Callable[[str], None]
) -> SchemaLookup | None:
    if connection.url is None:
        return None
    client = RegistryClient(connection)
    return SchemaLookup(client, SchemaCache(folder or default_folder(), client.url), count)
