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


@pytest.fixture
def topic(cluster, tmp_path):
    """A topic of alerts, labels of them, and one message that is none."""
    name = cluster.make()
    packets = [lsst_packet(alert_id=n + 1, object_id=n + 1000) for n in range(ALERTS)]
    cluster.publish(name, [*packets, ztf_packet([None] * 3), b"no alert"])
    labels = [f"{n + 1},{'odd' if n % 2 else 'even'}" for n in range(ALERTS)]
    (tmp_path / "my.csv").write_text("\n".join(["alert_id,label", *labels]))
    return name


@pytest.fixture
def fitted(topic, kafka, tmp_path):
    """Fit a head on what the topic holds; the encoder is a parameter."""

    def fit(model):
        head = tmp_path / "my_head.onnx"
        done = encoder(
            "fit-head", "--labels", str(tmp_path / "my.csv"), "--topic", topic, "--bootstrap-servers", kafka,
            "--model", str(model), "--output", str(head),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said = " ".join(done.stdout.split())
        assert f"{ALERTS} labels with their alert; 0 labels without an alert; 0 alerts without" in said
        assert "2 messages left out" in said
        return head

    return fit


def test_every_alert_has_what_the_head_says(topic, fitted, cluster, consume, untrained_model):
    code, _, log = consume(topic, "--head", str(fitted(untrained_model)))
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


def test_it_is_applied_to_a_topic(topic, fitted, kafka, tmp_path):
    head, table = fitted("broker/models/default.onnx"), tmp_path / "predictions.csv"
    done = encoder(
        "apply-head",
        "--head",
        str(head),
        "--topic",
        topic,
        "--bootstrap-servers",
        kafka,
        "--output",
        str(table),
    )
    assert done.returncode == 0, done.stderr
    assert len(table.read_text().splitlines()) == ALERTS + 1


def test_a_head_of_another_encoder_is_refused(topic, fitted, consume):
    code, _, log = consume(topic, "--head", str(fitted("broker/models/default.onnx")))
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
