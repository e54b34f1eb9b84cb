"""What the network says of a batch, as enrichments: facts are found for all alerts at once, then told for each."""

from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from broker import flags
from broker.alert import (
    BANDS,
    ROLES,
    SURVEYS,
    Alert,
    Enrichment,
    Float32Array,
    HeadValues,
    ModelIdentity,
    Redshift,
    Seen,
)
from broker.contract import ANOMALY_VIEWS, ModelContract
from broker.geometry import Stamps
from broker.heads import HeadContract
from broker.photometry import flux
from broker.reasons import reason

SCORES = ("anomaly", *ANOMALY_VIEWS)

Outputs = Mapping[str, NDArray[np.float32]]

BANDS_OF = tuple(
    tuple(compress(BANDS, (bits >> n & 1 for n in range(len(BANDS))))) for bits in range(1 << len(BANDS))
)
"""Bands by the number whose bits say which have a flux."""


class _Facts(NamedTuple):
    """Of one alert.

    Attributes
    ----------
    sound : frozenset of str
        Outputs whose values are all finite.
    is_usable : bool
        Whether all are.
    has_pixels, has_host_pixels : bool
        Whether any stamp has a valid pixel; whether science or template has, as the difference shows no host.
    bands : tuple of str
        Those whose flux is known.
    is_outside : bool
        Whether a flux lies outside the range of training.
    """

    sound: frozenset[str]
    is_usable: bool
    has_pixels: bool
    has_host_pixels: bool
    bands: tuple[str, ...]
    is_outside: bool


class Answers:
    """Makes enrichments of a model's outputs.

    Parameters
    ----------
    contract : ModelContract
    heads : sequence of HeadContract
        Of additional heads, in the order of their values.
    """

    def __init__(self, contract: ModelContract, heads: Sequence[HeadContract] = ()) -> None:
        self._contract = contract
        self._heads = heads
        self.identity = ModelIdentity(contract.name, contract.version, contract.weights_digest)
        self._names = tuple(contract.outputs)
        self._all = frozenset(self._names)
        limits = [contract.photometry_range[survey.value] for survey in SURVEYS]
        # A bright magnitude is a large flux.
        self._most, self._least = (flux(np.array(edge)) for edge in zip(*limits, strict=True))

    def __call__(
        self,
        alerts: Sequence[Alert],
        stamps: Sequence[Stamps],
        outputs: Outputs,
        heads: Sequence[Float32Array],
    ) -> list[Enrichment]:
        """Give an enrichment of each alert.

        Parameters
        ----------
        alerts : sequence of Alert, length n
        stamps : sequence of Stamps, length n
        outputs : mapping of str to ndarray, n rows each
        heads : sequence of ndarray, shape (n, n_labels)

        Returns
        -------
        list of Enrichment, length n
        """
        points, lows, highs = summarise(outputs["photoz_pdf"], self._contract.z_min, self._contract.z_max)
        summaries = zip(points.tolist(), lows.tolist(), highs.tolist(), strict=True)
        scores = {name: outputs[name].tolist() for name in SCORES if name in outputs}
        return [
            self._enrichment(
                alert,
                laid,
                facts,
                {name: outputs[name][i] for name in ("embedding", "morphology", "photoz_pdf")},
                {
                    name: values[i]
                    for name, values in scores.items()
                    if name in facts.sound and facts.has_pixels
                },
                summary,
                [values[i] for values in heads],
            )
            for i, (alert, laid, facts, summary) in enumerate(
                zip(alerts, stamps, self._facts(alerts, stamps, outputs), summaries, strict=True)
            )
        ]

    def unseen(self, alert: Alert) -> Enrichment:
        """Give that of an alert which no network saw."""
        return Enrichment(
            model=self.identity,
            embedding=None,
            morphology_classes=self._contract.morphology_classes,
            morphology=None,
            redshift=None,
            anomaly=None,
            seen=self._seen(alert, None, np.zeros(len(ROLES), np.float32)),
            flags=(*alert.flags, flags.SHED),
        )

    def _facts(self, alerts: Sequence[Alert], stamps: Sequence[Stamps], outputs: Outputs) -> list[_Facts]:
        sound = np.stack(
            [np.isfinite(outputs[name]).reshape(len(alerts), -1).all(axis=1) for name in self._names], axis=1
        )
        covered = np.stack([laid.valid_fraction for laid in stamps]) > 0
        fluxes = np.stack([alert.photometry for alert in alerts])
        survey = np.array([SURVEYS.index(alert.survey) for alert in alerts])
        known = np.isfinite(fluxes) @ (1 << np.arange(len(BANDS)))
        outside = (fluxes > self._most[survey, None]) | ((fluxes > 0) & (fluxes < self._least[survey, None]))
        return [
            _Facts(*each)
            for each in zip(
                map(self._sound, sound.tolist()),
                _each(np.all, sound),
                _each(np.any, covered),
                _each(np.any, covered[:, :2]),
                map(BANDS_OF.__getitem__, known.tolist()),
                _each(np.any, outside),
                strict=True,
            )
        ]

    def _sound(self, row: Sequence[bool]) -> frozenset[str]:
        return self._all if all(row) else frozenset(compress(self._names, row))

    def _enrichment(
        self,
        alert: Alert,
        stamps: Stamps,
        facts: _Facts,
        row: Outputs,
        scores: Mapping[str, float],
        summary: tuple[float, float, float],
        values: Sequence[Float32Array],
    ) -> Enrichment:
        seen = facts.sound if facts.has_pixels else frozenset()
        morphology = row["morphology"] if "morphology" in seen else None
        words = _words(alert, stamps, facts)
        return Enrichment(
            model=self.identity,
            embedding=row["embedding"] if "embedding" in seen else None,
            morphology_classes=self._contract.morphology_classes,
            morphology=morphology,
            redshift=self._redshift(facts, row["photoz_pdf"], summary)
            if "photoz_pdf" in facts.sound
            else None,
            anomaly=scores.get("anomaly"),
            anomaly_interesting=scores.get("anomaly_interesting"),
            anomaly_artefact=scores.get("anomaly_artefact"),
            anomaly_reason=self._reason(scores, morphology, words),
            seen=self._seen(alert, stamps.psf_fwhm, stamps.valid_fraction),
            heads=self._of_heads(values) if "embedding" in seen else (),
            bands_used=facts.bands,
            flags=words,
        )

    def _seen(self, alert: Alert, psf_fwhm: float | None, valid_fraction: Float32Array) -> Seen:
        grid = self._contract.grid
        return Seen(grid.size, grid.pixel_scale[alert.survey.value], alert.band, psf_fwhm, valid_fraction)

    def _reason(
        self, scores: Mapping[str, float], morphology: Float32Array | None, words: Sequence[str]
    ) -> str | None:
        if "anomaly" not in scores:
            return None
        contract = self._contract
        likeness = None if morphology is None else (contract.morphology_classes, morphology)
        artefact = scores.get("anomaly_artefact")
        return reason(scores["anomaly"], artefact, likeness, contract.artefact_class, words)

    def _of_heads(self, values: Sequence[Float32Array]) -> tuple[HeadValues, ...]:
        return tuple(
            HeadValues(head.name, head.weights_digest, head.labels, row)
            for head, row in zip(self._heads, values, strict=True)
            if np.isfinite(row).all()
        )

    def _redshift(
        self, facts: _Facts, pdf: Float32Array, summary: tuple[float, float, float]
    ) -> Redshift | None:
        if not (facts.has_host_pixels or facts.bands):
            return None
        image, photometry = facts.has_host_pixels, bool(facts.bands)
        source = "both" if image and photometry else "image" if image else "photometry"
        return Redshift(self._contract.z_min, self._contract.z_max, pdf, *summary, source)


def _each(of: Callable[..., NDArray[np.bool_]], rows: NDArray[np.bool_]) -> list[bool]:
    found: list[bool] = of(rows, axis=1).tolist()
    return found


def _words(alert: Alert, stamps: Stamps, facts: _Facts) -> tuple[str, ...]:
    words = (*alert.flags, *stamps.flags)
    if facts.is_outside:
        words = (*words, flags.OUTSIDE_TRAINING_RANGE)
    if not facts.is_usable:
        words = (*words, flags.MODEL_OUTPUT_INVALID)
    return tuple(dict.fromkeys(words)) if words else words


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
