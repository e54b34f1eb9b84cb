"""Every error of Nightjar, in one tree.

::

    NightjarError
    ├── ConfigurationError      of the configuration: exit code 2, do not restart
    │   ├── SettingsError       a setting, a file or a command line; a topic that is not there
    │   └── ModelRefused        a model file whose contract does not hold
    ├── AlertError              of the alert: dead letter
    │   ├── FrameError          not a Confluent frame, nor an Avro container
    │   ├── SchemaUnknown       neither bundled, nor an alert's that a registry or its container tells
    │   ├── ContainerError      an Avro object container that cannot be read
    │   └── DatumError          the datum breaks the schema it claims
    ├── CutoutError             of the alert: one stamp cannot be read: partial, with a flag
    ├── KafkaError              of Kafka: exit code 1, before the commit: the batch comes again
    │   ├── Unavailable         of the moment: tried again for as long as it lasts
    │   │   └── TooSlow         more than a transaction's time takes: tried again in smaller parts
    │   ├── TooLarge            of the alert: its topic takes no record of that size: dead letter
    │   └── Interrupted         told to stop while Kafka did not answer
    └── RegistryError           of the moment, where outputs need a registry: exit code 1, before the commit

`AlertError` is caught in one place (`broker.pipeline`), `CutoutError` in one place (`broker.geometry`), `Unavailable`
and `TooLarge` in one place (`broker.delivery`). Anything else, as an error of the programmer, stops the process before
the commit with exit code 1, and the batch comes again.
"""

from collections.abc import Sequence
from enum import StrEnum


class Reason(StrEnum):
    """Why a message became a dead letter: the closed list of ``schemas/dead_letter``."""

    NULL_VALUE = "null_value"
    FRAME_INVALID = "frame_invalid"
    SCHEMA_UNKNOWN = "schema_unknown"
    CONTAINER_INVALID = "container_invalid"
    CODEC_UNSUPPORTED = "codec_unsupported"
    DATUM_INVALID = "datum_invalid"
    MESSAGE_TOO_LARGE = "message_too_large"


LONGEST_DETAIL = 1000
"""Characters of a detail: what it quotes of a message may be as long as the message, and a dead letter that is much
longer than its message might not be taken by Kafka."""

LONGEST_LINE = 4000
"""Characters of what an operator is told: a file with a thousand faults is told by its first ones."""


class NightjarError(Exception):
    """Root of the tree.

    Parameters
    ----------
    text : str
        What was found and what was wanted.
    remedy : str, optional
        What to do, behind a colon in the line, and by itself for who lays it out in columns; where it is not
        given it stands in the text, or there is none.

    Attributes
    ----------
    cause : str
        The text without the remedy.
    remedy : str or None
    """

    def __init__(self, text: str, remedy: str | None = None) -> None:
        super().__init__(text if remedy is None else f"{text}: {remedy}")
        self.cause = text
        self.remedy = remedy


class ConfigurationError(NightjarError):
    """What the operator gave cannot work: one line, exit code 2.

    What would break the line is escaped, since names and values that are quoted may hold anything, and what is
    longer than `LONGEST_LINE` is cut.

    Parameters
    ----------
    text, remedy
        As of `NightjarError`.
    """

    def __init__(self, text: str, remedy: str | None = None) -> None:
        said = None if remedy is None else _line(remedy, LONGEST_LINE // 2)
        super().__init__(_line(text, LONGEST_LINE - len(said or "")), said)


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
    """A frame or a container whose schema neither the bundle, nor a registry or the container itself, tells."""

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


class Unavailable(KafkaError):
    """Kafka cannot do it at the moment: unreachable, timed out, too few replicas, a coordinator that moved.

    Parameters
    ----------
    text : str
    unwritten : sequence of int
        Which of the records written are not acknowledged.
    """

    def __init__(self, text: str, unwritten: Sequence[int] = ()) -> None:
        super().__init__(text)
        self.unwritten = tuple(unwritten)


class TooSlow(Unavailable):
    """Records of a transaction that were not acknowledged while it lasts: fewer may be."""


class TooLarge(KafkaError):
    """Records larger than their topic takes; the others were acknowledged.

    Parameters
    ----------
    text : str
    refused : sequence of int
        Which of the records.
    """

    def __init__(self, text: str, refused: Sequence[int]) -> None:
        super().__init__(text)
        self.refused = tuple(refused)


class Interrupted(KafkaError):
    """Told to stop while waiting for Kafka."""


class RegistryError(NightjarError):
    """The schema registry cannot be reached, or gives no answer of use."""


def _line(text: str, longest: int) -> str:
    cut = text if len(text) <= longest else f"{text[:longest]}…"
    return cut if cut.isprintable() else "".join(map(_printable, cut))


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
