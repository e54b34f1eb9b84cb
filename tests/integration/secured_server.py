"""A Kafka that asks who one is, in every way it can, and lets each do only what was granted."""

import shutil
import tempfile
from pathlib import Path

from authority import DAY, Authority
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from .kafka_server import MODULES, PASSWORD, USER, KafkaServer, free_ports

OPERATOR = "operator"
"""May do nothing but what a test grants."""

LISTENERS = {
    "SCRAM": "SASL_SSL",
    "PLAIN": "SASL_SSL",
    "TLS": "SSL",
    "MUTUAL": "SSL",
    "EXPIRED": "SASL_SSL",
    "MISNAMED": "SASL_SSL",
}
"""Beside the plain one, whose clients may do everything."""


class SecuredServer(KafkaServer):
    """A context in which such a broker runs.

    `USER` may do everything on the listeners with SASL, `OPERATOR` (with the same password) only what was
    granted; so may the client certificate ``guest``.

    Attributes
    ----------
    servers : dict of str to str
        Address of each listener, by its name in `LISTENERS`.
    ca_file, other_ca_file : Path
        The authority of the server's certificates, and one that has nothing to do with it.
    guest, expired_guest, stranger : Issued
        Client certificates: sound, expired, and of the other authority. The key of `protected` has the
        passphrase `PASSWORD`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.servers = {
            name: f"127.0.0.1:{port}"
            for name, port in zip(LISTENERS, free_ports(len(LISTENERS)), strict=True)
        }
        self._certificates = Path(tempfile.mkdtemp(prefix="nightjar-certificates-"))
        ours = Authority(self._certificates / "ours")
        other = Authority(self._certificates / "other", "other")
        self.ca_file, self.other_ca_file = ours.ca_file, other.ca_file
        self._keystores = dict.fromkeys(LISTENERS, ours.issue("server").both)
        self._keystores["EXPIRED"] = ours.issue("expired", begins=-40 * DAY, ends=-10 * DAY).both
        self._keystores["MISNAMED"] = ours.issue("kafka", alternatives="DNS:kafka.example.org").both
        self.guest = ours.issue("guest")
        self.protected = ours.issue("protected", passphrase=PASSWORD)
        self.expired_guest = ours.issue("former-guest", begins=-40 * DAY, ends=-10 * DAY)
        self.stranger = other.issue("stranger")

    def __exit__(self, *error: object) -> None:
        super().__exit__(None, None, None)
        shutil.rmtree(self._certificates, ignore_errors=True)

    def grant(self, operation: str, kind: str, name: str, principal: str = f"User:{OPERATOR}") -> None:
        """Let somebody do something with a topic, a group or a transactional id."""
        what = ResourceType[kind], name, ResourcePatternType.LITERAL, principal, "*", AclOperation[operation]
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        for future in admin.create_acls([AclBinding(*what, AclPermissionType.ALLOW)]).values():
            future.result(timeout=30)

    def revoke(self, operation: str, kind: str, name: str, principal: str = f"User:{OPERATOR}") -> None:
        """Take such a right away again."""
        what = ResourceType[kind], name, ResourcePatternType.LITERAL, principal, "*", AclOperation[operation]
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        for future in admin.delete_acls([AclBindingFilter(*what, AclPermissionType.ALLOW)]).values():
            assert len(future.result(timeout=30)) == 1, "no such right was granted"

    def set_password(self, user: str, password: str) -> None:
        """Give a user of SCRAM, new or not, a password."""
        credentials = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(user, credentials, password.encode())
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        for future in admin.alter_user_scram_credentials([change]).values():
            future.result(timeout=30)

    def _users(self) -> list[str]:
        return [USER, OPERATOR]

    def _listeners(self) -> dict[str, tuple[str, str]]:
        more = {name: (self.servers[name], protocol) for name, protocol in LISTENERS.items()}
        return super()._listeners() | more

    def _properties(self) -> dict[str, object]:
        users = "".join(f' user_{name}="{PASSWORD}"' for name in (USER, OPERATOR))
        properties = super()._properties() | {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:ANONYMOUS;User:{USER}",
            "listener.name.plain.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.plain.plain.sasl.jaas.config": f"{MODULES}.plain.PlainLoginModule required{users};",
            "listener.name.scram.scram-sha-512.connections.max.reauth.ms": 5000,
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.mutual.ssl.truststore.type": "PEM",
            "listener.name.mutual.ssl.truststore.location": self.ca_file,
        }
        for name, keystore in self._keystores.items():
            listener = f"listener.name.{name.lower()}"
            properties[f"{listener}.ssl.keystore.type"] = "PEM"
            properties[f"{listener}.ssl.keystore.location"] = keystore
            if LISTENERS[name] == "SASL_SSL" and name != "PLAIN":
                properties[f"{listener}.sasl.enabled.mechanisms"] = "SCRAM-SHA-512"
                jaas = f"{MODULES}.scram.ScramLoginModule required;"
                properties[f"{listener}.scram-sha-512.sasl.jaas.config"] = jaas
        return properties
