"""What flows through the broker: messages, alerts and what became of them.

Frozen dataclasses only; nothing here reads, computes or imports beyond numpy.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from broker.errors import Reason

Float32Array: TypeAlias = NDArray[np.float32]

ROLES = ("science", "template", "difference")
"""The three stamps of an alert, in the order of every array axis of length 3."""

BANDS = ("u", "g", "r", "i", "z", "y")
"""Filters in the order of every photometry axis; Rubin has all six, ZTF g, r and i."""


class Survey(StrEnum):
    """The surveys whose packets are read."""

    LSST = "lsst"
    ZTF = "ztf"


SURVEYS = tuple(Survey)
"""Surveys in the order of the network's ``survey`` input."""


@dataclass(frozen=True, slots=True)
class Message:
    """One Kafka message as it came.

    Attributes
    ----------
    value, key : bytes or None
        As on the wire; a tombstone has no value.
    headers : tuple of (str, bytes or None)
        In their order.
    topic : str
    partition, offset : int
        Where it stood in the source.
    timestamp_ms : int or None
        Milliseconds since the Unix epoch, None where the broker gave none.
    tenure : int
        In which of our times of holding its partition it was taken.
    """

    value: bytes | None
    topic: str
    partition: int
    offset: int
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_ms: int | None = None
    tenure: int = 0


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of either survey, in the terms both share.

    Attributes
    ----------
    survey : Survey
    form : str
        Name of the canonical form of its schema, such as ``lsst.v11_1`` or ``ztf.v4_02``.
    alert_id : int
        Rubin's diaSourceId, ZTF's candid.
    object_id : str
        Rubin's diaObjectId unless null or 0, else ssObjectId, else the alert id; ZTF's objectId.
    ra, dec : float
        Degrees, ICRS.
    mjd : float
        UTC, in days: mid-exposure for Rubin (converted from TAI), exposure start for ZTF.
    band : str or None
        One of `BANDS`; None where the packet does not say.
    datum : bytes or memoryview
        The Avro datum as it came, without frame or container.
    cutouts : tuple of (bytes, memoryview or None), length 3
        FITS files (gzipped for ZTF) in the order of `ROLES`; None where the packet has null.
    photometry : Float32Array, shape (6,)
        Light of the host or its neighbourhood per band of `BANDS`, in nJy; NaN where unknown. What it
        is differs by survey and is stated in `broker.photometry`.
    position : tuple of float or None
        (x, y) of the alert on the detector in 0-based pixels, for surveys whose stamps carry no WCS.
    flags : tuple of str
        What the packet itself says of the alert, such as ``solar_system``.
    """

    survey: Survey
    form: str
    alert_id: int
    object_id: str
    ra: float
    dec: float
    mjd: float
    band: str | None
    datum: bytes | memoryview
    cutouts: tuple[bytes | memoryview | None, ...]
    photometry: Float32Array
    position: tuple[float, float] | None = None
    flags: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Key of everything published about the object: ``lsst:<id>`` or ``ztf:<id>``."""
        return f"{self.survey.value}:{self.object_id}"


@dataclass(frozen=True, slots=True)
class Redshift:
    """A photometric redshift.

    Attributes
    ----------
    z_min, z_max : float
        Edges of the stated range; the bins divide it evenly.
    pdf : Float32Array, shape (n_bins,)
        Probability of each bin; sums to 1.
    point : float
        Mean of the PDF.
    low, high : float
        16th and 84th percentiles of the PDF.
    source : str
        What it rests on: ``image``, ``photometry`` or ``both``.
    """

    z_min: float
    z_max: float
    pdf: Float32Array
    point: float
    low: float
    high: float
    source: str


@dataclass(frozen=True, slots=True)
class HeadValues:
    """What an additional head says of an alert: one value for each label."""

    name: str
    digest: str
    labels: tuple[str, ...]
    values: Float32Array


@dataclass(frozen=True, slots=True)
class Seen:
    """What the network looked at.

    Attributes
    ----------
    size : int
        Side of the grid in pixels.
    pixel_scale : float
        Arcseconds per pixel of the grid.
    band : str or None
    psf_fwhm : float or None
        Arcseconds, of the science stamp; None where the packet does not say.
    valid_fraction : Float32Array, shape (3,)
        Share of the grid covered by valid pixels, in the order of `ROLES`.
    """

    size: int
    pixel_scale: float
    band: str | None
    psf_fwhm: float | None
    valid_fraction: Float32Array


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model spoke: name, version and the digest of its weights (hex SHA-256)."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Enrichment:
    """What is attached to an alert; None where the stamps left nothing to go by.

    Attributes
    ----------
    model : ModelIdentity
    embedding : Float32Array, shape (64,), or None
        Unit length in the Euclidean norm.
    morphology_classes : tuple of str
    morphology : Float32Array, shape (n_classes,), or None
        Probabilities; they sum to 1.
    redshift : Redshift or None
    anomaly : float or None
        In [0, 1]: the fraction of the survey's reference population that is less unusual.
    seen : Seen
    flags : tuple of str
        The words of ``docs/flags.md``.
    heads : tuple of HeadValues
    bands_used : tuple of str
        Bands whose fluxes in the packet were side inputs.
    anomaly_interesting, anomaly_artefact : float or None
        In [0, 1], fractions of the same population: less unusual without being an artefact, and less like
        an artefact. None where the model has no such outputs.
    anomaly_reason : str or None
        What the scores rest on, in words (`broker.reasons`).
    """

    model: ModelIdentity
    embedding: Float32Array | None
    morphology_classes: tuple[str, ...]
    morphology: Float32Array | None
    redshift: Redshift | None
    anomaly: float | None
    seen: Seen
    flags: tuple[str, ...] = ()
    heads: tuple[HeadValues, ...] = ()
    bands_used: tuple[str, ...] = ()
    anomaly_interesting: float | None = None
    anomaly_artefact: float | None = None
    anomaly_reason: str | None = None

    @property
    def top_class(self) -> str | None:
        """Most probable morphology class."""
        if self.morphology is None:
            return None
        return self.morphology_classes[int(self.morphology.argmax())]


@dataclass(frozen=True, slots=True)
class Enriched:
    """An alert that goes on, whole or in part (then `Enrichment.flags` says why)."""

    message: Message
    alert: Alert
    enrichment: Enrichment


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message that goes to the dead-letter topic."""

    message: Message
    reason: Reason
    detail: str


Outcome: TypeAlias = Enriched | Rejected

RECORD_OVERHEAD, HEADER_OVERHEAD = 128, 10
"""Bytes that a batch of one record, and each header, take at most beside their contents (Kafka's message format 2:
61 bytes of batch, seven varints of record; two varints of header)."""


@dataclass(frozen=True, slots=True)
class Record:
    """One message to publish.

    Attributes
    ----------
    topic : str
    value : bytes or None
        None is a tombstone.
    key : bytes or None
    headers : tuple of (str, bytes or None)
    timestamp_ms : int or None
        None publishes with the present time.
    """

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = field(default=())
    timestamp_ms: int | None = None

    @property
    def size(self) -> int:
        """Bytes on the wire, an upper bound: key, value, headers and what Kafka adds to each."""
        names = "".join([name for name, _ in self.headers]).encode()
        values = sum([len(value or b"") for _, value in self.headers])
        headers = len(names) + values + len(self.headers) * HEADER_OVERHEAD
        return len(self.value or b"") + len(self.key or b"") + headers + RECORD_OVERHEAD


@dataclass(frozen=True, slots=True)
class Parcel:
    """An outcome and the records that tell it, which go out together or not at all.

    Attributes
    ----------
    outcome : Enriched or Rejected
    records : tuple of Record
    """

    outcome: Outcome
    records: tuple[Record, ...]

    @property
    def message(self) -> Message:
        """What it answers."""
        return self.outcome.message

    @property
    def size(self) -> int:
        """Bytes of its records on the wire, an upper bound."""
        return sum(record.size for record in self.records)
