"""Label efficiency of a pretrained image encoder, beside every way to do without it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from broker.errors import SettingsError
from encoder.evaluation import efficiency
from encoder.evaluation.anomaly import evaluate_anomalies
from encoder.evaluation.bench import (
    SUPERVISED,
    TUNED,
    Bench,
    check,
    encoder_of,
    networks,
    remembered,
    scaled_pixels,
)
from encoder.evaluation.catalogue import Catalogue
from encoder.evaluation.efficiency import PAIR, TO, Fit, of_labels
from encoder.evaluation.photoz import evaluate_catalogue
from encoder.evaluation.result import Section
from encoder.evaluation.unexplained import unexplained
from encoder.extinction import extinction_of
from encoder.heads import AB_ZERO_POINT
from encoder.images.archive import ImageSet, Kind
from encoder.images.config import ImagePretrainConfig
from encoder.images.task import represent
from encoder.images.views import Images
from encoder.train import Run

PROBE, RANDOM, PIXELS = "probe of the pretrained net", "probe of a random net", "PCA of pixels"
BOTH = "fine-tuned and probe, averaged"

FEWEST_REDSHIFTS = 1000
"""Below this nothing is said about redshifts."""

POGSON = 2.5 / math.log(10)
"""Magnitudes to a relative error of flux."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """How classes of a file become those of the question.

    Attributes
    ----------
    merged : mapping
        New name, and the names it takes the place of.
    dropped : tuple of str
        Left out.
    """

    merged: Mapping[str, tuple[str, ...]]
    dropped: tuple[str, ...]

    @classmethod
    def parse(cls, merge: Sequence[str], drop: Sequence[str]) -> "Grouping":
        """Read ``name=one,other`` and names.

        Raises
        ------
        SettingsError
            A merge has another form.
        """
        merged = {}
        for text in merge:
            name, equals, members = text.partition("=")
            if not (name and equals and members):
                raise SettingsError(f"--merge {text!r}: wanted NAME=CLASS,CLASS")
            merged[name] = tuple(members.split(","))
        return cls(merged, tuple(drop))

    def apply(self, images: ImageSet) -> ImageSet:
        """Rename labels; images without a label, or whose class is dropped, are left out.

        Raises
        ------
        SettingsError
            A class is named that the images do not have, or fewer than two are left.
        """
        named = {one for members in self.merged.values() for one in members} | {*self.dropped}
        if strange := named - {*images.classes}:
            raise SettingsError(f"no class {sorted(strange)}: the images have {', '.join(images.classes)}")
        renamed = {one: new for new, members in self.merged.items() for one in members}
        names = [renamed.get(one, one) for one in images.classes]
        kept = tuple(dict.fromkeys(name for name in names if name not in self.dropped))
        index = np.array([kept.index(name) if name in kept else -1 for name in names], np.int64)
        label = np.where(images.label >= 0, index[images.label], -1)
        rows = np.flatnonzero(label >= 0)
        if len(kept) < 2 or len(rows) == 0:  # noqa: PLR2004
            raise SettingsError(f"{len(rows)} labelled images of {len(kept)} classes: wanted two classes")
        return replace(images.take(rows), label=label[rows], classes=kept)


def evaluate_images(
    run: Run[ImagePretrainConfig],
    images: ImageSet,
    what: str,
    *,
    supervise: bool,
    told: Callable[[str], None],
) -> Section:
    """Measure the pretrained encoder against a random one, pixels and, where asked, supervision.

    Parameters
    ----------
    run : Run
        Of `encoder.images.task.load_image_checkpoint`.
    images : ImageSet
        With labels; see `Grouping.apply`.
    what : str
        Name of the images.
    supervise : bool
        Train whole networks as well: an hour on two cores.
    told : callable
        Told of each step.
    """
    bench = Bench(run, images)
    told("features")
    split, numbers = bench.split, efficiency.affordable(bench.split)
    probe = efficiency.probability(bench.features(bench.pretrained), split)
    methods: dict[str, Fit] = {
        PROBE: efficiency.likeliest(probe),
        RANDOM: efficiency.linear(bench.features(bench.random), split),
        PIXELS: efficiency.linear(efficiency.pixels(bench.pixels(), split.pool), split),
    }
    wanted: dict[str, tuple[int, ...]] = dict.fromkeys(methods, numbers)
    pretrained: tuple[str, ...] = (PROBE,)
    remarks: tuple[str, ...] = ()
    if supervise:
        trained, remarks = networks(bench, told)
        tuned = remembered(trained[TUNED])
        methods |= {
            TUNED: efficiency.likeliest(tuned),
            BOTH: efficiency.likeliest(efficiency.averaged(tuned, probe)),
            SUPERVISED: efficiency.likeliest(trained[SUPERVISED]),
        }
        wanted |= {
            TUNED: numbers,
            BOTH: numbers,
            SUPERVISED: tuple(n for n in (*numbers, PAIR * TO) if n <= len(split.pool)),
        }
        pretrained = (PROBE, TUNED, BOTH)
    else:
        remarks = ("Supervision was not measured: give --supervise, which takes about an hour on two cores.",)
    found = efficiency.run(methods, split, wanted, told)
    remarks += of_labels(run.config)
    section = efficiency.section(found, split, what, pretrained, SUPERVISED if supervise else None)
    return section.model_copy(update={"remarks": section.remarks + remarks})


def evaluate_pool(
    run: Run[ImagePretrainConfig],
    images: ImageSet,
    names: Sequence[str],
    what: str,
    told: Callable[[str], None],
) -> Section:
    """Look for some classes as anomalies among all images; see `encoder.evaluation.anomaly`.

    Every detector knows the pool, and none which of it is rare.

    Raises
    ------
    SettingsError
        A class is named that the images do not have, or none is of it.
    """
    if strange := {*names} - {*images.classes}:
        raise SettingsError(f"no class {sorted(strange)}: the images have {', '.join(images.classes)}")
    anomaly = np.isin(images.label, [images.classes.index(name) for name in names])
    if not anomaly.any():
        raise SettingsError(f"none of {len(images)} images is {', '.join(names)}")
    check(run, images)
    told("embedding")
    seen = represent(encoder_of(run.moco), Images.of(images), run.config.network)
    components = efficiency.pixels(scaled_pixels(images, run.config.network), np.arange(len(images)))
    embedding = np.asarray(seen.raw.double().numpy())
    title = f"{', '.join(names)} in {what}"
    left = unexplained(Images.of(images), run.config.network) if images.kind is Kind.FLUX else None
    return evaluate_anomalies(
        embedding,
        np.asarray(components, np.float64),
        anomaly,
        title,
        told,
        left=left,
        objects=images.object_id,
    )


def has_redshifts(images: ImageSet) -> bool:
    """Tell whether a set has redshifts, and photometry to hold an embedding against."""
    known = np.isfinite(images.redshift) & np.isfinite(images.photometry).any(axis=1)
    return bool(known.sum() >= FEWEST_REDSHIFTS)


def evaluate_redshifts(
    run: Run[ImagePretrainConfig], images: ImageSet, what: str, told: Callable[[str], None]
) -> Section:
    """Compare photometric redshifts with and without the images; see `encoder.evaluation.photoz`."""
    check(run, images)
    known = images.take(np.isfinite(images.redshift) & np.isfinite(images.photometry).any(axis=1))
    told("embedding")
    seen = represent(encoder_of(run.moco), Images.of(known), run.config.network)
    # The embedding is of an image without our Galaxy's dust: the photometry of every method is freed of it too.
    dust = np.nan_to_num(known.ebv.astype(np.float64))[:, None] * extinction_of(known.bands)
    fading = 10 ** (0.4 * dust)
    flux, error = known.photometry * fading, known.photometry_error * fading
    bright = np.isfinite(flux) & np.isfinite(error) & (flux > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        magnitude = np.where(bright, AB_ZERO_POINT - 2.5 * np.log10(flux), np.nan)
        scatter = np.where(bright, POGSON * error / flux, np.nan)
    catalogue = Catalogue.of(magnitude, scatter, known.redshift.astype(np.float64), known.object_id)
    embedding = np.asarray(torch.cat([seen.raw, seen.context], 1).double().numpy())
    return evaluate_catalogue(catalogue, what, told, embedding=embedding)
