"""A broker behind TLS that goes and comes back: what ends in the middle of a handshake is no wrong setting."""

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import authority

from broker.testing.packets import lsst_packet

from .conftest import TERM, Cluster, needing
from .kafka_server import PASSWORD, USER, end
from .secured_server import SecuredServer

AWAY_SECONDS = 8.0


@contextlib.contextmanager
def hanging_up(address: str) -> Iterator[list[int]]:
    """Take connections at an address and close them, as what stands before a broker that is not up yet."""
    host, port = address.split(":")
    taken: list[int] = []
    with socket.create_server((host, int(port))) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, (_, number) = listener.accept()
                except OSError:  # closed: the broker comes back
                    return
                taken.append(number)
                with connection, contextlib.suppress(OSError):
                    connection.recv(10_000)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield taken
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_broker_behind_tls_that_restarts(
    start: Callable[..., "subprocess.Popen[str]"],
    eventually: Callable[[Callable[[], bool]], None],
    untrained_model: Path,
) -> None:
    needing(authority.missing())
    settings = {"PROTOCOL": "scram", "USERNAME": USER, "PASSWORD": PASSWORD}
    with SecuredServer() as server:
        cluster = Cluster(server.bootstrap_servers)
        topic = cluster.make()
        cluster.publish(topic, [lsst_packet()])
        process = start(
            "broker-consumer",
            *(
                "--topic",
                topic,
                "--bootstrap-servers",
                server.servers["SCRAM"],
                "--group-id",
                f"group-{topic}",
            ),
            *("--model", str(untrained_model)),
            BROKER_KAFKA__SECURITY__CA_FILE=str(server.ca_file),
            **{f"BROKER_KAFKA__SECURITY__{name}": value for name, value in settings.items()},
        )
        eventually(lambda: cluster.committed(topic, f"group-{topic}") == 1)
        end(server._process)
        server._log.close()
        with hanging_up(server.servers["SCRAM"]) as taken:
            time.sleep(AWAY_SECONDS)
            assert process.poll() is None, process.communicate()[1]
        assert len(taken) > 2, "nobody tried to connect"
        server._begin()
        cluster.publish(topic, [lsst_packet()])
        eventually(lambda: cluster.committed(topic, f"group-{topic}") == 2)
        process.send_signal(TERM)
        _, log = process.communicate(timeout=30)
        assert process.returncode == 0, log
