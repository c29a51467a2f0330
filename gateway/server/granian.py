"""`gateway serve`: Granian with our flags, its workers, and a stop that loses nothing.

The process of a generation holds no traffic. When the gateway stops, on the first SIGTERM or SIGINT, it marks all of
its workers as draining, keeps accepting for GATEWAY_DRAIN_DELAY, unless another gateway on the port can take new
connections, then lets Granian close the listeners and wait. Each worker cuts what is left after GATEWAY_DRAIN. A second
signal cuts at once. When the parent was killed, the workers drain and go, so that no orphan holds the port.
"""

import asyncio
import gc
import importlib
import multiprocessing
import resource
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, Final

from granian import loops
from granian.constants import HTTPModes, Interfaces, Loops, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.log import LogLevels
from granian.server.embed import Server

from gateway import __version__
from gateway.cache.bloom_filter import BloomFilter
from gateway.config.address import Address, resolved, shown, try_bind
from gateway.config.describe import file_of, own_file_of, rows
from gateway.config.records import Config, Settings
from gateway.observe import log as logs
from gateway.observe.log import log
from gateway.reload.line import Facts, Line
from gateway.routing.urls import Routes
from gateway.server.control import Control
from gateway.server.loop import new_loop
from gateway.server.snapshot import past_counts
from gateway.server.supervisor import Supervisor
from gateway.server.tls import PemFiles, pem_files
from gateway.server.worker import Parent, Shared
from gateway.text import aligned, plain
from gateway.upstreams.places import texts_of

# RFC 9113, section 6.5.2: it is recommended not to be smaller.
_STREAMS: Final = 100
_STREAM_WINDOW_BYTES: Final = 256 * 1024
_PING_S: Final = 20
# The bytes kept of an answer that its client does not read, for as long as its connection lives.
_SEND_BUFFER_BYTES: Final = 128 * 1024


def serve(
    config: Config, routes: Routes, load_application: Callable[[Shared], Any], line: Line, facts: Callable[[], Facts]
) -> int:
    """Serve, as one generation, until the parent ends it; returns the exit code.

    `facts` are sent to the parent, which decides whether to go on. Raises AddressInUse, OSError for an address that
    cannot be bound.
    """
    settings = config.settings
    address = resolved(settings.bind)
    if line.is_first and not settings.reuse_port:
        try_bind(address)
        if settings.tls_redirect is not None:
            try_bind(resolved(settings.tls_redirect))
    line.report(facts=asdict(facts()))
    if not line.may_go():
        return 2
    inherited, bloom_filter = line.inherited, BloomFilter()
    control = Control(settings, line.inherited.deaths)
    if line.is_first:
        announce(config, routes, address)
    if routes.threads:
        log.warning("start.threads", threads=routes.threads, detail="they are not in the workers: on_worker_start()")

    def load() -> Any:
        line.close_in_worker()
        control.begin()
        logs.stdout_to_null()
        past = past_counts(inherited.shared_memory.join(line.place + control.number))
        return load_application(
            Shared(
                inherited.shared_memory,
                past,
                bloom_filter,
                inherited.limits if len(routes.policies) else None,
                inherited.purges,
                inherited.board,
                line.number,
                on_started=control.attach,
                on_stopped=control.leave,
                parent=Parent(inherited.started_s, control.deaths),
                note_in_flight=partial(control.in_flight.write, control.number),
            )
        )

    # All modules imported by now, aiohttp too, are shared with the workers, and the collector skips them.
    importlib.import_module("gateway.upstreams.client")
    importlib.import_module("gateway.sockets.upstream")
    gc.collect()
    gc.freeze()
    with pem_files(settings) as files:
        server = _granian(settings, control, line, address, files)
        server.serve(target_loader=load, wrap_loader=False)
    line.report(cut=control.cut_count())
    return int(server.has_failed)


def serve_here(application: Any, address: Address) -> None:
    """Serve in this process, where a debugger has the terminal, for `gateway dev`. SIGTERM ends it at once."""

    async def run() -> None:
        server = Server(
            application,
            *address,
            interface=Interfaces.ASGI,
            http=HTTPModes.http1,
            websockets=True,
            log_level=LogLevels.error,
            log_dictconfig=logs.granian_logging(),
        )
        await server.serve()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


def _granian(settings: Settings, control: Control, line: Line, address: Address, files: PemFiles | None) -> Supervisor:
    multiprocessing.set_start_method("fork", force=True)
    loops.register(Loops.uvloop.value)(new_loop)
    return Supervisor(
        settings,
        control,
        line,
        address=address[0],
        port=address[1],
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        http=HTTPModes.auto if settings.speaks_http2 else HTTPModes.http1,
        websockets=True,
        backlog=2048,
        backpressure=_max_connections(),
        http1_settings=HTTP1Settings(
            header_read_timeout=int(settings.client_keepalive_s * 1000),
            # Beyond the gateway's own limit, which answers with a problem. It bounds unsent bytes, too.
            max_buffer_size=max(_SEND_BUFFER_BYTES, 2 * settings.max_headers_bytes),
        ),
        http2_settings=_http2(settings),
        log_level=LogLevels.error,  # its warnings are about a stop, and sometimes untrue
        log_dictconfig=logs.granian_logging(),
        ssl_cert=files and files.cert,
        ssl_key=files and files.key,
        ssl_ca=files and files.client_ca,
        ssl_client_verify=settings.tls_client_ca_pem is not None,
        ssl_protocol_min=_version(settings),
    )


def _version(settings: Settings) -> SSLProtocols:
    return SSLProtocols.tls13 if settings.tls_min == "1.3" else SSLProtocols.tls12


def _http2(settings: Settings) -> HTTP2Settings:
    """The window of a connection is that of all its streams together, so that an unread body blocks no other stream."""
    return HTTP2Settings(
        initial_connection_window_size=_STREAMS * _STREAM_WINDOW_BYTES,
        initial_stream_window_size=_STREAM_WINDOW_BYTES,
        keep_alive_interval=int(settings.client_keepalive_s * 1000),
        keep_alive_timeout=_PING_S,
        max_concurrent_streams=_STREAMS,
        # Beyond the gateway's own limit, which answers with a problem; HTTP/2 counts 32 bytes more for each field.
        max_headers_size=2 * settings.max_headers_bytes,
        max_send_buffer_size=_SEND_BUFFER_BYTES,
    )


def _max_connections() -> int:
    """The limit of client connections of a worker: each may need one upstream, and some files are open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):
            pass  # some systems report a hard limit that they do not grant
    return 10_000 if soft == resource.RLIM_INFINITY else max(128, min(10_000, (soft - 128) // 2))


def announce(config: Config, routes: Routes, listens_on: Address) -> None:
    """Log what will be served: a short table for people, one line each for machines."""
    settings = config.settings
    address = f"{'http' if settings.tls_cert_pem is None else 'https'}://{shown(listens_on)}"
    upstreams = [(name, texts_of(upstream.places)) for name, upstream in config.upstreams.items()]
    table = rows(routes)
    if settings.log == "json":
        if sys.stderr.isatty():  # a person reads lines that are meant for machines
            own = own_file_of(settings.urlconf)
            sys.stderr.write(
                f"gateway: serving {_counted(len(table), 'route')}{f' ({plain(own)})' if own else ''} to "
                f"{_counted(len(upstreams), 'upstream')} on {address}; GATEWAY_LOG=console is a log for people\n"
            )
            sys.stderr.flush()
        file = file_of(settings.urlconf)
        log.info("start", version=__version__, address=address, workers=settings.workers, routes=file)
        for name, places in upstreams:
            log.info("start.upstream", upstream=name, endpoints=places)
        for row in table:
            log.info(
                "start.route",
                route=row["name"] or None,
                pattern=row["pattern"],
                target=row["target"],
                origin=row["origin"],
            )
        return
    workers = "1 worker" if settings.workers == 1 else f"{settings.workers} workers"
    blocks = [f"Portway {__version__} on {address}, {workers}"]
    if upstreams:
        blocks.append("Upstreams\n" + aligned([[name, ", ".join(places)] for name, places in upstreams]))
    own = own_file_of(settings.urlconf)
    blocks.append(
        (f"Routes of {own}\n" if own else "Routes\n")
        + aligned([[row["pattern"], "->", row["target"], f"({row['origin']})"] for row in table])
    )
    log.info("start", text="\n\n".join(blocks) + "\n")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
