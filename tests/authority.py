"""A certificate authority for tests, by the openssl command."""

import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

CONFIGURATION = """\
[ca]
default_ca=here
[here]
database=index
serial=serial
new_certs_dir=.
default_md=sha256
policy=names
email_in_dn=no
[names]
commonName=supplied
"""

OF_AN_AUTHORITY = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n"

OUR_OWN = ("-cert", "ca.pem", "-keyfile", "ca.key")

DAY = timedelta(days=1)


def missing() -> str | None:
    """What this machine lacks; None when nothing."""
    return None if shutil.which("openssl") else "no certificates: install openssl"


@dataclass(frozen=True)
class Issued:
    """A certificate and its key.

    Attributes
    ----------
    certificate, key : Path
        PEM files.
    both : Path
        One after the other, as Kafka wants them.
    """

    certificate: Path
    key: Path

    @property
    def both(self) -> Path:
        return self.key.with_suffix(".both")


class Authority:
    """Issues certificates in a folder of its own."""

    def __init__(self, folder: Path, name: str = "authority", ends: timedelta = 30 * DAY) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self.ca_file = folder / "ca.pem"
        (folder / "ca.cnf").write_text(CONFIGURATION, encoding="utf-8")
        (folder / "index").touch()
        (folder / "serial").write_text("01\n", encoding="utf-8")
        (folder / "index.attr").write_text("unique_subject = no\n", encoding="utf-8")
        (folder / "ca.ext").write_text(OF_AN_AUTHORITY, encoding="utf-8")
        request = ("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", "ca.key")
        self._openssl(*request, "-out", "ca.csr")
        self._sign("ca", -60 * DAY, ends, "-selfsign", "-keyfile", "ca.key")

    def issue(
        self,
        name: str,
        *,
        alternatives: str = "DNS:localhost,IP:127.0.0.1",
        begins: timedelta = -DAY,
        ends: timedelta = 2 * DAY,
        passphrase: str | None = None,
        signed_by_itself: bool = False,
    ) -> Issued:
        """Make a certificate; when it begins and ends counts from now."""
        (self._folder / f"{name}.ext").write_text(
            f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth,clientAuth\n", encoding="utf-8"
        )
        protected = ("-nodes",) if passphrase is None else ("-passout", f"pass:{passphrase}")
        self._openssl(
            *("req", "-newkey", "rsa:2048", "-subj", f"/CN={name}", *protected),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        by = ("-selfsign", "-keyfile", f"{name}.key") if signed_by_itself else OUR_OWN
        self._sign(name, begins, ends, *by)
        issued = Issued(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        issued.both.write_bytes(issued.key.read_bytes() + issued.certificate.read_bytes())
        return issued

    def _sign(self, name: str, begins: timedelta, ends: timedelta, *by: str) -> None:
        self._openssl(
            *("ca", "-batch", "-notext", "-config", "ca.cnf", *by),
            *("-in", f"{name}.csr", "-out", f"{name}.pem", "-extfile", f"{name}.ext"),
            *("-startdate", _when(begins), "-enddate", _when(ends)),
        )

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self._folder, check=True, capture_output=True)


def _when(since_now: timedelta) -> str:
    return (datetime.now(UTC) + since_now).strftime("%Y%m%d%H%M%SZ")
