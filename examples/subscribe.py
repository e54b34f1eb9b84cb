"""Follow the most unusual alerts with nothing but confluent-kafka, fastavro and Nightjar's `schemas`.

Usage: ``python examples/subscribe.py 127.0.0.1:9092 alerts.enriched 0.9``
"""

import io
import sys

import confluent_kafka
import fastavro

import schemas

QUIET_SECONDS = 10  # ends after so long without a message; a real subscriber goes on

servers, topic, threshold = sys.argv[1], sys.argv[2], float(sys.argv[3])
consumer = confluent_kafka.Consumer(
    {"bootstrap.servers": servers, "group.id": "unusual", "auto.offset.reset": "earliest"}
)
consumer.subscribe([topic])
while (message := consumer.poll(QUIET_SECONDS)) is not None:
    if message.error():
        sys.exit(str(message.error()))
    headers = {name: value.decode() for name, value in message.headers()}
    if float(headers["anomaly"] or 0) < threshold:
        continue  # told from the header alone: nothing was decoded
    schema = schemas.by_fingerprint(headers["schema-fingerprint"])
    record = fastavro.schemaless_reader(io.BytesIO(message.value()[5:]), schema, None)
    enrichment, alert = record["enrichment"], record["alert"]
    print(message.key().decode(), enrichment["morphology_top"], f"anomaly {enrichment['anomaly']:.3f}")
    print(f"    photo-z {headers['photoz-lo']} to {headers['photoz-hi']}; the packet: {', '.join(alert)}")
consumer.close()
