"""``broker-consumer``: alerts in, enriched alerts and dead letters out."""

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from broker import native
from broker.alert import Message, ModelIdentity
from broker.allocator import keep_freed_memory, look_less_for_cycles
from broker.avro.deserializer import Deserializer
from broker.avro.store import SchemaStore
from broker.cli.check import check as try_all
from broker.cli.delivering import delivery_of
from broker.cli.ending import ShowVersion, exit_codes, leave, log_to_stderr, stop_on_signals
from broker.cli.registries import input_registry
from broker.cli.stuck import STILL_SECONDS, dead_man
from broker.consumer import Consumer, Summary
from broker.inference import Head, Model
from broker.kafka import KafkaSource, rights
from broker.metrics import Metrics
from broker.overload import Admission, admit_all
from broker.pipeline import Pipeline
from broker.probes import Health, Probes
from broker.processors import processors
from broker.settings import Overload, Settings, load
from broker.survey import WANTED

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
logger = logging.getLogger("broker.cli")


@app.command()
def consume(
    topic: Annotated[list[str] | None, typer.Option(help="Topic to read; may be given again.")] = None,
    topic_pattern: Annotated[
        str | None,
        typer.Option(
            help="Read every topic whose whole name matches this regular expression, now and later."
        ),
    ] = None,
    output_prefix: Annotated[
        str | None,
        typer.Option(
            help="Write PREFIX.enriched and PREFIX.dead-letter. Default: the name of the one topic; "
            "several topics or a pattern need it."
        ),
    ] = None,
    bootstrap_servers: Annotated[
        str | None, typer.Option(help="Kafka to read from, host:port. Default localhost:9092.")
    ] = None,
    sink_bootstrap_servers: Annotated[
        str | None, typer.Option(help="Kafka to write to. Default: the one that is read.")
    ] = None,
    group_id: Annotated[str | None, typer.Option(help="Consumer group. Default nightjar.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with any of the settings.")] = None,
    model: Annotated[Path | None, typer.Option(help="ONNX file. Default: the packaged model.")] = None,
    head: Annotated[
        list[Path] | None,
        typer.Option(help="Head made by `encoder fit-head`, attached to every alert; may be given again."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="earliest (default), latest, or an ISO 8601 time in UTC: where to begin in partitions for "
            "which the group has committed nothing. Where it has, reading goes on from there."
        ),
    ] = None,
    exit_at_end: Annotated[
        bool,
        typer.Option("--exit-at-end", help="End when every partition has reached the end it had at start."),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Try clusters, certificates, rights, topics, registries and model without reading; print a table.",
        ),
    ] = False,
    validate: Annotated[
        str | None, typer.Option(help="full (default): walk each datum to its end before it goes on; or off.")
    ] = None,
    delivery: Annotated[
        str | None,
        typer.Option(
            help="at-least-once (default): a crash may repeat alerts; or exactly-once: outputs and offsets in one "
            "transaction, on one cluster."
        ),
    ] = None,
    lite: Annotated[
        bool, typer.Option("--lite", help="Write PREFIX.lite too: the same records without the stamps.")
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            help="Serve /metrics, /healthz and /readyz here; 0 takes a free port. Default: nowhere."
        ),
    ] = None,
    metrics_host: Annotated[
        str | None, typer.Option(help="Address for these. Default 127.0.0.1; 0.0.0.0 in a container.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info (default), warning or error.")] = None,
    show_version: ShowVersion = False,  # noqa: ARG001 - answered before
) -> None:
    """Read alerts, enrich them, publish the results.

    Every setting can also come from the environment (BROKER_KAFKA__GROUP_ID) or the --config file;
    the command line goes first, then the environment, then the file. Offsets are committed when
    every result is acknowledged. SIGTERM or Ctrl-C finishes the alerts that were begun; a
    second one ends at once.

    Exit codes: 0 done, 2 configuration or model refused, 1 anything else.

    For example:
      broker-consumer --topic alerts
      broker-consumer --topic alerts --start 2026-03-01T04:00:00Z --exit-at-end
      broker-consumer --topic-pattern 'ztf_.*_programid1' --output-prefix ztf --group-id night
      broker-consumer --config rubin.yaml --sink-bootstrap-servers localhost:9092
      broker-consumer --config rubin.yaml --check
    """
    with exit_codes("broker-consumer"):
        said: dict[str, Any] = {
            "topics": topic,
            "topic_pattern": topic_pattern,
            "output_prefix": output_prefix,
            "kafka": {"bootstrap_servers": bootstrap_servers, "group_id": group_id},
            "sink": {"bootstrap_servers": sink_bootstrap_servers},
            "consumer": {"start": start, "exit_at_end": exit_at_end or None, "delivery": delivery},
            "probes": {"host": metrics_host, "port": metrics_port},
            "model": model,
            "heads": head,
            "lite": lite or None,
            "validation": validate,
            "log_level": log_level,
        }
        settings = load(said, config)
        log_to_stderr(settings.log_level)
        if check:
            raise typer.Exit(try_all(settings, stop_on_signals()))
        typer.echo(run(settings, stop_on_signals()))


def run(settings: Settings, stop: threading.Event) -> Summary:
    """Put a consumer together and let it turn.

    Raises
    ------
    ConfigurationError, KafkaError
    """
    # What may be waited for after a signal: a piece at the network, then Kafka, then the group.
    dead_man.patience = STILL_SECONDS + settings.probes.turn_seconds + settings.consumer.drain_seconds
    metrics = Metrics()
    health = Health(settings.probes.turn_seconds, settings.probes.unready_seconds)
    with ExitStack() as stack:
        if settings.probes.port is not None:
            probes = Probes(settings.probes.host, settings.probes.port, health, metrics.render)
            stack.enter_context(probes)
            logger.info("serving /metrics, /healthz and /readyz on %s:%d", settings.probes.host, probes.port)
        model = _load_model(settings, metrics)
        heads = [_load_head(path, model) for path in settings.heads]
        health.model_warm = True
        rights.require(settings, stop)
        source = KafkaSource(settings.kafka, settings.consumer, settings.wanted, stop)
        stack.callback(source.close)
        store = SchemaStore(WANTED, input_registry(settings.registry, metrics.lookup))
        deserialize = Deserializer(WANTED, validate=settings.validation, store=store)
        pipeline = Pipeline(deserialize, model, heads, _admission(settings.consumer.overload))
        pack, delivery = delivery_of(settings, source, health, metrics, store, stop, stack)
        return Consumer(
            source=source,
            delivery=delivery,
            pipeline=pipeline.outcomes,
            pack=pack,
            metrics=metrics,
            health=health,
            stop=stop,
            batch_size=settings.consumer.batch_size,
            part_bytes=settings.consumer.batch_bytes,
            linger_seconds=settings.consumer.linger_seconds,
            exit_at_end=settings.consumer.exit_at_end,
        ).run()


def _admission(overload: Overload) -> Callable[[Message], bool]:
    if overload.policy == "keep-order":
        return admit_all
    return Admission(overload.late_seconds, overload.share if overload.policy == "sample" else 0.0)


def _load_model(settings: Settings, metrics: Metrics) -> Model:
    # What reads, writes and speaks to Kafka meanwhile takes a processor too.
    threads = settings.model_threads or max(1, processors() - 1)
    model = Model.load(settings.model, threads=threads, batch_size=settings.model_batch_size)
    contract = model.contract
    metrics.model(ModelIdentity(contract.name, contract.version, contract.weights_digest))
    logger.info("model %s %s, weights %s", contract.name, contract.version, contract.weights_digest[:12])
    logger.info("packets are read by: %s", native.in_use())
    if not contract.trained:
        logger.warning("the weights of this model are random: its results mean nothing")
    return model


def _load_head(path: Path, model: Model) -> Head:
    head = Head.load(path, model.contract)
    logger.info("head %s, weights %s", head.contract.name, head.contract.weights_digest[:12])
    return head


def main() -> None:
    """Run the program."""
    keep_freed_memory()
    look_less_for_cycles()
    leave(app)


if __name__ == "__main__":
    main()
