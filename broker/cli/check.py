"""``broker-consumer --check``: try everything that can be tried without reading or writing."""

import threading
from collections.abc import Iterator, Sequence

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker import native
from broker.cli.ending import DONE, REFUSED, counted
from broker.errors import ModelRefused, NightjarError
from broker.inference import Head, Model
from broker.kafka.check import Finding, findings, refused
from broker.registry import RegistryClient, RegistryTrouble, Trouble
from broker.settings import RegistryConnection, RegistrySettings, Settings

WIDE = 10_000
"""Characters of a line where nobody looks: a row is not broken, so that it can be searched."""

START = "start it, or correct url"
REMEDIES = {
    Trouble.NOT_FOUND: "correct the path of url: no schema registry answers there",
    Trouble.WRONG: "correct url: no schema registry answers there",
    Trouble.REFUSED: "correct url",
}
"""What to do about a registry that answers, and not as one."""


def check(settings: Settings, stop: threading.Event) -> int:
    """Print a table of what was tried, what was found and what to do.

    Returns
    -------
    int
        Exit code: `DONE` when all is well, else `REFUSED`.
    """
    tried = [
        Finding("reading alerts", native.in_use()),
        *_model(settings),
        *findings(settings, stop),
        *_registries(settings.registry),
    ]
    faults = [one for one in tried if one.remedy is not None]
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    console.print(_table(tried))
    much = counted(len(tried), "thing")
    typer.echo(
        f"{much} tried, {len(faults) or 'none'} to be mended{': the consumer can start' * (not faults)}"
    )
    return REFUSED if faults else DONE


def _table(tried: Sequence[Finding]) -> Table:
    table = Table("", "check", "found", "what to do")
    for one in tried:
        is_well = one.remedy is None
        cells = ("ok" if is_well else "NO", one.check, one.found, one.remedy or "")
        # As text: a pattern such as [a-z] is no markup.
        table.add_row(*map(Text, cells), style=None if is_well else "red")
    return table


def _model(settings: Settings) -> Iterator[Finding]:
    try:
        model = Model.load(
            settings.model, threads=settings.model_threads, batch_size=settings.model_batch_size
        )
    except ModelRefused as error:
        yield Finding("model", str(error), "give another with --model, or export it again")
        return
    contract = model.contract
    untrained = "" if contract.trained else "; its weights are random"
    yield Finding("model", f"{contract.name} {contract.version}{untrained}")
    for path in settings.heads:
        try:
            yield Finding(f"head {path}", Head.load(path, contract).contract.name)
        except ModelRefused as error:
            yield Finding(f"head {path}", str(error), "give another with --head, or fit it again")


def _registries(settings: RegistrySettings) -> Iterator[Finding]:
    if settings.url is not None:
        yield _registry("registry", settings)
    if settings.output is not None:
        yield _registry("registry of the outputs", settings.output)


def _registry(name: str, settings: RegistryConnection) -> Finding:
    """Ask a registry once: unlike a lookup, nobody waits for it to come up."""
    check = f"{name}: {settings.url}"
    try:
        client = RegistryClient(settings)
        client.knock()
    except RegistryTrouble as trouble:
        # An untrue certificate shows as one that cannot be reached: nothing is said to it.
        remedy = client.remedy if trouble.kind is Trouble.DENIED else REMEDIES.get(trouble.kind, START)
        return Finding(check, trouble.detail, remedy)
    except NightjarError as error:
        return refused(check, error)
    return Finding(check, f"answers{f', and lets {settings.username} in' if settings.username else ''}")
