"""The one place that knows the order of stages: messages in, outcomes out.

Pure in the sense that matters: no Kafka, no clock, no files. The same messages and the
same model give the same outcomes, one for each message and in their order.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from broker import flags
from broker.alert import (
    BANDS,
    ROLES,
    SURVEYS,
    Alert,
    Enriched,
    Enrichment,
    Float32Array,
    HeadValues,
    Message,
    ModelIdentity,
    Outcome,
    Redshift,
    Rejected,
    Seen,
)
from broker.avro.deserializer import Deserializer
from broker.contract import ANOMALY_VIEWS, ModelContract
from broker.errors import AlertError
from broker.geometry import Stamps, lay
from broker.heads import HeadContract
from broker.photometry import magnitude
from broker.reasons import reason
from broker.survey import read_alert

SCORES = ("anomaly", *ANOMALY_VIEWS)

MOST_HELD = 32 * 1024 * 1024
"""Bytes of alerts after which a piece is closed: room for several hundred of the largest ordinary alerts, so that only
data that inflate reach it, and two of the largest that a container may hold."""


class Embedder(Protocol):
    """What the pipeline asks of a model."""

    @property
    def contract(self) -> ModelContract:
        """What the model promises."""

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Arrays named as in the contract's `outputs`, for those of `broker.contract.INPUTS`."""


class EmbeddingHead(Protocol):
    """What the pipeline asks of an additional head."""

    @property
    def contract(self) -> HeadContract:
        """What the head promises."""

    def __call__(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values, shape (n, n_labels), of embeddings, shape (n, embedding_size)."""


class Pipeline:
    """Turns a batch of messages into outcomes.

    Parameters
    ----------
    deserialize : Deserializer
    embed : Embedder
    heads : sequence of EmbeddingHead
        Fitted on this embedding.
    """

    def __init__(
        self, deserialize: Deserializer, embed: Embedder, heads: Sequence[EmbeddingHead] = ()
    ) -> None:
        self._deserialize = deserialize
        self._embed = embed
        self._heads = heads
        contract = embed.contract
        self._contract = contract
        self._identity = ModelIdentity(contract.name, contract.version, contract.weights_digest)

    def __call__(self, messages: Sequence[Message]) -> list[Outcome]:
        """Enrich what can be read, reject what cannot.

        Parameters
        ----------
        messages : sequence of Message

        Returns
        -------
        list of Outcome
            One for each message, in their order.
        """
        return list(self.outcomes(messages))

    def outcomes(self, messages: Iterable[Message]) -> Iterator[Outcome]:
        """Do the same as they are taken: no more is held than `MOST_HELD` bytes of alerts, however far they inflate."""
        for piece in self._pieces(messages):
            enriched = iter(self._enrich([one for one in piece if not isinstance(one, Rejected)]))
            for one in piece:
                yield one if isinstance(one, Rejected) else next(enriched)

    def pass_on(self, messages: Iterable[Message]) -> Iterator[Outcome]:
        """Read messages without letting the network see them: partial, with flag ``shed``; or rejected as ever."""
        for message in messages:
            read = self._read(message)
            yield read if isinstance(read, Rejected) else Enriched(message, read, self._unseen(read))

    def _pieces(self, messages: Iterable[Message]) -> Iterator[list[tuple[Message, Alert] | Rejected]]:
        piece: list[tuple[Message, Alert] | Rejected] = []
        held = 0
        for message in messages:
            read = self._read(message)
            if isinstance(read, Rejected):
                piece.append(read)
                continue
            piece.append((message, read))
            # A name is in the datum too, but each of its characters may take four bytes here.
            held += len(read.datum) + sys.getsizeof(read.object_id)
            if held >= MOST_HELD:
                yield piece
                piece, held = [], 0
        if piece:
            yield piece

    def _unseen(self, alert: Alert) -> Enrichment:
        grid = self._contract.grid
        return Enrichment(
            model=self._identity,
            embedding=None,
            morphology_classes=self._contract.morphology_classes,
            morphology=None,
            redshift=None,
            anomaly=None,
            seen=Seen(
                size=grid.size,
                pixel_scale=grid.pixel_scale[alert.survey.value],
                band=alert.band,
                psf_fwhm=None,
                valid_fraction=np.zeros(len(ROLES), np.float32),
            ),
            flags=(*alert.flags, flags.SHED),
        )

    def _read(self, message: Message) -> Alert | Rejected:
        try:
            return read_alert(self._deserialize(message.value))
        except AlertError as error:
            return Rejected(message, error.reason, error.detail)

    def _enrich(self, alerts: Sequence[tuple[Message, Alert]]) -> list[Enriched]:
        if not alerts:
            return []
        stamps = [lay(alert, self._contract.grid) for _, alert in alerts]
        outputs = self._embed(network_inputs([alert for _, alert in alerts], stamps))
        points, lows, highs = summarise(outputs["photoz_pdf"], self._contract.z_min, self._contract.z_max)
        values = [head(outputs["embedding"]) for head in self._heads]
        summaries = zip(points.tolist(), lows.tolist(), highs.tolist(), strict=True)
        return [
            Enriched(
                message,
                alert,
                self._enrichment(
                    alert, laid, {k: v[i] for k, v in outputs.items()}, summary, [v[i] for v in values]
                ),
            )
            for i, ((message, alert), laid, summary) in enumerate(zip(alerts, stamps, summaries, strict=True))
        ]

    def _enrichment(
        self,
        alert: Alert,
        stamps: Stamps,
        row: Mapping[str, NDArray[np.float32]],
        summary: tuple[float, float, float],
        values: Sequence[NDArray[np.float32]],
    ) -> Enrichment:
        sound = {name for name, values in row.items() if np.isfinite(values).all()}
        seen = sound if stamps.valid_fraction.any() else set()
        scores = {name: float(row[name]) for name in SCORES if name in seen}
        morphology = row["morphology"] if "morphology" in seen else None
        words = self._flags(alert, stamps, usable=len(sound) == len(row))
        return Enrichment(
            model=self._identity,
            embedding=row["embedding"] if "embedding" in seen else None,
            morphology_classes=self._contract.morphology_classes,
            morphology=morphology,
            redshift=self._redshift(alert, stamps, row["photoz_pdf"], summary)
            if "photoz_pdf" in sound
            else None,
            anomaly=scores.get("anomaly"),
            anomaly_interesting=scores.get("anomaly_interesting"),
            anomaly_artefact=scores.get("anomaly_artefact"),
            anomaly_reason=self._reason(scores, morphology, words),
            seen=Seen(
                size=self._contract.grid.size,
                pixel_scale=self._contract.grid.pixel_scale[alert.survey.value],
                band=alert.band,
                psf_fwhm=stamps.psf_fwhm,
                valid_fraction=stamps.valid_fraction,
            ),
            heads=self._of_heads(values) if "embedding" in seen else (),
            bands_used=tuple(
                b for b, flux in zip(BANDS, alert.photometry.tolist(), strict=True) if np.isfinite(flux)
            ),
            flags=words,
        )

    def _reason(
        self, scores: Mapping[str, float], morphology: Float32Array | None, words: Sequence[str]
    ) -> str | None:
        if "anomaly" not in scores:
            return None
        contract = self._contract
        likeness = None if morphology is None else (contract.morphology_classes, morphology)
        artefact = scores.get("anomaly_artefact")
        return reason(scores["anomaly"], artefact, likeness, contract.artefact_class, words)

    def _of_heads(self, values: Sequence[NDArray[np.float32]]) -> tuple[HeadValues, ...]:
        return tuple(
            HeadValues(head.contract.name, head.contract.weights_digest, head.contract.labels, row)
            for head, row in zip(self._heads, values, strict=True)
            if np.isfinite(row).all()
        )

    def _redshift(
        self, alert: Alert, stamps: Stamps, pdf: NDArray[np.float32], summary: tuple[float, float, float]
    ) -> Redshift | None:
        # The difference shows the transient, not its host: it says nothing of the redshift.
        image = bool(stamps.valid_fraction[:2].any())
        photometry = bool(np.isfinite(alert.photometry).any())
        source = {(True, True): "both", (True, False): "image", (False, True): "photometry"}.get(
            (image, photometry)
        )
        if source is None:
            return None
        point, low, high = summary
        return Redshift(self._contract.z_min, self._contract.z_max, pdf, point, low, high, source)

    def _flags(self, alert: Alert, stamps: Stamps, *, usable: bool) -> tuple[str, ...]:
        words = [*alert.flags, *stamps.flags]
        if self._outside_training(alert):
            words.append(flags.OUTSIDE_TRAINING_RANGE)
        if not usable:
            words.append(flags.MODEL_OUTPUT_INVALID)
        return tuple(dict.fromkeys(words))

    def _outside_training(self, alert: Alert) -> bool:
        flux = alert.photometry
        if not (flux > 0).any():
            return False
        bright, faint = self._contract.photometry_range[alert.survey.value]
        magnitudes = magnitude(flux[flux > 0])
        return bool((magnitudes < bright).any() or (magnitudes > faint).any())


def network_inputs(alerts: Sequence[Alert], stamps: Sequence[Stamps]) -> dict[str, NDArray[Any]]:
    """Arrays the graph takes, for n alerts seen in one band each.

    Parameters
    ----------
    alerts : sequence of Alert
    stamps : sequence of Stamps
        The alerts' stamps on the common grid.

    Returns
    -------
    dict of str to ndarray
        As `broker.contract.INPUTS` states them, with a band axis of length 1.
    """
    return {
        "stamps": np.stack([laid.image for laid in stamps])[:, None],
        "mask": np.stack([laid.mask for laid in stamps])[:, None],
        "noise": np.stack([laid.noise for laid in stamps])[:, None],
        "survey": np.array([SURVEYS.index(alert.survey) for alert in alerts], dtype=np.int64),
        "band": np.array([[_band_index(alert.band)] for alert in alerts], dtype=np.int64),
        "photometry": np.stack([alert.photometry for alert in alerts]),
    }


def _band_index(band: str | None) -> int:
    return BANDS.index(band) if band in BANDS else -1


def summarise(
    pdf: NDArray[np.float32], z_min: float, z_max: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean, 16th and 84th percentile of PDFs on even bins.

    Parameters
    ----------
    pdf : ndarray, shape (n, n_bins)
        Probabilities; each row sums to 1.
    z_min, z_max : float

    Returns
    -------
    point, low, high : ndarray, shape (n,)
        Percentiles by linear interpolation of the cumulative distribution inside a bin.
    """
    bins = pdf.shape[1]
    width = (z_max - z_min) / bins
    point = pdf.astype(np.float64) @ (z_min + width * (np.arange(bins) + 0.5))
    cumulative = np.cumsum(pdf, axis=1, dtype=np.float64)
    return point, _quantile(cumulative, 0.16, z_min, width), _quantile(cumulative, 0.84, z_min, width)


def _quantile(
    cumulative: NDArray[np.float64], level: float, z_min: float, width: float
) -> NDArray[np.float64]:
    last = cumulative.shape[1] - 1
    index = np.minimum((cumulative < level).sum(axis=1), last)
    rows = np.arange(len(cumulative))
    below = np.where(index > 0, cumulative[rows, index - 1], 0.0)
    inside = cumulative[rows, index] - below
    share = np.divide(level - below, inside, out=np.full(len(rows), 0.5), where=inside > 0)
    quantile: NDArray[np.float64] = z_min + width * (index + np.clip(share, 0.0, 1.0))
    return quantile
