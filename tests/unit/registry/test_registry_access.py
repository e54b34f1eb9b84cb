"""Who we are to a registry: refused in one line, let in by password or certificate, and a password that changes."""

import authority
import pytest
from authority import Authority
from stub_registry import StubRegistry, reply

import schemas
from broker.errors import ConfigurationError, SettingsError
from broker.registry import (
    OutputRegistration,
    RegistryClient,
    RegistryTrouble,
    SchemaCache,
    SchemaLookup,
    Trouble,
)
from broker.registry.access import Login
from broker.settings import RegistryConnection

BY_ID = ("GET", ("schemas", "ids", "1102"))
NAME = "enriched_alert.v2.ztf.v4_02"
OLD, NEW = "Basic YW5uOm9sZA==", "Basic YW5uOm5ldw=="


@pytest.fixture
def stub():
    with StubRegistry() as stub:
        stub.schemas[1102] = "int"
        yield stub


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "password"
    file.write_text("old\n")
    return file


@pytest.fixture
def settings(stub, file):
    return RegistryConnection(url=stub.url, timeout_seconds=2, retries=2, username="ann", password_file=file)


def knows(stub, *passwords):
    """Let the registry take these only, from now on."""
    stub.before = lambda handler: (
        handler.headers.get("Authorization") not in passwords
        and reply(handler, 401, {"error_code": 401, "message": "Unauthorized"})
    )


def finder(settings, tmp_path):
    client = RegistryClient(settings)
    return SchemaLookup(client, SchemaCache(tmp_path, client.url))


@pytest.mark.parametrize("status", [401, 403])
def test_a_registry_that_does_not_let_us_in_ends_it(status, stub, settings, tmp_path):
    stub.before = lambda handler: reply(handler, status, {"error_code": status, "message": "no"})
    with pytest.raises(
        ConfigurationError,
        match=rf"registry at {stub.url} was asked once: it answered {status}: no \({status}\): "
        "check its username and password, and what it lets us do",
    ) as caught:
        finder(settings, tmp_path).find(1102, lambda schema: schema)
    assert "old" not in str(caught.value)
    assert len(stub.requests) == 1


def test_one_that_asks_who_we_are_says_what_to_give(stub, tmp_path):
    knows(stub, OLD)
    with pytest.raises(ConfigurationError, match="asks who we are: give its username and password_file, or"):
        finder(RegistryConnection(url=stub.url), tmp_path).find(1102, lambda schema: schema)


def test_outputs_are_refused_the_same_way(stub, settings):
    knows(stub, NEW)
    register = OutputRegistration(RegistryClient(settings))
    with pytest.raises(
        ConfigurationError, match=r"no schema id for subject a-.* check its username and password"
    ):
        register("a", NAME, lambda: schemas.load(NAME))


def test_a_password_that_changes_is_read_again(stub, settings, file):
    client = RegistryClient(settings)
    client.ask(*BY_ID)
    file.write_text("new\n")
    client.ask(*BY_ID)  # the registry does not know the new one yet
    knows(stub, NEW)
    client.ask(*BY_ID)
    client.ask(*BY_ID)
    assert stub.logins == [OLD, OLD, OLD, NEW, NEW]


@pytest.mark.parametrize("content", [b"old\n", b"", None])
def test_a_file_without_another_password_is_not_tried(stub, settings, file, content):
    client = RegistryClient(settings)
    knows(stub, NEW)
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(RegistryTrouble, match="it answered 401"):
        client.ask(*BY_ID)
    assert stub.logins == [OLD]


def test_a_password_of_the_environment_is_the_same_for_good(stub):
    login = Login(RegistryConnection(url=stub.url, username="ann", password="old"))
    assert login.header == {"Authorization": OLD}
    assert not login.renewed()


@pytest.mark.parametrize(
    "answer", [(404, b"<html>"), (404, {"message": "HTTP 404 Not Found", "error_code": 404})]
)
def test_a_knock_at_another_door(answer, stub):
    client = RegistryClient(RegistryConnection(url=stub.url))
    client.knock()
    stub.schemas[1] = "int"
    client.knock()
    stub.before = lambda handler: reply(handler, *answer)
    with pytest.raises(RegistryTrouble, match="it answered 404"):
        client.knock()


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    if (lacking := authority.missing()) is not None:
        pytest.skip(lacking)
    return Authority(tmp_path_factory.mktemp("certificates") / "ours")


@pytest.fixture
def mutual(ours):
    """A registry that asks for a client certificate."""
    with StubRegistry(ours.issue("server").both, clients=ours.ca_file) as stub:
        stub.schemas[1102] = "int"
        yield stub


def shows(stub, ours, issued, **more):
    """Settings of who shows a certificate."""
    return RegistryConnection(
        url=stub.url,
        ca_file=ours.ca_file,
        retries=0,
        certificate_file=issued.certificate,
        key_file=issued.key,
        **more,
    )


def test_a_client_certificate_lets_us_in(mutual, ours):
    assert RegistryClient(shows(mutual, ours, ours.issue("guest"))).ask(*BY_ID) == {"schema": '"int"'}


def test_a_key_with_a_passphrase(mutual, ours, tmp_path):
    issued = ours.issue("protected", passphrase="hush")
    (tmp_path / "passphrase").write_text("hush\n")
    by_file = shows(mutual, ours, issued, key_password_file=tmp_path / "passphrase")
    assert RegistryClient(by_file).ask(*BY_ID) == {"schema": '"int"'}
    for wrong in ({}, {"key_password": "wrong"}):
        with pytest.raises(
            SettingsError, match=r"certificate_file .* with key_file .*: give a certificate"
        ) as caught:
            RegistryClient(shows(mutual, ours, issued, **wrong))
        assert "wrong" not in str(caught.value)


def test_without_a_certificate_it_is_said_that_one_is_asked_for(mutual, ours, tmp_path):
    settings = RegistryConnection(url=mutual.url, ca_file=ours.ca_file)
    with pytest.raises(
        ConfigurationError, match=r"asked once: it refuses our certificate or misses one: .*asks who we are"
    ):
        finder(settings, tmp_path).find(1102, lambda schema: schema)


def test_a_certificate_of_another_authority(mutual, ours, tmp_path):
    stranger = Authority(tmp_path / "other", "other").issue("stranger")
    with pytest.raises(RegistryTrouble, match="it refuses our certificate or misses one") as caught:
        RegistryClient(shows(mutual, ours, stranger)).ask(*BY_ID)
    assert caught.value.kind is Trouble.DENIED
