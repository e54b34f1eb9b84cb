"""Alerts of objects: the same seed and number give the same scene, another visit other conditions."""

from collections.abc import Iterator, Sequence

import numpy as np

from broker.alert import BANDS, Survey
from encoder.simulate.alerts import OBJECT_IDS, SimulatedAlert
from encoder.simulate.bogus import Artefact, draw_artefact
from encoder.simulate.chance import happens
from encoder.simulate.components import Scene
from encoder.simulate.exposures import expose
from encoder.simulate.photometry import NO_SOURCE, known_bands, nearest_ps1_source, template_fluxes
from encoder.simulate.populations import GALAXIES
from encoder.simulate.scenes import bogus_scene, draw_scene, hidden
from encoder.simulate.visibility import UNSEEN, shows_its_class, template_significance
from encoder.simulate.visits import Conditions, draw_conditions

HIDDEN_HOSTS = 0.4
"""Share of the hostless that have a host too faint to be seen."""

SAME_BAND = 0.5
"""Share of an object's other visits in the band of its first. Views of two bands teach that colour does not
matter, views of one leave it to be learned: redshifts are read from it."""


def simulate_one(seed: int, number: int, survey: Survey, label: str, *, visit: int = 0) -> SimulatedAlert:
    """Simulate one alert of one object.

    Parameters
    ----------
    seed, number : int
        The object; the same two give the same object in any process.
    survey : Survey
    label : str
        One of `CLASSES` or `ANOMALIES`.
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


def simulated_alerts(
    numbers: Sequence[int], seed: int, surveys: Sequence[Survey], classes: Sequence[str], visits: int = 1
) -> Iterator[SimulatedAlert]:
    """Simulate objects by number: surveys and classes take turns, each as frequent as any other."""
    for number in numbers:
        survey = surveys[number % len(surveys)]
        label = classes[number // len(surveys) % len(classes)]
        for visit in range(visits):
            yield simulate_one(seed, number, survey, label, visit=visit)
