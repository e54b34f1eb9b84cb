"""``broker-topics``: the topics of a broker as they are and as they should be, and making what is missing."""

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.clusters import Servers, of_source_topics, of_topics, settings_of
from broker.cli.ending import REFUSED, ShowVersion, counted, exit_codes, log_to_stderr, stop_on_signals
from broker.cli.tables import table
from broker.errors import SettingsError
from broker.kafka.admin import TopicAdmin
from broker.kafka.limits import CLEANUP
from broker.kafka.topic_plan import (
    DAY_MS,
    INPUT,
    LARGEST,
    MOST_COPIES,
    RETENTION,
    Difference,
    TopicPlan,
    TopicState,
    differences,
    plan,
)
from broker.settings import Settings
from broker.topics import TOPIC_NAME

HEADING = ("topic", "exists", "partitions", "replication", "retention", "max.message.bytes", "cleanup.policy")
SHOWN = (RETENTION, LARGEST, CLEANUP)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


@dataclass(frozen=True, slots=True)
class View:
    """The topics of one prefix.

    Attributes
    ----------
    source : str
        Name of the input.
    input : TopicState or None
        None where it does not exist.
    plans : list of TopicPlan
    found : mapping of str to TopicState
        Those of the plans that exist.
    made : frozenset of str
        Those made just now.
    """

    source: str
    input: TopicState | None
    plans: Sequence[TopicPlan]
    found: Mapping[str, TopicState]
    made: frozenset[str] = frozenset()

    @property
    def missing(self) -> list[TopicPlan]:
        """Topics that are to be made."""
        return [each for each in self.plans if each.name not in self.found]

    def differences(self) -> dict[str, list[Difference]]:
        """Tell what is not as planned of each topic that exists."""
        there = ((each, self.found[each.name]) for each in self.plans if each.name in self.found)
        return {wanted.name: list(differences(wanted, found)) for wanted, found in there}

    def lines(self) -> list[str]:
        """Lay out the table; of a topic that is missing it shows what it would be."""
        return table(HEADING, [self._input_row(), *map(self._row, self.plans)])

    def _input_row(self) -> list[str]:
        if self.input is None:
            return [self.source, "no", *"-----"]
        return [self.source, "yes (input)", *_cells(self.input)]

    def _row(self, wanted: TopicPlan) -> list[str]:
        found = self.found.get(wanted.name)
        if found is None:
            return [wanted.name, "no", *_cells(wanted)]
        said = "created" if wanted.name in self.made else "yes"
        asked = {each.what: each.wanted for each in differences(wanted, found)}
        names = ("partitions", "replication", *SHOWN)
        cells = zip(names, _cells(found), strict=True)
        return [wanted.name, said, *(_with_wanted(name, cell, asked.get(name)) for name, cell in cells)]


def _cells(topic: TopicState | TopicPlan) -> list[str]:
    partitions = "?" if topic.partitions is None else str(topic.partitions)
    shown = [_shown(name, topic.settings.get(name, "?")) for name in SHOWN]
    return [partitions, str(topic.replication), *shown]


def _with_wanted(name: str, cell: str, wanted: str | None) -> str:
    return cell if wanted is None else f"{cell} (wanted {_shown(name, wanted)})"


def _shown(name: str, value: str) -> str:
    """Give a setting as a person says it: times in days or hours."""
    if name != RETENTION or not value.lstrip("-").isdigit():
        return value
    milliseconds = int(value)
    if milliseconds < 0:
        return "unlimited"
    days = milliseconds / DAY_MS
    return f"{days:g} d" if days >= 1 else f"{24 * days:.3g} h"


@app.command()
def topics(
    prefix: Annotated[str, typer.Option(help="What the names of the outputs begin with.")],
    source_topic: Annotated[
        str | None, typer.Option(help="The input, whose partitions the outputs take. Default: PREFIX.")
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="Make the outputs that are missing.")] = False,
    with_input: Annotated[
        bool,
        typer.Option(
            "--with-input", help="Make the input too, with --partitions: for a stream of one's own."
        ),
    ] = False,
    partitions: Annotated[
        int | None,
        typer.Option(min=1, help="Of PREFIX.enriched and PREFIX.lite. Default: as many as the input has."),
    ] = None,
    replication: Annotated[
        int | None,
        typer.Option(
            min=1, help="Copies of each. Default: one on each broker of the cluster, at most three."
        ),
    ] = None,
    bootstrap_servers: Servers = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML file as broker-consumer takes it: the outputs are on the cluster of its section sink, else "
            "of kafka; the input is on that of kafka."
        ),
    ] = None,
    show_version: ShowVersion = False,  # noqa: ARG001 - answered before
) -> None:
    """Show the topics of a broker, what they should be, and make those that are missing.

    What exists is never changed: what differs is said. The input is the stream's own, and is only shown, unless
    --with-input makes it.

    Exit codes: 0 done, 2 configuration refused, or a topic exists that loses records as it is; 1 anything else.

    For example:
      broker-topics --prefix alerts
      broker-topics --prefix alerts --create
      broker-topics --prefix alerts --create --with-input --partitions 4
      broker-topics --prefix ztf --partitions 8 --replication 3 --create
      broker-topics --prefix nightjar.lsst --source-topic lsst-alerts-v11 --config consumer.yaml --create
    """
    with exit_codes("broker-topics"):
        log_to_stderr("warning")
        for name in filter(None, (prefix, source_topic)):
            if not re.fullmatch(TOPIC_NAME, name):
                raise SettingsError(
                    f"{name!r} cannot be the name of a topic: letters, digits, '.', '_' and '-'"
                )
        if with_input and not (create and partitions):
            raise SettingsError("--with-input makes a topic: give --create and --partitions too")
        settings, stop = settings_of(config), stop_on_signals()
        source = source_topic or prefix
        view = _view(
            settings, bootstrap_servers, source, prefix, stop, partitions, replication, create, with_input
        )
        for line in view.lines():
            typer.echo(line)
        if view.missing:
            typer.echo(f"{counted(len(view.missing), 'topic')} missing: make with --create")
        if _tell(view.differences()):
            raise typer.Exit(REFUSED)


def _view(
    settings: Settings,
    servers: str | None,
    source: str,
    prefix: str,
    stop: threading.Event,
    partitions: int | None,
    replication: int | None,
    create: bool,
    with_input: bool,
) -> View:
    patience = settings.consumer.connect_seconds
    ours, our_extra = of_topics(settings, servers)
    theirs, their_extra = of_source_topics(settings, servers)
    admin = TopicAdmin(*ours, our_extra, connect_seconds=patience, stop=stop)
    if admin.is_embedded:
        raise SettingsError(
            "an embedded Kafka makes topics by itself, and tells nothing of them: no need to make any"
        )
    there = admin if ours == theirs else TopicAdmin(*theirs, their_extra, connect_seconds=patience, stop=stop)
    if (replication or 1) > admin.brokers:
        raise SettingsError(
            f"--replication {replication}: the cluster has {counted(admin.brokers, 'broker')}: give no more"
        )
    found_source = there.states([source]).get(source)
    if found_source is None and with_input:
        copies = replication or min(MOST_COPIES, there.brokers)
        there.create([TopicPlan(source, partitions, copies, INPUT.settings)])
        found_source = there.states([source]).get(source)
    plans = plan(prefix, found_source, admin.brokers, partitions, replication)
    names = [each.name for each in plans]
    view = View(source, found_source, plans, admin.states(names))
    if not create or not view.missing:
        return view
    if any(each.partitions is None for each in view.missing):
        raise SettingsError(
            f"topic {source} does not exist, so nothing says how many partitions the outputs need: "
            "name the input by --source-topic, give --partitions, or have it made by --with-input --partitions N"
        )
    made = frozenset(each.name for each in view.missing)
    admin.create(view.missing)
    return View(source, found_source, plans, admin.states(names), made)


def _tell(found: Mapping[str, Sequence[Difference]]) -> bool:
    """Say what differs, a line each; whether any of it loses records."""
    is_unfit = False
    for topic, unlike in found.items():
        for each in unlike:
            end = "records will be lost or refused: alter it" if each.is_unfit else "left as it is"
            line = f"broker-topics: {topic}: {each.what} is {each.found}, wanted {each.wanted}: {end}"
            typer.echo(line, err=True)
            is_unfit |= each.is_unfit
    return is_unfit


def main() -> None:
    """Run the program."""
    app()


if __name__ == "__main__":
    main()
