"""A Kafka inside one process: librdkafka's mock cluster, open to other processes on this machine."""

import ctypes
from types import TracebackType
from typing import Self

from confluent_kafka import cimpl

from broker.errors import KafkaError

PARTITION_MEGABYTES = 5
"""What the mock keeps of each partition; beyond it the oldest messages vanish without an error."""

AUTOMATIC_PARTITIONS = 4
"""Partitions of a topic the mock makes by itself, when it is first written to."""

PRODUCER = 0
"""``RD_KAFKA_PRODUCER`` of rdkafka.h: the kind of client that hosts the cluster."""

ERROR_TEXT_SIZE = 256


class EmbeddedKafka:
    """A context in which a mock cluster of one broker runs on loopback.

    It keeps about 5 MB a partition and nothing on disk: for demos that pace themselves and for fast tests.

    Attributes
    ----------
    bootstrap_servers : str
        ``host:port``, on loopback.
    """

    def __init__(self) -> None:
        # The public C interface (rdkafka_mock.h) of the very library that confluent_kafka has loaded; its
        # Python side offers neither topics of a chosen size nor a group that starts without a delay.
        self._library = _library()
        self._client: int | None = None
        self._cluster: int | None = None
        self.bootstrap_servers = ""

    def __enter__(self) -> Self:
        text = ctypes.create_string_buffer(ERROR_TEXT_SIZE)
        quiet = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(quiet, b"log_level", b"3", text, ERROR_TEXT_SIZE)
        self._client = self._library.rd_kafka_new(PRODUCER, quiet, text, ERROR_TEXT_SIZE)
        if not self._client:
            raise KafkaError(f"librdkafka made no client to host the embedded Kafka: {text.value.decode()}")
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, 1)
        if not self._cluster:
            raise KafkaError("librdkafka made no embedded Kafka: is loopback there, and are ports free?")
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self.bootstrap_servers = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        return self

    def create_topic(self, name: str, partitions: int) -> None:
        """Make a topic; others are made when they are first written to.

        Raises
        ------
        KafkaError
            When the cluster refuses it, as it does for a topic that is there already.
        """
        code = self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1)
        if code:
            raise KafkaError(
                f"the embedded Kafka made no topic {name} with {partitions} partitions: code {code}"
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)
        self._client = self._cluster = None


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(cimpl.__file__)  # symbols of the librdkafka it is linked to are found through it
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures = {
        "rd_kafka_conf_new": (pointer, []),
        "rd_kafka_conf_set": (number, [pointer, text, text, text, ctypes.c_size_t]),
        "rd_kafka_new": (pointer, [number, pointer, text, ctypes.c_size_t]),
        "rd_kafka_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, number]),
        "rd_kafka_mock_cluster_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_topic_create": (number, [pointer, text, number, number]),
        "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [pointer, ctypes.c_int32]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
