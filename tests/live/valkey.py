"""A Valkey or Redis server of the tests' own: on a free port, in memory only, gone at the end.

with Valkey() as server:
    Gateway({"GATEWAY_VALKEY_URL": server.url, ...})
    server.freeze(); server.thaw(); server.kill(); server.start(); server.say("CONFIG SET maxmemory 1")
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from .harness import Started, eventually, free_port

BINARY = shutil.which("valkey-server") or shutil.which("redis-server")


class Valkey(Started):
    """`options` are those of the command line: `--requirepass secret`."""

    def __init__(self, *options: str, tls: Path | None = None) -> None:
        if BINARY is None:
            # Only make and Python may be assumed of a newcomer's machine; `.ci/run` installs it.
            pytest.skip("there is no Valkey or Redis server here (Debian: apt install redis-server)")
        self.port = free_port()
        self._options = options
        self._tls = tls  # a folder with server.pem and ca.pem
        self._folder = Path(tempfile.mkdtemp(prefix="portway-valkey-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For GATEWAY_VALKEY_URL."""
        return f"{'redis' if self._tls is None else 'rediss'}://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        assert BINARY is not None
        plain, port = (self.port, 0) if self._tls is None else (0, self.port)
        words = ["--port", str(plain), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        if self._tls is not None:
            certificate = str(self._tls / "server.pem")
            words += ["--tls-port", str(port), "--tls-cert-file", certificate, "--tls-key-file", certificate]
            words += ["--tls-ca-cert-file", str(self._tls / "ca.pem"), "--tls-auth-clients", "no"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [BINARY, *words, *self._options],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(self._is_up)

    def _is_up(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()
        return False

    def say(self, *words: str) -> str:
        """The server's answer to a command, as its bytes are."""
        parts = [word.encode() for word in words]
        text = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(text)
            return connection.recv(65536).decode()

    # -- what happens to it -------------------------------------------------------------------------------------------

    def _signal(self, number: int) -> None:
        if self._process is not None:
            os.kill(self._process.pid, number)

    def freeze(self) -> None:
        """It answers nobody, and hangs up on nobody."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """It ends at once, with all that it holds."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait(10)
            self._process = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
