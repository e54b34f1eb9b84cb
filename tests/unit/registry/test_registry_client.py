"""What a registry may do, and that each of it ends in time and in words."""

import json
import shutil
import socket
import stat
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from stub_registry import StubRegistry, dripping, reply, silent

import schemas
from broker.errors import ConfigurationError, RegistryError, SchemaUnknown, SettingsError
from broker.registry import (
    OutputRegistration,
    RegistryClient,
    RegistryTrouble,
    SchemaCache,
    SchemaLookup,
    Trouble,
)
from broker.registry import client as client_module
from broker.registry.lookup import MOST_WAITED_SECONDS, QUIET_SECONDS
from broker.settings import RegistryConnection

SCHEMA = {"type": "record", "name": "t.One", "fields": [{"name": "n", "type": "long"}]}


class Clock:
    """Time that passes when somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stub():
    with StubRegistry() as stub:
        stub.schemas[1102] = SCHEMA
        yield stub


@pytest.fixture
def client(stub, clock):
    return RegistryClient(RegistryConnection(url=stub.url, timeout_seconds=0.5, retries=2), clock.sleep)


@pytest.fixture
def results():
    return []


@pytest.fixture
def lookup(client, clock, tmp_path, results):
    return SchemaLookup(client, SchemaCache(tmp_path, client.url), results.append, clock)


def as_it_is(schema):
    return schema


def test_a_schema_is_found_once_and_kept_on_disk(stub, lookup, client, clock, tmp_path, results):
    assert lookup.find(1102, as_it_is) == SCHEMA
    again = SchemaLookup(client, SchemaCache(tmp_path, client.url), results.append, clock)
    assert again.find(1102, as_it_is) == SCHEMA
    assert [path for _, path, _ in stub.requests] == ["/api/schemas/ids/1102"]
    assert results == ["found", "cached"]


def test_another_registry_has_a_folder_of_its_own(lookup, client, tmp_path):
    lookup.find(1102, as_it_is)
    assert SchemaCache(tmp_path, client.url).read(1102) == SCHEMA
    assert SchemaCache(tmp_path, "http://other").read(1102) is None
    assert SchemaCache(tmp_path, client.url).read(1103) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"schema": 7}', b"\xff", b'{"id": 1102, "schema": "int"}', b"[" * 100_000],
)
def test_a_file_that_is_not_as_it_was_written_is_replaced(content, lookup, client, tmp_path, results):
    lookup.find(1102, as_it_is)
    (path,) = tmp_path.rglob("1102.json")
    whole = path.read_bytes()
    path.write_bytes(content)
    assert SchemaLookup(client, SchemaCache(tmp_path, client.url)).find(1102, as_it_is) == SCHEMA
    assert path.read_bytes() == whole
    assert not [one for one in tmp_path.rglob("*") if one.is_file() and one != path]


def test_a_file_of_other_content_is_told_by_its_fingerprint(lookup, client, tmp_path):
    lookup.find(1102, as_it_is)
    (path,) = tmp_path.rglob("1102.json")
    path.write_text(path.read_text().replace('"n"', '"m"'))
    assert SchemaCache(tmp_path, client.url).read(1102) is None


def test_where_nothing_can_be_written_it_goes_on_and_says_so_once(client, tmp_path, caplog):
    (tmp_path / "file").touch()
    cache = SchemaCache(tmp_path / "file", client.url)
    assert SchemaLookup(client, cache).find(1102, as_it_is) == SCHEMA
    cache.keep(1, SCHEMA)
    assert [r.levelname for r in caplog.records if "not kept on disk" in r.message] == ["WARNING"]


def test_404_for_a_while_is_asked_again_until_found(stub, lookup, clock, results):
    stub.before = lambda handler: (
        len(stub.requests) < 3 and reply(handler, 404, {"error_code": 40403, "message": "x"})
    )
    assert lookup.find(1102, as_it_is) == SCHEMA
    assert len(stub.requests) == 3
    assert results == ["found"]
    assert [0.125 <= clock.waits[0] <= 0.25, 0.25 <= clock.waits[1] <= 0.5] == [True, True]


def test_ten_thousand_alerts_of_a_missing_id_are_three_requests(stub, lookup, clock, results):
    for _ in range(10_000):
        with pytest.raises(
            SchemaUnknown, match=r"was asked 3 times: it answered 404: Schema not found \(40403\)"
        ):
            lookup.find(4242, as_it_is)
    assert len(stub.requests) == 3
    assert results == ["not_found"]
    assert lookup.find(1102, as_it_is) == SCHEMA, "another id is not held up"
    clock.now += QUIET_SECONDS
    stub.schemas[4242] = SCHEMA
    assert lookup.find(4242, as_it_is) == SCHEMA


def test_a_registry_that_is_down_is_not_asked_for_any_id_for_a_while(stub, lookup, clock, results):
    stub.before = lambda handler: reply(handler, 503, b"overloaded")
    with pytest.raises(SchemaUnknown, match=r"asked 3 times: it answered 503: 'overloaded'"):
        lookup.find(1102, as_it_is)
    stub.before = None
    for other in range(2000, 2100):
        with pytest.raises(SchemaUnknown, match="503"):
            lookup.find(other, as_it_is)
    assert len(stub.requests) == 3
    clock.now += QUIET_SECONDS
    assert lookup.find(1102, as_it_is) == SCHEMA
    assert results == ["unreachable", "found"]


def test_garbage_with_an_id_of_its_own_in_each_message_takes_a_bounded_time(stub, lookup, clock):
    began = clock.now
    for schema_id in range(5000, 6000):
        with pytest.raises(SchemaUnknown):
            lookup.find(schema_id, as_it_is)
    assert clock.now - began < MOST_WAITED_SECONDS + 2
    assert len(stub.requests) < 200


@pytest.mark.parametrize("schema_id", [0, -1, -(2**31)])
def test_an_id_that_no_registry_gives_is_not_asked_for(schema_id, stub, lookup):
    with pytest.raises(SchemaUnknown, match="no registry gives such an id"):
        lookup.find(schema_id, as_it_is)
    assert not stub.requests


def test_nothing_listens(clock, tmp_path):
    with StubRegistry() as gone:
        url = gone.url
    client = RegistryClient(RegistryConnection(url=url, timeout_seconds=0.5, retries=1), clock.sleep)
    with pytest.raises(
        SchemaUnknown, match=rf"the registry at {url} was asked 2 times: ConnectionRefusedError"
    ):
        SchemaLookup(client, SchemaCache(tmp_path, url)).find(1102, as_it_is)


@pytest.mark.parametrize("slow", [silent, dripping])
def test_a_slow_answer_is_cut_off_whatever_it_sends_meanwhile(slow, stub, client):
    stub.before = slow
    began = time.monotonic()
    with pytest.raises(RegistryTrouble, match=r"no whole answer within 0\.5 s") as caught:
        client.ask("GET", ("schemas", "ids", "1102"))
    assert caught.value.kind is Trouble.UNREACHABLE
    assert time.monotonic() - began < 2


def test_an_answer_cut_short(stub, client):
    def short(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"schema"')
        handler.close_connection = True
        return True

    stub.before = short
    with pytest.raises(RegistryTrouble, match="ended 991 bytes early") as caught:
        client.ask("GET", ("schemas", "ids", "1102"))
    assert caught.value.kind is Trouble.UNREACHABLE


def test_a_huge_answer_is_not_taken(stub, client, monkeypatch):
    monkeypatch.setattr(client_module, "MOST_BYTES", 10_000)
    stub.before = lambda handler: reply(handler, 200, b" " * 20_000)
    with pytest.raises(RegistryTrouble, match="more than 10000 bytes") as caught:
        client.ask("GET", ("schemas", "ids", "1102"))
    assert caught.value.kind is Trouble.WRONG


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"<html>", "it answered no JSON: '<html>'"),
        (b"[" * 100_000, "it answered no JSON"),
        ([], r"it answered no schema: \[\]"),
        ({"schema": 7}, "it answered no schema"),
        ({"schema": "{"}, r"its schema is no JSON: '\{'"),
        ({"schema": "syntax", "schemaType": "PROTOBUF"}, "its schema is 'PROTOBUF', wanted AVRO"),
        ({"schema": '"int"', "references": [{"name": "x"}]}, "its schema refers to others"),
    ],
)
def test_a_wrong_answer_is_asked_for_again_and_not_kept(answer, said, stub, lookup, clock, tmp_path, results):
    stub.before = lambda handler: reply(handler, 200, answer)
    with pytest.raises(SchemaUnknown, match=f"asked 3 times: {said}"):
        lookup.find(1102, as_it_is)
    assert not list(tmp_path.rglob("*.json"))
    assert results == ["wrong"]
    stub.before = None
    clock.now += QUIET_SECONDS
    assert lookup.find(1102, as_it_is) == SCHEMA


def test_a_schema_of_no_use_is_a_wrong_answer(stub, lookup, clock, tmp_path):
    def refuse(schema):
        raise SchemaUnknown("it is no alert's")

    with pytest.raises(SchemaUnknown, match="asked 3 times: it is no alert's"):
        lookup.find(1102, refuse)
    assert not list(tmp_path.rglob("*.json"))


def test_a_redirect_is_not_followed(stub, client):
    def away(handler):
        handler.send_response(302)
        handler.send_header("Location", "http://example.org/")
        handler.end_headers()
        return True

    stub.before = away
    with pytest.raises(RegistryTrouble, match="it answered 302"):
        client.ask("GET", ("schemas", "ids", "1102"))
    assert len(stub.requests) == 1


def test_the_login_is_sent_and_never_shown(stub, tmp_path):
    secret = tmp_path / "password"
    secret.write_text("pass:word\n")
    settings = RegistryConnection(url=stub.url, username="ann", password_file=secret)
    RegistryClient(settings).ask("GET", ("schemas", "ids", "1102"))
    assert stub.logins == ["Basic YW5uOnBhc3M6d29yZA=="]
    with pytest.raises(SettingsError, match=r"password_file .*gone: No such file"):
        RegistryClient(settings.model_copy(update={"password_file": tmp_path / "gone"}))


def test_a_refusal_is_not_tried_again(stub, lookup, results):
    stub.before = lambda handler: reply(handler, 422, {"error_code": 42201, "message": "no such number"})
    with pytest.raises(SchemaUnknown, match=r"asked once: it answered 422: no such number \(42201\)"):
        lookup.find(1102, as_it_is)
    assert len(stub.requests) == 1
    assert results == ["refused"]


def test_a_missing_authority_is_a_setting(tmp_path):
    settings = RegistryConnection(url="https://localhost:1", ca_file=tmp_path / "no.pem")
    with pytest.raises(SettingsError, match=r"ca_file .*no\.pem: No such file"):
        RegistryClient(settings)
    (tmp_path / "no.pem").write_text("nothing")
    with pytest.raises(SettingsError, match="give a PEM file"):
        RegistryClient(settings)


class TestRegistration:
    NAME = "enriched_alert.v2.ztf.v4_02"

    def test_each_schema_is_registered_once_for_a_topic_under_topic_and_record(self, stub, client):
        register = OutputRegistration(client)
        ids = [register("a.enriched", self.NAME, lambda: schemas.load(self.NAME)) for _ in range(5)]
        other = register("b.enriched", self.NAME, lambda: schemas.load(self.NAME))
        assert (set(ids), other) == ({100}, 101)
        posts = [(path, body) for method, path, body in stub.requests if method == "POST"]
        assert [path for path, _ in posts] == [
            f"/api/subjects/{topic}.enriched-nightjar.ztf.v4_02.EnrichedAlert/versions" for topic in "ab"
        ]
        assert json.loads(posts[0][1]["schema"]) == schemas.load(self.NAME)
        puts = [(path, body) for method, path, body in stub.requests if method == "PUT"]
        assert puts[0] == (
            "/api/config/a.enriched-nightjar.ztf.v4_02.EnrichedAlert",
            {"compatibility": "FULL"},
        )

    def test_a_registry_that_does_not_let_us_check_gives_its_id_all_the_same(self, stub, client, caplog):
        stub.before = lambda handler: handler.command == "PUT" and reply(handler, 403, {"message": "no"})
        assert OutputRegistration(client)("a", self.NAME, lambda: schemas.load(self.NAME)) == 100
        assert "is not checked for compatibility: it answered 403" in caplog.text

    def test_the_compatibility_that_an_operator_chose_stays(self, stub, client):
        stub.before = lambda handler: (
            handler.command == "GET" and reply(handler, 200, {"compatibilityLevel": "FULL_TRANSITIVE"})
        )
        OutputRegistration(client)("a", self.NAME, lambda: schemas.load(self.NAME))
        assert [method for method, _, _ in stub.requests] == ["POST", "GET"]

    @pytest.mark.parametrize(
        "answer", [(503, b""), (404, b""), (200, b"{}"), (200, {"id": "7"}), (200, {"id": True})]
    )
    def test_no_id_within_the_bound_stops_the_process_before_the_commit(self, answer, stub, client):
        stub.before = lambda handler: reply(handler, *answer)
        with pytest.raises(
            RegistryError, match=r"no schema id for subject a-nightjar.*asked 3 times.*nothing goes out"
        ):
            OutputRegistration(client)("a", self.NAME, lambda: schemas.load(self.NAME))
        stub.before = None
        assert OutputRegistration(client)("a", self.NAME, lambda: schemas.load(self.NAME)) == 100

    @pytest.mark.parametrize("status", [401, 403, 409, 422])
    def test_what_is_refused_is_for_the_operator(self, status, stub, client):
        stub.before = lambda handler: reply(
            handler, status, {"message": "incompatible", "error_code": status}
        )
        with pytest.raises(ConfigurationError, match=f"asked once: it answered {status}: incompatible"):
            OutputRegistration(client)("a", self.NAME, lambda: schemas.load(self.NAME))


def test_the_cache_is_not_for_others_to_write(lookup, tmp_path):
    lookup.find(1102, as_it_is)
    (path,) = tmp_path.rglob("1102.json")
    assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("no certificates: install openssl")
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    request = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    request += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{path}.key", "-out", str(path)]
    subprocess.run(request, check=True, capture_output=True)
    path.write_text(Path(f"{path}.key").read_text() + path.read_text())
    return path


class TestTls:
    def client(self, stub, **settings):
        return RegistryClient(RegistryConnection(url=stub.url, timeout_seconds=0.5, retries=0, **settings))

    def test_a_registry_of_a_known_authority_is_asked(self, certificate):
        with StubRegistry(certificate) as stub:
            stub.schemas[1102] = SCHEMA
            answer = self.client(stub, ca_file=certificate).ask("GET", ("schemas", "ids", "1102"))
        assert json.loads(answer["schema"]) == SCHEMA

    def test_one_of_an_unknown_authority_is_told_nothing(self, certificate):
        with StubRegistry(certificate) as stub:
            with pytest.raises(RegistryTrouble, match="certificate verify failed") as caught:
                self.client(stub, username="ann", password="hush").ask("GET", ("schemas", "ids", "1102"))
            assert caught.value.kind is Trouble.UNREACHABLE
            assert not stub.requests

    @pytest.mark.parametrize("slow", [silent, dripping])
    def test_a_slow_answer_is_cut_off_here_too(self, slow, certificate):
        with StubRegistry(certificate) as stub:
            stub.before = slow
            began = time.monotonic()
            with pytest.raises(RegistryTrouble, match="no whole answer within"):
                self.client(stub, ca_file=certificate).ask("GET", ("schemas", "ids", "1102"))
            assert time.monotonic() - began < 2


def test_many_silent_addresses_of_one_name_take_no_longer_than_one(
    client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as sockets:
        silent_one, *callers = (sockets.enter_context(socket.socket()) for _ in range(5))
        silent_one.bind(("127.0.0.1", 0))
        silent_one.listen(0)
        for caller in callers:  # a queue that is full lets nobody else in
            caller.settimeout(0.0)
            caller.connect_ex(silent_one.getsockname())
        address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", silent_one.getsockname())
        monkeypatch.setattr(client_module.socket, "getaddrinfo", lambda *_, **__: [address] * 8)
        began = time.monotonic()
        with pytest.raises(RegistryTrouble, match="no whole answer within"):
            client.ask("GET", ("schemas", "ids", "1102"))
        assert time.monotonic() - began < 3 * (0.5 + 1.0), "three tries of half a second each"
