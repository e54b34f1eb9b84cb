"""Which faults of a transaction pass, and which end the consumer."""

import pytest
from confluent_kafka import KafkaError as Fault

from broker.errors import ConfigurationError, Unavailable
from broker.kafka import KafkaTransactions


class Bare(KafkaTransactions):
    """One without a cluster."""

    def __init__(self) -> None:
        self._stated = None
        self._put_out_at = self._opened_at = 0.0
        self.renewed = 0

    def _renew(self) -> None:
        self.renewed += 1


@pytest.mark.parametrize(
    "code",
    [
        Fault.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        Fault.GROUP_AUTHORIZATION_FAILED,
        Fault.TOPIC_AUTHORIZATION_FAILED,
    ],
)
@pytest.mark.parametrize("how", [{"fatal": True}, {"txn_requires_abort": True}])
def test_a_right_that_is_missing_ends_it_whatever_librdkafka_makes_of_it(
    code: int, how: dict[str, bool]
) -> None:
    sink = Bare()
    error = sink._broken(Fault(code, "refused", **how), "beginning transactions")
    assert isinstance(error, ConfigurationError)
    assert "ask for" in str(error)
    assert sink.renewed == 0, "a new producer has the right no more than the old one"


@pytest.mark.parametrize(("fatal", "renewed"), [(True, 1), (False, 0)])
def test_what_passes_is_tried_again(fatal: bool, renewed: int) -> None:
    sink = Bare()
    fault = Fault(Fault.COORDINATOR_NOT_AVAILABLE, "moved", fatal=fatal)
    assert isinstance(sink._broken(fault, "committing"), Unavailable)
    assert sink.renewed == renewed
