"""A password that changes while we run: its file is read again, and librdkafka is told."""

import logging
import time
from pathlib import Path
from typing import Protocol

from broker.errors import SettingsError
from broker.settings import Sasl

LOOK_SECONDS = 30.0
"""Time between two looks at the file."""

GRACE_SECONDS = 5.0
"""How long after a change refusals of the old password may still come in."""

logger = logging.getLogger("broker.kafka")


class TakesPassword(Protocol):
    """Any client of librdkafka."""

    def set_sasl_credentials(self, username: str, password: str, /) -> None:
        """Use these from the next connection on."""


class PasswordFile:
    """Gives a client its password anew when the file has changed.

    Parameters
    ----------
    kafka : TakesPassword
    security : Sasl
    file : Path
        The one of `security`.
    """

    def __init__(self, kafka: TakesPassword, security: Sasl, file: Path) -> None:
        self._kafka = kafka
        self._security = security
        self._file = file
        self._seen = self._state()
        self._looked = time.monotonic()
        self._changed = -GRACE_SECONDS

    def renewed(self, *, at_once: bool) -> bool:
        """Look at the file, if it is time, and take the password if it has changed.

        Parameters
        ----------
        at_once : bool
            Look now: the cluster refuses us.

        Returns
        -------
        bool
            Whether a refusal may be of the password before.
        """
        now = time.monotonic()
        if at_once or now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._take()
        return now - self._changed < GRACE_SECONDS

    def _take(self) -> None:
        state = self._state()
        if state in (self._seen, None):
            return
        try:
            password = self._security.secret()
        except SettingsError as error:  # half written, or just being replaced: the next look may find it
            logger.warning("%s; going on with the password before", error)
            return
        self._kafka.set_sasl_credentials(self._security.username, password)
        self._seen, self._changed = state, time.monotonic()
        logger.info("password_file %s has changed: the next connection uses it", self._file)

    def _state(self) -> tuple[int, int, int] | None:
        """Give what differs when the file was written, or replaced as mounted secrets are."""
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size
