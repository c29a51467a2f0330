"""Names whose addresses change, as the system's own resolver finds them.

The gateway has an /etc/hosts of its own, in a mount namespace; glibc reads it at every look-up. All of 127.0.0.0/8 is
this machine: one server listens at all of it and tells at which address it was asked.
"""

import contextlib
import functools
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.live.harness import OK, PATIENCE_S, Answer, Gateway, Request, eventually, request_bytes
from tests.live.stage import Actor, message

SIZE = 4096
TTL_S = 0.1
AT_ONCE_S = 2.0  # long before an idle connection is closed anyway
ENTER = 'mount --bind "$0/hosts" /etc/hosts && mount --bind "$0/nsswitch.conf" /etc/nsswitch.conf && exec "$@"'
UNSHARE = ["unshare", "--map-root-user", "--mount", "sh", "-c"]


class Hosts:
    """A machine's own names. Nothing else knows any: no name server is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "hosts"
        self.path.write_bytes(b"\n" * SIZE)
        (folder / "nsswitch.conf").write_text("hosts: files\n")
        self._names: dict[str, str] = {}

    def say(self, name: str, addresses: str) -> None:
        """A name has these addresses from now on; without any it is one that does not resolve."""
        self._names[name] = addresses
        text = "".join(
            f"{address} {name}\n" for name, all_of_it in self._names.items() for address in all_of_it.split()
        )
        # In one write, and never shorter: nobody reads half of it.
        with self.path.open("r+b", buffering=0) as file:
            file.write(text.encode().ljust(SIZE, b"\n"))


def gateway_with(hosts: Hosts, environment: Mapping[str, str]) -> Gateway:
    """A gateway for which these are all the names there are."""
    return Gateway(environment, cwd=hosts.folder, within=[*UNSHARE, ENTER, str(hosts.folder)])


@functools.cache
def why_not() -> str:
    """Why no process can have an /etc/hosts of its own here, or nothing."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        tried = subprocess.run(
            [*UNSHARE, "mount --bind /dev/null /etc/hosts"], capture_output=True, text=True, timeout=10, check=False
        )
        return "" if tried.returncode == 0 else f"mount namespaces are not allowed here: {tried.stderr.strip()}"
    return "there is no unshare here"


class Everywhere(Actor):
    """A service at every address of this machine, which says at which one it was asked."""

    def __init__(self) -> None:
        self._asked_at: list[tuple[str, Request]] = []
        super().__init__(host="0.0.0.0")
        self.act = self.tells

    def on_head(self, request: Request) -> None:
        self._asked_at.append((request.connection.socket.getsockname()[0], request))

    def tells(self, request: Request) -> None:
        request.send(message("200 OK", self.where(request).encode()))

    def where(self, request: Request) -> str:
        return next(address for address, one in reversed(self._asked_at) if one is request)

    def asked_at(self, address: str) -> list[Request]:
        return [request for at, request in list(self._asked_at) if at == address]


class Names:
    """The gateway, the machine's names, and the service behind all of them."""

    def __init__(self, gateway: Gateway, hosts: Hosts, service: Everywhere) -> None:
        self.gateway = gateway
        self.hosts = hosts
        self.service = service

    def ask(self, name: str, method: str = "GET", path: str = "/x") -> Answer:
        return self.gateway.ask(request_bytes(method, f"/{name}{path}"))

    def asked(self, name: str, count: int = 30) -> Counter[str]:
        """The addresses at which so many requests were received."""
        answers = [self.ask(name) for _ in range(count)]
        assert {answer.status for answer in answers} == {200}
        return Counter(answer.body.decode() for answer in answers)

    def says(self, event: str, name: str, **values: Any) -> dict[str, Any]:
        """What the log says of that upstream, once it does."""
        wanted = {"event": event, "upstream": name, **values}
        return self.gateway.wait_for_log(lambda line: wanted.items() <= line.items())

    def said(self, event: str, name: str) -> int:
        return sum(line["event"] == event and line["upstream"] == name for line in list(self.gateway.log))

    def labels(self, *numbers: int) -> list[str]:
        return [f"127.0.0.{number}:{self.service.port}" for number in numbers]


# Each test has an upstream and a name of its own; what the name has at first, and the options.
AT_FIRST: dict[str, tuple[str, dict[str, str]]] = {
    "many": ("127.0.0.11 127.0.0.12 127.0.0.13", {}),
    "joins": ("127.0.0.21", {}),
    "goes": ("127.0.0.31 127.0.0.32", {"BALANCE": "round_robin"}),
    "steady": ("127.0.0.41 127.0.0.42", {"BALANCE": "round_robin"}),
    "fails": ("127.0.0.51 127.0.0.52", {}),
    "nobody": ("", {}),
    "patient": ("", {"DNS_TTL": "60s"}),
    "moves": ("127.0.0.61", {"RETRIES": "0"}),
    "loaded": ("127.0.0.71 127.0.0.72", {}),
    "probed": ("127.0.0.81", {"HEALTH": "/healthz", "HEALTH_INTERVAL": "50ms"}),
    "half": ("", {}),
    "clock": ("127.0.0.101", {}),
}


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Names]:
    if why_not():
        pytest.skip(why_not())
    hosts = Hosts(tmp_path_factory.mktemp("names"))
    with Everywhere() as service, Actor("four") as four, Actor("six", host="::1") as six:
        environment = {
            "GATEWAY_UPSTREAM_FOUR": f"http://localhost:{four.port}",
            "GATEWAY_UPSTREAM_SIX": f"http://localhost:{six.port}",
            "GATEWAY_ROUTE_FOUR": "/four/** -> four",
            "GATEWAY_ROUTE_SIX": "/six/** -> six",
        }
        hosts.say("localhost", "127.0.0.1 ::1")
        for name, (addresses, options) in AT_FIRST.items():
            hosts.say(f"{name}.test", addresses)
            variable = f"GATEWAY_UPSTREAM_{name.upper()}"
            environment |= {variable: f"http://{name}.test:{service.port}", f"{variable}__DNS_TTL": f"{TTL_S}s"}
            environment |= {f"{variable}__{option}": text for option, text in options.items()}
            environment[f"GATEWAY_ROUTE_{name.upper()}"] = f"/{name}/** -> {name}"
        environment["GATEWAY_UPSTREAM_HALF"] += f",http://127.0.0.91:{service.port}"
        with gateway_with(hosts, environment) as gateway:
            yield Names(gateway, hosts, service)


def pass_look_ups(names: Names) -> None:
    """Until every name was looked up twice or more: one that moves again and again is the clock of all of them."""
    for number in (102, 101, 102, 101):
        move_clock(names, f"127.0.0.{number}")


def move_clock(names: Names, address: str) -> None:
    had = names.said("upstream.changed", "clock")
    names.hosts.say("clock.test", address)
    eventually(lambda: names.said("upstream.changed", "clock") > had)


def hold(names: Names, name: str, pool: ThreadPoolExecutor) -> tuple[Request, "Future[Answer]"]:
    """A request in flight, of which nothing was answered yet."""
    held = list[Request]()

    def take(request: Request) -> None:
        (held.append if request.target == f"/{name}/held" and not held else names.service.tells)(request)

    names.service.act = take
    answer = pool.submit(names.ask, name, path="/held")
    eventually(lambda: held)
    names.service.act = names.service.tells
    return held[0], answer


# -- addresses ----------------------------------------------------------------------------------------------------


def test_every_address_of_a_name_is_asked(names: Names) -> None:
    asked = names.asked("many", 60)
    assert set(asked) == {"127.0.0.11", "127.0.0.12", "127.0.0.13"}
    assert min(asked.values()) >= 5
    answer = names.ask("many")
    assert names.gateway.request_line(answer.one("x-request-id"))["endpoint"] in names.labels(11, 12, 13)
    assert names.service.asked_at("127.0.0.11")[0].one("host") == f"many.test:{names.service.port}"


def test_a_new_address_joins(names: Names) -> None:
    assert set(names.asked("joins", 10)) == {"127.0.0.21"}
    names.hosts.say("joins.test", "127.0.0.21 127.0.0.22")
    line = names.says("upstream.changed", "joins")
    assert (line["level"], line["host"], line["joined"], line["gone"]) == ("info", "joins.test", names.labels(22), [])
    assert set(names.asked("joins")) == {"127.0.0.21", "127.0.0.22"}


def test_an_address_that_is_gone_is_asked_no_more_and_ends_what_it_had_begun(names: Names) -> None:
    with ThreadPoolExecutor(1) as pool:
        held, answer = hold(names, "goes", pool)
        names.asked("goes", 4)
        gone = names.service.where(held)
        stays = ({"127.0.0.31", "127.0.0.32"} - {gone}).pop()
        idle = {request.connection for request in names.service.asked_at(gone)} - {held.connection}
        assert [connection.is_open for connection in idle] == [True]
        names.hosts.say("goes.test", stays)
        line = names.says("upstream.changed", "goes")
        assert (line["joined"], line["gone"]) == ([], [f"{gone}:{names.service.port}"])
        had = len(names.service.asked_at(gone))
        assert set(names.asked("goes")) == {stays}
        assert len(names.service.asked_at(gone)) == had
        eventually(lambda: not any(connection.is_open for connection in idle), AT_ONCE_S)
        assert held.connection.is_open
        held.send(OK)
        assert answer.result(PATIENCE_S).body == b"hello"
        eventually(lambda: not held.connection.is_open, AT_ONCE_S)


def test_the_only_address_moves_and_no_request_is_lost(names: Names) -> None:
    with ThreadPoolExecutor(1) as pool:
        held, answer = hold(names, "moves", pool)
        names.hosts.say("moves.test", "127.0.0.62")
        line = names.says("upstream.changed", "moves")
        assert (line["joined"], line["gone"]) == (names.labels(62), names.labels(61))
        assert set(names.asked("moves", 10)) == {"127.0.0.62"}
        held.send(OK)
        assert answer.result(PATIENCE_S).body == b"hello"


def test_an_address_that_stays_keeps_its_connections_and_an_order_is_no_change(names: Names) -> None:
    assert set(names.asked("steady", 10)) == {"127.0.0.41", "127.0.0.42"}
    names.hosts.say("steady.test", "127.0.0.42 127.0.0.41 127.0.0.42")
    pass_look_ups(names)
    connections = [request.connection for request in names.service.asked if request.target == "/steady/x"]
    assert len(set(connections)) == 2
    assert all(connection.is_open for connection in connections)
    assert names.asked("steady", 10) == {"127.0.0.41": 5, "127.0.0.42": 5}
    assert names.said("upstream.changed", "steady") == 0


def test_probes_begin_with_an_address_and_end_with_it(names: Names) -> None:
    def probes(address: str) -> int:
        return sum(request.target == "/healthz" for request in names.service.asked_at(address))

    eventually(lambda: probes("127.0.0.81") > 1)
    names.hosts.say("probed.test", "127.0.0.82")
    eventually(lambda: probes("127.0.0.82") > 1)
    had = probes("127.0.0.81")
    eventually(lambda: probes("127.0.0.82") > 5)
    assert probes("127.0.0.81") - had <= 1


# -- names that do not resolve -------------------------------------------------------------------------------------


def test_a_look_up_that_fails_keeps_the_last_good_answer_and_is_told_once(names: Names) -> None:
    assert set(names.asked("fails")) == {"127.0.0.51", "127.0.0.52"}
    names.hosts.say("fails.test", "")
    line = names.says("upstream.lookup_failed", "fails")
    assert (line["level"], line["host"]) == ("warning", "fails.test")
    assert "Name or service not known" in line["cause"]
    pass_look_ups(names)
    assert set(names.asked("fails")) == {"127.0.0.51", "127.0.0.52"}
    assert names.said("upstream.lookup_failed", "fails") == 1
    assert names.said("upstream.changed", "fails") == 0
    names.hosts.say("fails.test", "127.0.0.52 127.0.0.53")
    line = names.says("upstream.changed", "fails")
    assert (line["joined"], line["gone"]) == (names.labels(53), names.labels(51))
    assert names.says("upstream.lookup_works", "fails", level="info")["host"] == "fails.test"
    names.hosts.say("fails.test", "")
    eventually(lambda: names.said("upstream.lookup_failed", "fails") == 2)
    assert set(names.asked("fails")) == {"127.0.0.52", "127.0.0.53"}


def test_a_name_that_does_not_resolve_is_an_error_at_once_and_heals_soon(names: Names) -> None:
    """However seldom it is looked up later on: until it is known it is tried again every second."""
    for name in ("patient", "nobody"):
        began_s = time.monotonic()
        answer = names.ask(name, "POST")
        assert time.monotonic() - began_s < 1.0
        assert (answer.status, answer.json()["reason"]) == (502, "dns_failed")
        assert answer.one("proxy-status") == f'portway; error=dns_error; next-hop="{name}"'
        line = names.gateway.request_line(answer.one("x-request-id"))
        assert (line["attempts"], line["endpoint"]) == (0, None)
        assert names.said("upstream.lookup_failed", name) == 1
        names.hosts.say(f"{name}.test", "127.0.0.2")
    for name in ("nobody", "patient"):
        eventually(lambda name=name: names.ask(name).status == 200, 3.0)  # type: ignore[misc]


def test_a_name_that_does_not_resolve_takes_nothing_from_the_other_endpoints(names: Names) -> None:
    assert set(names.asked("half", 10)) == {"127.0.0.91"}
    names.hosts.say("half.test", "127.0.0.92")
    eventually(lambda: set(names.asked("half", 10)) == {"127.0.0.91", "127.0.0.92"})


@pytest.mark.parametrize("name", ["four", "six"])
def test_localhost_is_found_at_once_whichever_of_its_addresses_the_service_has(names: Names, name: str) -> None:
    """Both are one endpoint: of two, one would always refuse, which costs retries, an ejection, and trials for ever."""
    for method in ("GET", "POST") * 10:
        answer = names.ask(name, method)
        assert (answer.status, answer.body) == (200, name.encode())
        line = names.gateway.request_line(answer.one("x-request-id"))
        assert (line["attempts"], line["endpoint"].partition(":")[0]) == (1, "localhost")
    assert names.said("upstream.ejected", name) == 0


# -- under load ---------------------------------------------------------------------------------------------------


def test_under_steady_load_no_request_fails_while_addresses_change(names: Names) -> None:
    over = threading.Event()

    def ask_on(method: str) -> Counter[tuple[int, int]]:
        outcomes = Counter[tuple[int, int]]()
        with names.gateway.connect() as wire:
            while not over.is_set():
                wire.send(request_bytes(method, "/loaded/x"))
                answer = wire.read_answer()
                line = names.gateway.request_line(answer.one("x-request-id"))
                outcomes[answer.status, line["attempts"]] += 1
        return outcomes

    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(ask_on, method) for method in ("GET", "POST", "PUT", "GET")]
        try:
            for number in range(4):
                stays, joins = f"127.0.0.{72 + number}", f"127.0.0.{73 + number}"
                names.hosts.say("loaded.test", f"{stays} {joins}")
                names.says("upstream.changed", "loaded", joined=names.labels(73 + number))
                eventually(lambda joins=joins: names.service.asked_at(joins))  # type: ignore[misc]
        finally:
            over.set()
        outcomes = sum((load.result(PATIENCE_S) for load in loads), Counter[tuple[int, int]]())
    assert set(outcomes) == {(200, 1)}, outcomes
    assert outcomes.total() > 100
    assert sum(request.target == "/loaded/x" for request in names.service.asked) == outcomes.total()
    asked = names.asked("loaded")
    assert set(asked) == {"127.0.0.75", "127.0.0.76"}


# -- a look-up that takes long ------------------------------------------------------------------------------------


@pytest.fixture
def stuck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Names]:
    """/etc/hosts is a pipe: whoever reads it waits until somebody has written."""
    if why_not():
        pytest.skip(why_not())
    hosts = Hosts(tmp_path_factory.mktemp("stuck"))
    hosts.path.unlink()
    os.mkfifo(hosts.path)
    with Everywhere() as service:
        environment = {
            "GATEWAY_UPSTREAM_SLOW": f"http://slow.test:{service.port}",
            "GATEWAY_UPSTREAM_SLOW__TIMEOUT": "300ms",
            "GATEWAY_UPSTREAM_QUICK": f"http://127.0.0.1:{service.port}",
            "GATEWAY_ROUTE_SLOW": "/slow/** -> slow",
            "GATEWAY_ROUTE_QUICK": "/quick/** -> quick",
        }
        with gateway_with(hosts, environment) as gateway:
            yield Names(gateway, hosts, service)


def test_a_look_up_that_hangs_holds_up_its_own_requests_alone_and_no_longer_than_their_time(stuck: Names) -> None:
    began_s = time.monotonic()
    answer = stuck.ask("slow")
    assert 0.28 <= time.monotonic() - began_s < 1.0
    assert (answer.status, answer.json()["reason"]) == (504, "dns_timeout")
    assert answer.one("proxy-status") == 'portway; error=dns_timeout; next-hop="slow"'
    assert stuck.gateway.request_line(answer.one("x-request-id"))["attempts"] == 0
    assert stuck.gateway.get("/-/ready").status == 200
    assert stuck.ask("quick").status == 200
    # Nor does one hold up the end.
    ended_s = time.monotonic()
    stuck.gateway.stop(5.0)
    assert time.monotonic() - ended_s < 3.0
