"""What the demonstration shows of its results: in one order, and redshifts of hosts alone."""

import io

import pytest
from rich.console import Console

pytest.importorskip("matplotlib", reason="contact sheets need the plot extra")

from broker.alert import Message
from broker.demo.report import FOOTNOTE, Result, parts, table


def result(alert_id, anomaly, morphology="disk", views=(None, None)):
    enrichment = {
        "survey": "lsst",
        "alert_id": alert_id,
        "object_id": "1",
        "anomaly": anomaly,
        "anomaly_interesting": views[0],
        "anomaly_artefact": views[1],
        "morphology_top": morphology,
        "morphology": [0.9, 0.1],
        "photoz": {"point": 0.4, "low": 0.2, "high": 0.6},
        "flags": [],
    }
    return Result(Message(b"", "alerts.enriched", 0, 0, ()), "disk", enrichment, {})


def ids(part):
    return [r.enrichment["alert_id"] for r in part.results]


def test_alerts_of_one_score_stand_in_the_order_of_their_ids():
    results = [
        result(k, anomaly) for k, anomaly in ((1, 1.0), (5, 1.0), (8, 1.0), (2, 0.0), (3, 0.0), (9, 0.0))
    ]

    assert [ids(part) for part in parts(results, 2)] == [[1, 5], [2, 3]]


@pytest.mark.parametrize("morphology", ["star", "transient", "bogus"])
def test_no_redshift_is_shown_of_what_has_no_host(morphology):
    assert result(1, 0.5).redshift == "0.20 to 0.60"
    assert "0.2" not in result(1, 0.5, morphology).redshift


def test_a_model_with_views_shows_the_interesting_and_the_artefacts_apart():
    views = {1: (0.2, 0.9), 2: (0.9, 0.1), 3: (0.9, 0.2), 4: (0.1, 0.99), 5: (None, None), 6: (0.3, 0.3)}
    results = [result(k, 0.5, views=pair) for k, pair in views.items()]
    interesting, artefacts = parts(results, 2)

    assert (interesting.title, ids(interesting)) == ("Most interesting", [2, 3])
    assert (artefacts.title, ids(artefacts)) == ("Most like artefacts", [4, 1])
    for width, wide in ((200, True), (80, False)):
        page = Console(file=io.StringIO(), width=width)
        page.print(table(results, 2, wide=wide))
        text = page.file.getvalue()
        assert "Most interesting and most like artefacts" in text
        assert all(word in text for word in ("0.900", "0.990"))
        assert ("0.200" in text) is wide  # the other view of the foremost


@pytest.mark.parametrize(("rows", "shown"), [(1, 2), (2, 4), (50, 6)])
def test_as_many_rows_as_asked_for_and_a_footnote(rows, shown):
    page = Console(file=io.StringIO(), width=200)
    page.print(table([result(k, k / 10) for k in range(6)], rows, wide=True))
    text = page.file.getvalue()

    assert text.count("disk 90%") == shown
    assert FOOTNOTE in text


def test_an_alert_that_lacks_a_stamp_is_none_of_the_most_interesting():
    results = [result(k, 0.5, views=(k / 10, 0.1)) for k in range(1, 7)]
    results[5].enrichment["flags"].append("cutout_unreadable:template")
    assert ids(parts(results, 2)[0]) == [5, 4]
