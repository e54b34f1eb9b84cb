"""What the files given to an evaluation are, and which question each answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

from broker.alert import Enriched
from broker.errors import SettingsError
from broker.packet_files import PacketFiles
from encoder.embedded import outcomes
from encoder.evaluation.plain import plain_row
from encoder.evaluation.probes import evaluate_alerts, read_columns
from encoder.evaluation.result import Section, Source, digest_of
from encoder.features import alert_row
from encoder.served import CHECKPOINT, need_torch, served

IMAGE_FILES = {".npz", ".hdf5", ".h5"}


class Content(StrEnum):
    """What a file holds."""

    ALERTS = "alerts"
    IMAGES = "images with labels"
    CATALOGUE = "photometry and redshifts"
    SHARDS = "simulated alerts with labels"


class Question(StrEnum):
    """What may be asked of a set of images."""

    LABELS = "labels"
    ANOMALIES = "anomalies"
    REDSHIFTS = "redshifts"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for.

    Attributes
    ----------
    encoder : Path or None
        None is the packaged model.
    data : tuple of Path
    labels : Path or None
        Of alerts.
    merge, drop : tuple of str
        See `encoder.evaluation.images.Grouping`.
    anomaly : tuple of str
        Classes of images that are to be found.
    supervise : bool
    questions : tuple of Question
        That images are asked, where they can answer.
    """

    encoder: Path | None
    data: tuple[Path, ...]
    labels: Path | None = None
    merge: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    anomaly: tuple[str, ...] = ()
    supervise: bool = False
    questions: tuple[Question, ...] = tuple(Question)


def content_of(path: Path) -> Content:
    """Tell what a file holds.

    Raises
    ------
    SettingsError
        There is no such file, or it holds neither images nor a catalogue.
    """
    if not path.exists():
        raise SettingsError(f"{path} does not exist: give files or folders of alerts, or a set of images")
    if path.suffix not in IMAGE_FILES:
        return Content.SHARDS if path.is_dir() and any(path.glob("*.npz")) else Content.ALERTS
    from encoder.evaluation.catalogue import is_catalogue  # noqa: PLC0415 - needs h5py, which alerts do not

    return Content.CATALOGUE if is_catalogue(path) else Content.IMAGES


def examine(
    request: Request, told: Callable[[str], None]
) -> tuple[str, str, tuple[Source, ...], tuple[Section, ...]]:
    """Answer every question the data allow.

    Returns
    -------
    str
        Name of the model.
    str
        Digest of its weights, where alerts were embedded; of the file else.
    tuple of Source
    tuple of Section
    """
    by_content: dict[Content, list[Path]] = {}
    for path in request.data:
        by_content.setdefault(content_of(path), []).append(path)
    sources: list[Source] = []
    sections: list[Section] = []
    with TemporaryDirectory() as folder:
        name, digest = _identity(request)
        if paths := by_content.get(Content.ALERTS):
            rows, section, digest = _alerts(request, paths, Path(folder), told)
            sources += _sources(paths, Content.ALERTS, rows)
            sections.append(section)
    for path in by_content.get(Content.IMAGES, ()):
        rows, found = _images(request, path, told)
        sources += _sources([path], Content.IMAGES, rows)
        sections += found
    for path in by_content.get(Content.SHARDS, ()):
        rows, found = _shards(request, path, told)
        sources += _sources([path], Content.SHARDS, rows)
        sections += found
    for path in by_content.get(Content.CATALOGUE, ()):
        rows, section = _catalogue(path, told)
        sources += _sources([path], Content.CATALOGUE, rows)
        sections.append(section)
    return name, digest, tuple(sources), tuple(sections)


def _identity(request: Request) -> tuple[str, str]:
    if request.encoder is None:
        return "the packaged model", ""
    if not request.encoder.is_file():
        raise SettingsError(f"{request.encoder} is no file: give an ONNX file or a checkpoint (last.pt)")
    return request.encoder.name, digest_of(request.encoder)


def _sources(paths: Sequence[Path], content: Content, rows: int) -> list[Source]:
    return [
        Source(name=path.name, content=content.value, rows=rows, digest=digest_of(path)) for path in paths
    ]


def _alerts(
    request: Request, paths: list[Path], folder: Path, told: Callable[[str], None]
) -> tuple[int, Section, str]:
    if request.labels is None:
        raise SettingsError(
            f"{paths[0]} holds alerts, whose labels are in a file of their own: give --labels FILE.csv with candid and "
            "drb, sgscore1 and distpsnr1, or spec_z"
        )
    known = read_columns(request.labels)
    model, heads = served(request.encoder, folder)
    told("alerts")
    found = [
        {**alert_row(outcome, heads=heads), **plain_row(outcome.alert, model.contract.grid)}
        for _, outcome in outcomes(PacketFiles.find(paths), model)
        if isinstance(outcome, Enriched)
    ]
    told("probes")
    return len(found), evaluate_alerts(found, known), model.contract.weights_digest


def _images(request: Request, path: Path, told: Callable[[str], None]) -> tuple[int, list[Section]]:
    if request.encoder is None or request.encoder.suffix != CHECKPOINT:
        raise SettingsError(
            f"{path} is a set of images, which takes a checkpoint made by `encoder pretrain` from such images: give "
            "--encoder runs/galaxies/last.pt"
        )
    need_torch(request.encoder)
    from encoder.evaluation import images as asked  # noqa: PLC0415 - needs torch
    from encoder.images.foreign import read_images  # noqa: PLC0415 - needs h5py
    from encoder.images.task import load_image_checkpoint  # noqa: PLC0415 - needs torch

    images, run = read_images(path), load_image_checkpoint(request.encoder)
    sections = []
    if images.classes and Question.LABELS in request.questions:
        # What is to be found as unusual is no class to be taught.
        left_out = (*request.drop, *request.anomaly)
        labelled = asked.Grouping.parse(request.merge, left_out).apply(images)
        sections.append(
            asked.evaluate_images(run, labelled, path.stem, supervise=request.supervise, told=told)
        )
    if request.anomaly and Question.ANOMALIES in request.questions:
        sections.append(asked.evaluate_pool(run, images, request.anomaly, path.stem, told))
    if asked.has_redshifts(images) and Question.REDSHIFTS in request.questions:
        sections.append(asked.evaluate_redshifts(run, images, path.stem, told))
    if not sections:
        raise SettingsError(
            f"{path} has no labels, no redshifts with photometry and no class named by --anomaly that answer "
            f"{', '.join(request.questions)}: nothing to measure by"
        )
    return len(images), sections


def _shards(request: Request, path: Path, told: Callable[[str], None]) -> tuple[int, list[Section]]:
    if request.encoder is None or request.encoder.suffix != CHECKPOINT:
        raise SettingsError(
            f"{path} holds shards, which take a checkpoint made by `encoder pretrain` from such shards: give "
            "--encoder runs/pretrain/last.pt"
        )
    need_torch(request.encoder)
    from encoder.alert_task import load_checkpoint  # noqa: PLC0415 - needs torch
    from encoder.evaluation.simulated import evaluate_shards  # noqa: PLC0415 - needs torch

    return evaluate_shards(load_checkpoint(request.encoder), path, told)


def _catalogue(path: Path, told: Callable[[str], None]) -> tuple[int, Section]:
    need_torch(path)
    from encoder.evaluation.catalogue import read_catalogue  # noqa: PLC0415 - needs h5py
    from encoder.evaluation.photoz import evaluate_catalogue  # noqa: PLC0415 - needs torch

    catalogue = read_catalogue(path)
    return len(catalogue), evaluate_catalogue(catalogue, path.stem, told)
