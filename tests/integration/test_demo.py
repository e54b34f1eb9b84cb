"""The demonstration as a user runs it: embedded Kafka, the real consumer, and nothing left running."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import fastavro
import pytest

import schemas

PROGRAM = [sys.executable, "-m", "broker.cli.demo"]
REPLAY = [sys.executable, "-m", "broker.cli.replay"]
PROJECT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PROJECT), "COLUMNS": "200", "TERM": "dumb"}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def processes(text: str) -> list[int]:
    """Ids of the processes that the demonstration said it started."""
    return [int(number) for number in re.findall(r"\(process (\d+)\)", text)]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def finished(tmp_path_factory, untrained_model):
    folder = tmp_path_factory.mktemp("demo")
    done = run(folder, "--alerts", "60", "--seed", "5", "--model", str(untrained_model), "--rows", "3")
    return folder, done


def test_it_ends_well_and_every_message_is_accounted_for(finished):
    _, done = finished

    assert done.returncode == 0, done.stdout + done.stderr
    total, enriched, dead = map(
        int, re.search(r"in (\d+) = enriched (\d+) \+ dead (\d+)", done.stdout).groups()
    )
    assert (total, enriched + dead) == (60, 60)
    assert dead >= 1
    assert f"consumed 60: enriched {enriched}" in done.stdout


def test_it_shows_classes_redshifts_and_ids_of_simulated_alerts(finished):
    _, done = finished

    assert "simulated" in done.stdout
    assert re.search(r"17050\d{13}", done.stdout)
    assert re.search(r"z \d\.\d\d to \d\.\d\d", done.stdout)
    assert "Dead letters" in done.stdout


def test_it_leaves_a_contact_sheet_results_and_packets(finished):
    folder, done = finished
    output = folder / "demo-output"

    assert (output / "contact_sheet.png").read_bytes().startswith(b"\x89PNG")
    lines = [json.loads(line) for line in (output / "enriched.jsonl").read_text().splitlines()]
    assert len(lines) == int(re.search(r"enriched (\d+)", done.stdout)[1])
    assert {"drawn_as", "embedding", "morphology", "photoz", "anomaly", "flags"} <= lines[0].keys()
    assert len(list((output / "packets").glob("*.avro"))) == 40


def test_the_enriched_alert_it_leaves_decodes_with_fastavro_and_schemas_alone(finished):
    folder, _ = finished
    content = (folder / "demo-output" / "enriched_alert.bin").read_bytes()

    schema = schemas.by_id(int.from_bytes(content[1:5], "big"))
    record = fastavro.schemaless_reader(io.BytesIO(content[5:]), schema)
    assert record["enrichment"]["alert_id"] > 0


def test_the_commands_it_suggests_work(finished):
    folder, done = finished
    (decode,) = [line.strip() for line in done.stdout.splitlines() if "fastavro.schemaless_reader" in line]

    said = subprocess.run(
        decode,
        shell=True,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert "'morphology'" in said.stdout


def test_nothing_is_left_running(finished):
    _, done = finished
    pids = processes(done.stdout)

    assert len(pids) == 2
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_it_and_all_that_it_started(tmp_path, untrained_model, number):
    with subprocess.Popen(
        [*PROGRAM, "--alerts", "5000", "--model", str(untrained_model)],
        cwd=tmp_path,
        env=environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        try:
            text = "".join(demo.stdout.readline() for _ in range(2))
            pids = processes(text)
            assert len(pids) == 2, text
            time.sleep(2.0)
            assert all(map(is_alive, pids))
            demo.send_signal(number)
            rest, _ = demo.communicate(timeout=30)
        finally:
            demo.kill()

    assert demo.returncode == 1
    assert "nothing was left running" in rest
    assert not any(is_alive(pid) for pid in pids)


def test_kept_running_another_terminal_can_join(tmp_path, untrained_model):
    with subprocess.Popen(
        [*PROGRAM, "--alerts", "20", "--keep-running", "--model", str(untrained_model)],
        cwd=tmp_path,
        env=environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        try:
            lines = []
            for line in demo.stdout:
                lines.append(line)
                if "does not look messages up by time" in line:
                    break
            text = "".join(lines)
            (address,) = set(re.findall(r"127\.0\.0\.1:\d+", text))
            replay = subprocess.run(
                [*REPLAY, "demo-output/packets", "--topic", "alerts", "--bootstrap-servers", address],
                cwd=tmp_path,
                env=environment(),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert replay.returncode == 0, replay.stderr
            demo.send_signal(signal.SIGINT)
            rest, _ = demo.communicate(timeout=30)
        finally:
            demo.kill()

    assert demo.returncode == 0, text + rest
    assert not any(is_alive(pid) for pid in processes(text))
    # What was replayed was read by the consumer that the demonstration had left up.
    assert int(re.search(r"consumed (\d+)", rest)[1]) > 20


def test_a_model_that_cannot_be_served_is_refused_with_the_consumer_s_own_words(tmp_path):
    bad = tmp_path / "not-a-model.onnx"
    bad.write_bytes(b"no model")

    done = run(tmp_path, "--alerts", "10", "--model", str(bad))

    assert done.returncode == 2, done.stdout + done.stderr
    assert "not-a-model.onnx" in done.stderr
    assert not any(is_alive(pid) for pid in processes(done.stdout))
