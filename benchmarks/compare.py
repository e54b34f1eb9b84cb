"""The hot path of two commits, in turns on the same packets: which stage moved.

The older one runs from a working tree of its own, with its own benchmark, its compiled helper built there. In each
turn both run once, in an order that alternates. A stage is divided by the common path's total of the same process,
which both find changes, so that a machine that slows down for a while slows both. A stage has moved where
every turn says so in the same direction, and the median by more than 3 %.

    python benchmarks/compare.py --base HEAD~1
    python benchmarks/compare.py --base 1f2e3d4 --turns 9 --survey lsst
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from packets import USUAL, Data
from rich.console import Console
from rich.progress import track
from rich.table import Table

HERE = Path(__file__).resolve().parents[1]
STAGES = ("decode", "stamps", "encode", "total")
LEAST = 0.03
"""Change of the median below which nothing is said to have moved."""

Shares: TypeAlias = dict[tuple[str, str], float]
"""Of a survey's stage: its time over the common path's total."""


@contextmanager
def tree_of(commit: str, folder: Path) -> Iterator[Path]:
    """Check a commit out beside this one, its helper built where it has one."""
    tree = folder / "base"
    found = subprocess.run(
        ["git", "-C", str(HERE), "worktree", "add", "--detach", str(tree), commit],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        raise SystemExit(f"--base {commit}: {found.stderr.strip()}")
    try:
        build(tree)
        yield tree
    finally:
        subprocess.run(["git", "-C", str(HERE), "worktree", "remove", "--force", str(tree)], check=True)


def build(tree: Path) -> None:
    """Build the compiled helper in place."""
    if (tree / "setup.py").exists():
        command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
        subprocess.run(command, cwd=tree, check=True, stdout=subprocess.DEVNULL)


def run(tree: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Run a tree's own benchmark of the hot path, on its own code."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "numbers.json"
        command = [sys.executable, str(tree / "benchmarks" / "hot_path.py"), *arguments, "--json", str(out)]
        done = subprocess.run(
            command,
            cwd=tree,
            env=os.environ | {"PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{tree}: its benchmark ended with {done.returncode}: {done.stderr[-2000:]}")
        numbers: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return numbers


def shares(numbers: dict[str, Any]) -> Shares:
    """Take the stages of Nightjar's validated path, by the common path of the same process."""
    found: Shares = {}
    for survey, measured in numbers.items():
        common, *others = measured["paths"]
        path = next(one for one in others if "full" in one["path"])
        found |= {(survey, stage): path[stage] / common["total"] for stage in STAGES}
        everything = measured.get("everything")
        if isinstance(everything, dict):  # older ones have no such number
            found[survey, "everything"] = everything["compiled"] / common["total"]
    return found


def verdict(changes: Sequence[float]) -> str:
    """Say whether a stage moved."""
    middle = statistics.median(changes)
    if abs(middle) <= LEAST or not (min(changes) > 0 or max(changes) < 0):
        return ""
    return "SLOWER" if middle > 0 else "faster"


def table_of(base: str, runs: Sequence[tuple[Shares, Shares]]) -> tuple[Table, dict[str, Any]]:
    """Lay out each stage's change."""
    table = Table(title=f"now against {base}, {len(runs)} turns; shares of the common path's total")
    for column in ("survey", "stage", "before", "now", "change", "lowest", "highest", ""):
        table.add_column(column, justify="left" if column in {"survey", "stage", ""} else "right")
    record = {}
    for key in [key for key in runs[0][0] if key in runs[0][1]]:
        changes = [new[key] / old[key] - 1 for old, new in runs]
        before, now = (statistics.median(one[side][key] for one in runs) for side in (0, 1))
        spread = (statistics.median(changes), min(changes), max(changes))
        table.add_row(*key, f"{before:.4f}", f"{now:.4f}", *(f"{c:+.1%}" for c in spread), verdict(changes))
        record[" ".join(key)] = {"before": before, "now": now, "changes": changes, "moved": verdict(changes)}
    return table, record


def main(
    base: Annotated[str, typer.Option(help="Commit to compare with.")],
    data: Data = USUAL,
    survey: Annotated[list[str] | None, typer.Option(help="One survey only; may be given twice.")] = None,
    turns: Annotated[int, typer.Option(min=4, help="In each of which both run once.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds within a run.")] = 2,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here too.")] = None,
) -> None:
    """Run the hot path of two commits in turns; exit code 1 where a stage became slower."""
    arguments = ["--data", str(data.resolve()), "--repeats", str(repeats)]
    arguments += [word for one in survey or () for word in ("--survey", one)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the other tree is removed
    build(HERE)
    runs = []
    with tempfile.TemporaryDirectory() as folder, tree_of(base, Path(folder)) as tree:
        for turn in track(range(turns), "turns", console=Console(stderr=True)):
            order = (tree, HERE) if turn % 2 else (HERE, tree)
            found = {side: shares(run(side, arguments)) for side in order}
            runs.append((found[tree], found[HERE]))
    table, record = table_of(base, runs)
    Console(width=120).print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if any(stage["moved"] == "SLOWER" for stage in record.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
