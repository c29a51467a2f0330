"""SRV records over a real name server: TTLs, TCP for large answers, what is not there, a server that is away."""

from collections.abc import Iterator

import dns.rcode
import pytest

from gateway.discovery.answers import Away
from gateway.discovery.srv import SrvSource
from gateway.upstreams.places import Source
from tests.discovery.name_server import NameServer, resolver_for

NAME = "_http._tcp.school.test"
SOURCE = Source("srv", "http", NAME, "/api")


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer() as one:
        yield one


@pytest.fixture
def school(server: NameServer) -> SrvSource:
    server.say(
        {
            (NAME, "SRV"): (30, ["1 10 8081 one.test.", "1 20 8082 Two.Test."]),
            ("one.test", "A"): (20, ["127.0.0.11"]),
            ("two.test", "A"): (40, ["127.0.0.12", "127.0.0.13"]),
        }
    )
    return SrvSource(SOURCE, lambda: resolver_for(server))


async def found(source: SrvSource) -> list[tuple[str, str, float | None]]:
    answer = await source.ask(None)
    return [(str(one.base), one.addresses[0], one.weight) for one in answer.instances]


async def test_port_weight_and_each_address_of_a_target(school: SrvSource) -> None:
    assert await found(school) == [
        ("http://one.test:8081/api", "127.0.0.11", 10),
        ("http://two.test:8082/api", "127.0.0.12", 10),
        ("http://two.test:8082/api", "127.0.0.13", 10),
    ]


async def test_it_is_asked_again_when_the_shortest_ttl_is_over(school: SrvSource, server: NameServer) -> None:
    assert (await school.ask(None)).again_s == 20
    server.say({(NAME, "SRV"): (5, ["1 10 8081 one.test."])})
    assert (await school.ask(None)).again_s == 5
    server.say({("one.test", "A"): (0, ["127.0.0.11"])})
    assert (await school.ask(None)).again_s == 1  # never more often than each second


async def test_a_large_answer_comes_over_tcp(school: SrvSource, server: NameServer) -> None:
    records = [f"1 10 {port} one.test." for port in range(8000, 8200)]
    server.say({(NAME, "SRV"): (30, records)})
    assert len((await school.ask(None)).instances) == 200
    assert [transport for name, kind, transport in server.asked if kind == "SRV"] == ["udp", "tcp"]


@pytest.mark.parametrize("records", [{(NAME, "SRV"): (30, [])}, {(NAME, "SRV"): (30, ["0 0 0 ."])}])
async def test_no_record_is_no_instance(
    school: SrvSource, server: NameServer, records: dict[tuple[str, str], tuple[int, list[str]]]
) -> None:
    server.say(records)
    assert await found(school) == []


async def test_a_name_that_there_is_not_is_no_instance(school: SrvSource, server: NameServer) -> None:
    server.records.clear()
    assert await found(school) == []


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
async def test_a_server_that_fails_is_away(school: SrvSource, server: NameServer, rcode: dns.rcode.Rcode) -> None:
    server.rcode = rcode
    with pytest.raises(Away, match="All nameservers failed"):
        await school.ask(None)


async def test_a_server_that_is_silent_is_away(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.discovery.srv._LIFETIME_S", 0.6)
    server.is_silent = True
    with pytest.raises(Away, match="LifetimeTimeout"):
        await SrvSource(SOURCE, lambda: resolver_for(server)).ask(None)


async def test_a_target_that_cannot_be_asked_for_keeps_its_addresses(school: SrvSource, server: NameServer) -> None:
    before = await found(school)
    usual = server.answer

    def fails_for_two(wire: bytes, transport: str) -> bytes | None:
        server.rcode = dns.rcode.SERVFAIL if b"\x03two" in wire.lower() else dns.rcode.NOERROR
        return usual(wire, transport)

    server.answer = fails_for_two  # type: ignore[method-assign]
    assert await found(school) == before
    server.answer = usual  # type: ignore[method-assign]
    server.rcode = dns.rcode.NOERROR
    del server.records["two.test", "A"]  # it is gone for good
    assert [url for url, _, _ in await found(school)] == ["http://one.test:8081/api"]
