"""SRV records as a gateway finds them: by resolv.conf and its search domains, from a name server on port 53.

The gateway has a resolv.conf of its own, in a mount namespace. All of 127.0.0.0/8 is this machine: one server listens
at all of it and tells at which address it was asked.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import dns.rcode
import pytest

from tests.discovery.name_server import NameServer, can_be_bound
from tests.live.harness import Gateway, eventually
from tests.live.upstreams.test_resolver import UNSHARE, Everywhere, why_not

SERVER = "127.0.0.153"
NAME = "_http._tcp.school.service.test"
ENTER = 'mount --bind "$0/resolv.conf" /etc/resolv.conf && exec "$@"'


class Names:
    """A name server, a service at every address, and the gateway."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.server = stack.enter_context(NameServer(SERVER, 53))
        self.service = stack.enter_context(Everywhere())
        (folder / "resolv.conf").write_text(f"nameserver {SERVER}\nsearch service.test\noptions timeout:1 attempts:1\n")
        self.say(("1 3", 11), ("1 1", 12), ("2 0", 13))
        environment = {
            "GATEWAY_UPSTREAM_SCHOOL": f"srv+http://{NAME}/api",
            "GATEWAY_UPSTREAM_SHORT": "srv+http://_http._tcp.school",
            "GATEWAY_UPSTREAM_NOBODY": "srv+http://_http._tcp.nobody.service.test",
            "GATEWAY_ADMIN_TOKEN": "admin",
        }
        for name in ("school", "short", "nobody"):
            environment[f"GATEWAY_ROUTE_{name.upper()}"] = f"/{name}/** -> {name}"
        within = [*UNSHARE, ENTER, str(folder)]
        self.gateway = stack.enter_context(Gateway(environment, cwd=folder, within=within))

    def say(self, *instances: tuple[str, int], ttl: int = 0) -> None:
        """From now on these are the records: priority and weight, and the last number of the target's address."""
        port = self.service.port
        records = [f"{how} {port} i{number}.school.service.test." for how, number in instances]
        self.server.say({(NAME, "SRV"): (ttl, records)})
        self.server.say(
            {(f"i{number}.school.service.test", "A"): (ttl, [f"127.0.0.{number}"]) for _, number in instances}
        )

    def asked(self, name: str = "school", count: int = 40) -> dict[int, int]:
        """How often each address is asked, by its last number."""
        counts: dict[int, int] = {}
        for _ in range(count):
            answer = self.gateway.get(f"/{name}/x")
            assert answer.status == 200, answer
            number = int(answer.body.decode().rpartition(".")[2])
            counts[number] = counts.get(number, 0) + 1
        return counts


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Names]:
    if why_not():
        pytest.skip(why_not())
    if not can_be_bound(SERVER, 53):
        pytest.skip("no name server can listen on port 53 here")
    with ExitStack() as stack:
        yield Names(stack, tmp_path_factory.mktemp("srv"))


def test_the_first_priority_is_asked_by_weight_at_its_port_below_the_prefix(names: Names) -> None:
    counts = names.asked(count=100)
    assert set(counts) == {11, 12}  # 13 stands in for them
    assert 8 <= counts[12] <= 45  # a quarter
    request = names.service.asked_at("127.0.0.11")[-1]
    assert request.target == "/api/school/x"
    assert request.one("host") == f"i11.school.service.test:{names.service.port}"


def test_search_domains_hold(names: Names) -> None:
    assert set(names.asked("short")) == {11, 12}


def test_records_that_change_each_second_are_followed(names: Names) -> None:
    for numbers in ((21, 22), (22, 23), (31,)):
        names.say(*((f"1 {10}", number) for number in numbers))
        eventually(lambda numbers=numbers: set(names.asked()) == set(numbers))  # type: ignore[misc]


def test_many_records_come_over_tcp(names: Names) -> None:
    names.say(*(("1 10", number) for number in range(41, 91)))
    eventually(lambda: len(names.asked(count=80)) > 20)
    assert "tcp" in {transport for name, _, transport in names.server.asked if name == NAME}


def test_the_last_list_outlives_a_name_server_that_is_away_or_knows_nothing(names: Names) -> None:
    names.say(("1 10", 51))
    eventually(lambda: set(names.asked()) == {51})
    names.server.rcode = dns.rcode.SERVFAIL
    wanted = {"event": "upstream.lookup_failed", "upstream": "school", "host": f"srv+http://{NAME}/api"}
    names.gateway.wait_for_log(lambda line: wanted.items() <= line.items())
    assert set(names.asked()) == {51}
    names.server.rcode = dns.rcode.NOERROR
    names.server.say({(NAME, "SRV"): (0, [])})
    empty = {"event": "upstream.lookup_empty", "upstream": "school", "kept": 1}
    names.gateway.wait_for_log(lambda line: empty.items() <= line.items())
    assert set(names.asked()) == {51}
    names.say(("1 10", 52))
    eventually(lambda: set(names.asked()) == {52})


def test_a_service_that_there_is_not_is_dns_failed(names: Names) -> None:
    answer = names.gateway.get("/nobody/x")
    assert (answer.status, json.loads(answer.body)["reason"]) == (502, "dns_failed")


def test_the_status_names_the_records(names: Names) -> None:
    found = names.gateway.get("/-/status", "Authorization: Bearer admin").json()["upstreams"]
    (school,) = (one for one in found if one["name"] == "school")
    assert [one["source"] for one in school["sources"]] == [f"srv+http://{NAME}/api"]
