"""`gateway serve`: Granian with our flags, its workers, and a stop that loses nothing.

The parent process holds no traffic. On the first SIGTERM or SIGINT it marks every worker as draining, keeps accepting
for GATEWAY_DRAIN_DELAY what no other gateway on the port can take, then lets Granian close the listeners and wait.
Each worker cuts what is left after GATEWAY_DRAIN. A second signal cuts at once. When the parent was killed, its workers
drain and go, so that no orphan holds the port.
"""

import gc
import importlib
import multiprocessing
import resource
from collections.abc import Callable
from typing import Any

from granian import loops
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels

from gateway import __version__
from gateway.cache.bloom_filter import BloomFilter
from gateway.config.address import Address, resolved, shown, try_bind
from gateway.config.describe import rows
from gateway.config.records import Config, Settings
from gateway.observe import log as telemetry
from gateway.observe.log import log
from gateway.observe.shared_memory import Board
from gateway.routing.urls import Routes
from gateway.server.control import Control
from gateway.server.loop import new_loop
from gateway.server.snapshot import past_counts
from gateway.server.supervisor import Supervisor
from gateway.server.worker import Shared
from gateway.text import aligned


def serve(config: Config, routes: Routes, load_application: Callable[[Shared], Any]) -> int:
    """Serve until a signal; the exit code. Raises AddressInUse, OSError for an address that cannot be bound."""
    settings = config.settings
    address = resolved(settings.bind)
    if not settings.reuse_port:
        try_bind(address)
    board, bloom_filter = (
        Board(settings.workers),
        BloomFilter(),
    )  # shared by forked workers
    control = Control(settings)
    server = _granian(settings, control, address)
    announce(config, routes, address)
    if routes.threads:
        log.warning("start.threads", threads=routes.threads, detail="they are not in the workers: on_worker_start()")

    def load() -> Any:
        control.begin()
        telemetry.stdout_to_null()
        past = past_counts(board.join(control.number))
        return load_application(Shared(board, past, bloom_filter, on_started=control.attach, on_stopped=control.leave))

    # What is imported by now is shared with the workers, aiohttp too, and the collector leaves it alone.
    importlib.import_module("gateway.upstreams.client")
    gc.collect()
    gc.freeze()
    server.serve(target_loader=load, wrap_loader=False)
    cut = control.cut_count()
    if cut:
        log.warning("drain.cut", count=cut)
    if not server.has_failed:
        log.info("drain.done")
    return int(server.has_failed)


def _granian(settings: Settings, control: Control, address: Address) -> Supervisor:
    multiprocessing.set_start_method("fork", force=True)
    loops.register(Loops.uvloop.value)(new_loop)
    return Supervisor(
        settings,
        control,
        address=address[0],
        port=address[1],
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        websockets=True,
        backlog=2048,
        backpressure=_max_connections(),
        http1_settings=HTTP1Settings(header_read_timeout=int(settings.client_keepalive_s * 1000)),
        log_level=LogLevels.error,  # its warnings are about a stop, and untrue at times
        log_dictconfig=telemetry.granian_logging(),
    )


def _max_connections() -> int:
    """Client connections that a worker takes at once: each may need an upstream one, and some files are open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):
            pass  # some systems name a hard limit that they do not grant
    return 10_000 if soft == resource.RLIM_INFINITY else max(128, min(10_000, (soft - 128) // 2))


def announce(config: Config, routes: Routes, listens_on: Address) -> None:
    """What is served, before it is: a short table for people, one line each for machines."""
    settings = config.settings
    address = f"http://{shown(listens_on)}"
    upstreams = [(name, [base.origin + base.prefix for base in up.bases]) for name, up in config.upstreams.items()]
    table = rows(routes)
    if settings.log == "json":
        log.info("start", version=__version__, address=address, workers=settings.workers)
        for name, bases in upstreams:
            log.info("start.upstream", upstream=name, endpoints=bases)
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
        blocks.append("Upstreams\n" + aligned([[name, ", ".join(bases)] for name, bases in upstreams]))
    blocks.append("Routes\n" + aligned([[row["pattern"], "->", row["target"], f"({row['origin']})"] for row in table]))
    log.info("start", text="\n\n".join(blocks) + "\n")
