"""Settings, model, head and schema files of any content: refused in one clear line, or read."""

import gzip
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import fastavro
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import schemas
from broker.contract import check_inputs
from broker.errors import ConfigurationError, ModelRefused
from broker.inference import Head, Model
from broker.settings import Settings, load
from broker.weights import initializers, weights_digest

from .memory import MIB, resident

SECRET = "hunter2-is-no-password"
LONGEST = 4100
KNOWN = sorted(Settings.model_fields)
BELOW = (
    "security",
    "extra",
    "password",
    "protocol",
    "group_id",
    "start",
    "batch_size",
    "port",
    "x\ny",
    "\x1b[2J",
)

texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from((*BELOW, "scram", "plaintext", "(a", "a{9999999999}", "\ud800", "a\0b")),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    texts,
    st.binary(max_size=8),
    st.dates(),
    st.datetimes(),
)
keys = st.one_of(texts, st.sampled_from((*KNOWN, *BELOW)), st.integers(), st.dates())
trees = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4))
)
documents = st.dictionaries(st.sampled_from(KNOWN), trees, max_size=5)
generous = settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def assert_one_line_or_read(make: Callable[[], object]) -> None:
    """Whatever is not read is refused with one line, which quotes no secret."""
    try:
        make()
    except ConfigurationError as error:
        text = str(error)
        assert text.isprintable()
        assert 10 < len(text) < LONGEST
        assert SECRET not in text


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of settings, read without a variable of the environment."""
    for name in [name for name in os.environ if name.upper().startswith("BROKER_")]:
        monkeypatch.delenv(name)
    return tmp_path / "settings.yaml"


@given(documents)
@generous
def test_any_structure(file: Path, document: dict[str, object]) -> None:
    file.write_text(yaml.safe_dump(document), encoding="utf-8", errors="surrogatepass")
    assert_one_line_or_read(lambda: load({}, file))


@given(st.binary(max_size=200), st.booleans())
@generous
def test_any_bytes(file: Path, content: bytes, behind: bool) -> None:
    file.write_bytes(b"topics: [alerts]\n" * behind + content)
    assert_one_line_or_read(lambda: load({}, file))


@given(st.text(alphabet="ab01_:-.,{}[]&*!<>|'\"#%@?= \n\t\\", max_size=60))
@generous
def test_any_punctuation(file: Path, content: str) -> None:
    file.write_text(content, encoding="utf-8")
    assert_one_line_or_read(lambda: load({}, file))


def _merges(levels: int) -> str:
    lines = [f"k{n}: &k{n} {{<<: [{', '.join([f'*k{n - 1}'] * 9)}]}}" for n in range(1, levels)]
    return "\n".join(("k0: &k0 {x: 1}", *lines))


@pytest.mark.parametrize(
    "content",
    [
        "topics: " + "[" * 3000,
        "kafka: " + "{a: " * 800 + "1" + "}" * 800,
        "topics: 2001-99-99",
        "topics: 0b_",
        "model_threads: " + "9" * 5000,
        "kafka: &a {extra: *a}",
        "topics: &a [*a]",
        "topics: [" + "{}, " * 5000 + "]",
        '"x\\ny": 1',
        'kafka: {security: {protocol: "sc\\nram"}}',
        'topic_pattern: "' + "(" * 3000 + ")" * 3000 + '"',
        'topic_pattern: "a{99999999999999999999}"',
        f"kafka: {{security: {{protocol: scram, username: u, password: {SECRET}",
        f"kafka: {{security: {{password: {SECRET}: x}}}}",
        f"topics: [a]\nkafka: {{extra: {{sasl.password: {SECRET}}}}}",
        "topics: !!bool maybe",
        "topics: !!int ''",
        "topics: !!timestamp x",
        _merges(12),
    ],
)
def test_what_no_library_tells_in_one_line(file: Path, content: str) -> None:
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError) as refusal:
        load({}, file)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < LONGEST
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize("name", ["a\0b", "a\nb", ""])
def test_paths_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        load({}, tmp_path / name)
    assert str(refusal.value).isprintable()
    with pytest.raises(ModelRefused) as refused:
        Model.load(tmp_path / name)
    assert str(refused.value).isprintable()


environment = st.dictionaries(
    st.sampled_from(
        (
            "BROKER_KAFKA__EXTRA",
            "BROKER_KAFKA",
            "BROKER_HEADS",
            "BROKER_X\nY",
            "BROKER_KAFKA__A\nB",
            "BROKER_TOPICS",
        )
    ),
    st.one_of(
        st.text(max_size=30).filter(lambda text: "\0" not in text and text.isprintable()),
        st.sampled_from(
            ("[" * 100_000, f'{{"password": "{SECRET}"', '{"a": [1]}', "\udcff", "9" * 5000, "a\nb")
        ),
    ),
    max_size=3,
)


@given(environment)
@generous
def test_any_environment(file: Path, variables: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        assert_one_line_or_read(lambda: load({"topics": ["alerts"]}))


PACKAGED = Path(schemas.__file__).parents[1] / "broker" / "models" / "default.onnx"


def _damaged(content: bytes, random: np.random.Generator) -> bytes:
    kind = int(random.integers(4))
    if kind == 0:
        return random.bytes(int(random.integers(3000)))
    if kind == 1:
        return content[: int(random.integers(len(content)))]
    changed = bytearray(content)
    for _ in range(random.integers(1, 8)):
        # The graph and the metadata lie at the ends, weights between.
        near = int(random.integers(60_000))
        at = (
            int(random.integers(len(changed)))
            if kind == 2
            else (near if near % 3 else len(changed) - 1 - near)
        )
        changed[at] ^= 1 << int(random.integers(8))
    return bytes(changed)


@pytest.mark.parametrize("seed", range(40))
def test_any_model_file(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(_damaged(PACKAGED.read_bytes(), np.random.default_rng(seed)))
    before = resident()

    def make() -> None:
        model = Model.load(path, threads=1)
        outputs = model(check_inputs(model.contract.grid))
        assert all(np.isfinite(values).all() for values in outputs.values())

    assert_one_line_or_read(make)
    assert resident() - before < 300 * MIB


CONTENT = PACKAGED.read_bytes()
LARGEST = max(initializers(CONTENT).values(), key=len)
CONTRACT_AT = CONTENT.index(b'{"format":1')
CONTRACT_TEXT = json.JSONDecoder().raw_decode(CONTENT[CONTRACT_AT:].decode("latin-1"))[1]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    ("start", "size"),
    [(CONTENT.index(LARGEST), len(LARGEST)), (CONTRACT_AT, CONTRACT_TEXT)],
    ids=["weights", "contract"],
)
def test_one_bit_of_the_weights_or_the_contract_is_enough(
    tmp_path: Path, start: int, size: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    changed = bytearray(CONTENT)
    changed[start + int(random.integers(size))] ^= 1 << int(random.integers(8))
    (tmp_path / "model.onnx").write_bytes(changed)
    with pytest.raises(ModelRefused) as refusal:
        Model.load(tmp_path / "model.onnx", threads=1)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("seed", range(12))
def test_a_model_file_that_ends_early(tmp_path: Path, seed: int) -> None:
    (tmp_path / "model.onnx").write_bytes(CONTENT[: int(np.random.default_rng(seed).integers(len(CONTENT)))])
    with pytest.raises(ModelRefused) as refusal:
        Model.load(tmp_path / "model.onnx", threads=1)
    assert str(refusal.value).isprintable()


@given(st.binary(max_size=200), st.integers(0, len(CONTENT)), st.booleans())
@generous
def test_weights_of_any_bytes(content: bytes, at: int, inside: bool) -> None:
    """The reader of protobuf gives a digest, or a ValueError."""
    with suppress(ValueError):
        assert len(weights_digest(CONTENT[:at][-3000:] + content if inside else content)) == 64


@pytest.mark.parametrize("seed", range(40))
def test_any_head_file(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "head.onnx"
    path.write_bytes(_damaged(PACKAGED.read_bytes(), np.random.default_rng(seed)))
    contract = Model.load(threads=1).contract if seed == 0 else _CONTRACT
    with pytest.raises(ModelRefused) as refusal:
        Head.load(path, contract)
    assert str(refusal.value).isprintable()


_CONTRACT = Model.load(threads=1).contract


@pytest.mark.parametrize("name", ["dead_letter.v1", "enriched_alert.v2.lsst.v11_1", "ztf.v4_02"])
def test_any_schema_file(name: str) -> None:
    """A damaged schema is refused with a ValueError where its fingerprint is taken, or is one."""
    text = json.dumps(schemas.load(name)).encode()
    random = np.random.default_rng(4)
    for _ in range(60):
        changed = bytearray(text)
        for _ in range(random.integers(1, 4)):
            changed[int(random.integers(len(changed)))] = int(random.integers(256))
        try:
            schema = json.loads(bytes(changed))
            mark = schemas.fingerprint(schema)
        except ValueError:
            continue
        assert len(mark) == 16


def test_samples_of_the_bundle_decode() -> None:
    for entry in schemas.entries():
        assert gzip.compress(schemas.sample(entry.name))
        fastavro.parse_schema(schemas.load(entry.name))
