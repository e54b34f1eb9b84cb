"""The compiled walk and its readable twin give the same leaves and refuse the same data, for the same reasons."""

import io
import random
from typing import Any

import fastavro
import numpy as np
import pytest

from broker import native
from broker.avro.deserializer import Deserializer
from broker.avro.encoding import long
from broker.avro.program import MOST_LISTED, write_program
from broker.avro.types import Record, resolve
from broker.avro.walker import compile_walker
from broker.errors import AlertError, DatumError
from broker.survey import WANTED
from tests.fuzz.mutations import MUTATIONS
from tests.fuzz.seeds import written

EVERYTHING = {
    "type": "record",
    "name": "t.All",
    "fields": [
        {"name": "null", "type": "null"},
        {"name": "boolean", "type": "boolean"},
        {"name": "int", "type": "int"},
        {"name": "long", "type": "long"},
        {"name": "micros", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "millis", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "float", "type": "float"},
        {"name": "double", "type": "double"},
        {"name": "bytes", "type": ["null", "bytes"]},
        {"name": "string", "type": "string"},
        {"name": "fixed", "type": {"type": "fixed", "name": "f", "size": 3}},
        {"name": "enum", "type": {"type": "enum", "name": "e", "symbols": ["a", "b"]}},
        {
            "name": "past",
            "type": [
                "null",
                {
                    "type": "array",
                    "items": {
                        "type": "record",
                        "name": "i",
                        "fields": [
                            {"name": "mag", "type": ["null", "float"]},
                            {"name": "name", "type": ["null", "string"]},
                            {"name": "many", "type": {"type": "array", "items": "int"}},
                        ],
                    },
                },
            ],
        },
        {"name": "last", "type": ["string", "long"]},
    ],
}
VALUE: dict[str, Any] = {
    "null": None,
    "boolean": True,
    "int": -(2**31),
    "long": 2**63 - 1,
    "micros": 0,
    "millis": 253_402_300_799_999,
    "float": 1.5,
    "double": -2.5,
    "bytes": b"\x00stamp",
    "string": "Å owl " * 40,
    "fixed": b"abc",
    "enum": "b",
    "past": [{"mag": 1.0, "name": "r", "many": [1, 2]}, {"mag": None, "name": None, "many": []}],
    "last": 7,
}
PATHS = (
    *("boolean", "int", "long", "micros", "millis", "float", "double", "bytes", "string"),
    *("past[].mag", "past[].name", "last"),
)

pytestmark = pytest.mark.skipif(native.walk is None, reason="the helper was not built: no compiler")


def encoded(**changed: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(EVERYTHING), VALUE | changed)
    return out.getvalue()


def plain(leaves: dict[str, Any]) -> dict[str, Any]:
    return {path: bytes(leaf) if isinstance(leaf, memoryview) else leaf for path, leaf in leaves.items()}


def both(walker: Any, datum: bytes, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What each of the two makes of a datum: leaves, or the text of its refusal."""
    answers: list[Any] = []
    for walk in (native.walk, None):
        with monkeypatch.context() as patch:
            patch.setattr(native, "walk", walk)
            try:
                answers.append(plain(walker(datum)))
            except DatumError as error:
                answers.append(str(error))
    return answers


def test_every_kind_of_value_is_read_by_the_helper_itself() -> None:
    walker, datum = compile_walker(EVERYTHING, PATHS), encoded()
    program = walker._program
    assert native.walk is not None
    assert program is not None
    found = native.walk(program.code, memoryview(datum), 0, program.paths, program.listed)
    assert found is not None
    leaves, end = found
    assert end == len(datum)
    wanted = {path: VALUE[path] for path in PATHS if "[]" not in path}
    assert plain(leaves) == wanted | {"past[].mag": [1.0, None], "past[].name": ["r", None]}


@pytest.mark.parametrize(
    "changed",
    [
        {"past": None},
        {"past": []},
        {"bytes": None, "last": "text", "string": ""},
        {"past": [{"mag": float(n), "name": "x" * n, "many": list(range(n))} for n in range(200)]},
        {"past": [{"mag": 0.0, "name": "Å", "many": []}]},
    ],
)
def test_both_give_the_same_leaves(monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]) -> None:
    compiled, readable = both(compile_walker(EVERYTHING, PATHS), encoded(**changed), monkeypatch)
    assert isinstance(readable, dict)
    assert compiled == readable


def test_both_refuse_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is cut or changed of a datum, a byte at a time."""
    walker, datum = compile_walker(EVERYTHING, PATHS), encoded()
    chance = random.Random(1)
    answers = []
    for at in range(len(datum)):
        for changed in (
            datum[:at],
            datum[:at] + bytes([chance.randrange(256)]) + datum[at + 1 :],
            datum[:at] + b"\xff" * 9 + b"\x01" + datum[at + 1 :],
        ):
            compiled, readable = both(walker, changed, monkeypatch)
            assert repr(compiled) == repr(readable), f"byte {at}"
            answers.append(readable)
    assert any(isinstance(one, str) for one in answers)
    assert any(isinstance(one, dict) for one in answers)


def test_counts_that_cannot_be_are_refused_before_anything_is_made_of_them() -> None:
    schema = {
        "type": "record",
        "name": "t",
        "fields": [{"name": "a", "type": {"type": "array", "items": "int"}}],
    }
    for count in (2**62, -(2**63), 2**63 - 1):
        with pytest.raises(DatumError):
            compile_walker(schema, ())(long(count) + bytes(20))


@pytest.mark.parametrize("mutation", sorted(MUTATIONS))
def test_mutated_packets_end_alike(monkeypatch: pytest.MonkeyPatch, mutation: str) -> None:
    rng = np.random.default_rng(7)
    seeds = written()
    reader = Deserializer(WANTED)
    for seed in (seeds[0], seeds[-1]):
        changed = MUTATIONS[mutation](seed, rng, seeds)
        answers = []
        for walk in (native.walk, None):
            with monkeypatch.context() as patch:
                patch.setattr(native, "walk", walk)
                try:
                    answers.append(repr(plain(reader(changed).fields)))
                except AlertError as error:
                    answers.append(error.detail)
        assert answers[0] == answers[1]


def test_what_the_helper_does_not_read_has_no_program() -> None:
    array = {"type": "array", "items": {"type": "record", "name": "i", "fields": []}}
    array["items"]["fields"] = [{"name": f"f{n}", "type": "int"} for n in range(MOST_LISTED + 1)]  # type: ignore[index]
    for kind, wanted in (
        ({"type": "map", "values": "int"}, ()),
        ({"type": "enum", "name": "e", "symbols": ["a"]}, ("x",)),
        (array, tuple(f"x[].f{n}" for n in range(MOST_LISTED + 1))),
    ):
        record = resolve({"type": "record", "name": "t", "fields": [{"name": "x", "type": kind}]})
        assert isinstance(record, Record)
        assert write_program(record.fields, wanted) is None
