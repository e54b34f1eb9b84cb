"""The work of ``broker-redrive`` on letters in memory, and what its command line refuses."""

import threading
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.alert import Message, Rejected
from broker.cli import redrive, topics
from broker.cli.redriving import Redrive, lines
from broker.cli.tables import table
from broker.errors import KafkaError, Reason
from broker.letter_files import LetterFiles
from broker.records import RecordBuilder
from broker.redrive import Choice, Fate, Judge, Ledger
from broker.settings import load
from broker.testing.memory import MemorySink, MemorySource

INTO = "alerts.redrive"
GO_ON = threading.Event()


def nobody_looks(_count: int) -> None:
    """Take the place of a progress bar."""


def letters(*reasons: Reason, first: int = 0) -> list[Message]:
    """Make dead letters, one for each reason, of messages at offsets 100 and on."""
    build = RecordBuilder(lambda _topic: "alerts", "0.1.0")
    found = []
    for offset, reason in enumerate(reasons, first):
        value = None if reason is Reason.NULL_VALUE else b"message %d" % offset
        (record,) = build(Rejected(Message(value, "alerts", 0, 100 + offset), reason, "broken")).records
        found.append(Message(record.value, record.topic, 0, offset, record.key, record.headers))
    return found


def redriven(sink: MemorySink) -> list[Message]:
    """Give what was published as a reader of the redrive topic sees it."""
    return [Message(r.value, r.topic, 0, n, r.key, r.headers) for n, r in enumerate(sink.records)]


def go(messages: list[Message], sink: MemorySink | None, wanted: Choice | None = None, **options) -> Redrive:
    """Run over messages of both topics."""
    judge = Judge(Ledger(), options.pop("most", 3))
    job = Redrive(INTO, wanted or Choice(), judge, publish=sink and sink.write, **options)
    job.learn(MemorySource(messages), GO_ON, nobody_looks)
    job.work(MemorySource([one for one in messages if one.topic != INTO]), GO_ON, nobody_looks)
    return job


def offsets(sink: MemorySink) -> list[str]:
    return [dict(record.headers)["source-offset"].decode() for record in sink.records]


TWO_KINDS = (Reason.SCHEMA_UNKNOWN, Reason.DATUM_INVALID, Reason.SCHEMA_UNKNOWN)
UNKNOWN = Choice(reasons=frozenset({"schema_unknown"}))


def test_a_run_by_reason_loses_none_of_those_it_passed_over() -> None:
    messages, sink = letters(*TWO_KINDS), MemorySink()
    first = go(messages, sink, UNKNOWN)
    assert (first.chosen, first.passed_over, offsets(sink)) == (2, 1, ["100", "102"])
    second = go(messages + redriven(sink), sink)
    assert (second.chosen, second.passed_over, offsets(sink)) == (1, 0, ["100", "102", "101"])
    assert go(messages + redriven(sink), sink).chosen == 0


def test_again_leaves_aside_what_the_redrive_topic_says_but_not_the_letters() -> None:
    messages, sink = letters(*TWO_KINDS), MemorySink()
    go(messages, sink)
    build = RecordBuilder(lambda _topic: "alerts", "0.1.0")
    (back,) = build(Rejected(redriven(sink)[0], Reason.SCHEMA_UNKNOWN, "still")).records
    tail = [one for one in redriven(sink)[0].headers if one[0].startswith(("source-", "redrive-"))]
    own = [one for one in back.headers if not one[0].startswith("source-")]
    letter = Message(back.value, back.topic, 0, 3, back.key, (*own, *tail))
    again = MemorySink()
    job = go([*messages, letter, *redriven(sink)], again, again=True)
    counts = [(dict(r.headers)["source-offset"], dict(r.headers)["redrive-count"]) for r in again.records]
    assert counts == [(b"101", b"1"), (b"102", b"1"), (b"100", b"2")]
    assert job.tally.total() == 4


def test_a_crash_in_the_middle_repeats_nothing_that_was_acknowledged() -> None:
    messages, sink = letters(*TWO_KINDS), MemorySink(capacity=2)
    with pytest.raises(KafkaError):
        go(messages, sink)
    sink.capacity = None
    go(messages + redriven(sink), sink)
    assert offsets(sink) == ["100", "101", "102"]


def test_letters_that_come_while_it_runs_are_left_to_the_next_run() -> None:
    old, new = letters(Reason.SCHEMA_UNKNOWN), letters(Reason.SCHEMA_UNKNOWN, first=1)
    sink = MemorySink()
    job = Redrive(INTO, Choice(), Judge(Ledger(), 3), publish=sink.write)
    job.learn(MemorySource(old), GO_ON, nobody_looks)
    job.work(MemorySource(old + new), GO_ON, nobody_looks)
    assert offsets(sink) == ["100"]


def test_without_a_sink_it_only_counts() -> None:
    job = go(letters(*TWO_KINDS, Reason.NULL_VALUE), None)
    assert job.tally == Counter(
        {
            (("schema_unknown", "0.1.0", "unreadable"), Fate.CHOSEN): 2,
            (("datum_invalid", "0.1.0", "unreadable"), Fate.CHOSEN): 1,
            (("null_value", "0.1.0", "none"), Fate.TOMBSTONE): 1,
        }
    )
    assert lines(job.tally, is_done=False) == [
        "reason          rejected by  schema      letters  to redrive  nothing to try",
        "datum_invalid   0.1.0        unreadable        1           1               0",
        "null_value      0.1.0        none              1           0               1",
        "schema_unknown  0.1.0        unreadable        2           2               0",
    ]


def test_foreign_messages_are_told_and_counted_not_redriven(capsys) -> None:
    foreign = [Message(b"no letter", "alerts.dead-letter", 0, offset) for offset in range(1, 21)]
    sink = MemorySink()
    job = go(letters(Reason.SCHEMA_UNKNOWN) + foreign, sink)
    said = capsys.readouterr().err.splitlines()
    assert (job.unreadable, job.chosen, len(sink.records)) == (20, 1, 1)
    assert said[0].startswith("alerts.dead-letter[0] offset 1 is not a dead letter of this broker: ")
    assert (len(said), said[-1]) == (11, "further ones are counted, not named")


def test_a_letter_without_its_message_is_told_with_its_place(capsys) -> None:
    (letter,) = letters(Reason.DATUM_INVALID)
    cut = Message(
        letter.value,
        letter.topic,
        0,
        0,
        None,
        (*letter.headers, ("value-sha256", b"ab"), ("value-bytes", b"9")),
    )
    sink = MemorySink()
    job = go([cut], sink)
    assert sink.records == []
    assert [fate for _, fate in job.tally] == [Fate.LEFT_OUT]
    assert (
        capsys.readouterr().err
        == "alerts[0] offset 100: the letter does not hold the message's bytes: broken\n"
    )


def test_files_are_written_for_what_was_chosen_from(tmp_path: Path) -> None:
    job = go(letters(*TWO_KINDS), None, UNKNOWN, files=LetterFiles(tmp_path))
    assert job.exported == 2
    assert sorted(path.name for path in tmp_path.glob("*.avro")) == [
        "alerts.dead-letter-0-0.avro",
        "alerts.dead-letter-0-2.avro",
    ]
    assert (tmp_path / "alerts.dead-letter-0-2.avro").read_bytes() == b"message 2"


def test_a_stop_ends_after_the_batch_in_hand() -> None:
    stop, sink = threading.Event(), MemorySink()
    job = Redrive(INTO, Choice(), Judge(Ledger(), 3), publish=sink.write)
    messages = letters(*[Reason.DATUM_INVALID] * 250)
    job.learn(MemorySource(messages), stop, nobody_looks)
    job.work(MemorySource(messages), stop, lambda _count: stop.set())
    assert (len(sink.records), job.chosen) == (100, 100)


def test_columns_are_as_wide_as_what_stands_in_them() -> None:
    assert table(["a", "number"], [["long text", 7], ["b", 12345678]]) == [
        "a            number",
        "long text         7",
        "b          12345678",
    ]


def refusal(*arguments: str) -> str:
    """Last line of what the command line refuses, before Kafka is looked for."""
    result = CliRunner().invoke(redrive.app, ["--topic", "alerts.dead-letter", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    return result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--topic", "alerts"], "--topic alerts is no topic of dead letters"),
        (["--reason", "schema"], "--reason schema is no reason"),
        (["--since", "yesterday"], "--since 'yesterday' is no ISO 8601 time: give one such as 2026-"),
        (["--until", "9"], "--until '9' is no ISO 8601 time"),
        (["--since", "2026-03-02", "--until", "2026-03-01T23:59:59Z"], "no letter lies between"),
        (["--dry-run", "--export", "x"], "--export publishes nothing by itself: leave out --dry-run"),
        (["--export", "/dev/null/x"], "--export /dev/null/x: Not a directory: name a folder"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(arguments: list[str], said: str) -> None:
    assert said in refusal(*arguments)


@pytest.mark.parametrize(
    ("sink", "said"),
    [
        ({}, None),
        (
            {"sink": {"bootstrap_servers": "ours:9092"}},
            "the consumer that reads theirs:9092 does not read alerts.redrive at ours:9092; this one does",
        ),
    ],
)
def test_where_results_have_a_cluster_of_their_own_it_is_said_who_reads_the_redrives(
    sink: dict[str, object], said: str | None
) -> None:
    settings = load({"topics": ["alerts"], "kafka": {"bootstrap_servers": "theirs:9092"}, **sink})
    hint = redrive.Clusters(settings, None, GO_ON).who_reads(INTO)
    assert (hint is None) == (said is None)
    if said is not None:
        assert said in str(hint)
        call = str(hint).partition("kafka.security: broker-consumer ")[2].split()
        told = dict(zip(call[::2], call[1::2], strict=True))
        theirs = {"topic_pattern": told["--topic-pattern"], "output_prefix": told["--output-prefix"]}
        there = load({**theirs, "kafka": {"bootstrap_servers": told["--bootstrap-servers"]}})
        assert there.wanted.holds(INTO)
        assert not there.wanted.holds("alerts")
        assert there.outputs == ("alerts.enriched", "alerts.dead-letter")


@pytest.mark.parametrize("program", [redrive.app, topics.app], ids=["redrive", "topics"])
def test_help_has_examples(program) -> None:
    result = CliRunner().invoke(program, ["--help"], env={"COLUMNS": "120"})
    assert (result.exit_code, "For example:" in result.stdout) == (0, True)


@pytest.mark.parametrize("module", [redrive, topics])
def test_the_programs_are_named_in_the_project(module) -> None:
    text = (Path(__file__).resolve().parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    name = module.__name__.rpartition(".")[2]
    assert f'broker-{name} = "{module.__name__}:main"' in text
    assert callable(module.main)
