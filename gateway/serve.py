"""`gateway serve`: Granian with our flags, its workers, and a stop that loses nothing.

The parent process holds no traffic. On the first SIGTERM or SIGINT it marks every worker as draining, keeps accepting
for GATEWAY_DRAIN_DELAY what no other gateway on the port can take, then lets Granian close the listeners and wait. Each
worker cuts what is left after GATEWAY_DRAIN. A second signal cuts at once. Parent and workers talk by closing pipes,
which also tells the workers when the parent was killed: then they drain and go, so that no orphan holds the port.
"""

import asyncio
import contextlib
import gc
import importlib
import mmap
import multiprocessing
import os
import resource
import select
import signal
import socket
import struct
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from granian import loops
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from gateway import __version__, telemetry
from gateway.board import Board
from gateway.config import Config, Settings
from gateway.handover import SharedPort
from gateway.known import Known
from gateway.loop import new_loop
from gateway.routing import Routes
from gateway.runtime import Runtime
from gateway.sever import limit_unread
from gateway.startup import aligned, rows
from gateway.telemetry import log

# How long a worker that has cut its requests may take to leave by itself.
_LEAVE_S = 0.7
_LISTENS_S, _SOON_S = 0.1, 0.02
_STOPS = frozenset({signal.SIGINT, signal.SIGTERM})
# How long those who reached a worker last may take to say what they want, where others take the new ones.
_SETTLE_S = 0.5
_CLOSED = -1
_COUNT = struct.Struct("<i")


class AddressInUse(Exception):
    """Somebody listens there already; the text is the one line to show."""


class Control:
    """The line between parent and workers. Made in the parent before it forks; `attach` in a worker's loop.

    The parent speaks to all workers at once by closing a pipe, whose end each of them sees. A killed parent's pipes
    close too, but without the word in shared memory: that tells an order from a death.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parent = os.getpid()
        self._port = SharedPort(settings.bind[1], settings.workers)
        self._words = mmap.mmap(-1, 3)  # shared with the workers: [draining, cutting, stopping]
        self._drain = os.pipe()
        self._cut = os.pipe()
        self._counts = os.pipe()
        os.set_blocking(self._counts[0], False)

    # -- in the parent --------------------------------------------------------------------------------------------

    def watch_signals(self, stop: Callable[[], None]) -> None:
        """Take SIGTERM and SIGINT over from Granian; `stop` makes it close its listeners and end its workers.

        Python runs its handlers in the main thread and between two of its steps: there a second signal would enter what
        the first one holds, and one that comes just before the thread falls asleep is heard when the next one comes. So
        the numbers go through a pipe, from C, to a thread that does the rest.
        """
        heard, said = os.pipe()
        os.set_blocking(said, False)

        def listen() -> None:
            self._begin_drain(signal.Signals(os.read(heard, 1)[0]))
            select.select([heard], [], [], self._settings.drain_delay_s)  # a second signal ends the wait
            self._words[2] = 1
            stop()
            os.read(heard, 1)
            self._words[1] = 1
            self._cut = _write_end_closed(self._cut)

        threading.Thread(target=listen, name="portway-signals", daemon=True).start()
        signal.set_wakeup_fd(said, warn_on_full_buffer=False)
        # A worker hears of it by the closed pipe, and what it is told itself is not for this one.
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, lambda number, frame: None)

    def _begin_drain(self, by: signal.Signals) -> None:
        log.info("drain.started", signal=by.name)
        self._words[0] = 1
        self._drain = _write_end_closed(self._drain)

    @property
    def is_stopping(self) -> bool:
        return self._words[2] == 1

    def cut_count(self) -> int:
        """How many requests the workers had to cut, once they have ended."""
        total = 0
        with contextlib.suppress(BlockingIOError):
            while len(data := os.read(self._counts[0], _COUNT.size)) == _COUNT.size:
                total += _COUNT.unpack(data)[0]
        return total

    # -- in a worker ----------------------------------------------------------------------------------------------

    def attach(self, runtime: Runtime) -> None:
        """Hear of draining and of the end. Called in the worker's loop before it serves."""
        loop = asyncio.get_running_loop()
        if runtime.board is not None:
            runtime.board.join()
        # Ctrl-C, and systemd, signal every process of a group: what follows from it is the parent's to decide, so a
        # SIGTERM counts only once the parent stops. The loop keeps Granian's handler of SIGINT, by which `stop` asks
        # Granian to close its listener and finish.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._drain, self._cut = _write_end_closed(self._drain), _write_end_closed(self._cut)

        def on_listening() -> None:
            # Granian opens its listener only when the application has started.
            if self._port.joined():
                limit_unread(self._settings.client_idle_s)
                log.info("worker.ready", pid=os.getpid())
            else:
                loop.call_later(_LISTENS_S, on_listening)

        def stop() -> None:
            if not self._port.is_open:  # Granian does not serve yet: told now, it would wait for itself
                loop.call_later(_SOON_S, stop)
                return
            signal.signal(signal.SIGINT, lambda number, frame: None)
            os.kill(os.getpid(), signal.SIGINT)

        def cut() -> None:
            os.write(self._counts[1], _COUNT.pack(runtime.cut()))
            _leave_within(_LEAVE_S)

        def on_term() -> None:
            if self._words[2]:
                loop.call_later(_SETTLE_S if self._port.step_aside(closing=True) else 0, stop)

        def on_drain() -> None:
            loop.remove_reader(self._drain[0])
            runtime.drain()
            self._port.step_aside(closing=False)
            delay_s = self._settings.drain_delay_s
            if not self._words[0]:  # the parent was killed: finish, and leave the port free
                delay_s = 0.0
                stop()
            loop.call_later(delay_s + self._settings.drain_s, cut)
            _leave_within(delay_s + self._settings.drain_s + 2 * _LEAVE_S)

        def on_cut() -> None:
            loop.remove_reader(self._cut[0])
            if self._words[1]:
                cut()

        loop.add_signal_handler(signal.SIGTERM, on_term)
        # It may have come before anybody listened; the parent, which must know first that it stops, gets a moment.
        loop.call_later(_LEAVE_S, on_term)
        loop.call_later(_LISTENS_S, on_listening)
        loop.add_reader(self._drain[0], on_drain)
        loop.add_reader(self._cut[0], on_cut)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)


def _leave_within(seconds: float) -> None:
    """End this worker by then, whatever its loop does, and even if a thread of a synchronous view still runs."""
    timer = threading.Timer(seconds, os._exit, (0,))
    timer.daemon = True
    timer.start()


def _write_end_closed(pipe: tuple[int, int]) -> tuple[int, int]:
    """The pipe after its write end was closed, once: its number may soon be another file's."""
    read_end, write_end = pipe
    if write_end != _CLOSED:
        os.close(write_end)
    return read_end, _CLOSED


def serve(config: Config, routes: Routes, load_application: Callable[[], Any]) -> int:
    """Serve until a signal; the exit code. Raises AddressInUse, OSError for an address that cannot be bound."""
    settings = config.settings
    if not settings.reuse_port:
        try_bind(*settings.bind)
    control = Control(settings)
    board, known = Board(settings.workers), Known()  # what forked workers share, and those that follow them
    server = _granian(settings)
    announce(config, routes)
    if routes.threads:
        log.warning("start.threads", threads=routes.threads, detail="they are not in the workers: on_worker_start()")

    def load() -> Any:
        # Until `attach` a signal would find Granian's handlers, in a worker that cannot stop yet.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        application = load_application()
        application.runtime.board, application.runtime.cache.known = board, known
        application.on_started = control.attach
        application.on_stopped = partial(_leave_within, _LEAVE_S)
        return application

    # By the time its hooks run, Granian has set its own signal handlers: ours replace them.
    server.on_startup(lambda: control.watch_signals(server.signal_handler_interrupt))
    # What is imported by now is shared with the workers, aiohttp too, and the collector leaves it alone.
    importlib.import_module("gateway.client")
    gc.collect()
    gc.freeze()
    try:
        server.serve(target_loader=load, wrap_loader=False)
    except SystemExit as error:
        # Granian calls it a crash when a worker leaves before it was told to, also while all of them stop.
        if error.code and not control.is_stopping:
            return 1
    cut = control.cut_count()
    if cut:
        log.warning("drain.cut", count=cut)
    log.info("drain.done")
    return 0


def _granian(settings: Settings) -> MPServer:
    multiprocessing.set_start_method("fork", force=True)
    loops.register(Loops.uvloop.value)(new_loop)
    host, port = settings.bind
    return MPServer(
        "asgi:application",
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        workers=settings.workers,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        websockets=True,
        backlog=2048,
        backpressure=_max_connections(),
        http1_settings=HTTP1Settings(header_read_timeout=int(settings.client_idle_s * 1000)),
        log_level=LogLevels.error,  # its warnings are about a stop, and untrue at times
        log_dictconfig=telemetry.granian_logging(),
        respawn_failed_workers=True,
        workers_kill_timeout=settings.drain_s + 2 * _LEAVE_S,  # type: ignore[arg-type]  # it is a join's timeout
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


def try_bind(host: str, port: int) -> None:
    """Raises AddressInUse when the address is taken. Granian itself sets SO_REUSEPORT and would share it silently."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # A restart is not held up by connections in TIME_WAIT.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise AddressInUse(
                f"cannot listen on {_shown(host, port)}: {(error.strerror or str(error)).lower()}"
            ) from error


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def announce(config: Config, routes: Routes) -> None:
    """What is served, before it is: a short table for people, one line each for machines."""
    settings = config.settings
    address = f"http://{_shown(*settings.bind)}"
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
