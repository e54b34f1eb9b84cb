"""Everything an operator can set, and what must agree."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from broker.settings.registry import RegistrySettings
from broker.settings.sections import ConsumerSettings, ProbeSettings, SinkSettings, SourceSettings
from broker.settings.security import Plaintext, Security
from broker.topics import LITE_SUFFIX, OUTPUT_SUFFIXES, OWN_SUFFIXES, REDRIVE_SUFFIX, TOPIC_NAME, Topics

PREFIX = "BROKER_"
"""Of the environment's variables."""


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
    model_threads : int
        Processors for the network, of which it uses at most eight; 0 takes all but one of those that this process may
        use, a container's limit (control groups v2) respected.
    model_batch_size : int
        Alerts of one run of the network, at most; it is never given more than 64.
    heads : list of Path
        Heads made by ``encoder fit-head`` on this model, attached to every alert.
    lite : bool
        Whether ``<prefix>.lite`` is written too: the same records with the three stamps null.
    redrive : bool
        Whether ``<prefix>.redrive`` is read too where it is there, and source and sink are one cluster.
    validation : "full" or "off"
        Whether each datum is walked to its end before it goes on.
    log_level : str
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        hide_input_in_errors=True,
    )

    topics: Annotated[list[str], NoDecode] = []
    topic_pattern: str | None = None
    output_prefix: str | None = Field(default=None, min_length=1, pattern=f"^{TOPIC_NAME}$")
    kafka: SourceSettings = SourceSettings()
    sink: SinkSettings = SinkSettings()
    consumer: ConsumerSettings = ConsumerSettings()
    registry: RegistrySettings = RegistrySettings()
    probes: ProbeSettings = ProbeSettings()
    model: Path | None = None
    heads: list[Path] = []
    model_threads: int = Field(default=0, ge=0)
    model_batch_size: int = Field(default=64, ge=1, le=4096)
    lite: bool = False
    redrive: bool = True
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
        if outputs := [topic for topic in self.topics if topic.endswith(OWN_SUFFIXES)]:
            raise ValueError(
                f"{outputs[0]} is an output of this broker and is never read as input: name another"
            )
        return self

    @model_validator(mode="after")
    def _delivery_has_what_it_needs(self) -> "Settings":
        if self.sink.transactional_id is not None and self.consumer.delivery != "exactly-once":
            raise ValueError(
                "sink.transactional_id without exactly-once delivery: leave it out, or give --delivery"
            )
        return self

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the topics that are written."""
        suffixes = (*OUTPUT_SUFFIXES, LITE_SUFFIX) if self.lite else OUTPUT_SUFFIXES
        return tuple(self.prefix + suffix for suffix in suffixes)

    @property
    def prefix(self) -> str:
        """What the names of the output topics begin with."""
        return self.output_prefix or self.topics[0]

    @property
    def wanted(self) -> Topics:
        """The topics that are input."""
        reads_own = self.redrive and self.sink.bootstrap_servers is None
        return Topics(
            tuple(self.topics), self.topic_pattern, (self.prefix + REDRIVE_SUFFIX,) if reads_own else ()
        )

    @property
    def sink_connection(self) -> tuple[str, Security]:
        """Servers and security of the sink: its own, or those of the source."""
        if self.sink.bootstrap_servers is None:
            return self.kafka.bootstrap_servers, self.kafka.security
        return self.sink.bootstrap_servers, self.sink.security or Plaintext()
