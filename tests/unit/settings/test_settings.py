"""Settings as a table: who wins, and what is refused."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from broker.errors import LONGEST_LINE, SettingsError
from broker.settings import Plaintext, Settings, Topics, load

LINE, ENVIRONMENT, FILE, DEFAULT = "line:1", "environment:1", "file:1", "localhost:9092"


def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **given: Any) -> Settings:
    """Settings from a command line, an environment and a file; each may be left out."""
    for name, value in given.get("environment", {}).items():
        monkeypatch.setenv(name, value)
    config = None
    if "file" in given:
        config = tmp_path / "nightjar.yaml"
        config.write_text(given["file"], encoding="utf-8")
    return load({"topics": ["alerts"], **given.get("line", {})}, config)


@pytest.mark.parametrize(
    ("line", "environment", "file", "wins"),
    [
        (LINE, ENVIRONMENT, FILE, LINE),
        (LINE, None, FILE, LINE),
        (LINE, ENVIRONMENT, None, LINE),
        (None, ENVIRONMENT, FILE, ENVIRONMENT),
        (None, ENVIRONMENT, None, ENVIRONMENT),
        (None, None, FILE, FILE),
        (None, None, None, DEFAULT),
    ],
)
def test_command_line_before_environment_before_file_before_default(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    line: str | None,
    environment: str | None,
    file: str | None,
    wins: str,
) -> None:
    settings = loaded(
        monkeypatch,
        tmp_path,
        line={"kafka": {"bootstrap_servers": line}},
        environment={} if environment is None else {"BROKER_KAFKA__BOOTSTRAP_SERVERS": environment},
        file="" if file is None else f"kafka: {{bootstrap_servers: '{file}'}}",
    )
    assert settings.kafka.bootstrap_servers == wins


def test_sources_are_merged_setting_by_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = loaded(
        monkeypatch,
        tmp_path,
        line={"kafka": {"bootstrap_servers": LINE}},
        environment={"BROKER_KAFKA__GROUP_ID": "night", "BROKER_CONSUMER__BATCH_SIZE": "7"},
        file="kafka: {group_id: day, extra: {fetch.wait.max.ms: 50}}\nconsumer: {linger_seconds: 0.5}",
    )
    assert settings.kafka.model_dump(include={"bootstrap_servers", "group_id", "extra"}) == {
        "bootstrap_servers": LINE,
        "group_id": "night",
        "extra": {"fetch.wait.max.ms": 50},
    }
    assert (settings.consumer.batch_size, settings.consumer.linger_seconds) == (7, 0.5)


def test_the_network_s_threads_and_batch_are_the_operator_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = loaded(
        monkeypatch, tmp_path, environment={"BROKER_MODEL_THREADS": "2"}, file="model_batch_size: 128"
    )
    assert (settings.model_threads, settings.model_batch_size) == (2, 128)


REFUSED = [
    (
        "unknown in file",
        {"file": "kafka: {grup_id: x}"},
        r"kafka\.grup_id: is no setting \(did you mean group_id\?\)",
    ),
    ("unknown at the top of the file", {"file": "kafak: {}"}, r"kafak: is no setting"),
    ("file is a list", {"file": "- alerts"}, r"holds a list, wanted a mapping"),
    ("file is no YAML", {"file": "kafka: ["}, r"is no YAML"),
    (
        "unknown in the environment",
        {"environment": {"BROKER_GROUP_ID": "x"}},
        r"variable BROKER_GROUP_ID is no setting: known are .*BROKER_KAFKA",
    ),
    (
        "unknown below a section in the environment",
        {"environment": {"BROKER_KAFKA__GRUP_ID": "x"}},
        r"BROKER_KAFKA__GRUP_ID: is no setting \(did you mean group_id\?\)",
    ),
    ("not JSON", {"environment": {"BROKER_KAFKA__EXTRA": "a=b"}}, r"BROKER_KAFKA__EXTRA holds no JSON"),
    ("no port", {"line": {"kafka": {"bootstrap_servers": "a:9092,b:port"}}}, r"'b:port' is no host:port"),
    (
        "port of the sink",
        {"environment": {"BROKER_SINK__BOOTSTRAP_SERVERS": "a:70000"}},
        r"'70000' is no port",
    ),
    (
        "not a number",
        {"environment": {"BROKER_CONSUMER__BATCH_SIZE": "many"}},
        r"consumer\.batch_size is 'many', wanted a whole number",
    ),
    (
        "out of range",
        {"line": {"consumer": {"batch_size": 0}}},
        r"consumer\.batch_size is 0, wanted at least 1",
    ),
    ("no topic", {"line": {"topics": None}}, r"needs either topics or a topic_pattern"),
    (
        "both",
        {"line": {"topic_pattern": "a.*", "output_prefix": "p"}},
        r"needs either topics or a topic_pattern",
    ),
    ("two topics", {"line": {"topics": ["a", "b"]}}, r"need a stated output_prefix: give --output-prefix"),
    ("pattern", {"line": {"topics": None, "topic_pattern": "a.*"}}, r"need a stated output_prefix"),
    (
        "broken pattern",
        {"line": {"topics": None, "topic_pattern": "a(", "output_prefix": "p"}},
        r"'a\(' is no regular expression",
    ),
    (
        "own output",
        {"line": {"topics": ["alerts.enriched"]}},
        r"alerts\.enriched is an output of this broker",
    ),
    (
        "start",
        {"line": {"consumer": {"start": "yesterday"}}},
        r"'yesterday' is neither earliest, latest nor an ISO",
    ),
    (
        "owned",
        {"file": "kafka: {extra: {enable.auto.commit: true}}"},
        r"enable\.auto\.commit is set by the broker",
    ),
    ("owned by the sink", {"file": "sink: {extra: {acks: 1}}"}, r"acks is set by the broker"),
    (
        "owned by the sink: tries",
        {"file": "sink: {extra: {retries: 3}}"},
        r"retries is set by the broker itself, its guarantees rest on it: leave it out",
    ),
    (
        "owned by the sink: tries by their other name",
        {"file": "sink: {extra: {message.send.max.retries: 3}}"},
        r"message\.send\.max\.retries is set by the broker",
    ),
    (
        "owned by the sink: gaps",
        {"file": "sink: {extra: {enable.gapless.guarantee: true}}"},
        r"enable\.gapless\.guarantee is set by the broker",
    ),
    (
        "owned by the sink: reports",
        {"file": "sink: {extra: {delivery.report.only.error: true}}"},
        r"delivery\.report\.only\.error is set by the broker",
    ),
    (
        "servers by their other name",
        {"file": "kafka: {extra: {metadata.broker.list: 'other:9092'}}"},
        r"metadata\.broker\.list is set by the broker",
    ),
    ("function", {"file": "kafka: {extra: {oauth_cb: x}}"}, r"oauth_cb is no text but a part of a program"),
    ("function of the sink", {"file": "sink: {extra: {throttle_cb: x}}"}, r"throttle_cb is no text"),
    (
        "properties in a property",
        {"environment": {"BROKER_KAFKA__EXTRA": '{"default.topic.config": "x"}'}},
        r"default\.topic\.config is no text but a part of a program: leave it out",
    ),
    ("secret", {"file": "kafka: {extra: {sasl.password: x}}"}, r"sasl\.password is a secret: give it by"),
    (
        "half a sink",
        {"file": "sink: {security: {protocol: plaintext}}"},
        r"security without bootstrap_servers",
    ),
    (
        "protocol",
        {"file": "kafka: {security: {protocol: telnet}}"},
        r"kafka\.security: .*'plaintext', 'tls', 'mtls', 'scram', 'plain'",
    ),
    (
        "no password",
        {"file": "kafka: {security: {protocol: scram, username: me}}"},
        r"needs exactly one of password .* and password_file",
    ),
    ("validation", {"line": {"validation": "maybe"}}, r"validation is 'maybe', wanted 'full' or 'off'"),
]


@pytest.mark.parametrize(("given", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused_with_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        loaded(monkeypatch, tmp_path, **given)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--config .*none\.yaml: No such file or directory"):
        load({"topics": ["alerts"]}, tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("earliest", "earliest"),
        ("latest", "latest"),
        ("2026-03-01T04:00:00Z", datetime(2026, 3, 1, 4, tzinfo=UTC)),
        ("2026-03-01T04:00:00", datetime(2026, 3, 1, 4, tzinfo=UTC)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
    ],
)
def test_starts(text: str, start: object) -> None:
    assert load({"topics": ["alerts"], "consumer": {"start": text}}).consumer.start == start


def test_topics_of_the_environment_have_commas_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_TOPICS", "lsst-alerts-v10, lsst-alerts-v11")
    monkeypatch.setenv("BROKER_OUTPUT_PREFIX", "lsst")
    settings = load({})
    assert settings.topics == ["lsst-alerts-v10", "lsst-alerts-v11"]
    assert settings.prefix == "lsst"


def test_the_prefix_of_one_topic_is_its_name() -> None:
    assert load({"topics": ["alerts"]}).prefix == "alerts"


def test_the_sink_is_the_source_until_it_has_servers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_KAFKA__SECURITY__PROTOCOL", "scram")
    monkeypatch.setenv("BROKER_KAFKA__SECURITY__USERNAME", "me")
    monkeypatch.setenv("BROKER_KAFKA__SECURITY__PASSWORD", "hush")
    shared = load({"topics": ["alerts"]})
    assert shared.sink_connection == ("localhost:9092", shared.kafka.security)
    apart = load({"topics": ["alerts"], "sink": {"bootstrap_servers": "ours:9092"}})
    assert apart.sink_connection == ("ours:9092", Plaintext())


@pytest.mark.parametrize("topic", ["", "a b", '["alerts"]', "x" * 231, "ü"])
def test_what_cannot_be_a_topic_is_refused(topic: str) -> None:
    with pytest.raises(SettingsError, match="cannot be the name of a topic"):
        load({"topics": ["alerts", topic], "output_prefix": "out"})


@pytest.mark.parametrize(
    ("topic", "held"),
    [
        ("ztf_20260301_programid1", True),
        ("ztf_20260301_programid1_copy", False),
        ("my_ztf_20260301_programid1", False),
        ("ztf_20260301_programid2", False),
        ("ztf_x.enriched", False),
        ("ztf_x.dead-letter", False),
        ("ztf_x.lite", False),
        ("ztf_x.redrive", False),
    ],
)
def test_a_pattern_holds_whole_names_and_none_of_our_outputs(topic: str, *, held: bool) -> None:
    assert Topics((), r"ztf_.*_programid1|ztf_.*\.[a-z-]+").holds(topic) is held


@pytest.mark.parametrize("topic", ["__consumer_offsets", "__transaction_state"])
def test_no_pattern_holds_kafka_s_own_topics_which_grow_by_being_read(topic: str) -> None:
    assert not Topics((), ".*").holds(topic)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('"x\\ny": 1', r"x\\ny: is no setting"),
        ("topics: " + "[" * 3000, "nested too deep"),
        ("topics: 2001-99-99", "month must be in"),
        ("model_threads: " + "9" * 5000, "is no YAML"),
        ('topic_pattern: "a{99999999999999999999}"', "too large"),
        (
            "k0: &k0 {x: 1}\n"
            + "\n".join(f"k{n}: &k{n} {{<<: [{f'*k{n - 1}, ' * 9}]}}" for n in range(1, 9)),
            "more than 1000 keys",
        ),
        ("topics: [" + "{}, " * 5000 + "]", "topics.0"),
    ],
)
def test_whatever_a_file_holds_is_refused_in_one_line(tmp_path: Path, content: str, says: str) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError, match=says) as refusal:
        load({}, config)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) <= LONGEST_LINE + 1


def test_a_secret_beside_a_mistake_in_the_file_is_not_told(tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("kafka: {security: {password: hunter2: x}}", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"line 1, column \d+") as refusal:
        load({}, config)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("file", "environment"),
    [
        (None, {"BROKER_KAFKA__EXTRA__SASL__PASSWORD": "hunter2"}),
        ("kafka: {extra: {sasl.password: [hunter2]}}", {}),
        ("kafka: {extra: {sasl: {oauthbearer: {client: {secret: hunter2}}}}}", {}),
        ("probes: {port: {password_here: hunter2}}", {}),
        ("password: *hunter2", {}),
        ("password: !hunter2 x", {}),
        ("password: !!int hunter2", {}),
        ("registry: {url: 'https://user:hunter2/x@registry.example.org'}", {}),
    ],
)
def test_what_may_be_a_secret_is_not_quoted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str | None, environment: dict[str, str]
) -> None:
    given = {"environment": environment} | ({} if file is None else {"file": file})
    with pytest.raises(SettingsError) as refusal:
        loaded(monkeypatch, tmp_path, **given)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("name", ["MODEL__PATH", "LITE__ON", "LOG_LEVEL__X", "TOPIC_PATTERN__X"])
def test_nothing_stands_below_a_setting_that_is_no_section(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"BROKER_{name}", "1")
    with pytest.raises(SettingsError, match=f"BROKER_{name} is no setting"):
        load({"topics": ["alerts"]})
