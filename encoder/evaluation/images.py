"""Label efficiency of a pretrained image encoder, beside every way to do without it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from broker.errors import SettingsError
from encoder.evaluate import Ints, macro_f1
from encoder.evaluation import efficiency
from encoder.evaluation.anomaly import evaluate_anomalies
from encoder.evaluation.catalogue import Catalogue
from encoder.evaluation.efficiency import PAIR, TO, Fit, Split
from encoder.evaluation.photoz import evaluate_catalogue
from encoder.evaluation.result import Section
from encoder.fit import held_out_objects
from encoder.heads import AB_ZERO_POINT
from encoder.images.archive import ImageSet
from encoder.images.classifier import (
    ClassifierConfig,
    features,
    gentle_views,
    predict,
    train_classifier,
)
from encoder.images.config import ImagePretrainConfig
from encoder.images.network import ImageEncoder
from encoder.images.task import new_moco, represent
from encoder.images.views import Images, as_given
from encoder.moco import MoCo
from encoder.train import Run

PROBE, RANDOM, PIXELS = "probe of the pretrained net", "probe of a random net", "PCA of pixels"
TUNED, SUPERVISED = "fine-tuned from the pretrained net", "supervised from scratch"

RATES = (3e-4, 1e-3, 3e-3)
"""Learning rates among which fine-tuning and supervision each choose."""

TUNING_LABELS = 400
"""Labels on which the learning rate and class weight are chosen, three quarters to learn and one to judge."""

TUNING_POWERS = (0.5, 1.0)

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
    methods: dict[str, Fit] = {
        PROBE: efficiency.linear(bench.features(bench.pretrained), split),
        RANDOM: efficiency.linear(bench.features(bench.random), split),
        PIXELS: efficiency.linear(efficiency.pixels(bench.pixels(), split.pool), split),
    }
    wanted: dict[str, tuple[int, ...]] = dict.fromkeys(methods, numbers)
    remarks: tuple[str, ...] = ()
    if supervise:
        for name, encoder in ((TUNED, bench.pretrained), (SUPERVISED, bench.random)):
            told(f"tuning: {name}")
            config, line = bench.tune(encoder, name)
            methods[name] = bench.trained(encoder, config)
            remarks += (line,)
        wanted |= {
            TUNED: numbers,
            SUPERVISED: tuple(n for n in (*numbers, PAIR * TO) if n <= len(split.pool)),
        }
    found = efficiency.run(methods, split, wanted, told)
    pretrained = (PROBE, TUNED) if supervise else (PROBE,)
    section = efficiency.section(found, split, what, pretrained, SUPERVISED if supervise else None)
    if not supervise:
        remarks += (
            "Supervision was not measured: give --supervise, which takes about an hour on two cores.",
        )
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
    seen = represent(_encoder_of(run.moco), Images.of(images), run.config.network)
    shown = np.asarray(as_given(Images.of(images), run.config.network).pixels.numpy())
    components = efficiency.pixels(shown, np.arange(len(images)))
    embedding = np.asarray(seen.raw.double().numpy())
    title = f"{', '.join(names)} in {what}"
    return evaluate_anomalies(embedding, np.asarray(components, np.float64), anomaly, title, told)


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
    seen = represent(_encoder_of(run.moco), Images.of(known), run.config.network)
    flux, error = known.photometry.astype(np.float64), known.photometry_error.astype(np.float64)
    bright = np.isfinite(flux) & np.isfinite(error) & (flux > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        magnitude = np.where(bright, AB_ZERO_POINT - 2.5 * np.log10(flux), np.nan)
        scatter = np.where(bright, POGSON * error / flux, np.nan)
    catalogue = Catalogue(magnitude, scatter, known.redshift.astype(np.float64))
    embedding = np.asarray(torch.cat([seen.raw, seen.context], 1).double().numpy())
    return evaluate_catalogue(catalogue, what, told, embedding=embedding)


def check(run: Run[ImagePretrainConfig], images: ImageSet) -> None:
    """Check that an encoder can see images.

    Raises
    ------
    SettingsError
        They are of another kind, or of other bands.
    """
    network = run.config.network
    found, wanted = (images.kind.value, images.images.shape[1]), (network.kind.value, network.bands)
    if found != wanted:
        raise SettingsError(
            f"{found[0]} images of {found[1]} bands; the checkpoint learned from {wanted[0]} images of {wanted[1]}"
        )


class Bench:
    """One encoder, one set of labelled images, one split.

    Parameters
    ----------
    run : Run
    images : ImageSet

    Attributes
    ----------
    pretrained, random : ImageEncoder
        As trained, and with the first weights of the same recipe.
    split : Split
        What the recipe held out is tested.
    """

    def __init__(self, run: Run[ImagePretrainConfig], images: ImageSet) -> None:
        self._config, self._network = run.config, run.config.network
        check(run, images)
        self._images, self._label = Images.of(images), torch.from_numpy(images.label)
        self._classes = len(images.classes)
        self._views = gentle_views(self._network, images.bands)
        self.pretrained = _encoder_of(run.moco)
        self.random = _encoder_of(new_moco(run.config))
        test = held_out_objects(run.config, images.object_id.astype(str))
        self.split = Split(
            np.flatnonzero(~test), np.flatnonzero(test), images.label, images.object_id, images.classes
        )

    def features(self, encoder: ImageEncoder) -> NDArray[np.float32]:
        """Features of every image."""
        return features(encoder, self._images, self._network)

    def pixels(self) -> NDArray[np.float32]:
        """Every image as the network is given it."""
        return np.asarray(as_given(self._images, self._network).pixels.numpy())

    def trained(self, encoder: ImageEncoder, config: ClassifierConfig) -> Fit:
        """Train the whole network on the labels drawn."""

        def fit(rows: Ints, seed: int) -> NDArray[np.int64]:
            return self._predicted(encoder, config, rows, self.split.test, seed)

        return fit

    def tune(self, encoder: ImageEncoder, name: str) -> tuple[ClassifierConfig, str]:
        """Choose learning rate and class weight on labels of the pool, and say which."""
        rows = self.split.draw(min(TUNING_LABELS, len(self.split.pool)), seed=-1)
        judge, learn = rows[::4], np.setdiff1d(rows, rows[::4])
        scores = {}
        for rate in RATES:
            for power in TUNING_POWERS:
                config = ClassifierConfig(learning_rate=rate, weighting=power)
                seen = self._predicted(encoder, config, learn, judge, 0)
                scores[config] = macro_f1(self.split.label[judge], seen)
        best = max(scores, key=lambda one: scores[one])
        return best, (
            f"{name}: learning rate {best.learning_rate:g} of {RATES}, class weight count^-{best.weighting:g} of "
            f"{TUNING_POWERS}, chosen on {len(judge)} of {len(rows)} labels of the pool."
        )

    def _predicted(
        self, encoder: ImageEncoder, config: ClassifierConfig, rows: Ints, test: Ints, seed: int
    ) -> NDArray[np.int64]:
        known, wanted = torch.from_numpy(rows), torch.from_numpy(test)
        model = train_classifier(
            encoder,
            self._images[known],
            self._label[known],
            self._views,
            config,
            classes=self._classes,
            seed=seed,
        )
        return np.asarray(predict(model, self._images[wanted], self._network).argmax(1), np.int64)


def _encoder_of(moco: MoCo) -> ImageEncoder:
    encoder = moco.base_encoder.eval()
    assert isinstance(encoder, ImageEncoder)
    return encoder
