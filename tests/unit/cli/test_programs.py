"""The programs on an embedded Kafka: replay in, subscribe out."""

import gzip
import io
import json
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import fastavro
import pytest
from rich.console import Console
from typer.testing import CliRunner

from broker.alert import Enriched, Message, Record, Rejected
from broker.avro.deserializer import Deserializer
from broker.avro.serializer import DeadLetterSerializer
from broker.cli import consumer, demo, embedded_kafka, replay, subscribe
from broker.cli.clusters import of_alerts, of_results, settings_of
from broker.cli.printers import TablePrinter
from broker.cli.replay import Replay, told
from broker.errors import Reason
from broker.inference import Model
from broker.kafka import EmbeddedKafka, KafkaSink
from broker.packet_files import PacketFiles
from broker.pipeline import Pipeline
from broker.records import RecordBuilder
from broker.settings import Plaintext, SinkSettings
from broker.survey import WANTED
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


@pytest.fixture(scope="module")
def publish(kafka: EmbeddedKafka):
    """Publish values to a topic, without headers."""
    sink = KafkaSink(
        kafka.bootstrap_servers, Plaintext(), SinkSettings(), connect_seconds=10, stop=threading.Event()
    )
    return lambda topic, *values: sink.write([Record(topic, value) for value in values])


@dataclass(frozen=True)
class OneAlert:
    """A topic with one enriched alert, and the classes of the model that saw it."""

    topic: str
    top: str
    others: list[str]


@pytest.fixture(scope="module")
def enriched(kafka: EmbeddedKafka) -> OneAlert:
    pipeline = Pipeline(Deserializer(WANTED), Model.load(None))
    (outcome,) = pipeline([Message(lsst_packet(), "classes", 0, 0)])
    assert isinstance(outcome, Enriched)
    sink = KafkaSink(
        kafka.bootstrap_servers, Plaintext(), SinkSettings(), connect_seconds=10, stop=threading.Event()
    )
    sink.write(RecordBuilder(lambda topic: topic, "0.1")(outcome).records)
    top = outcome.enrichment.top_class
    assert top is not None
    others = [name for name in outcome.enrichment.morphology_classes if name != top]
    return OneAlert("classes.enriched", top, others)


def read_back(kafka: EmbeddedKafka, topic: str, *arguments: str) -> tuple[int, str, str]:
    servers = ("--bootstrap-servers", kafka.bootstrap_servers)
    result = CliRunner().invoke(subscribe.app, ["--topic", topic, *servers, "--exit-at-end", *arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    "program",
    [consumer.app, replay.app, subscribe.app, embedded_kafka.app],
    ids=["consumer", "replay", "subscribe", "embedded-kafka"],
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
        packets = told(PacketFiles.find(paths), run.console)
        run.publish((packet.value for packet in packets), threading.Event())
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
        assert (
            "1.avro: skipped: is neither a Confluent frame nor an Avro container" in run.console.export_text()
        )

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

    def test_the_program_ends_with_1_when_a_file_was_skipped(
        self, kafka: EmbeddedKafka, tmp_path: Path
    ) -> None:
        (tmp_path / "1.avro").write_bytes(b"?")
        (tmp_path / "2.avro").write_bytes(lsst_packet())
        arguments = [str(tmp_path), "--topic", "skipped", "--bootstrap-servers", kafka.bootstrap_servers]
        result = CliRunner().invoke(replay.app, arguments)
        assert result.exit_code == 1
        assert result.stdout == "published 1 alert of 2 files on skipped\n"
        assert "1 file was skipped" in result.stderr

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

    def test_a_foreign_message_is_said_and_passed_over(self, kafka: EmbeddedKafka, publish) -> None:
        publish("foreign", *[b"text"] * 8)
        code, output, log = read_back(kafka, "foreign")
        assert (code, output) == (0, "")
        assert log.count("is not a record of this broker") == 5
        assert log.endswith("further ones are counted, not named\n0 records, 8 not readable\n")

    @pytest.mark.parametrize(
        ("packet", "kind"),
        [(lsst_packet(), "an alert as Rubin sends it"), (ztf_packet(), "an Avro container file")],
    )
    @pytest.mark.parametrize("filters", [(), ("--min-anomaly", "0.9")])
    def test_a_topic_of_raw_alerts_ends_with_the_topic_that_was_meant(
        self, kafka: EmbeddedKafka, publish, packet: bytes, kind: str, filters: tuple[str, ...]
    ) -> None:
        topic = f"raw-{len(packet)}-{len(filters)}"
        publish(topic, *[packet] * 30)
        code, output, log = read_back(kafka, topic, *filters)
        assert (code, output) == (2, "")
        assert log.count(kind) == 5
        assert log.endswith(f"these look like raw alerts: did you mean --topic {topic}.enriched?\n")

    def test_a_class_is_found_in_upper_and_lower_case(self, kafka: EmbeddedKafka, enriched: OneAlert) -> None:
        assert read_back(kafka, enriched.topic, "--morphology", enriched.top.upper())[2] == "1 record\n"

    def test_an_unknown_class_is_said_with_those_the_model_knows(
        self, kafka: EmbeddedKafka, enriched: OneAlert
    ) -> None:
        code, output, log = read_back(kafka, enriched.topic, "--morphology", "galaxy")
        assert (code, output) == (2, "")
        assert "no class is named 'galaxy': the model at work knows" in log
        assert all(name in log for name in (enriched.top, *enriched.others))

    def test_a_known_class_that_no_alert_has_is_no_mistake(
        self, kafka: EmbeddedKafka, enriched: OneAlert
    ) -> None:
        assert read_back(kafka, enriched.topic, "--morphology", enriched.others[0])[2] == "0 records\n"

    def test_a_bad_start_is_refused(self, kafka: EmbeddedKafka) -> None:
        code, _, log = read_back(kafka, "alerts", "--start", "noon")
        assert code == 2
        assert "start: 'noon' is neither earliest, latest nor an ISO 8601 time" in log


class TestConfig:
    """The consumer's file, for the small programs too: they differ in which of its clusters they mean."""

    FILE = "topics: [alerts]\nkafka: {{bootstrap_servers: '{alerts}'}}\nsink: {{bootstrap_servers: '{results}'}}\n"

    @pytest.fixture
    def config(self, tmp_path: Path):
        def write(text: str) -> list[str]:
            path = tmp_path / "consumer.yaml"
            path.write_text("consumer: {connect_seconds: 0.2}\n" + text, encoding="utf-8")
            return ["--config", str(path)]

        return write

    def test_results_are_read_where_the_consumer_writes_them(
        self, kafka: EmbeddedKafka, letters: str, config
    ) -> None:
        given = config(self.FILE.format(alerts="127.0.0.1:1", results=kafka.bootstrap_servers))
        result = CliRunner().invoke(subscribe.app, ["--topic", letters, "--exit-at-end", *given])
        assert (result.exit_code, result.stderr) == (0, "3 records\n")

    def test_alerts_are_published_where_the_consumer_reads_them(
        self, kafka: EmbeddedKafka, config, tmp_path: Path
    ) -> None:
        (tmp_path / "1.avro").write_bytes(lsst_packet())
        given = config(self.FILE.format(alerts=kafka.bootstrap_servers, results="127.0.0.1:1"))
        result = CliRunner().invoke(replay.app, [str(tmp_path), "--topic", "configured", *given])
        assert (result.exit_code, result.stdout) == (0, "published 1 alert of 1 file on configured\n")

    def test_the_command_line_goes_before_the_file(self, kafka: EmbeddedKafka, letters: str, config) -> None:
        given = config("kafka: {bootstrap_servers: '127.0.0.1:1'}\ntopic_pattern: a.*\noutput_prefix: a\n")
        assert read_back(kafka, letters, *given)[2] == "3 records\n"

    def test_security_of_the_file_is_used(self, config, tmp_path: Path) -> None:
        given = config("kafka: {security: {protocol: scram, username: u, password_file: /none/such}}\n")
        (tmp_path / "1.avro").write_bytes(lsst_packet())
        for program, arguments in ((subscribe.app, []), (replay.app, [str(tmp_path)])):
            result = CliRunner().invoke(program, [*arguments, "--topic", "alerts", *given])
            assert result.exit_code == 2
            assert "password_file /none/such: No such file or directory" in result.stderr

    def test_the_consumer_s_group_is_left_alone(self, config) -> None:
        settings = settings_of(Path(config("kafka: {group_id: nightjar}\n")[1]))
        assert of_results(settings, None, None).group_id != "nightjar"
        assert of_results(settings, None, "mine").group_id == "mine"

    def test_properties_of_the_connection_go_along_to_the_right_cluster(self, config) -> None:
        reached, not_reached = "{ssl.ca.location: /a.pem}", "{ssl.ca.location: /b.pem, linger.ms: 3}"
        one = settings_of(Path(config(f"kafka: {{extra: {reached}}}\n")[1]))
        assert of_results(one, None, None).extra == {"ssl.ca.location": "/a.pem"}
        assert of_alerts(one, None)[1].extra == {"ssl.ca.location": "/a.pem"}
        text = f"kafka: {{extra: {reached}}}\nsink: {{bootstrap_servers: 'b:1', extra: {not_reached}}}\n"
        two = settings_of(Path(config(text)[1]))
        assert of_results(two, None, None).extra == {"ssl.ca.location": "/b.pem"}
        assert of_alerts(two, None)[1].extra == {"ssl.ca.location": "/a.pem"}

    def test_a_server_that_does_not_answer_is_told_in_our_words(self, config, tmp_path: Path, capfd) -> None:
        (tmp_path / "1.avro").write_bytes(lsst_packet())
        arguments = [str(tmp_path), "--topic", "alerts", "--bootstrap-servers", "127.0.0.1:1", *config("")]
        result = CliRunner().invoke(replay.app, arguments)
        assert result.exit_code == 1
        assert "no Kafka broker answered at 127.0.0.1:1 within 0.2 s" in result.stderr
        assert "FAIL [" not in result.stderr + capfd.readouterr().err


@pytest.mark.parametrize(
    ("least", "wanted"),
    [
        ({}, True),
        ({"anomaly": 0.9}, True),
        ({"anomaly": 0.9, "anomaly-interesting": 0.3}, True),
        ({"anomaly": 0.9, "anomaly-interesting": 0.4}, False),
        ({"anomaly-artefact": 0.0}, False),  # the model has no such part
    ],
)
def test_each_view_of_an_anomaly_has_a_filter_of_its_own(least: dict[str, float], wanted: bool) -> None:
    headers = {"anomaly": "0.9500", "anomaly-interesting": "0.3100", "anomaly-artefact": ""}
    assert subscribe.Filter(least=least)(headers) is wanted


ALERT = {
    "alert_id": 170032915988086813,
    "object_id": "169298433191313408",
    "ra": 151.909375,
    "dec": -2.5,
    "morphology_top": "edge_on",
    "photoz": {"point": 0.5, "low": 0.25, "high": 0.75},
    "anomaly": 0.9912,
    "anomaly_interesting": 0.8765,
    "flags": ["no_host", "outside_training_range", "cutout_unreadable:difference", "edge"],
}
LETTER = {
    "topic": "alerts",
    "partition": 3,
    "offset": 123456789,
    "reason": "container_invalid",
    "value": b"12",
    "error": "the container ends in the middle of a block of 1234 bytes, at byte 99 of it: " + "x" * 60,
}
NUMBERS = (
    "170032915988086813",
    "169298433191313408",
    "151.909375",
    "-2.500000",
    "0.500",
    "0.250-0.750",
    "0.9912",
    "0.8765",
)


class TestTable:
    """Nothing that was written is missing from what is shown, however narrow the terminal."""

    def shown(self, record: dict, width: int, *, terminal: bool = True) -> list[str]:
        console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
        TablePrinter(console)([record])
        return [line for line in console.file.getvalue().splitlines() if line]

    @pytest.mark.parametrize("width", [40, 79, 80, 120, 160, 250])
    def test_numbers_flags_and_errors_are_whole_at_every_width(self, width: int) -> None:
        alert = " ".join(self.shown({"enrichment": ALERT}, width))
        assert all(word in alert.split() for word in (*NUMBERS, *ALERT["flags"], "edge_on"))
        letter = self.shown(LETTER, width)
        assert "".join(LETTER["error"].split()) in "".join("".join(letter).split())
        assert "container_invalid" in " ".join(letter)

    @pytest.mark.parametrize("width", [80, 160])
    def test_lines_fit_the_terminal(self, width: int) -> None:
        assert all(len(line) <= width for line in self.shown({"enrichment": ALERT}, width))
        assert all(len(line) <= width for line in self.shown(LETTER, width))

    def test_80_columns_give_an_alert_two_lines(self) -> None:
        alert = {"enrichment": {**ALERT, "flags": ["no_host"]}}
        heading, second, ids, answers = self.shown(alert, 80)
        assert heading.split() == ["alert", "id", "object", "id", "ra", "dec", "morphology"]
        assert second.split()[-3:] == ["anomaly", "interesting", "flags"]
        assert ids.split() == [*NUMBERS[:4], "edge_on"]
        assert answers.split() == [*NUMBERS[4:], "no_host"]

    @pytest.mark.parametrize("top", ["star", "transient", "bogus"])
    def test_what_is_no_galaxy_shows_no_redshift(self, top: str) -> None:
        _, line = self.shown({"enrichment": {**ALERT, "morphology_top": top, "flags": []}}, 160)
        assert line.split()[4:] == [top, "-", "-", *NUMBERS[-2:]]

    def test_160_columns_give_it_one(self) -> None:
        heading, line = self.shown({"enrichment": {**ALERT, "flags": ["edge"]}}, 160)
        assert heading.index("anomaly") == line.index("0.9912")
        assert heading.index("interesting") == line.index("0.8765")

    def test_a_record_of_before_there_was_a_second_score_has_a_dash(self) -> None:
        old = {name: value for name, value in ALERT.items() if name != "anomaly_interesting"}
        _, line = self.shown({"enrichment": {**old, "flags": []}}, 160)
        assert line.split()[-2:] == ["0.9912", "-"]

    def test_a_pipe_gets_one_line_a_record_however_long(self) -> None:
        _, line = self.shown({"enrichment": ALERT}, 80, terminal=False)
        assert line.endswith(" ".join(ALERT["flags"]))
        assert len(self.shown(LETTER, 80, terminal=False)) == 2


@pytest.mark.parametrize("program", [consumer, demo, embedded_kafka, replay, subscribe])
def test_every_program_says_its_version(program) -> None:
    result = CliRunner().invoke(program.app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"nightjar {version('nightjar')}\n")


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
