"""The schema registry, Confluent's REST: who has the schema of an id, and who gives ids to ours."""

from broker.registry.cache import SchemaCache
from broker.registry.client import RegistryClient, RegistryTrouble, Trouble
from broker.registry.lookup import SchemaLookup
from broker.registry.registration import OutputRegistration

__all__ = [
    "OutputRegistration",
    "RegistryClient",
    "RegistryTrouble",
    "SchemaCache",
    "SchemaLookup",
    "Trouble",
]
