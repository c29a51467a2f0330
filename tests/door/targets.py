"""What the cases are sent through: our gateway, a bare Granian proxy, nginx, HAProxy; each before its own upstream."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.processes import Child
from bench.targets import TARGETS, Launch
from tests.live.harness import Gateway, eventually, free_port
from tests.live.proxy.test_tls import authority
from tests.live.server.test_tls import serving, trusting

from .probe import Lane
from .upstream import StrictUpstream

Target = Callable[[Path], contextlib.AbstractContextManager[Lane]]


def _gateway(name: str, *, speaks_tls: bool = False, **options: str) -> Target:
    @contextlib.contextmanager
    def running(folder: Path) -> Iterator[Lane]:
        with StrictUpstream() as upstream:
            environment = {"GATEWAY_UPSTREAM_B": upstream.url, "GATEWAY_ROUTE_B": "/** -> b", **options}
            tls = None
            if speaks_tls:  # HTTP/1.1 in it: what HTTP/2 has of its own is in live/server/test_http2.py
                environment |= serving(folder, authority(folder, "ours"))
                environment["GATEWAY_ADMIN_TOKEN"] = "hunter2"
                tls = trusting(folder)
            with Gateway(environment, cwd=folder, tls=tls) as gateway:
                workers = gateway.workers

                def is_alive() -> bool:
                    return gateway.process.poll() is None and gateway.workers == workers

                def is_idle() -> bool:
                    status = gateway.get("/-/status", *(["Authorization: Bearer hunter2"] if speaks_tls else []))
                    return bool(status.json()["in_flight"] == 0)

                address = (gateway.host, gateway.port)
                yield Lane(name, address, upstream, is_alive, "preserve" in str(options), tls=tls, is_idle=is_idle)

    return running


def _benched(name: str, bench_name: str, *, keeps_host: bool = False) -> Target:
    """One of the targets of the benchmark, with its configuration there."""

    @contextlib.contextmanager
    def running(folder: Path) -> Iterator[Lane]:
        with StrictUpstream() as upstream:
            port = free_port()
            command = TARGETS[bench_name](Launch(port, (upstream.url,), folder))
            core = min(os.sched_getaffinity(0))
            child = Child(command.argv, command.env, core, folder, name)
            try:

                def listens() -> bool:
                    assert not child.has_ended(), child.last_lines()
                    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                        return True
                    return False

                eventually(listens)
                yield Lane(name, ("127.0.0.1", port), upstream, lambda: not child.has_ended(), keeps_host)
            finally:
                child.stop()

    return running


ALL: dict[str, Target] = {
    "portway": _gateway("portway"),
    "portway-keeps-host": _gateway("portway-keeps-host", GATEWAY_UPSTREAM_B__HOST="preserve"),
    "portway-tls": _gateway("portway-tls", speaks_tls=True),
    "granian": _benched("granian", "floor"),
    "nginx": _benched("nginx", "nginx"),
    "haproxy": _benched("haproxy", "haproxy", keeps_host=True),
}
