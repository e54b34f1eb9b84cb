"""What an operator can set: command line > environment > YAML file > defaults.

Environment variables are ``BROKER_`` and the path of the setting with ``__`` between its
parts: ``BROKER_KAFKA__GROUP_ID``. Mappings are given there as JSON, topics with commas between.
Whatever is not a setting is refused, in the file and in the environment alike: a misspelt name must not
become a silent default. Secrets come from the environment, or from files named by a setting.
"""

from broker.settings.extra import Extra
from broker.settings.loading import checked, load
from broker.settings.membership import Classic, Kip848, Membership
from broker.settings.registry import RegistryConnection, RegistrySettings
from broker.settings.sections import (
    ConsumerSettings,
    Overload,
    ProbeSettings,
    SinkSettings,
    SourceSettings,
)
from broker.settings.security import MutualTls, Plain, Plaintext, Sasl, Scram, Section, Security, Tls
from broker.settings.whole import PREFIX, Settings
from broker.topics import Topics

__all__ = [
    "PREFIX",
    "Classic",
    "ConsumerSettings",
    "Extra",
    "Kip848",
    "Membership",
    "MutualTls",
    "Overload",
    "Plain",
    "Plaintext",
    "ProbeSettings",
    "RegistryConnection",
    "RegistrySettings",
    "Sasl",
    "Scram",
    "Section",
    "Security",
    "Settings",
    "SinkSettings",
    "SourceSettings",
    "Tls",
    "Topics",
    "checked",
    "load",
]
