"""What librdkafka's codes mean to us: wait, let go, or end."""

# ruff: noqa: SLF001 -- the names of librdkafka's own codes begin with an underscore

import re

from confluent_kafka import KafkaError as Fault

from broker.errors import ConfigurationError, KafkaError

REFUSALS = {
    Fault._AUTHENTICATION: "check the user name, the password and the mechanism",
    Fault._SSL: "check the certificate authority (ca_file) and the dates of the server's certificate",
    Fault.SASL_AUTHENTICATION_FAILED: "check the user name, the password and the mechanism",
    Fault.TOPIC_AUTHORIZATION_FAILED: "ask for the right to this topic",
    Fault.GROUP_AUTHORIZATION_FAILED: "ask for the right to this group, or choose another group_id",
    Fault.CLUSTER_AUTHORIZATION_FAILED: "ask for the right to write with an idempotent producer",
    Fault.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "ask for WRITE on this transactional id, or choose another "
    "sink.transactional_id",
    Fault.INVALID_TRANSACTION_TIMEOUT: "raise transaction.max.timeout.ms of the cluster to 9000 or more",
    Fault.FENCED_INSTANCE_ID: "another consumer has the same kafka.membership.instance_id: give each its own",
    Fault.UNRELEASED_INSTANCE_ID: "another consumer has the same kafka.membership.instance_id: give each its own",
}
"""Faults that waiting does not mend, and what does."""

OF_THE_PRODUCER = {
    Fault.TOPIC_AUTHORIZATION_FAILED,
    Fault.GROUP_AUTHORIZATION_FAILED,
    Fault.CLUSTER_AUTHORIZATION_FAILED,
    Fault.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    Fault.INVALID_TRANSACTION_TIMEOUT,
}
"""Of these, what ends a producer for good: no new one would have the right either."""

LOST_TO_OTHERS = {
    Fault.ILLEGAL_GENERATION,
    Fault.UNKNOWN_MEMBER_ID,
    Fault.REBALANCE_IN_PROGRESS,
    Fault.STALE_MEMBER_EPOCH,
    Fault.FENCED_MEMBER_EPOCH,
    Fault._ASSIGNMENT_LOST,
    Fault._NO_OFFSET,
}
"""Refusals of a commit that mean the group moved on: the messages come again, to whoever holds them."""

OF_THE_MOMENT = {
    Fault._TIMED_OUT,
    Fault._TRANSPORT,
    Fault._ALL_BROKERS_DOWN,
    Fault._WAIT_COORD,
    Fault.REQUEST_TIMED_OUT,
    Fault.COORDINATOR_NOT_AVAILABLE,
    Fault.COORDINATOR_LOAD_IN_PROGRESS,
    Fault.NOT_COORDINATOR,
}
"""Refusals of a commit that pass by themselves: the next commit carries these offsets too."""


MISSING_TOPIC = {Fault.UNKNOWN_TOPIC_OR_PART, Fault._UNKNOWN_TOPIC, Fault._UNKNOWN_PARTITION}
"""Nowhere to write to: only whoever makes topics can mend it."""

TOO_LARGE = {Fault.MSG_SIZE_TOO_LARGE, Fault.RECORD_LIST_TOO_LARGE}
"""A record, or the batch it stood in, that its topic does not take."""

NEVER_TAKEN = {
    Fault.INVALID_RECORD,
    Fault.INVALID_TIMESTAMP,
    Fault.POLICY_VIOLATION,
    Fault.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    Fault.UNSUPPORTED_COMPRESSION_TYPE,
    Fault._INVALID_ARG,
    Fault._NOT_IMPLEMENTED,
}
"""A record that its topic refuses for what it is, as a compacted topic one without a key: no waiting mends that."""

TAKEN_OVER = {
    Fault._FENCED,
    Fault.PRODUCER_FENCED,
    Fault.INVALID_PRODUCER_EPOCH,
    Fault.TRANSACTION_COORDINATOR_FENCED,
}
"""A transaction's producer that the coordinator has put out: by a time-out, or for another of the same id."""

PLAIN_LISTENER = "connecting to a PLAINTEXT broker listener?"
"""What librdkafka asks, under a code of the moment, wherever a connection ends within the handshake of TLS: so it does
where a listener does not speak TLS, and as well where a broker stops or starts."""

TRANSPORT = "Broker transport failure"
"""What it says, under the code of a wrong password too, where a connection ended in mid-handshake."""

OUR_CERTIFICATE_REFUSED = re.compile(r"SSL alert number (4[2-68]|116)\b")
"""What it says, under a code of the moment, where the server refuses the certificate we show, or misses one."""


SAME_INSTANCE = "group.instance.id"
"""What librdkafka says, under the code of all that is fatal, to a static member whose name another took."""


def remedy_of(fault: Fault) -> str | None:
    """Say what mends a fault that waiting does not; None where waiting may."""
    if fault.code() == Fault._FATAL and SAME_INSTANCE in fault.str():
        return REFUSALS[Fault.FENCED_INSTANCE_ID]
    if OUR_CERTIFICATE_REFUSED.search(fault.str()):
        return (
            "the server refuses our certificate or misses one, so check the dates and the authority of "
            "certificate_file, and that protocol is mtls"
        )
    return REFUSALS.get(fault.code())


def as_ours(fault: Fault, doing: str) -> KafkaError | ConfigurationError:
    """Make a fault into an error of our tree: ours to mend by configuration, or Kafka's."""
    if fault.code() in REFUSALS:
        return ConfigurationError(f"{doing}: {fault.str()}", REFUSALS[fault.code()])
    return KafkaError(f"{doing}: {fault.str()} ({fault.name()})")
