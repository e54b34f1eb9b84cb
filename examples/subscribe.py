"""Show what is most unusual and no artefact, with nothing but confluent-kafka, fastavro and Nightjar's `schemas`.

Usage: ``python examples/subscribe.py HOST:PORT alerts.enriched 0.9``
"""

import io
import sys
from typing import NoReturn

import confluent_kafka
import fastavro

import schemas

QUIET_SECONDS = 10  # ends after so long without a message; a real subscriber goes on


def refuse(why: str) -> NoReturn:
    """End with one line, and the exit code of what trying again does not mend."""
    print(why, file=sys.stderr)
    sys.exit(2)


try:
    servers, topic, least = sys.argv[1:]
    threshold = float(least)
except ValueError:
    refuse("usage: python examples/subscribe.py HOST:PORT alerts.enriched 0.9")

# Every partition from its beginning, so that a second run shows the same again. A service would instead
# `subscribe([topic])`: members of one group.id share the partitions and go on where they had been.
quiet = {"log_level": 2}  # what goes wrong is told below
consumer = confluent_kafka.Consumer({"bootstrap.servers": servers, "group.id": "unread", **quiet})
try:
    found = consumer.list_topics(topic, timeout=10).topics[topic]
except confluent_kafka.KafkaException as error:
    sys.exit(f"no Kafka at {servers}: {error.args[0].str()}")
if found.error:
    refuse(f"no topic {topic} at {servers}: {found.error.str()}")
beginning = confluent_kafka.OFFSET_BEGINNING
consumer.assign([confluent_kafka.TopicPartition(topic, number, beginning) for number in found.partitions])

# A broker that crashed may publish an alert again: the same words stand in all of these headers then.
PLACE = ("source-topic", "source-partition", "source-offset", "source-timestamp")
IDENTITY = ("survey", "alert-id", "model", *PLACE)
seen = set()  # a service that never ends would forget the oldest

shown = 0
while (message := consumer.poll(QUIET_SECONDS)) is not None:
    if message.error():
        sys.exit(str(message.error()))
    headers = {name: value.decode() for name, value in message.headers() or ()}
    if "anomaly" not in headers:
        what = "dead letters" if "reason" in headers else "alerts as their survey sends them"
        refuse(f"topic {topic} holds {what}: name the one that ends in .enriched")
    identity = tuple(headers[name] for name in IDENTITY)
    if identity in seen:
        continue
    seen.add(identity)
    if float(headers["anomaly-interesting"] or 0) < threshold:
        continue  # told from the header alone: nothing was decoded
    schema = schemas.by_fingerprint(headers["schema-fingerprint"])
    record = fastavro.schemaless_reader(io.BytesIO(message.value()[5:]), schema, None)
    enrichment, alert = record["enrichment"], record["alert"]
    shown += 1
    print(
        message.key().decode(), enrichment["morphology_top"], f"interesting {headers['anomaly-interesting']}"
    )
    print(f"    {enrichment.get('anomaly_reason')}")  # records of schema version 1 have none
    if enrichment["morphology_top"] not in {"star", "transient", "bogus"}:  # a redshift is meant for galaxies
        print(f"    photo-z {headers['photoz-lo']} to {headers['photoz-hi']}")
    print(f"    the packet: {', '.join(alert)}")
consumer.close()
print(f"{shown} of {len(seen)} alerts are interesting to {threshold} or more", file=sys.stderr)
