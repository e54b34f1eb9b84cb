"""The long run: ``python -m tests.fuzz --count 100000 --seed 1 --packets DIR``."""

import argparse
import json
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .memory import MIB, resident
from .run import Finding, Fuzzer, Tally
from .seeds import found, written

SAVED_EVERY = 50
"""Batches."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, resume, report; 1 where something was found."""
    given = _parser().parse_args(arguments)
    # What numpy would only warn of is a finding too.
    warnings.simplefilter("error")
    seeds = (*written(), *(found(given.packets) if given.packets else ()))
    fuzzer = Fuzzer(seeds, given.seed, model=given.model)
    state = State(given.output, given.seed, len(seeds))
    batch, done = state.restore(fuzzer)
    before = resident()
    with _progress() as bar:
        task = bar.add_task("mutations", total=given.count, completed=done, what="")
        while done < given.count:
            fuzzer.batch(batch)
            batch += 1
            done = _count(fuzzer)
            bar.update(task, completed=done, what=f"{len(fuzzer.findings)} findings")
            if batch % SAVED_EVERY == 0 or done >= given.count:
                state.save(fuzzer, batch)
    console = Console(width=150)
    console.print(table(fuzzer.tallies))
    grown = (resident() - before) / MIB
    console.print(
        f"{done} mutations of {len(seeds)} packets, {state.findings} findings, {grown:+.0f} MiB resident"
    )
    return 1 if state.findings else 0


class State:
    """What a run leaves in its folder: where it stands, and each finding as bytes and a text.

    Parameters
    ----------
    folder : Path
    seed : int
    packets : int
        How many there are; with others the same numbers make other mutations.
    """

    def __init__(self, folder: Path, seed: int, packets: int) -> None:
        self._folder = folder
        self._path = folder / f"seed-{seed}-of-{packets}.json"
        self.findings = 0

    def restore(self, fuzzer: Fuzzer) -> tuple[int, int]:
        """Take up a run that was stopped: the next batch, and how many mutations there were."""
        if not self._path.exists():
            return 0, 0
        stored = json.loads(self._path.read_text(encoding="utf-8"))
        self.findings = stored["findings"]
        for name, (outcomes, slowest, peak) in stored["tallies"].items():
            fuzzer.tallies[name] = Tally(Counter(outcomes), slowest, peak)
        return stored["batch"], _count(fuzzer)

    def save(self, fuzzer: Fuzzer, batch: int) -> None:
        """Write findings and where the run stands."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for finding in fuzzer.findings:
            self._write(finding)
        fuzzer.findings.clear()
        tallies = {
            name: (tally.outcomes, tally.slowest, tally.peak) for name, tally in fuzzer.tallies.items()
        }
        text = json.dumps({"batch": batch, "findings": self.findings, "tallies": tallies})
        self._path.write_text(text, encoding="utf-8")

    def _write(self, finding: Finding) -> None:
        self.findings += 1
        stem = self._folder / f"{self.findings:05d}-{finding.kind}-{finding.mutation}"
        stem.with_suffix(".bin").write_bytes(finding.value)
        text = (
            f"{finding.kind}: {finding.mutation} of {finding.seed!r}, batch {finding.batch}\n{finding.what}\n"
        )
        stem.with_suffix(".txt").write_text(text, encoding="utf-8", errors="backslashreplace")


def table(tallies: dict[str, Tally]) -> Table:
    """Outcomes by mutation: enriched, partial, each reason of a dead letter, and what must not be."""
    columns = {
        "enriched": "enriched",
        "partial": "partial",
        "frame": "frame_invalid",
        "schema": "schema_unknown",
        "container": "container_invalid",
        "codec": "codec_unsupported",
        "datum": "datum_invalid",
        "crash": "crash",
        "hang": "hang",
    }
    shown = Table("mutation", *columns, "slowest s", "peak MiB")
    for name, tally in tallies.items():
        counts = (str(tally.outcomes[label] or "") for label in columns.values())
        shown.add_row(name, *counts, f"{tally.slowest:.2f}", f"{tally.peak / MIB:.0f}")
    total = sum((tally.outcomes for tally in tallies.values()), Counter[str]())
    slowest = max(tally.slowest for tally in tallies.values())
    peak = max(tally.peak for tally in tallies.values()) / MIB
    shown.add_row("all", *(str(total[label]) for label in columns.values()), f"{slowest:.2f}", f"{peak:.0f}")
    return shown


def _count(fuzzer: Fuzzer) -> int:
    return sum(tally.outcomes.total() for tally in fuzzer.tallies.values())


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[what]}"),
        console=Console(stderr=True),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "--count", type=int, default=100_000, help="mutations, those of a run taken up included"
    )
    parser.add_argument("--seed", type=int, default=1, help="of chance: the same makes the same mutations")
    parser.add_argument(
        "--packets", type=Path, nargs="*", default=[], help="folders or files of real packets"
    )
    parser.add_argument("--model", type=Path, help="ONNX file; the packaged model by default")
    parser.add_argument("--output", type=Path, default=Path("runs/fuzz"), help="takes findings and the state")
    return parser


if __name__ == "__main__":
    sys.exit(main())
