"""What the audit of the requirements makes of the answers it gets, and of none."""

import http.server
import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[3] / "tools" / "audit.py"
spec = importlib.util.spec_from_file_location("audit", TOOL)
audit = importlib.util.module_from_spec(spec)
spec.loader.exec_module(audit)

SOUND = {"name": "sound", "version": "1", "vulns": []}
FAULTY = {"name": "faulty", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "said", "code"),
    [
        ([SOUND], "1 of 1 packages looked up", 0),
        ([SOUND, FAULTY], "faulty 1: PYSEC-1, mended in 2", 1),
        ([UNKNOWN, FAULTY], "faulty 1: PYSEC-1", 1),
        ([UNKNOWN, SOUND], "not audited: 1 of dev.txt, such as Dependency not found", 0),
    ],
)
def test_a_finding_fails_and_what_was_not_looked_up_is_said(packages: list, said: str, code: int) -> None:
    lines, found = audit.judged("dev.txt", packages)
    assert said in "\n".join(lines)
    assert found == code


@pytest.fixture
def service() -> Iterator[str]:
    """One that knows `sound` only, and a page of which tells nothing."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = {"/sound": b'{"vulnerabilities": []}', "/mirror": b"{}"}.get(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_whether_the_service_answers(service: str) -> None:
    assert audit.unanswered(f"{service}/sound") is None
    assert "404" in audit.unanswered(f"{service}/unknown")
    assert "tells nothing of vulnerabilities" in audit.unanswered(f"{service}/mirror")
    assert "refused" in audit.unanswered("http://127.0.0.1:1/sound")


def test_without_a_service_it_is_said_and_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "SERVICE", "http://127.0.0.1:1/{}/{}")
    assert audit.main() == 0
    assert capsys.readouterr().out.startswith("not audited: http://127.0.0.1:1/")
