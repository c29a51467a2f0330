"""How each target is started. A new one is a function from Launch to Command and a line in TARGETS."""

import os
import pwd
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.machine import HOST

HOME = Path(__file__).resolve().parent.parent


class NotAvailableError(Exception):
    """The target cannot be measured on this machine; the message says why."""


@dataclass(frozen=True)
class Launch:
    """What a target is told: where to listen, where its upstream is, where it may write, and a row's own variables."""

    port: int
    upstream_url: str
    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


def floor(launch: Launch) -> Command:
    return _granian("bench.apps.floor:app", "asgi", launch)


def hello(launch: Launch) -> Command:
    return _granian("bench.apps.hello:app", "asginl", launch)


def gather(launch: Launch) -> Command:
    return _granian("bench.apps.gather:app", "asgi", launch)


def django(launch: Launch) -> Command:
    return _granian("bench.apps.stock_django:app", "asginl", launch)


def nginx(launch: Launch) -> Command:
    config = _write(
        launch,
        "nginx.conf",
        f"""
        daemon off;
        worker_processes 1;
        pid {launch.folder}/nginx.pid;
        {_nginx_user()}
        events {{ worker_connections 1024; }}
        http {{
            access_log {launch.folder}/nginx-access.log combined;
            client_body_temp_path {launch.folder}/nginx-body;
            proxy_temp_path {launch.folder}/nginx-proxy;
            fastcgi_temp_path {launch.folder}/nginx-fastcgi;
            uwsgi_temp_path {launch.folder}/nginx-uwsgi;
            scgi_temp_path {launch.folder}/nginx-scgi;
            client_max_body_size 0;
            keepalive_requests 100000000;
            upstream b {{
                server {launch.upstream_url.removeprefix("http://")};
                keepalive 64;
                keepalive_requests 100000000;
            }}
            server {{
                listen {HOST}:{launch.port};
                location / {{
                    proxy_pass http://b;
                    proxy_http_version 1.1;
                    proxy_set_header Connection "";
                }}
            }}
        }}
        """,
    )
    return Command([_installed("nginx"), "-e", "stderr", "-p", str(launch.folder), "-c", str(config)])


def haproxy(launch: Launch) -> Command:
    config = _write(
        launch,
        "haproxy.cfg",
        f"""
        global
            nbthread 1
            maxconn 1024
            log stdout format raw local0
        defaults
            mode http
            log global
            option httplog
            timeout connect 2s
            timeout client 60s
            timeout server 60s
            http-reuse always
            default_backend b
        frontend door
            bind {HOST}:{launch.port}
        backend b
            server one {launch.upstream_url.removeprefix("http://")}
        """,
    )
    return Command([_installed("haproxy"), "-db", "-f", str(config)])


def portway(launch: Launch) -> Command:
    argv = portway_argv()
    if argv is None:
        raise NotAvailableError(f"neither {HOME}/.venv/bin/gateway nor {HOME}/gateway/__main__.py exists")
    return Command(argv, _portway_env(launch, HOME))


def before(launch: Launch) -> Command:
    """Portway as it is in another checkout, with this one's Python: what a change costs."""
    folder = os.environ.get("BENCH_BEFORE")
    if folder is None:
        raise NotAvailableError("BENCH_BEFORE names no checkout to compare with")
    return Command([sys.executable, "-m", "gateway", "serve"], _portway_env(launch, Path(folder).resolve()))


def _portway_env(launch: Launch, home: Path) -> dict[str, str]:
    return {
        "PYTHONPATH": str(home),
        "GATEWAY_BIND": f"{HOST}:{launch.port}",
        "GATEWAY_UPSTREAM_B": launch.upstream_url,
        "GATEWAY_ROUTE_B": "/** -> b",
    }


def portway_argv() -> list[str] | None:
    """The installed command; before `make install`, the module. None while neither exists."""
    installed = HOME / ".venv" / "bin" / "gateway"
    if installed.exists():
        return [str(installed), "serve"]
    if (HOME / "gateway" / "__main__.py").exists():
        return [sys.executable, "-m", "gateway", "serve"]
    return None


TARGETS: Mapping[str, Callable[[Launch], Command]] = {
    "floor": floor,
    "hello": hello,
    "gather": gather,
    "django": django,
    "nginx": nginx,
    "haproxy": haproxy,
    "before": before,
    "portway": portway,
}


def _granian(app: str, interface: str, launch: Launch) -> Command:
    """One worker, HTTP/1 only, uvloop, no access log: the same for everything that is not Portway."""
    flags = f"--interface {interface} --host {HOST} --port {launch.port} --http 1 --workers 1 --loop uvloop"
    argv = [sys.executable, "-m", "granian", app, *flags.split(), "--log-level", "warning", "--no-access-log"]
    return Command(argv, {"PYTHONPATH": str(HOME), "BENCH_UPSTREAM": launch.upstream_url})


def _installed(binary: str) -> str:
    found = shutil.which(binary) or shutil.which(binary, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise NotAvailableError(f"{binary} is not installed")
    return found


def _nginx_user() -> str:
    """As root, nginx would run its workers as nobody, who may not write into our folder."""
    return f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""


def _write(launch: Launch, name: str, text: str) -> Path:
    path = launch.folder / name
    path.write_text("\n".join(line.strip() for line in text.strip().splitlines()) + "\n")
    return path
