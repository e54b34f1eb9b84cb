"""Every error of Nightjar, in one tree.

::

    NightjarError
    ├── ConfigurationError      what the operator gave cannot work: exit code 2
    │   ├── SettingsError       a setting, a file or a command line
    │   └── ModelRefused        a model file whose contract does not hold
    ├── AlertError              one message cannot be read: dead letter
    │   ├── FrameError          not a Confluent frame, nor an Avro container
    │   ├── SchemaUnknown       the frame or container names no bundled schema
    │   ├── ContainerError      an Avro object container that cannot be read
    │   └── DatumError          the datum breaks the schema it claims
    ├── CutoutError             one stamp cannot be read: partial, with a flag
    └── KafkaError              Kafka cannot be reached or refused a request

`AlertError` is caught in one place (`broker.pipeline`), `CutoutError` in one place
(`broker.geometry`). Anything else stops the process before the commit, and the batch
comes again.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why a message became a dead letter: the closed list of ``schemas/dead_letter``."""

    NULL_VALUE = "null_value"
    FRAME_INVALID = "frame_invalid"
    SCHEMA_UNKNOWN = "schema_unknown"
    CONTAINER_INVALID = "container_invalid"
    CODEC_UNSUPPORTED = "codec_unsupported"
    DATUM_INVALID = "datum_invalid"


LONGEST_DETAIL = 1000
"""Characters of a detail: what it quotes of a message may be as long as the message, and a dead letter that is much
longer than its message might not be taken by Kafka."""

LONGEST_LINE = 4000
"""Characters of what an operator is told: a file with a thousand faults is told by its first ones."""


class NightjarError(Exception):
    """Root of the tree."""


class ConfigurationError(NightjarError):
    """What the operator gave cannot work: one line, exit code 2.

    Parameters
    ----------
    text : str
        What was found and what was wanted. What would break the line is escaped, since names and values that
        are quoted may hold anything, and what is longer than `LONGEST_LINE` is cut.
    """

    def __init__(self, text: str) -> None:
        super().__init__(_line(text))


class SettingsError(ConfigurationError):
    """A setting, a file or a command line that cannot work."""


class ModelRefused(ConfigurationError):
    """A model file that cannot be served as it is."""


class AlertError(NightjarError):
    """One message cannot be read.

    Parameters
    ----------
    detail : str
        What was found and what was wanted; cut to `LONGEST_DETAIL`.
    reason : Reason, optional
        The entry of the closed list; each subclass has its own.
    """

    reason: Reason = Reason.DATUM_INVALID

    def __init__(self, detail: str, reason: Reason | None = None) -> None:
        detail = detail if len(detail) <= LONGEST_DETAIL else f"{detail[:LONGEST_DETAIL]}…"
        super().__init__(detail)
        self.detail = detail
        if reason is not None:
            self.reason = reason


class FrameError(AlertError):
    """Neither a Confluent frame nor an Avro object container."""

    reason = Reason.FRAME_INVALID


class SchemaUnknown(AlertError):
    """A frame or a container whose schema the bundle does not hold."""

    reason = Reason.SCHEMA_UNKNOWN


class ContainerError(AlertError):
    """An Avro object container that cannot be read."""

    reason = Reason.CONTAINER_INVALID


class DatumError(AlertError):
    """A datum that breaks the schema it claims."""

    reason = Reason.DATUM_INVALID


class CutoutError(NightjarError):
    """One stamp cannot be read; the alert goes out as a partial."""


class KafkaError(NightjarError):
    """Kafka cannot be reached, or refused a request."""


def _line(text: str) -> str:
    cut = text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}…"
    return cut if cut.isprintable() else "".join(map(_printable, cut))


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
