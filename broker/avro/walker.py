"""Walk a whole datum to its end and keep the leaves that are wanted.

A walk is strict: it refuses what breaks the schema, trailing bytes included, so a datum that
passes decodes whole. It is fast because runs of fields without arrays or bytes, and the
items of histories, are matched by one regular expression each (`broker.avro.pattern`);
whatever does not match is read by `broker.avro.exact`, which accepts or refuses it.
Where the compiled helper was built (`broker.native`), it walks what is usual in one call.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any, Protocol

from broker import native
from broker.avro.exact import ExactReader, Leaves, blocks, read_index, read_sized
from broker.avro.pattern import Pattern, is_regular
from broker.avro.program import Program, write_program
from broker.avro.types import Array, Primitive, Record, Type, Union, least_size, resolve
from broker.errors import DatumError

MOST_UNUSUAL = 2000
"""Items of a history that no pattern matches: twice the longest history known. Surveys write none (a pattern fails
only for indices of two bytes, or texts that are long or not ASCII), and each takes some 100 us."""


class _Step(Protocol):
    def __call__(self, data: memoryview, at: int, leaves: Leaves) -> int:
        """Read from `at` on, put leaves, give where it ended."""


class Walker:
    """Walks data of one schema.

    Made by `compile_walker`.

    Attributes
    ----------
    paths : tuple of str
        The wanted paths this schema has.
    """

    def __init__(
        self,
        paths: Sequence[str],
        steps: Callable[[], Iterable[_Step]],
        program: Program | None = None,
        *,
        to_the_end: bool,
    ) -> None:
        self.paths = tuple(paths)
        self._single = tuple(path for path in paths if "[]" not in path)
        self._listed = tuple(path for path in paths if "[]" in path)
        self._make_steps = steps
        self._to_the_end = to_the_end
        self._program = program

    def __call__(self, datum: bytes | memoryview) -> Leaves:
        """Walk a datum.

        Parameters
        ----------
        datum : bytes or memoryview

        Returns
        -------
        dict of str to object
            The wanted leaves by path. A leaf that is null, or lies in a record that is, is None; for items of
            an array there is a list, empty where the array is null. bytes are views of `datum`, not copied.

        Raises
        ------
        DatumError
            If the datum breaks its schema; the text names the field and the byte.
        """
        leaves, at = self.leading(datum)
        if self._to_the_end and at != len(datum):
            raise DatumError(f"{len(datum) - at} bytes follow the last field, which ends at byte {at}")
        return leaves

    def leading(self, datum: bytes | memoryview, at: int = 0) -> tuple[Leaves, int]:
        """Walk from a byte on as far as the fields go, whatever follows them.

        Parameters
        ----------
        datum : bytes or memoryview
        at : int
            Where the record begins.

        Returns
        -------
        leaves : dict of str to object
        end : int
            Where the last field ends.

        Raises
        ------
        DatumError
        """
        data = memoryview(datum)
        program = self._program
        if native.walk is not None and program is not None:
            walked = native.walk(program.code, data, at, program.paths, program.listed)
            if walked is not None:
                return walked
        leaves: Leaves = dict.fromkeys(self._single)
        for path in self._listed:
            leaves[path] = []
        for step in self._steps:
            at = step(data, at, leaves)
        return leaves, at

    def prepare(self) -> None:
        """Compile what else is compiled when it is first needed; raises what that may raise."""
        _ = self._steps

    @cached_property
    def _steps(self) -> tuple[_Step, ...]:
        """Their expressions take some 50 ms to compile, and the helper most often leaves nothing to them."""
        return tuple(self._make_steps())


def compile_walker(schema: Any, wanted: Sequence[str], stop_after: str | None = None) -> Walker:
    """Make a walker for a schema.

    Parameters
    ----------
    schema : dict
        The writer's schema, a record.
    wanted : sequence of str
        Dotted paths of leaves: ``diaSource.ra``, ``prvDiaSources[].band``. What the schema lacks is left out.
    stop_after : str, optional
        Last field of the datum to read; without it the datum is walked to its end.

    Raises
    ------
    ValueError
        If the schema is not a record, or has a type that is not read (see `broker.avro.types.resolve`).
    """
    record = resolve(schema)
    if not isinstance(record, Record):
        raise ValueError(f"a datum is a record, this schema is {schema!r:.80}")  # noqa: TRY004 - as resolve
    fields = _leading(record.fields, stop_after)
    held = frozenset(path for name, node in fields for path in _leaf_paths(node, name))
    paths = [path for path in dict.fromkeys(wanted) if path in held]
    reader = ExactReader(frozenset(paths))
    steps = partial(_steps, fields, frozenset(paths), reader)
    return Walker(paths, steps, write_program(fields, paths), to_the_end=stop_after is None)


def _leading(fields: Sequence[tuple[str, Type]], last: str | None) -> Sequence[tuple[str, Type]]:
    if last is None:
        return fields
    names = [name for name, _ in fields]
    if last not in names:
        raise ValueError(f"no field {last!r} to stop after: the record has {', '.join(names)}")
    return fields[: names.index(last) + 1]


def _leaf_paths(node: Type, path: str) -> Iterator[str]:
    match node:
        case Record(fields=fields):
            for name, kind in fields:
                yield from _leaf_paths(kind, f"{path}.{name}")
        case Union(branches=branches):
            for branch in branches:
                yield from _leaf_paths(branch, path)
        case Array(items=items) if "[]" not in path:
            yield from _leaf_paths(items, f"{path}[]")
        case Primitive(kind="null"):
            return
        case _:
            yield path


def _steps(
    fields: Sequence[tuple[str, Type]], wanted: frozenset[str], reader: ExactReader
) -> Iterator[_Step]:
    run: list[tuple[str, Type]] = []
    for name, node in fields:
        if is_regular(node):
            run.append((name, node))
            continue
        if run:
            yield _Run(run, wanted, reader)
            run = []
        yield _irregular(name, node, wanted, reader)
    if run:
        yield _Run(run, wanted, reader)


def _irregular(name: str, node: Type, wanted: frozenset[str], reader: ExactReader) -> _Step:
    branches = node.branches if isinstance(node, Union) else (node,)
    arrays = [
        i for i, branch in enumerate(branches) if isinstance(branch, Array) and is_regular(branch.items)
    ]
    if arrays and all(i in arrays or branch == Primitive("null") for i, branch in enumerate(branches)):
        return _History(name, node, wanted, reader)
    if set(branches) == {Primitive("null"), Primitive("bytes")}:
        return _NullableBytes(name, branches.index(Primitive("bytes")), name in wanted)
    return _Exact(name, node, reader)


class _Run:
    """Fields that follow each other and are matched at once."""

    def __init__(
        self, fields: Sequence[tuple[str, Type]], wanted: frozenset[str], reader: ExactReader
    ) -> None:
        self._fields = tuple(fields)
        self._pattern = Pattern(fields, wanted)
        self._reader = reader

    def __call__(self, data: memoryview, at: int, leaves: Leaves) -> int:
        match = self._pattern.match(data, at)
        if match is None or not self._pattern.is_legal(groups := match.groups()):
            for name, node in self._fields:
                at = self._reader.read(node, data, at, name, leaves)
            return at
        for i, leaf in self._pattern.kept:
            raw = groups[i]
            if raw is not None:
                leaves[leaf.path] = leaf.decode(raw)
        return match.end()


class _History:
    """An array, nullable or not, whose items are matched one at a time."""

    def __init__(self, name: str, node: Type, wanted: frozenset[str], reader: ExactReader) -> None:
        self._name = name
        self._branches = node.branches if isinstance(node, Union) else None
        arrays = [branch for branch in self._branches or (node,) if isinstance(branch, Array)]
        self._items = arrays[0].items
        self._inside = f"{name}[]"
        self._least = least_size(self._items)
        self._pattern = Pattern([(self._inside, self._items)], wanted)
        self._paths = tuple(path for path in wanted if path.startswith(self._inside))
        self._reader = reader

    def __call__(self, data: memoryview, at: int, leaves: Leaves) -> int:
        if self._branches is not None:
            index, at = read_index(len(self._branches), data, at, self._name)
            if not isinstance(self._branches[index], Array):
                return at
        unusual = iter(range(MOST_UNUSUAL))
        for block in blocks(data, at, self._name, self._least):
            block.ended(self._block(data, block.at, block.count, leaves, unusual))
        return block.after

    def _block(self, data: memoryview, at: int, count: int, leaves: Leaves, unusual: Iterator[int]) -> int:
        match_at, is_legal = self._pattern.match, self._pattern.is_legal
        kept = [(i, leaf.decode, leaves[leaf.path].append) for i, leaf in self._pattern.kept]
        for _ in range(count):
            match = match_at(data, at)
            if match is None or not is_legal(groups := match.groups()):
                if next(unusual, None) is None:
                    raise DatumError(
                        f"{self._name} at byte {at}: more than {MOST_UNUSUAL} items are encoded as no survey does"
                    )
                at = self._item(data, at, leaves)
                continue
            at = match.end()
            for i, decode, append in kept:
                raw = groups[i]
                append(None if raw is None else decode(raw))
        return at

    def _item(self, data: memoryview, at: int, leaves: Leaves) -> int:
        item: Leaves = dict.fromkeys(self._paths)
        at = self._reader.read(self._items, data, at, self._inside, item)
        for path, value in item.items():
            leaves[path].append(value)
        return at


class _NullableBytes:
    """A stamp."""

    def __init__(self, name: str, index: int, is_wanted: bool) -> None:
        self._name = name
        self._index = index
        self._is_wanted = is_wanted

    def __call__(self, data: memoryview, at: int, leaves: Leaves) -> int:
        index, at = read_index(2, data, at, self._name)
        if index != self._index:
            return at
        stamp, at = read_sized(data, at, self._name)
        if self._is_wanted:
            leaves[self._name] = stamp
        return at


class _Exact:
    """A field that is read value by value."""

    def __init__(self, name: str, node: Type, reader: ExactReader) -> None:
        self._name = name
        self._node = node
        self._reader = reader

    def __call__(self, data: memoryview, at: int, leaves: Leaves) -> int:
        return self._reader.read(self._node, data, at, self._name, leaves)
