"""The certificate as Granian wants it: by path. Each generation has files of its own, which its workers start from.

What is served has been checked: the files are copies, so that a worker that is restarted in the middle of a renewal
never reads half-written or unchecked files.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.config.records import Settings

_PREFIX: Final = "portway-tls-"
_LOCK: Final = "lock"


class PemFiles:
    """The certificate (`cert`), its `key` and the clients' authorities (`client_ca`), each a path or None.

    They are in a folder that only this user can read.

    The folder lives until `close`. One that a killed gateway left behind is removed by the next one: it is in use as
    long as the parent or a worker holds its lock.
    """

    def __init__(self, settings: Settings) -> None:
        where = _folder()
        _remove_left_over(where)
        new = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=where))
        self._lock = os.open(new / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.folder = new.rename(where / new.name.removeprefix("."))  # locked before another one could take it for old
        self.cert = self._write("cert.pem", settings.tls_cert_pem)
        self.key = self._write("key.pem", settings.tls_key_pem)
        self.client_ca = self._write("client-ca.pem", settings.tls_client_ca_pem)

    def _write(self, name: str, text: str | None) -> Path | None:
        if text is None:
            return None
        path = self.folder / name
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="ascii") as file:
            file.write(text)
        return path

    def close(self) -> None:
        """Remove the files; no worker can be started from them any more."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


@contextlib.contextmanager
def pem_files(settings: Settings) -> Iterator[PemFiles | None]:
    """The files while the gateway serves; None without TLS."""
    if settings.tls_cert_pem is None:
        yield None
        return
    files = PemFiles(settings)
    try:
        yield files
    finally:
        files.close()


def _folder() -> Path:
    """A folder in memory, if one is writable: a container's file system may be read-only."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
    return memory if os.access(memory, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


def _remove_left_over(where: Path) -> None:
    for folder in where.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or gone meanwhile
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
