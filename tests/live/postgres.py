"""A PostgreSQL server of the tests' own, on a free port, in a folder that goes with it."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .harness import eventually, free_port

_NEEDED = ("initdb", "postgres", "pg_isready")


def binaries() -> Path | None:
    """Where the newest server of this machine is installed; Debian keeps it off the path."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    found = shutil.which("initdb")
    if found is not None:
        folders.insert(0, Path(found).resolve().parent)
    return next((folder for folder in reversed(folders) if all((folder / name).exists() for name in _NEEDED)), None)


def why_not() -> str | None:
    """What keeps this machine from running one."""
    if binaries() is None:
        return "PostgreSQL is not installed here (Debian: apt install postgresql)"
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed here, which Django speaks to PostgreSQL by"
    return None


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The URL of a fresh database, as GATEWAY_DATABASE_* take it."""
    folder, programs = Path(tempfile.mkdtemp(prefix="portway-postgres-")), binaries()
    assert programs is not None
    # It refuses to run as root.
    user = next((one.pw_name for one in pwd.getpwall() if one.pw_name == "postgres"), "nobody")
    account = pwd.getpwnam(user) if os.geteuid() == 0 else None
    if account is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)

    def started(*command: str | Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            user=account.pw_uid if account is not None else None,
            group=account.pw_gid if account is not None else None,
            extra_groups=[] if account is not None else None,
        )

    port, data = free_port(), folder / "data"
    server = None
    try:
        made = started(programs / "initdb", "-D", data, "-U", "gate", "-A", "trust", "-E", "UTF8", "--no-sync")
        assert made.wait(60) == 0, "initdb failed"
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "fsync": "off"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        server = started(programs / "postgres", "-D", data, *options)
        ready = programs / "pg_isready"
        eventually(lambda: started(ready, "-q", "-h", "127.0.0.1", "-p", str(port)).wait(10) == 0, 30)
        yield f"postgresql://gate@127.0.0.1:{port}/postgres"
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)  # its fast shutdown: it breaks connections off
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(10)
        shutil.rmtree(folder, ignore_errors=True)
