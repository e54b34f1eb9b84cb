"""The reason in words: true to the numbers, and the same for the same alert."""

import numpy as np
import pytest

from broker import flags
from broker.alert import ROLES
from broker.reasons import CAVEATS, UNSEEN, reason

CLASSES = ("disk", "edge_on", "bogus")


def said(anomaly=0.5, artefact=0.1, chances=(0.8, 0.1, 0.1), artefact_class="bogus", words=()):
    likeness = None if chances is None else (CLASSES, np.array(chances, np.float32))
    return reason(anomaly, artefact, likeness, artefact_class, words)


def test_what_is_unusual_says_how_far_and_what_it_is_like():
    assert said(0.9934) == (
        "unusual: farther from known alerts than 99.3 % of the reference; most like disk (80 %)"
    )


def test_what_is_usual_says_so_in_the_same_terms():
    assert (
        said(0.42) == "usual: farther from known alerts than 42.0 % of the reference; most like disk (80 %)"
    )


def test_a_probable_artefact_is_called_one_however_far_it_is():
    text = said(0.999, 0.9951, (0.2, 0.1, 0.7))
    assert text == (
        "probably an artefact: farther from known alerts than 99.9 % of the reference; "
        "more like an artefact than 99.5 %; most like bogus (70 %)"
    )
    assert said(0.1, 0.99, (0.2, 0.1, 0.7)).startswith("probably an artefact: ")


def test_a_model_that_names_no_artefacts_calls_nothing_one():
    text = said(0.999, None, (0.2, 0.1, 0.7), artefact_class=None)
    assert text.startswith("unusual: ")
    assert "artefact" not in text


def test_no_clear_class_is_said_and_underscores_are_not():
    assert said(0.5, 0.1, (0.3, 0.4, 0.3)).endswith("; no clear class, most like edge on (40 %)")


def test_without_a_morphology_the_distance_stands_alone():
    assert said(0.95, 0.1, None) == "unusual: farther from known alerts than 95.0 % of the reference"


@pytest.mark.parametrize(("anomaly", "text"), [(1.0, "99.9 %"), (0.99999, "99.9 %"), (0.0, "0.0 %")])
def test_nothing_is_said_to_be_stranger_than_all(anomaly, text):
    assert f"than {text} of the reference" in said(anomaly)


def test_what_the_eye_would_miss_is_named_by_stamp():
    words = ["cutout_null:template", "noise_unknown:difference", "nan_pixels:science", "no_host", "edge"]
    assert said(words=words).partition("(80 %); ")[2] == (
        "not seen: template, difference; holes in: science; no host visible; cut at the detector's edge"
    )
    assert said(words=words[::-1]) == said(words=words)


def test_flags_that_say_nothing_of_the_look_are_left_to_the_flags():
    assert said(words=["position_unknown", "time_unknown", "model_output_invalid"]) == said()


def test_all_that_can_be_said_at_once_is_still_short():
    unseen = [flags.of_stamp(UNSEEN[0], role) for role in ROLES]
    assert len(said(0.99, 0.99, (0.3, 0.3, 0.4), words=[*CAVEATS, *unseen])) < 400
