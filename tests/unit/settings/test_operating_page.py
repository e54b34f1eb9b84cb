"""The operator's page tells the settings and metrics that there are, and its examples are accepted."""

import re
import runpy
from pathlib import Path

import pytest

from broker.errors import SettingsError
from broker.metrics import Metrics
from broker.settings import MutualTls, Plain, Plaintext, Scram, load

PROJECT = Path(__file__).resolve().parents[3]
PAGE = (PROJECT / "docs" / "operating.md").read_text(encoding="utf-8")


def examples() -> list[str]:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    return [block for block in blocks if "groups:" not in block]


def loaded(tmp_path: Path, text: str):
    path = tmp_path / "consumer.yaml"
    path.write_text(text, encoding="utf-8")
    return load({"topics": ["alerts"], "output_prefix": "alerts"}, path)


def test_the_table_of_settings_is_that_of_today() -> None:
    page = runpy.run_path(str(PROJECT / "tools" / "settings_page.py"))["page"]
    assert page(PAGE) == PAGE, "docs/operating.md is behind: call python tools/settings_page.py"


def test_every_setting_has_a_meaning() -> None:
    lines = PAGE.partition("<!-- settings")[2].partition("<!-- end")[0].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| `")]
    assert len(rows) > 25
    assert all(len(row) == 4 and row[3].strip() for row in rows)


def test_the_examples_are_accepted(tmp_path: Path) -> None:
    kafka, registries = examples()[:4], examples()[4:]
    nothing, scram, mutual, plain = (loaded(tmp_path, text) for text in kafka)
    registry, registered, certified = (loaded(tmp_path, text) for text in registries)
    assert isinstance(nothing.kafka.security, Plaintext)
    assert isinstance(scram.kafka.security, Scram)
    assert scram.sink_connection == ("localhost:9092", Plaintext())
    assert isinstance(mutual.kafka.security, MutualTls)
    assert isinstance(plain.kafka.security, Plain)
    assert registry.registry.url == registered.registry.url
    assert registered.registry.output_connection.url == "https://registry.example.org"
    assert certified.registry.certificate_file == Path("/run/secrets/nightjar.pem")


def test_the_example_file_is_accepted_with_every_comment_put_in(tmp_path: Path) -> None:
    text = (PROJECT / "examples" / "consumer.yaml").read_text(encoding="utf-8")
    head, body = text.split("\n", 2)[:2], text.split("\n", 2)[2]
    assert all(line.startswith("# ") for line in head)
    settings = loaded(tmp_path, re.sub(r"^( *)# (?= *\w+:)", r"\1", body, flags=re.MULTILINE))
    assert isinstance(settings.kafka.security, Scram)
    assert (settings.probes.port, settings.sink.bootstrap_servers) == (9100, "127.0.0.1:9093")


def test_topics_of_the_environment_have_commas_between(monkeypatch: pytest.MonkeyPatch) -> None:
    (given,) = re.findall(r"`BROKER_TOPICS=([^`;]+)`; no", PAGE)
    monkeypatch.setenv("BROKER_TOPICS", given)
    assert load({"output_prefix": "out"}).topics == ["alerts", "more"]


def test_a_passphrase_among_the_properties_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ssl\.key\.password is a secret"):
        loaded(tmp_path, "kafka: {extra: {ssl.key.password: x}}")


def test_every_metric_is_told() -> None:
    served = re.findall(r"^# TYPE (\w+)", Metrics().render().decode(), re.MULTILINE)
    told = re.findall(r"^\| `(nightjar_\w+)`", PAGE, re.MULTILINE)
    assert sorted(served) == sorted(told)
