"""A right is taken away while alerts are enriched, and given back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .chaos import DELIVERIES, OUTPUTS, Record, Stage, alerts, long_form
from .conftest import Cluster
from .kafka_server import PASSWORD
from .secured_server import OPERATOR, SecuredServer

pytestmark = [pytest.mark.kafka, long_form]

COUNT = alerts(10_000)


@pytest.fixture(params=DELIVERIES)
def stage(
    request: pytest.FixtureRequest, secured: SecuredServer, untrained_model: Path, tmp_path: Path
) -> Iterator[Stage]:
    """Alerts, and an operator who has the least rights for them."""
    stage = Stage(
        Cluster(secured.bootstrap_servers), untrained_model, request.param, tmp_path, secured.servers["SCRAM"]
    )
    security = {
        "PROTOCOL": "scram",
        "USERNAME": OPERATOR,
        "PASSWORD": PASSWORD,
        "CA_FILE": str(secured.ca_file),
    }
    stage.settings |= {f"BROKER_KAFKA__SECURITY__{name}": value for name, value in security.items()}
    stage.count = COUNT
    stage.set()
    secured.grant("READ", "TOPIC", stage.topic)
    secured.grant("READ", "GROUP", f"group-{stage.topic}")
    for suffix in OUTPUTS:
        secured.grant("WRITE", "TOPIC", f"{stage.topic}.{suffix}")
    if stage.delivery == "exactly-once":
        stage.settings["BROKER_SINK__TRANSACTIONAL_ID"] = f"id-{stage.topic}"
        secured.grant("WRITE", "TRANSACTIONAL_ID", f"id-{stage.topic}")
    yield stage
    stage.close()


RIGHTS = {
    "enriched": ("WRITE", "TOPIC", "{topic}.enriched"),
    "dead-letter": ("WRITE", "TOPIC", "{topic}.dead-letter"),
    "source": ("READ", "TOPIC", "{topic}"),
    "group": ("READ", "GROUP", "group-{topic}"),
}


@pytest.mark.parametrize("lost", RIGHTS)
def test_a_right_that_is_taken_away_midway(
    stage: Stage, secured: SecuredServer, record: Record, lost: str
) -> None:
    """It ends with the cause and exit code 2, nothing committed that was not written; a new start finishes."""
    operation, kind, name = (part.format(topic=stage.topic) for part in RIGHTS[lost])
    refused = stage.consumer()
    stage.progress(0.3)
    secured.revoke(operation, kind, name)
    stage.until(lambda: refused.poll() is not None, "the consumer giving up")
    assert refused.returncode == 2, stage.logs()
    assert f"ask for the right to this {kind.lower()}" in stage.told().splitlines()[-1]
    assert 0 < stage.done() < stage.count
    stage.committed_is_written()
    assert stage.consumer().wait(60) == 2, "a new start without the right"
    secured.grant(operation, kind, name)
    stage.finish()
    stage.check(f"{operation} on {lost} taken away midway", record)
