"""5,000 mutated packets through the whole pipeline: no crash, no hang, nothing wrong, memory bounded."""

import io
from random import Random
from typing import Any

import fastavro
import numpy as np
import pytest

import schemas
from broker.avro.walker import compile_walker
from broker.errors import DatumError, Reason

from .anatomy import anatomy
from .judge import LABELS, original_datum
from .memory import MIB, resident
from .mutations import MUTATIONS
from .run import FEWER, Fuzzer
from .seeds import written

pytestmark = pytest.mark.timeout(900)
"""A minute and a half on a core of its own; the first test waits for all of the mutations."""

COUNT = 5000
KEPT = 200 * MIB
"""Bytes that may stay resident after the run: headers and patterns that are kept, of every form."""


@pytest.fixture(scope="module")
def fuzzed(fuzzer: Fuzzer) -> Fuzzer:
    """Run what all tests look at; batches go round the mutations."""
    number = 0
    while sum(tally.outcomes.total() for tally in fuzzer.tallies.values()) < COUNT:
        fuzzer.batch(number)
        number += 1
        if number == len(MUTATIONS):
            fuzzer.resident = resident()
    return fuzzer


@pytest.mark.parametrize("kind", ["crash", "hang", "wrong", "memory"])
def test_nothing_of_this_kind_is_found(fuzzed: Fuzzer, kind: str) -> None:
    found = [(one.mutation, one.seed, one.batch, one.what) for one in fuzzed.findings if one.kind == kind]
    assert found == []


def test_every_message_ends_in_one_of_the_outcomes(fuzzed: Fuzzer) -> None:
    assert {label for tally in fuzzed.tallies.values() for label in tally.outcomes} <= set(LABELS)


def test_every_outcome_is_reached(fuzzed: Fuzzer) -> None:
    reached = {label for tally in fuzzed.tallies.values() for label in tally.outcomes}
    # No packet is null, and no limit of a topic is known here.
    assert reached == set(LABELS) - {Reason.NULL_VALUE.value, Reason.MESSAGE_TOO_LARGE.value}


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_mutation_is_made(fuzzed: Fuzzer, name: str) -> None:
    assert fuzzed.tallies[name].outcomes.total() >= FEWER.get(name, 16)


def test_memory_does_not_grow_with_the_messages(fuzzed: Fuzzer) -> None:
    assert resident() - fuzzed.resident < KEPT


def test_the_same_number_makes_the_same_messages() -> None:
    one, other = (Fuzzer(written(), 3) for _ in range(2))
    assert [case.value for case in one.cases(4)] == [case.value for case in other.cases(4)]


def test_what_is_refused_is_not_what_fastavro_would_have_written() -> None:
    """A datum that decodes and encodes again to the same bytes is legal: the walk must take it."""
    random = Random(7)
    taken = 0
    for seed in written():
        parts = anatomy(seed.value)
        schema = schemas.input_form(parts.form)
        walker, parsed = compile_walker(schema, ()), fastavro.parse_schema(schema)
        leading = parts.of_kind("long", "union")[-1].end
        for _ in range(40):
            datum = bytearray(parts.datum)
            datum[random.randrange(leading)] ^= 1 << random.randrange(8)
            if not _is_written_so(parsed, bytes(datum)):
                continue
            walker(bytes(datum))
            taken += 1
    assert taken > 100


def test_a_datum_that_the_walk_takes_is_one_that_fastavro_decodes_to_its_end() -> None:
    random = np.random.default_rng(8)
    for number, seed in enumerate(written()):
        parts = anatomy(seed.value)
        schema = schemas.input_form(parts.form)
        walker, parsed = compile_walker(schema, ()), fastavro.parse_schema(schema)
        for name in ("avro_integer", "avro_text", "avro_longer_history", "avro_union_index"):
            value = MUTATIONS[name](seed, random, written()[number:])
            datum = original_datum(value)
            try:
                walker(datum)
            except DatumError:
                continue
            source = io.BytesIO(datum)
            fastavro.schemaless_reader(source, parsed, None)
            assert source.tell() == len(datum)


def _is_written_so(parsed: Any, datum: bytes) -> bool:
    source, out = io.BytesIO(datum), io.BytesIO()
    try:
        record = fastavro.schemaless_reader(source, parsed, None)
        fastavro.schemaless_writer(out, parsed, record)
    except Exception:  # noqa: BLE001 - fastavro raises what it comes across
        return False
    return out.getvalue() == datum
