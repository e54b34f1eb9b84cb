"""The programs on an embedded Kafka: replay in, subscribe out."""

import gzip
import io
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import fastavro
import pytest
from rich.console import Console
from typer.testing import CliRunner

from broker.alert import Message, Record, Rejected
from broker.avro.serializer import DeadLetterSerializer
from broker.cli import consumer, embedded_kafka, replay, subscribe
from broker.cli.replay import Replay, files
from broker.errors import Reason, SettingsError
from broker.kafka import EmbeddedKafka, KafkaSink
from broker.settings import Plaintext, SinkSettings
from broker.testing.datums import container
from broker.testing.memory import MemorySink
from broker.testing.packets import lsst_packet, ztf_packet


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """The programs take SIGTERM and SIGINT; give them back."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def kafka() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as kafka:
        yield kafka


@pytest.fixture(scope="module")
def letters(kafka: EmbeddedKafka) -> str:
    topic = "alerts.dead-letter"
    serialize = DeadLetterSerializer("0.1")
    broken = [Message(b"\xff" * n, "alerts", 1, n) for n in range(1, 4)]
    rejected = [Rejected(message, Reason.FRAME_INVALID, "no frame") for message in broken]
    sink = KafkaSink(
        kafka.bootstrap_servers, Plaintext(), SinkSettings(), connect_seconds=10, stop=threading.Event()
    )
    sink.write([Record(topic, serialize(one), headers=(("reason", b"frame_invalid"),)) for one in rejected])
    return topic


def read_back(kafka: EmbeddedKafka, topic: str, *arguments: str) -> tuple[int, str, str]:
    servers = ("--bootstrap-servers", kafka.bootstrap_servers)
    result = CliRunner().invoke(subscribe.app, ["--topic", topic, *servers, "--exit-at-end", *arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    "program",
    [consumer.app, replay.app, subscribe.app, embedded_kafka.app],
    ids=lambda app: str(app.info.name),
)
def test_help_has_examples(program) -> None:
    result = CliRunner().invoke(program, ["--help"], env={"COLUMNS": "120"})
    assert result.exit_code == 0
    assert "For example:" in result.stdout


class TestReplay:
    """Files to packets: unchanged, sorted, and what is wrong is said."""

    @pytest.fixture
    def sink(self) -> MemorySink:
        return MemorySink()

    @pytest.fixture
    def run(self, sink: MemorySink) -> Replay:
        return Replay(sink, "alerts", Console(record=True, width=200, quiet=False, stderr=True))

    def published(self, run: Replay, sink: MemorySink, *paths: Path) -> list[bytes]:
        run.publish(run.packets(files(paths)), threading.Event())
        return [record.value for record in sink.records]

    def test_folders_are_searched_and_sorted(self, run: Replay, sink: MemorySink, tmp_path: Path) -> None:
        packets = [lsst_packet(alert_id=n) for n in (1, 2, 3)]
        for name, packet in zip(("b/1.avro", "a/2.avro", "c.avro"), packets, strict=True):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(packet)
        (tmp_path / "README.md").write_text("not a packet")
        assert self.published(run, sink, tmp_path) == [packets[1], packets[0], packets[2]]

    def test_frames_and_containers_are_unchanged(self, run: Replay, sink: MemorySink, tmp_path: Path) -> None:
        rubin, zwicky = lsst_packet(), ztf_packet()
        (tmp_path / "1").write_bytes(rubin)
        (tmp_path / "2").write_bytes(zwicky)
        assert self.published(run, sink, tmp_path / "1", tmp_path / "2") == [rubin, zwicky]

    def test_a_container_of_several_is_split_and_it_says_so(
        self, run: Replay, sink: MemorySink, tmp_path: Path
    ) -> None:
        (block,) = fastavro.block_reader(io.BytesIO(ztf_packet()))
        datum = block.bytes_.getvalue()
        (tmp_path / "many.avro").write_bytes(container("ztf.v4_02", [datum, datum, datum]))
        assert len(self.published(run, sink, tmp_path / "many.avro")) == 3
        assert "split into 3 alerts" in run.console.export_text()

    def test_what_is_no_packet_is_skipped_and_said(
        self, run: Replay, sink: MemorySink, tmp_path: Path
    ) -> None:
        (tmp_path / "1.avro").write_bytes(gzip.compress(b"packet"))
        (tmp_path / "2.avro").write_bytes(lsst_packet())
        assert self.published(run, sink, tmp_path) == [lsst_packet()]
        assert [path.name for path in run.skipped] == ["1.avro"]
        assert "neither a Confluent frame nor an Avro container" in run.console.export_text()

    def test_a_broken_container_is_published_for_the_dead_letters(
        self, run: Replay, sink: MemorySink, tmp_path: Path
    ) -> None:
        broken = ztf_packet()[:-100]
        (tmp_path / "1.avro").write_bytes(broken)
        assert self.published(run, sink, tmp_path) == [broken]

    def test_each_says_when_it_was_published(self, run: Replay, sink: MemorySink, tmp_path: Path) -> None:
        (tmp_path / "1.avro").write_bytes(lsst_packet())
        self.published(run, sink, tmp_path)
        ((name, milliseconds),) = sink.records[0].headers
        assert name == "producer_timestamp"
        assert int(milliseconds or 0) > 1.7e12

    def test_a_missing_path_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="does not exist: give files, or folders"):
            files([tmp_path / "none"])

    def test_a_folder_without_packets_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"no \*\.avro file"):
            files([tmp_path])

    def test_the_program_ends_with_1_when_a_file_was_skipped(
        self, kafka: EmbeddedKafka, tmp_path: Path
    ) -> None:
        (tmp_path / "1.avro").write_bytes(b"?")
        (tmp_path / "2.avro").write_bytes(lsst_packet())
        arguments = [str(tmp_path), "--topic", "skipped", "--bootstrap-servers", kafka.bootstrap_servers]
        result = CliRunner().invoke(replay.app, arguments)
        assert result.exit_code == 1
        assert result.stdout == "published 1 alerts of 2 files on skipped\n"
        assert "1 files were skipped" in result.stderr

    def test_the_limit(self, kafka: EmbeddedKafka, tmp_path: Path) -> None:
        for n in range(5):
            (tmp_path / f"{n}.avro").write_bytes(lsst_packet())
        servers = ["--bootstrap-servers", kafka.bootstrap_servers]
        result = CliRunner().invoke(replay.app, [str(tmp_path), "--topic", "few", *servers, "--limit", "3"])
        assert (result.exit_code, result.stdout) == (0, "published 3 alerts of 5 files on few\n")


class TestSubscribe:
    """Dead letters and foreign messages; enriched alerts are read back in the integration tests."""

    def test_a_table_of_dead_letters(self, kafka: EmbeddedKafka, letters: str) -> None:
        code, output, log = read_back(kafka, letters)
        assert (code, log) == (0, "3 records\n")
        assert output.count("frame_invalid") == 3

    def test_json_lines(self, kafka: EmbeddedKafka, letters: str) -> None:
        _, output, _ = read_back(kafka, letters, "--format", "jsonl")
        records = [json.loads(line) for line in output.splitlines()]
        assert {record["offset"] for record in records} == {1, 2, 3}
        assert all("value" not in record for record in records)

    def test_original_bytes_on_request(self, kafka: EmbeddedKafka, letters: str) -> None:
        _, output, _ = read_back(kafka, letters, "--format", "jsonl", "--with-alert")
        assert {json.loads(line)["value"] for line in output.splitlines()} == {"/w==", "//8=", "////"}

    def test_the_limit(self, kafka: EmbeddedKafka, letters: str) -> None:
        assert len(read_back(kafka, letters, "--format", "jsonl", "--limit", "2")[1].splitlines()) == 2

    def test_a_filter_leaves_out_what_has_no_such_header(self, kafka: EmbeddedKafka, letters: str) -> None:
        assert read_back(kafka, letters, "--min-anomaly", "0")[2] == "0 records\n"

    def test_a_foreign_message_is_said_and_passed_over(self, kafka: EmbeddedKafka) -> None:
        sink = KafkaSink(
            kafka.bootstrap_servers, Plaintext(), SinkSettings(), connect_seconds=10, stop=threading.Event()
        )
        sink.write([Record("foreign", lsst_packet()), Record("foreign", b"text")])
        code, output, log = read_back(kafka, "foreign")
        assert (code, output) == (0, "")
        assert log.count("is not a record of this broker") == 2
        assert log.endswith("0 records, 2 not readable\n")

    def test_a_bad_start_is_refused(self, kafka: EmbeddedKafka) -> None:
        code, _, log = read_back(kafka, "alerts", "--start", "noon")
        assert code == 2
        assert "start: 'noon' is neither earliest, latest nor an ISO 8601 time" in log


def test_the_embedded_kafka_says_where_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stop, ready = threading.Event(), tmp_path / "address"
    thread = threading.Thread(target=embedded_kafka.host, args=(["alerts"], 8, ready, stop))
    thread.start()
    wait = threading.Event()
    for _ in range(100):
        if ready.exists():
            break
        wait.wait(0.05)
    stop.set()
    thread.join()
    address = ready.read_text(encoding="utf-8").strip()
    assert address.startswith("127.0.0.1:")
    assert capsys.readouterr().out == f"--bootstrap-servers {address}\n"
