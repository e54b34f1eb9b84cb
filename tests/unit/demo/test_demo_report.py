"""What the demonstration shows of its results: in one order, and redshifts of hosts alone."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

pytest.importorskip("matplotlib", reason="contact sheets need the plot extra")

from broker.alert import Message
from broker.demo.report import FOOTNOTE, Result, extremes, table


def result(alert_id, anomaly, morphology="disk"):
    enrichment = {
        "survey": "lsst",
        "alert_id": alert_id,
        "object_id": "1",
        "anomaly": anomaly,
        "anomaly_interesting": None,
        "anomaly_artefact": None,
        "morphology_top": morphology,
        "morphology": [0.9, 0.1],
        "photoz": {"point": 0.4, "low": 0.2, "high": 0.6},
        "flags": [],
    }
    return Result(Message(b"", "alerts.enriched", 0, 0, ()), "disk", enrichment, {})


def ids(results):
    return [r.enrichment["alert_id"] for r in results]


def test_alerts_of_one_score_stand_in_the_order_of_their_ids():
    results = [
        result(k, anomaly) for k, anomaly in ((1, 1.0), (5, 1.0), (8, 1.0), (2, 0.0), (3, 0.0), (9, 0.0))
    ]

    assert [ids(part) for part in extremes(results, 2)] == [[1, 5], [2, 3]]


@pytest.mark.parametrize("morphology", ["star", "transient", "bogus"])
def test_no_redshift_is_shown_of_what_has_no_host(morphology):
    assert result(1, 0.5).redshift == "0.40 [0.20, 0.60]"
    assert "0.4" not in result(1, 0.5, morphology).redshift


def test_the_views_of_an_anomaly_are_shown_where_the_model_has_them():
    plain = result(1, 0.5)
    seen = replace(
        plain, enrichment=plain.enrichment | {"anomaly_interesting": 0.9714, "anomaly_artefact": 0.12}
    )
    assert plain.views == ()
    assert seen.views == ("interesting 0.971   ·   artefact 0.120",)


@pytest.mark.parametrize(("rows", "shown"), [(1, 2), (2, 4), (50, 6)])
def test_as_many_rows_as_asked_for_and_a_footnote(rows, shown):
    page = Console(file=io.StringIO(), width=200)
    page.print(table([result(k, k / 10) for k in range(6)], rows, wide=True))
    text = page.file.getvalue()

    assert text.count("disk 90%") == shown
    assert FOOTNOTE in text
