"""Transactional ids: fresh ones, and whether we may use one, asked without taking it from whoever uses it now."""

import logging
import uuid
from typing import Any

from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException, Producer

FRESH_PREFIX = "nightjar-"

TOO_LONG = 2**31 - 1
"""Milliseconds of a transaction that no cluster allows: its default for the longest is 15 minutes."""

TELLING = {
    Fault.INVALID_TRANSACTION_TIMEOUT: True,
    Fault.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: False,
}
"""What a cluster's answer to the question means; no other tells."""

quiet = logging.getLogger("broker.kafka.asking")
"""librdkafka calls a refusal fatal in its log; here it is the answer."""
quiet.addHandler(logging.NullHandler())
quiet.propagate = False


def fresh() -> str:
    """Make an id that nobody else has."""
    return f"{FRESH_PREFIX}{uuid.uuid4()}"


def may_use(properties: dict[str, Any], transactional_id: str, seconds: float) -> bool | None:
    """Ask whether we may write under an id; None where the cluster does not tell.

    Kafka has no request for it: descriptions tell of transactions, and lists of ACLs (for those who may read them)
    not of what they come to. So we ask to begin with transactions longer than the cluster allows. It looks at the
    right first and at the length next, and refuses either before it touches the id: a producer at work under it goes
    on. Where a cluster took even that length, that producer would be put out once, and begin its batch again.

    Parameters
    ----------
    properties : dict
        By which the cluster is reached.
    transactional_id : str
    seconds : float
        Longest wait.
    """
    asking = {"transactional.id": transactional_id, "transaction.timeout.ms": TOO_LONG, "log_level": 0}
    producer = Producer({**properties, **asking, "error_cb": lambda _fault: None}, logger=quiet)
    try:
        producer.init_transactions(seconds)
    except KafkaException as error:
        return TELLING.get(error.args[0].code())
    return True
