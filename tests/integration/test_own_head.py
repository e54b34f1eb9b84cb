"""A head of one's own from a topic, and on every alert of it from then on."""

import subprocess
import sys

import pytest

from broker.testing.packets import lsst_packet, ztf_packet

from .test_consumer_on_kafka import decoded

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

ALERTS = 40


def encoder(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from encoder.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


@pytest.fixture(scope="module")
def labelled(cluster, tmp_path_factory):
    """A topic of alerts with one message that is none, and labels of them."""
    topic = cluster.make()
    packets = [lsst_packet(alert_id=n + 1, object_id=n + 1000) for n in range(ALERTS)]
    cluster.publish(topic, [*packets, ztf_packet([None] * 3), b"no alert"])
    labels = [f"{n + 1},{'odd' if n % 2 else 'even'}" for n in range(ALERTS)]
    path = tmp_path_factory.mktemp("labels") / "my.csv"
    path.write_text("\n".join(["alert_id,label", *labels]))
    return topic, path


@pytest.fixture
def topic(labelled):
    return labelled[0]


def fit(labelled, kafka, model, folder):
    """Fit a head on what the topic holds."""
    topic, labels = labelled
    head = folder / "my_head.onnx"
    done = encoder(
        "fit-head", "--labels", str(labels), "--topic", topic, "--bootstrap-servers", kafka,
        "--model", str(model), "--output", str(head),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert f"{ALERTS} labels with their alert; 0 labels without an alert; 0 alerts without" in said
    assert "2 messages left out" in said
    return head


@pytest.fixture(scope="module")
def of_the_default(labelled, kafka, tmp_path_factory):
    """Head on the packaged encoder."""
    return fit(labelled, kafka, "broker/models/default.onnx", tmp_path_factory.mktemp("head"))


def test_every_alert_has_what_the_head_says(
    labelled, topic, kafka, cluster, consume, untrained_model, tmp_path
):
    head = fit(labelled, kafka, untrained_model, tmp_path)
    code, _, log = consume(topic, "--head", str(head))
    assert code == 0, log
    records = [decoded(message)["enrichment"] for message in cluster.read(f"{topic}.enriched")]
    assert len(records) == ALERTS + 1
    for said in records:
        if said["embedding"] is None:
            assert said["heads"] == []
            continue
        (head,) = said["heads"]
        assert (head["name"], head["labels"]) == ("my_head", ["even", "odd"])
        assert sum(head["values"]) == pytest.approx(1, abs=1e-5)


def test_it_is_applied_to_a_topic(topic, of_the_default, kafka, tmp_path):
    table = tmp_path / "predictions.csv"
    done = encoder(
        "apply-head",
        "--head",
        str(of_the_default),
        "--topic",
        topic,
        "--bootstrap-servers",
        kafka,
        "--output",
        str(table),
    )
    assert done.returncode == 0, done.stderr
    assert len(table.read_text().splitlines()) == ALERTS + 1


def test_a_head_of_another_encoder_is_refused(topic, of_the_default, consume):
    code, _, log = consume(topic, "--head", str(of_the_default))
    assert code == 2
    assert "fit it again" in log


def test_a_topic_that_is_not_there(kafka, tmp_path):
    (tmp_path / "my.csv").write_text("alert_id,label\n1,a\n")
    done = encoder(
        "fit-head", "--labels", str(tmp_path / "my.csv"), "--topic", "no-such-topic", "--bootstrap-servers", kafka,
        "--output", str(tmp_path / "h.onnx"),
    )  # fmt: skip
    assert done.returncode == 2
    assert "no-such-topic" in done.stderr
    assert "Traceback" not in done.stderr
