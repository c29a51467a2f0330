"""What a request is counted by."""

import hashlib
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.limits.grammar import key
from gateway.limits.keys import client_value, digest, text_of, texts_for

UUID = "0a6d7d1e-3f35-4c6b-9a1e-0d5f6f1c2b3a"


def request_of(**said: Any) -> Any:
    """A request as keys look at it."""
    headers = [*said.get("headers", ())]
    headers += [(b"cookie", b"; ".join(b"%b=%b" % pair for pair in said["cookies"]))] if "cookies" in said else []
    return SimpleNamespace(
        exchange=SimpleNamespace(client=said.get("client", "203.0.113.7"), host=said.get("host"), route="users"),
        raw_headers=headers,
        from_trusted_peer=False,
        query=said.get("query", ""),
        raw_values=said.get("values", {}),
        resolver_match=None,
        identity=said.get("identity"),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:0db8:0001:0002:0000:0000:0000:0001", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::9]", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9%eth0", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:0:0:192.0.2.1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::ffff:cb00:7107", "203.0.113.7"),
        ("::1", "::/64"),
        ("unix", "unix"),
        ("", ""),
    ],
)
def test_an_address_in_any_spelling_is_one_client(text: str, expected: str) -> None:
    assert client_value(text) == expected


IDENTITY = SimpleNamespace(way="token", name="ann")
NAMELESS = SimpleNamespace(way="token", name="")  # of a token without `sub`


@pytest.mark.parametrize(
    ("by", "said", "expected"),
    [
        ("client", {}, "client=203.0.113.7"),
        ("client", {"client": "2001:db8::1"}, "client=2001:db8::/64"),
        ("identity", {"identity": IDENTITY}, "identity=token:ann"),
        ("identity", {}, "client=203.0.113.7"),
        ("identity", {"identity": NAMELESS}, "client=203.0.113.7"),
        ("header:x-tenant", {"headers": [(b"x-tenant", b"acme")]}, "header:x-tenant=acme"),
        ("header:x-tenant", {"headers": [(b"x-tenant", b"a"), (b"x-tenant", b"b")]}, "client=203.0.113.7"),
        ("header:x-tenant", {"headers": [(b"x-tenant", b"a,b")]}, "header:x-tenant=a,b"),
        ("header:x-tenant", {}, "client=203.0.113.7"),
        ("header:x-tenant", {"headers": [(b"x-tenant", b"")]}, "client=203.0.113.7"),
        ("header:x-tenant", {"headers": [(b"x-tenant", b"  ")]}, "client=203.0.113.7"),
        ("cookie:sid", {"cookies": [(b"sid", b"1")]}, "cookie:sid=1"),
        ("cookie:sid", {"cookies": [(b"other", b"1")]}, "client=203.0.113.7"),
        ("query:key", {"query": "key=a%20b"}, "query:key=a b"),
        ("query:key", {"query": "key=a&key=b"}, "client=203.0.113.7"),
        ("cookie:sid", {"cookies": [(b"sid", b"1"), (b"sid", b"2")]}, "client=203.0.113.7"),
        ("query:key", {"query": "key="}, "client=203.0.113.7"),
        ("host", {"host": "api.example.com"}, "host=api.example.com"),
        ("host", {}, "client=203.0.113.7"),
        ("{id}", {"values": {"id": "7"}}, "{id}=7"),
        ("{id}", {"values": {"id": "%37"}}, "{id}=7"),
        ("{id}", {"values": {"id": UUID.upper()}}, f"{{id}}={UUID}"),
        ("{id}", {"values": {"id": "Ann"}}, "{id}=Ann"),
        ("{id}", {}, "client=203.0.113.7"),
        ("route", {}, "route=users"),
        ("all", {}, "all=all"),
    ],
)
def test_the_key_of_a_request_falls_back_to_its_client(by: str, said: dict[str, Any], expected: str) -> None:
    assert text_of(key(by), request_of(**said)) == expected


def test_nobody_passes_for_somebody_else_by_what_he_sends() -> None:
    by = key("header:x-tenant")
    forged = request_of(headers=[(b"x-tenant", b"client=198.51.100.1")])
    assert text_of(by, forged) != text_of(by, request_of(client="198.51.100.1"))


def test_no_part_of_a_key_reads_as_the_end_of_another() -> None:
    by = key("query:a+query:b")
    one, other = request_of(query="a=x%2B9:query:b=y&b=z"), request_of(query="a=x&b=y%2B9:query:b=z")
    assert text_of(by, one) != text_of(by, other)


def test_a_key_of_64_kilobytes_is_16_bytes() -> None:
    text = text_of(key("header:x-tenant"), request_of(headers=[(b"x-tenant", b"a" * 65536)]))
    assert len(digest(text)) == 16
    assert digest(text) != digest(text + "a")


def test_with_a_secret_nobody_can_tell_the_digest() -> None:
    assert digest("client=203.0.113.7") == hashlib.blake2b(b"client=203.0.113.7", digest_size=16).digest()
    assert digest("client=203.0.113.7", b"secret") != digest("client=203.0.113.7")


@pytest.mark.parametrize(
    ("by", "written", "expected"),
    [
        ("client", "203.0.113.7", ["client=203.0.113.7"]),
        ("client", "2001:db8::7", ["client=2001:db8::/64"]),
        ("header:x-tenant", "acme", ["header:x-tenant=acme", "client=acme"]),
        ("header:x-tenant", "a+b", ["header:x-tenant=a+b", "client=a+b"]),
        ("client+{id}", "203.0.113.7+7", ["18:client=203.0.113.7+6:{id}=7"]),
        ("client+{id}", "203.0.113.7", []),
        ("{id}", UUID.upper(), [f"{{id}}={UUID}", f"client={UUID.upper()}"]),
        ("client+{id}", "203.0.113.7+7%2B8", ["18:client=203.0.113.7+8:{id}=7+8"]),
    ],
)
def test_what_somebody_means_who_writes_a_key(by: str, written: str, expected: list[str]) -> None:
    assert texts_for(key(by), written) == expected


@pytest.mark.parametrize(
    ("by", "said"),
    [
        *(("header:x-api-key", {"headers": [(b"x-api-key", value)]}) for value in (b"k", b"Bearer k", b"bEARER   k ")),
        ("header:x-api-key", {"headers": [(b"x-api-key", b""), (b"x-api-key", b"k"), (b"x-api-key", b" ")]}),
        *(
            ("query:key", {"query": f"key={value}"})
            for value in ("k", "%6b", "k%20", "+k", "bearer%20k", "k&key=&k%65y=", "k&key=%6b")
        ),
        *(("cookie:sid", {"cookies": [(b"sid", value)]}) for value in (b"k", b'"k"', b'"\\153"', b" k", b"Bearer k")),
        ("cookie:sid", {"cookies": [(b"sid", b"k"), (b"sid", b""), (b"sid", b'""')]}),
        ("cookie:sid", {"cookies": [(b" sid ", b"k"), (b"sid\xa0", b"other")]}),
    ],
)
def test_a_value_in_any_spelling_that_authentication_takes_has_one_budget(by: str, said: dict[str, Any]) -> None:
    assert text_of(key(by), request_of(**said)) == f"{by}=k"
