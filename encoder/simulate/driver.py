"""Many alerts: one random stream for each object, whatever the number of processes."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from broker.alert import BANDS, ROLES, Alert, Float32Array, Survey
from broker.cutouts import Cutout, effective_fwhm
from broker.errors import SettingsError
from broker.photometry import forced_template_flux, ps1_source_flux
from encoder.archive import Shard, box_of, save_shard, stack
from encoder.simulate.bogus import Artefact, draw_artefact
from encoder.simulate.chance import happens
from encoder.simulate.colours import FloatArray
from encoder.simulate.exposures import Exposure, expose
from encoder.simulate.photometry import NO_SOURCE, Ps1Source, known_bands, nearest_ps1_source, template_fluxes
from encoder.simulate.populations import CLASSES, GALAXIES
from encoder.simulate.scenes import Candidate, Scene, bogus_scene, draw_scene, hidden
from encoder.simulate.visits import Conditions, draw_conditions

ALERTS_PER_SHARD = 1000
SEEN, UNSEEN = 20.0, 3.0
"""Signal-to-noise in the template above which a host gives its class, below which an alert is hostless."""

HIDDEN_HOSTS = 0.4
"""Share of the hostless that have a host too faint to be seen."""

RESOLVED = 0.7
"""Half-light radius over the half width at half maximum of the template's PSF below which a galaxy is taken
for a star, whatever its class."""

PARTED = 0.8
"""Distance of a merger's nuclei over the FWHM of the template's PSF below which it is taken for one galaxy."""

SAME_BAND = 0.5
"""Share of an object's other visits in the band of its first. Views of two bands teach that colour does not
matter, views of one leave it to be learned: redshifts are read from it."""

OBJECT_IDS = 10_000_000
"""Objects of one seed are numbered below this."""


@dataclass(frozen=True, slots=True)
class SimulatedAlert:
    """One alert, its truth, and everything a packet is made of.

    Attributes
    ----------
    label : str
    redshift : float
        Of the host; NaN without one.
    ebv : float
    alert_id : int
    object_number : int
        Rubin's diaObjectId; ZTF's objectId is spelled from it.
    conditions : Conditions
    exposure : Exposure
    template_flux : FloatArray, shape (6,)
        Rubin: forced at the position, nJy, NaN in bands the packet does not know.
    ps1 : Ps1Source
        ZTF: the nearest catalogued source.
    """

    label: str
    redshift: float
    ebv: float
    alert_id: int
    object_number: int
    conditions: Conditions
    exposure: Exposure
    template_flux: FloatArray
    ps1: Ps1Source

    @property
    def survey(self) -> Survey:
        """Which survey sent it."""
        return self.conditions.survey

    @property
    def object_id(self) -> str:
        """As the survey spells it."""
        if self.survey is Survey.LSST:
            return str(self.object_number)
        return ztf_name(self.object_number)

    @property
    def photometry(self) -> Float32Array:
        """As the broker reads it from the packet, nJy, shape (6,)."""
        if self.survey is Survey.LSST:
            return forced_template_flux(BANDS, [float(f) for f in self.template_flux])
        return ps1_source_flux(self.ps1.magnitudes, self.ps1.distance)

    def cutouts(self) -> tuple[Cutout, ...]:
        """Stamps as the broker would read them from the packet, in the order of ROLES."""
        conditions, exposure = self.conditions, self.exposure
        rubin = self.survey is Survey.LSST
        psfs = (conditions.science_psf, conditions.template_psf, conditions.science_psf)
        return tuple(
            Cutout(
                image=exposure.stamps[k].astype(np.float32),
                variance=exposure.variance[k].astype(np.float32) if rubin else None,
                psf_fwhm=effective_fwhm(psfs[k].kernel) if rubin else None,
                centre=(conditions.frame.x, conditions.frame.y) if rubin else None,
                pixel_scale=conditions.pixel_scale if rubin else None,
            )
            for k in range(len(ROLES))
        )

    def alert(self) -> Alert:
        """As the broker would read it, without the packet's bytes."""
        frame = self.conditions.frame
        return Alert(
            survey=self.survey,
            form="simulated",
            alert_id=self.alert_id,
            object_id=self.object_id,
            ra=0.0,
            dec=0.0,
            mjd=0.0,
            band=BANDS[self.conditions.band],
            datum=b"",
            cutouts=(None, None, None),
            photometry=self.photometry,
            position=frame.detector_position,
        )


def ztf_name(number: int) -> str:
    """ZTF-like name of an object: ``ZTF``, two digits, seven letters."""
    letters = ""
    rest = number % 26**7
    for _ in range(7):
        rest, digit = divmod(rest, 26)
        letters = chr(ord("a") + digit) + letters
    return f"ZTF00{letters}"


def simulate_one(seed: int, number: int, survey: Survey, label: str, *, visit: int = 0) -> SimulatedAlert:
    """Simulate one alert of one object.

    Parameters
    ----------
    seed, number : int
        The object; the same two give the same object in any process.
    survey : Survey
    label : str
        One of `CLASSES`.
    visit : int
        Another visit sees the same scene under other conditions.

    Returns
    -------
    SimulatedAlert
    """
    of_object = np.random.default_rng([seed, number, 0])
    of_visit = np.random.default_rng([seed, number, 1 + visit])
    # Whether a host is seen is decided at the first visit: an object is the same in all.
    first = draw_conditions(survey, np.random.default_rng([seed, number, 1]) if visit else of_visit)
    conditions = _another_visit(first, of_visit) if visit else first
    artefact, scene = _subject(survey, label, first, of_object)
    exposure = expose(scene, conditions, artefact, of_visit)
    template_flux, ps1 = np.full(len(BANDS), np.nan), NO_SOURCE
    if survey is Survey.LSST:
        known = list(known_bands(conditions.band, of_visit))
        point = conditions.template_psf.draw(conditions.frame.shape, conditions.frame.x, conditions.frame.y)
        measured = template_fluxes(exposure.static_fluxes, conditions, point, of_visit)
        template_flux[known] = measured[known]
    else:
        ps1 = nearest_ps1_source(scene, of_object)
    object_number = (seed + 1) * OBJECT_IDS + number
    return SimulatedAlert(
        label=label,
        redshift=scene.redshift,
        ebv=scene.ebv,
        alert_id=object_number * 100 + visit,
        object_number=object_number,
        conditions=conditions,
        exposure=exposure,
        template_flux=template_flux,
        ps1=ps1,
    )


def _another_visit(first: Conditions, rng: np.random.Generator) -> Conditions:
    return draw_conditions(first.survey, rng, first.band if happens(SAME_BAND, rng) else None)


def _subject(
    survey: Survey, label: str, conditions: Conditions, rng: np.random.Generator
) -> tuple[Artefact | None, Scene]:
    """Draw what the alert is about, such that the label can be told from the template."""
    if label == "bogus":
        artefact, bright = draw_artefact(rng)
        return artefact, bogus_scene(survey, bright, rng)
    if label != "transient" or happens(HIDDEN_HOSTS, rng):
        return None, _host_scene(survey, label, conditions, rng)
    return None, draw_scene(label, survey, rng)


def _host_scene(survey: Survey, label: str, conditions: Conditions, rng: np.random.Generator) -> Scene:
    if label != "transient":
        return draw_scene(label, survey, rng, lambda host: shows_its_class(host, conditions))
    kind = str(rng.choice(GALAXIES))
    scene = draw_scene(
        kind, survey, rng, lambda h: template_significance(h.fluxes, h.size, conditions) < UNSEEN
    )
    if template_significance(scene.host_fluxes, scene.host_size, conditions) < UNSEEN:
        return hidden(scene)
    return draw_scene(label, survey, rng)


def shows_its_class(host: Candidate, conditions: Conditions) -> bool:
    """Whether the template is deep and sharp enough to tell a host's class, or that it is a star."""
    if template_significance(host.fluxes, host.size, conditions) <= SEEN:
        return False
    fwhm = conditions.template_psf.fwhm
    if host.separation is not None:
        return host.separation > PARTED * fwhm
    return host.size == 0 or host.size > RESOLVED * fwhm / 2


def template_significance(fluxes: FloatArray, half_light_radius: float, conditions: Conditions) -> float:
    """Signal-to-noise of a host in the template, through an aperture of its size and the seeing."""
    pixels = conditions.template_psf.noise_pixels
    pixels += np.pi * (half_light_radius / conditions.pixel_scale) ** 2
    flux = float(fluxes[conditions.band]) * conditions.unit
    return flux / (conditions.template_noise * float(np.sqrt(pixels)))


def simulated_alerts(
    numbers: Sequence[int], seed: int, surveys: Sequence[Survey], classes: Sequence[str], visits: int = 1
) -> Iterator[SimulatedAlert]:
    """Simulate objects by number: surveys and classes take turns, each as frequent as any other."""
    for number in numbers:
        survey = surveys[number % len(surveys)]
        label = classes[number // len(surveys) % len(classes)]
        for visit in range(visits):
            yield simulate_one(seed, number, survey, label, visit=visit)


def to_shard(alerts: Sequence[SimulatedAlert]) -> Shard:
    """Lay simulated alerts into a shard, by the road real ones take."""
    boxes = [box_of(a.alert(), a.cutouts()) for a in alerts]
    return stack(
        boxes,
        alerts=[a.alert() for a in alerts],
        classes=CLASSES,
        labels=[CLASSES.index(a.label) for a in alerts],
        redshifts=[a.redshift for a in alerts],
        ebvs=[a.ebv for a in alerts],
        # ZTF does not publish its PSF's image; here it is known.
        psf_fwhm=[_widths(a) for a in alerts],
    )


def _widths(alert: SimulatedAlert) -> tuple[float, ...]:
    """Seeing of the three stamps in arcsec, as the broker takes it from a PSF plane."""
    science, template = (
        (effective_fwhm(psf.kernel) or np.nan) * psf.pixel_scale
        for psf in (alert.conditions.science_psf, alert.conditions.template_psf)
    )
    return science, template, science


@dataclass(frozen=True, slots=True)
class _Recipe:
    seed: int
    surveys: tuple[Survey, ...]
    classes: tuple[str, ...]
    visits: int

    def write(self, path: Path, numbers: Sequence[int]) -> int:
        """Simulate a run of objects into one shard; gives how many."""
        alerts = simulated_alerts(numbers, self.seed, self.surveys, self.classes, self.visits)
        save_shard(path, to_shard(list(alerts)))
        return len(numbers)


def simulate(
    n: int,
    seed: int,
    out_dir: Path,
    *,
    surveys: Sequence[Survey] = tuple(Survey),
    classes: Sequence[str] = CLASSES,
    processes: int = 1,
    visits: int = 1,
    alerts_per_shard: int = ALERTS_PER_SHARD,
) -> list[Path]:
    """Simulate labelled alerts into shards.

    Parameters
    ----------
    n : int
        Objects; each gives ``visits`` alerts.
    seed : int
        With the object's number it decides everything: the same for any number of processes.
    out_dir : Path
        Made where it does not exist.
    surveys, classes : sequence
        Take turns.
    processes : int
    visits : int
        Alerts of each object, all of one scene under conditions of their own.
    alerts_per_shard : int

    Returns
    -------
    list of Path
        The shards, in the order of the objects.

    Raises
    ------
    SettingsError
        If a number is not positive, or a class is none of `CLASSES`.
    """
    unknown = sorted(set(classes) - set(CLASSES))
    if unknown or not classes or not surveys:
        raise SettingsError(
            f"classes {unknown or list(classes)} cannot be simulated; there are {list(CLASSES)}"
        )
    if min(n, processes, visits, alerts_per_shard) < 1 or n > OBJECT_IDS:
        raise SettingsError(
            f"n, processes, visits and alerts_per_shard are {n}, {processes}, {visits}, {alerts_per_shard}; "
            f"they must be at least 1, n at most {OBJECT_IDS}"
        )
    out_dir.mkdir(parents=True, exist_ok=True)
    per_shard = max(1, alerts_per_shard // visits)
    chunks = [range(start, min(start + per_shard, n)) for start in range(0, n, per_shard)]
    paths = [out_dir / f"simulated-{seed}-{k:05d}.npz" for k in range(len(chunks))]
    recipe = _Recipe(seed, tuple(surveys), tuple(classes), visits)
    with Progress(*Progress.get_default_columns()) as progress:
        task = progress.add_task(f"simulate {n} objects", total=n)
        for done in _written(recipe, list(zip(paths, chunks, strict=True)), processes):
            progress.advance(task, done)
    return paths


def _written(recipe: _Recipe, parts: Sequence[tuple[Path, Sequence[int]]], processes: int) -> Iterator[int]:
    """Write every shard; yields how many objects each had as they are done."""
    if processes == 1:
        yield from (recipe.write(path, numbers) for path, numbers in parts)
        return
    # Spawned, not forked: the caller may hold torch's threads.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(recipe.write, path, numbers) for path, numbers in parts]
        yield from (future.result() for future in as_completed(futures))
