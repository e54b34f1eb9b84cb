"""What an operator can set: command line > environment > YAML file > defaults.

Environment variables are ``BROKER_`` and the path of the setting with ``__`` between its
parts: ``BROKER_KAFKA__GROUP_ID``. Mappings are given there as JSON, topics with commas between.
Whatever is not a setting is refused, in the file and in the environment alike: a misspelt name must not
become a silent default. Secrets come from the environment, or from files named by a setting.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from broker.errors import SettingsError
from broker.records import OUTPUT_SUFFIXES

PREFIX = "BROKER_"

TOPIC_NAME = r"[A-Za-z0-9._-]{1,230}"
"""Names Kafka allows, up to 249 characters, less what our suffixes take."""
OWNED_BY_CONNECTION = frozenset({"bootstrap.servers", "client.id", "error_cb", "logger", "stats_cb"})
OWNED_BY_SOURCE = OWNED_BY_CONNECTION | {
    "group.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "auto.offset.reset",
    "partition.assignment.strategy",
    "isolation.level",
    "on_commit",
}
OWNED_BY_SINK = OWNED_BY_CONNECTION | {
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "partitioner",
    "transactional.id",
    "compression.type",
    "compression.codec",
    "message.max.bytes",
    "on_delivery",
}
SECRETS = frozenset(
    {
        "sasl.password",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.keystore.password",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.config",
    }
)
"""Properties that would put a secret among ordinary settings."""

Extra: TypeAlias = dict[str, str | int | float | bool]


class Section(BaseModel):
    """A group of settings: frozen, and unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


Checked = TypeVar("Checked", bound=Section)


class Plaintext(Section):
    """No encryption and no authentication."""

    protocol: Literal["plaintext"] = "plaintext"


class Scram(Section):
    """SASL/SCRAM-SHA-512 over TLS, as Rubin's alert stream asks for.

    Attributes
    ----------
    username : str
    password : SecretStr or None
        From the environment (``BROKER_KAFKA__SECURITY__PASSWORD``), or else
    password_file : Path or None
        a file that holds nothing but the password.
    ca_file : Path or None
        PEM file of the certificate authority; None takes those the system trusts.
    """

    protocol: Literal["scram"]
    username: str = Field(min_length=1)
    password: SecretStr | None = None
    password_file: Path | None = None
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _one_password(self) -> "Scram":
        if (self.password is None) == (self.password_file is None):
            raise ValueError("needs exactly one of password (by the environment) and password_file")
        return self

    def secret(self) -> str:
        """Read the password.

        Raises
        ------
        SettingsError
            When the file cannot be read.
        """
        if self.password is not None:
            return self.password.get_secret_value()
        assert self.password_file is not None
        try:
            return self.password_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(
                f"password_file {self.password_file}: {error.strerror}: mount it, or name another"
            ) from error


Security: TypeAlias = Annotated[Plaintext | Scram, Field(discriminator="protocol")]


def _refuse(extra: Extra, owned: frozenset[str]) -> Extra:
    if secret := sorted(SECRETS & extra.keys()):
        raise ValueError(
            f"{secret[0]} is a secret: give it by the section 'security', from environment or file"
        )
    if taken := sorted(owned & extra.keys()):
        raise ValueError(f"{taken[0]} is set by the broker itself, its guarantees rest on it: leave it out")
    return extra


class SourceSettings(Section):
    """The Kafka cluster alerts are read from.

    Attributes
    ----------
    bootstrap_servers : str
        ``host:port``, several with commas between.
    group_id : str
    security : Plaintext or Scram
    extra : dict
        Passed through to librdkafka's consumer as it is.
    """

    bootstrap_servers: str = Field(default="localhost:9092", min_length=1)
    group_id: str = Field(default="nightjar", min_length=1)
    security: Security = Plaintext()
    extra: Extra = {}

    @field_validator("extra")
    @classmethod
    def _not_ours(cls, extra: Extra) -> Extra:
        return _refuse(extra, OWNED_BY_SOURCE)


class SinkSettings(Section):
    """The Kafka cluster results are written to.

    Attributes
    ----------
    bootstrap_servers : str or None
        None writes to the cluster of the source, with its security.
    security : Plaintext, Scram or None
        Of a cluster of its own; None is plaintext there.
    compression : str
        Of the batches on the wire.
    delivery_seconds : float
        How long a record may wait for its acknowledgement before the consumer stops.
    extra : dict
        Passed through to librdkafka's producer as it is; that of the source is not.
    """

    bootstrap_servers: str | None = Field(default=None, min_length=1)
    security: Security | None = None
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"
    delivery_seconds: float = Field(default=120.0, gt=0.0)
    extra: Extra = {}

    @field_validator("extra")
    @classmethod
    def _not_ours(cls, extra: Extra) -> Extra:
        return _refuse(extra, OWNED_BY_SINK)

    @model_validator(mode="after")
    def _own_security_needs_own_servers(self) -> "SinkSettings":
        if self.security is not None and self.bootstrap_servers is None:
            raise ValueError("security without bootstrap_servers: a sink of its own needs both")
        return self


def _start(value: object) -> object:
    if not isinstance(value, str) or value in {"earliest", "latest"}:
        return value
    try:
        time = datetime.fromisoformat(value)
    except ValueError as error:
        raise ValueError(
            f"{value!r} is neither earliest, latest nor an ISO 8601 time such as 2026-03-01T04:00:00Z"
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


Start: TypeAlias = Annotated[Literal["earliest", "latest"] | datetime, BeforeValidator(_start)]
"""Where to begin where the group has no committed offset; a time without a zone is UTC."""


class ConsumerSettings(Section):
    """How the loop turns.

    Attributes
    ----------
    start : "earliest", "latest" or datetime
        Where reading begins in partitions for which the group has committed nothing.
    exit_at_end : bool
        End when every assigned partition has reached the end it had at start.
    batch_size : int
        Most messages taken in one turn.
    linger_seconds : float
        Longest wait for a batch to fill: the price a lone alert pays.
    connect_seconds : float
        How long to look for a broker at start before giving up with exit code 1.
    topic_seconds : float
        How long to look for a missing topic at start before exit code 2.
    discovery_seconds : float
        Time between two looks for new topics that match ``topic_pattern``.
    """

    start: Start = "earliest"
    exit_at_end: bool = False
    batch_size: int = Field(default=256, ge=1, le=10_000)
    linger_seconds: float = Field(default=0.2, gt=0.0, le=10.0)
    connect_seconds: float = Field(default=25.0, gt=0.0)
    topic_seconds: float = Field(default=10.0, ge=0.0)
    discovery_seconds: float = Field(default=60.0, ge=1.0)


class ProbeSettings(Section):
    """Where ``/metrics``, ``/healthz`` and ``/readyz`` are served.

    Attributes
    ----------
    host : str
        Address to bind; ``0.0.0.0`` in a container.
    port : int or None
        None serves nothing, so that consumers on one host cannot clash; 0 takes a free port and logs it.
    turn_seconds : float
        ``/healthz`` fails when the loop has not turned for longer; above the slowest sound batch.
    """

    host: str = "127.0.0.1"
    port: int | None = Field(default=None, ge=0, le=65535)
    turn_seconds: float = Field(default=150.0, gt=0.0)


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics by name, or in their place by a pattern.

    Attributes
    ----------
    names : tuple of str
    pattern : str or None
        Python regular expression that a whole name must match; it never takes our own outputs, nor Kafka's
        own topics, which grow by what is read and begin with two underscores.
    """

    names: tuple[str, ...]
    pattern: str | None = None

    def holds(self, topic: str) -> bool:
        """Whether a topic of this name is meant."""
        if self.pattern is None:
            return topic in self.names
        ours_or_kafkas = topic.endswith(OUTPUT_SUFFIXES) or topic.startswith("__")
        return not ours_or_kafkas and bool(re.fullmatch(self.pattern, topic))


class Settings(BaseSettings):
    """Everything an operator can set.

    Attributes
    ----------
    topics : list of str
        Topics to read; ``topic_pattern`` in their place reads all that match it.
    topic_pattern : str or None
        Python regular expression that the whole name must match.
    output_prefix : str or None
        Results go to ``<prefix>.enriched`` and ``<prefix>.dead-letter``. By default the one topic's name;
        several topics or a pattern need it stated.
    model : Path or None
        ONNX file; None takes the one the package ships.
    validation : "full" or "off"
        Whether each datum is walked to its end before it goes on.
    log_level : str
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    topics: Annotated[list[str], NoDecode] = []
    topic_pattern: str | None = None
    output_prefix: str | None = Field(default=None, min_length=1, pattern=f"^{TOPIC_NAME}$")
    kafka: SourceSettings = SourceSettings()
    sink: SinkSettings = SinkSettings()
    consumer: ConsumerSettings = ConsumerSettings()
    probes: ProbeSettings = ProbeSettings()
    model: Path | None = None
    validation: Literal["full", "off"] = "full"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("topics", mode="before")
    @classmethod
    def _one_or_more(cls, topics: object) -> object:
        return [topic.strip() for topic in topics.split(",")] if isinstance(topics, str) else topics

    @field_validator("topics")
    @classmethod
    def _names_of_topics(cls, topics: list[str]) -> list[str]:
        for topic in topics:
            if not re.fullmatch(TOPIC_NAME, topic):
                raise ValueError(
                    f"{topic!r} cannot be the name of a topic: letters, digits, '.', '_' and '-', at most 230, "
                    "leave room for what is added to the outputs' names; several topics have commas between"
                )
        return topics

    @field_validator("topic_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression ({error})") from error
        return pattern

    @model_validator(mode="after")
    def _inputs_and_outputs_agree(self) -> "Settings":
        if bool(self.topics) == bool(self.topic_pattern):
            raise ValueError(
                "needs either topics or a topic_pattern: give --topic NAME or --topic-pattern REGEX"
            )
        if self.output_prefix is None and len(set(self.topics)) != 1:
            raise ValueError(
                "several topics, or a pattern, need a stated output_prefix: give --output-prefix NAME"
            )
        if outputs := [topic for topic in self.topics if topic.endswith(OUTPUT_SUFFIXES)]:
            raise ValueError(
                f"{outputs[0]} is an output of this broker and is never read as input: name another"
            )
        return self

    @property
    def prefix(self) -> str:
        """What the names of the output topics begin with."""
        return self.output_prefix or self.topics[0]

    @property
    def wanted(self) -> Topics:
        """The topics that are input."""
        return Topics(tuple(self.topics), self.topic_pattern)

    @property
    def sink_connection(self) -> tuple[str, Plaintext | Scram]:
        """Servers and security of the sink: its own, or those of the source."""
        if self.sink.bootstrap_servers is None:
            return self.kafka.bootstrap_servers, self.kafka.security
        return self.sink.bootstrap_servers, self.sink.security or Plaintext()


def load(overrides: Mapping[str, Any], config: Path | None = None) -> Settings:
    """Gather the settings.

    Parameters
    ----------
    overrides : mapping
        What the command line said, nested like the settings; None means not said.
    config : Path, optional
        YAML file.

    Raises
    ------
    SettingsError
        One line that names the setting, what was found and what was wanted.
    """
    _refuse_unknown_environment(os.environ)
    from_file = {} if config is None else _read(config)

    class Gathered(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=from_file)

    try:
        return Gathered(**_said(overrides))
    except ValidationError as error:
        raise SettingsError(_one_line(error, config)) from error
    except ValueError as error:  # pydantic-settings: a value that should be JSON and is not
        raise SettingsError(f"environment: {error}: mappings are given as JSON") from error


def checked(section: type[Checked], given: Mapping[str, Any]) -> Checked:
    """Make one section of settings by itself.

    Raises
    ------
    SettingsError
        One line that names the setting, what was found and what was wanted.
    """
    try:
        return section.model_validate(given)
    except ValidationError as error:
        raise SettingsError(_one_line(error, None)) from error


def _said(overrides: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: _said(value) if isinstance(value, Mapping) else value for name, value in overrides.items()}
    return {name: value for name, value in said.items() if value not in (None, {}, [])}


def _read(config: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"--config {config}: {error.strerror}: give the path of a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"--config {config} is no YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise SettingsError(
            f"--config {config} holds a {type(content).__name__}, wanted a mapping of settings"
        )
    for section in ("kafka", "sink"):
        security = (
            (content.get(section) or {}).get("security") if isinstance(content.get(section), dict) else None
        )
        if isinstance(security, dict) and "password" in security:
            raise SettingsError(
                f"--config {config}: {section}.security.password: a password in a file of settings is read by too "
                f"many: give it as {PREFIX}{section.upper()}__SECURITY__PASSWORD, or name a file that holds nothing "
                "else as password_file"
            )
    return content


def _refuse_unknown_environment(environment: Iterable[str]) -> None:
    for name in sorted(environment):
        if not name.upper().startswith(PREFIX):
            continue
        top = name[len(PREFIX) :].lower().split("__")[0]
        if top not in Settings.model_fields:
            known = ", ".join(f"{PREFIX}{field.upper()}" for field in Settings.model_fields)
            raise SettingsError(
                f"environment variable {name} is no setting: known are {known} (and __ below them)"
            )


def _one_line(error: ValidationError, config: Path | None) -> str:
    faults = []
    for fault in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "is no setting: correct its name or remove it"
        faults.append(f"{where}: {message}" if where else message)
    return "; ".join(faults) + (f" (with {config})" if config else "")
