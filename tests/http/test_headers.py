"""What RFC 9110, RFC 7239 and RFC 3986 say of field lines, hosts and who is asking."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, Reason
from gateway.http import forwarding as http_forwarding
from gateway.http import headers
from gateway.http.forwarding import asked_for, client_and_hops, forwarding_pairs
from gateway.http.headers import (
    HOP_BY_HOP,
    FieldLines,
    Network,
    Pair,
    Pairs,
    believed,
    field_block,
    field_lines,
    parse_host,
    read_fields,
    same_authority,
)

# -- as they are sent --------------------------------------------------------------------------------------------


def test_field_lines_are_written_in_their_order() -> None:
    assert field_block([(b"a", b"1"), (b"b", b""), (b"a", b"\xe9")]) == b"a: 1\r\nb: \r\na: \xe9\r\n"
    assert field_block([]) == b""


@pytest.mark.parametrize("value", [b"1\r\nx: 2", b"1\nx: 2", b"1\rx", b"1\0", b"\r\n"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_field_that_would_begin_another_line_is_not_sent(value: bytes, place: int) -> None:
    pair = (b"a", value) if place else (value, b"a")
    with pytest.raises(GatewayError) as caught:
        field_block([(b"x", b"1"), pair])
    assert caught.value.reason is Reason.HEADER_INVALID


# -- sorting ------------------------------------------------------------------------------------------------------


def test_the_gateways_own_fields_are_set_apart_and_all_others_pass_in_order() -> None:
    fields = read_fields(
        [
            (b"host", b"a"),
            (b"accept", b"1"),
            (b"cookie", b"x=1"),
            (b"x-forwarded-for", b"192.0.2.1"),
            (b"via", b"1.1 one"),
            (b"accept", b"2"),
            (b"via", b"1.1 two"),
            (b"x-forwarded-port", b"443"),
            (b"x-forwardedness", b"plain"),
        ]
    )
    assert fields.plain == [(b"accept", b"1"), (b"cookie", b"x=1"), (b"accept", b"2"), (b"x-forwardedness", b"plain")]
    assert fields.own == {b"host": [b"a"], b"via": [b"1.1 one", b"1.1 two"]}
    assert fields.x_forwarded == [(b"x-forwarded-for", b"192.0.2.1"), (b"x-forwarded-port", b"443")]


def test_only_is_the_value_of_a_field_that_came_once_and_first_the_first() -> None:
    fields = read_fields([(b"host", b"a"), (b"via", b"1"), (b"via", b"2")])
    assert (fields.only(b"host"), fields.only(b"via"), fields.only(b"te")) == (b"a", None, None)
    assert (fields.first(b"host"), fields.first(b"via"), fields.first(b"te")) == (b"a", b"1", None)


CLAIMS = sorted(headers.ADDRESS_CLAIMS | headers.URL_CLAIMS)


def spellings(name: bytes) -> list[bytes]:
    """Other names that CGI-like servers make the same variable of."""
    return [name.replace(b"-", mark) for mark in (b"_", b".", b"!", b"~") if b"-" in name]


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_about_who_asks_for_what_is_set_apart_and_another_spelling_of_one_is_dropped(name: bytes) -> None:
    fields = read_fields([(name, b"1"), *((other, b"2") for other in spellings(name)), (b"accept", b"*/*")])
    assert (fields.plain, fields.claims, fields.forged) == ([(b"accept", b"*/*")], [(name, b"1")], None)
    assert all(headers.is_claim(one) for one in (name, *spellings(name)))


def test_proxy_passes_from_nobody() -> None:
    fields = read_fields([(b"proxy", b"http://evil.test")])
    assert (fields.plain, fields.claims, fields.x_forwarded) == ([], [], [])
    assert headers.is_claim(b"proxy")


@pytest.mark.parametrize(
    "name", [b"content-length", b"x-forwarded-for", b"x-forwarded-anything", b"forwarded", b"host"]
)
def test_a_spelling_that_would_pass_for_a_field_of_the_gateways_own_is_told(name: bytes) -> None:
    for other in spellings(name):
        fields = read_fields([(other, b"1")])
        assert (fields.forged, fields.plain, fields.x_forwarded, fields.own) == (other, [], [], {})


@pytest.mark.parametrize(
    "name",
    [b"x-http-method-override", b"x-real", b"real-ip", b"hostx", b"proxy-x", b"x.y_z", b"forwardedness", b"x-ip"],
)
def test_other_names_pass_in_whatever_spelling(name: bytes) -> None:
    assert read_fields([(name, b"1")]).plain == [(name, b"1")]
    assert not headers.is_claim(name)


def test_names_that_clients_make_up_take_no_memory() -> None:
    kinds = headers.Kinds()
    for number in range(10_000):
        read_fields([(b"x-%d" % number, b"")], kinds)
    read_fields([(b"x" * 100_000, b"")], kinds)
    assert len(kinds.known) <= headers._MOST_KINDS
    assert max(map(len, kinds.known)) <= headers._LONGEST_KIND
    assert read_fields([(b"x-real_ip", b""), (b"via", b"")]).own == {b"via": [b""]}


@pytest.mark.parametrize("name", [b"x-user", b"x_user", b"x.user", b"x!user", b"x-forwarded-user", b"x_forwarded-user"])
def test_what_the_configuration_sets_for_who_asks_no_client_may_send(name: bytes) -> None:
    kinds = headers.Kinds([b"x-user", b"x-forwarded-user"])
    others = [(b"x-users", b"1"), (b"xuser", b"1")]
    for _ in range(2):  # what is known from the first time on
        fields = read_fields([(name, b"root"), *others], kinds)
        assert (fields.plain, fields.x_forwarded, fields.hides, fields.has_claims) == (others, [], True, True)
    for trusted in (True, False):
        assert headers.believed([(name, b"root"), *others], from_trusted_peer=trusted, kinds=kinds) == others
    assert read_fields([(b"x_user", b"1")]).plain == [(b"x_user", b"1")]


names = st.sampled_from(
    [*sorted(HOP_BY_HOP), b"host", b"via", b"content-length", b"accept", b"cookie", b"x-a", b"x-forwarded-for"]
)
pairs_of_a_request = st.lists(st.tuples(names, st.binary(max_size=8)))


@given(pairs_of_a_request)
def test_no_field_line_is_lost_or_taken_twice(pairs: Pairs) -> None:
    fields = read_fields(pairs)
    own = [(name, value) for name, values in fields.own.items() for value in values]
    assert sorted([*fields.plain, *fields.x_forwarded, *own]) == sorted(pairs)
    assert fields.plain == [pair for pair in pairs if pair in fields.plain]
    assert fields.size_bytes == sum(len(b"%b: %b\r\n" % pair) for pair in pairs)


@given(pairs_of_a_request)
def test_no_hop_by_hop_field_goes_up(pairs: Pairs) -> None:
    assert HOP_BY_HOP.isdisjoint(name for name, _ in read_fields(pairs).end_to_end())


# -- what code of a team's own writes -----------------------------------------------------------------------------

WRITTEN: list[Any] = [(b"Set-Cookie", b"a=1"), ("CACHE-Control", "private"), ("x-name", "J\xe9r\xf4me"), (b"x-b", "")]
READ = [(b"set-cookie", b"a=1"), (b"cache-control", b"private"), (b"x-name", b"J\xe9r\xf4me"), (b"x-b", b"")]


def test_field_lines_are_lower_case_and_bytes_however_they_are_put_in() -> None:
    appended, extended, inserted, added, replaced = (FieldLines() for _ in range(5))
    for pair in WRITTEN:
        appended.append(pair)
        inserted.insert(len(inserted), pair)
    extended.extend(WRITTEN)
    added += WRITTEN
    replaced[:] = WRITTEN
    by_index = FieldLines([(b"x", b"y")] * len(WRITTEN))
    for index, pair in enumerate(WRITTEN):
        by_index[index] = pair
    for found in (field_lines(WRITTEN), appended, extended, inserted, added, replaced, by_index):
        assert list(found) == READ
        assert type(found) is FieldLines


@pytest.mark.parametrize(
    "pair",
    [
        ("", "x"),
        ("a b", "x"),
        ("a ", "x"),
        ("a\r\nb", "x"),
        ("a:", "x"),
        ("a", "x\r\ny"),
        ("a", b"x\0"),
        ("a", "\u20ac"),
        ("a",),
    ],
)
def test_what_is_no_field_line_is_refused(pair: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
        field_lines([pair])


@pytest.mark.parametrize("pair", [("a", 1), (None, "x"), ("a", ["x"])])
def test_what_is_neither_text_nor_bytes_is_refused(pair: Any) -> None:
    with pytest.raises(TypeError, match="a field line is a name and a value in bytes or text"):
        FieldLines().append(pair)


# -- hop by hop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ([b"close"], set()),
        ([b"keep-alive"], set()),
        ([b"X-A"], {b"x-a"}),
        ([b"x-a,x-b"], {b"x-a", b"x-b"}),
        ([b" x-a ,\tx-b\t"], {b"x-a", b"x-b"}),
        ([b"x-a", b"close, X-B"], {b"x-a", b"x-b"}),
        ([b",, ,x-a,"], {b"x-a"}),
        ([b""], set()),
        ([b"upgrade, http2-settings"], {b"upgrade", b"http2-settings"}),
        # framing and routing are not options of a connection
        ([b"host, content-length, Content-Length"], set()),
    ],
)
def test_connection_names_fields_in_any_case_and_over_several_lines(values: list[bytes], options: set[bytes]) -> None:
    assert headers.connection_options(values) == options


def test_what_connection_names_does_not_go_up() -> None:
    fields = read_fields(
        [(b"x-a", b"1"), (b"x-b", b"2"), (b"connection", b"X-A"), (b"x-a", b"3"), (b"connection", b"close, x-c")]
    )
    assert fields.end_to_end() == [(b"x-b", b"2")]
    assert read_fields([(b"x-a", b"1"), (b"connection", b"keep-alive")]).end_to_end() == [(b"x-a", b"1")]


def test_what_connection_names_does_not_come_down() -> None:
    answer = [
        (b"Content-Length", b"2"),
        (b"Set-Cookie", b"a=1"),
        (b"Keep-Alive", b"timeout=5"),
        (b"X-Hop", b"1"),
        (b"set-cookie", b"b=2"),
        (b"Connection", b"Keep-Alive, X-Hop, Content-Length"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Trailer", b"x-sum"),
        (b"Upgrade", b"h2c"),
        (b"Proxy-Authenticate", b"Basic"),
    ]
    assert headers.strip_hop_by_hop(answer) == [
        (b"content-length", b"2"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
    ]


@given(pairs_of_a_request)
def test_stripping_twice_is_stripping_once(pairs: Pairs) -> None:
    once = headers.strip_hop_by_hop(pairs)
    assert headers.strip_hop_by_hop(once) == once
    assert HOP_BY_HOP.isdisjoint(name for name, _ in once)
    assert once == [pair for pair in pairs if pair in once]


# -- changes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]),
        ([(b"b", b"x")], [(b"a", b"1"), (b"a", b"3"), (b"b", b"x")]),
        ([(b"a", b"x")], [(b"b", b"2"), (b"a", b"x")]),
        ([(b"a", None)], [(b"b", b"2")]),
        ([(b"c", b"x")], [(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"c", b"x")]),
        ([(b"c", None)], [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]),
        ([(b"a", b"x"), (b"a", b"y")], [(b"b", b"2"), (b"a", b"x"), (b"a", b"y")]),
        ([(b"a", b"")], [(b"b", b"2"), (b"a", b"")]),
    ],
)
def test_a_change_replaces_every_line_of_its_name_and_none_deletes(
    changes: list[tuple[bytes, bytes | None]], expected: Pairs
) -> None:
    pairs = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]
    assert headers.set_fields(pairs, iter(changes)) == expected
    assert pairs == [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]


@pytest.mark.parametrize("name", [b"x_user", b"x.user", b"x!user", b"x~user", b"x'user", b"x-user"])
@pytest.mark.parametrize("value", [b"ours", None])
def test_a_change_takes_what_cgi_reads_as_the_same_name_away(name: bytes, value: bytes | None) -> None:
    pairs = [(name, b"theirs"), (b"x-users", b"1"), (b"xuser", b"2")]
    ours = [] if value is None else [(b"x-user", value)]
    assert headers.set_fields(pairs, [(b"x-user", value)]) == [(b"x-users", b"1"), (b"xuser", b"2"), *ours]


def test_a_name_of_python_that_is_no_cgi_name_is_set_all_the_same() -> None:
    assert headers.set_fields([(b"x-user", b"theirs")], [(b"x.user", b"ours")]) == [(b"x.user", b"ours")]


@pytest.mark.parametrize("text", [b"GET", b"x-a", b"!#$%&'*+-.^_`|~09AZaz"])
def test_a_token_is_one(text: bytes) -> None:
    assert headers.is_token(text)


@pytest.mark.parametrize("text", [b"", b"a b", b"a:", b"a\n", b"\x00", b'"a"', b"a/b", b"(a)", b"\xe9", b"a,b", b"[a]"])
def test_what_is_no_token_is_none(text: bytes) -> None:
    assert not headers.is_token(text)


# -- Host ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "host"),
    [
        # the examples of RFC 3986, section 1.1.2, as an authority without user information
        ("www.ietf.org", "www.ietf.org"),
        ("[2001:db8::7]", "[2001:db8::7]"),
        ("192.0.2.16:80", "192.0.2.16"),
        # section 3.2.2: in any case, with any sub-delimiter, percent-encoded, an underscore
        ("API.Example.COM", "api.example.com"),
        ("users_1:8000", "users_1"),
        ("a!$&'()*+;=b", "a!$&'()*+;=b"),
        ("caf%C3%A9.example", "caf%c3%a9.example"),
        ("%41!.example", "%41!.example"),
        ("example.com.", "example.com"),  # RFC 1034, section 3.1: the name is complete, which it is anyway
        ("Example.COM.:8000", "example.com"),
        ("example.com..", "example.com.."),
        ("999.1.1.1", "999.1.1.1"),  # a name, since it is no address
        # section 3.2.3: a port is digits, or none after its colon
        ("a:", "a"),
        ("a:0", "a"),
        ("a:65535", "a"),
        ("[::1]:8000", "[::1]"),
        ("[::]", "[::]"),
        ("[::FFFF:192.0.2.1]", "[::ffff:192.0.2.1]"),
        ("[2001:DB8::1]:", "[2001:db8::1]"),
    ],
)
def test_a_host_is_read_without_its_port(value: str, host: str) -> None:
    assert parse_host(value.encode()) == host


@pytest.mark.parametrize(
    "value",
    [
        "",
        ":80",
        "a:65536",
        "a:99999",
        "a:000080",
        "a:-1",
        "a:+80",
        "a:8o",
        "a:80:80",
        "a b",
        " a",
        "a\t",
        "a\n",
        "a\x00",
        "user@a",
        "user:secret@a",
        "http://a",
        "a/",
        "/a",
        "a?b",
        "a#b",
        "a\\b",
        "a,b",
        "a, a",
        '"a"',
        "<a>",
        "{a}",
        "a|b",
        "a^b",
        "a`b",
        "a%",
        "a%4",
        "a%4g",
        "a%zz",
        "café",
        "::1",  # an IPv6 address needs its brackets
        "2001:db8::7",
        "[::1",
        "::1]",
        "[]",
        "[a]",
        "[192.0.2.1]",
        "[::1]a",
        "[::1]80",
        "[::g]",
        "[1:2:3:4:5:6:7:8:9]",
        "[::1%25eth0]",  # RFC 6874: a zone means something on one machine only
        "[fe80::1%eth0]",
        "[v1.fe80]",  # RFC 3986 leaves room for later addresses; none came
        "[[::1]]",
        ".",
    ],
)
def test_what_is_no_host_is_none(value: str) -> None:
    assert parse_host(value.encode()) is None


@pytest.mark.parametrize("field", ["example.com", "Example.com.", "example.COM", "example.com."])
@pytest.mark.parametrize("port", ["", ":8000"])
def test_a_host_has_one_spelling_that_stands_for_all(field: str, port: str) -> None:
    assert same_authority(field + port) == "example.com" + port


@given(st.binary(max_size=20))
def test_a_host_holds_nothing_that_could_end_it(value: bytes) -> None:
    host = parse_host(value)
    if host is not None:
        assert host == host.lower()
        assert re.search(r"[^!-~]|[@/?#\\,\"<>]", host) is None
        assert parse_host(host.encode()) == host


@given(st.ip_addresses(), st.none() | st.integers(0, 65535))
def test_every_address_is_a_host(address: IPv4Address | IPv6Address, port: int | None) -> None:
    host = f"[{address}]" if address.version == 6 else str(address)
    assert parse_host(f"{host}{'' if port is None else f':{port}'}".encode()) == host


# -- who is asking ------------------------------------------------------------------------------------------------

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "is_one"),
    [
        ("10.0.0.1", True),
        ("11.0.0.1", False),
        ("fd00::1", True),
        ("fe80::1", False),
        ("::ffff:10.0.0.1", True),  # what a dual-stack socket shows
        ("::ffff:11.0.0.1", False),
        ("", False),
        ("unix:", False),
        ("10.0.0.1:80", False),
    ],
)
def test_a_trusted_peer_lies_in_a_trusted_network(peer: str, *, is_one: bool) -> None:
    assert http_forwarding.is_trusted(peer, PROXIES) is is_one
    assert http_forwarding.is_trusted(peer, ()) is False


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ([], "10.0.0.1"),
        (["192.0.2.1"], "192.0.2.1"),
        (["198.51.100.9, 192.0.2.1"], "192.0.2.1"),  # what stands left, the client may have invented
        (["198.51.100.9, 192.0.2.1, 10.0.0.2"], "192.0.2.1"),
        (["198.51.100.9,192.0.2.1", "10.0.0.2", "10.0.0.3"], "192.0.2.1"),
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),  # all trusted: the one that came first
        # ports, brackets, IPv6 bare
        (["192.0.2.1:4711"], "192.0.2.1"),
        (["[2001:db8::1]"], "2001:db8::1"),
        (["[2001:db8::1]:4711"], "2001:db8::1"),
        (["2001:db8::1"], "2001:db8::1"),
        (["2001:db8::1:4711"], "2001:db8::1:4711"),
        (["2001:db8:0:0:0:0:0:7"], "2001:db8::7"),
        (["192.0.2.1, fd00::2"], "192.0.2.1"),
        (["192.0.2.1, fd00::2:80"], "192.0.2.1"),
        # IPv4 in IPv6 is IPv4, both as a proxy and as the client
        (["192.0.2.1, ::ffff:10.0.0.2"], "192.0.2.1"),
        (["::ffff:192.0.2.1"], "192.0.2.1"),
        (["[::ffff:192.0.2.1]:80"], "192.0.2.1"),
        # what is no address ends the walk
        (["unknown"], "10.0.0.1"),
        (["192.0.2.1, unknown"], "10.0.0.1"),
        (["192.0.2.1, unknown, 10.0.0.2"], "10.0.0.2"),
        (["192.0.2.1, _hidden, 10.0.0.2"], "10.0.0.2"),
        (["192.0.2.1, 10.0.0.2x"], "10.0.0.1"),
        (["192.0.2.1, 010.0.0.2"], "10.0.0.1"),  # octal for some readers
        (["192.0.2.1, 10.2"], "10.0.0.1"),
        (["192.0.2.1, [10.0.0.2]"], "10.0.0.1"),
        (["192.0.2.1, 10.0.0.2:"], "10.0.0.1"),
        (["192.0.2.1, [fd00::2"], "10.0.0.1"),
        (["192.0.2.1, fe80::1%eth0"], "10.0.0.1"),
        (['192.0.2.1, "10.0.0.2"'], "10.0.0.1"),
        (["192.0.2.1, \u0661.1.1.1"], "10.0.0.1"),
        (["for=192.0.2.1"], "10.0.0.1"),
        # RFC 9110, section 5.6.1: empty members of a list are no members
        (["192.0.2.1, ,"], "192.0.2.1"),
        ([" ", "192.0.2.1", ""], "192.0.2.1"),
        (["", " , "], "10.0.0.1"),
    ],
)
def test_the_client_is_the_rightmost_untrusted_address(lines: list[str], client: str) -> None:
    assert client_and_hops("10.0.0.1", [line.encode() for line in lines], PROXIES)[0] == client


def test_nobody_is_walked_past_where_nobody_is_trusted() -> None:
    assert client_and_hops("10.0.0.1", [b"192.0.2.1, 10.0.0.2"], ()) == ("10.0.0.2", 1)


networks = st.lists(
    st.sampled_from([ip_network("10.0.0.0/8"), ip_network("0.0.0.0/1"), ip_network("::/1"), ip_network("2001::/16")]),
    max_size=3,
)


@given(st.lists(st.ip_addresses(), max_size=6), st.sampled_from([None, "unknown", "_x", "1.2.3"]), networks)
def test_the_walk_never_passes_an_untrusted_address_or_garbage(
    chain: list[IPv4Address | IPv6Address], garbage: str | None, trusted: Sequence[Network]
) -> None:
    left = ["192.0.2.99", garbage] if garbage else []
    line = ", ".join([*left, *map(str, chain)]).encode()
    expected = "10.0.0.1"
    for address in reversed(chain):
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        shown = mapped or address
        expected = str(shown)
        if not any(shown.version == network.version and shown in network for network in trusted):
            break
    assert client_and_hops("10.0.0.1", [line], trusted)[0] == expected


# -- what was asked for ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "hops"),
    [
        ("", 1),
        ("192.0.2.1", 1),
        ("192.0.2.1, 10.0.0.2", 2),
        ("10.0.0.9, 192.0.2.1, 10.0.0.3, 10.0.0.2", 3),
        ("unknown, 10.0.0.2", 2),
        ("10.0.0.3, 10.0.0.2", 3),
    ],
)
def test_every_trusted_proxy_on_the_way_is_a_hop(line: str, hops: int) -> None:
    assert client_and_hops("10.0.0.1", [line.encode()], PROXIES)[1] == hops


@pytest.mark.parametrize(
    ("protos", "hosts", "hops", "expected"),
    [
        ([], [], 1, ("", "")),
        (["https"], ["shop.test:8443"], 1, ("https", "shop.test:8443")),
        (["https"], ["shop.test"], 3, ("https", "shop.test")),
        (["https, http"], ["evil.test, shop.test"], 1, ("http", "shop.test")),
        (["https", "http"], ["evil.test", "shop.test"], 1, ("http", "shop.test")),
        (["http, https, http"], ["evil.test, shop.test, inner"], 2, ("https", "shop.test")),
        ([" HTTPS ,,"], ["[2001:db8::1]:443"], 1, ("https", "[2001:db8::1]:443")),
        (["ftp"], ["no host/"], 1, ("", "")),
        (["https\xff"], ["\xff"], 1, ("", "")),
        ([""], [","], 1, ("", "")),
    ],
)
def test_the_outermost_trusted_proxy_says_what_was_asked_for(
    protos: list[str], hosts: list[str], hops: int, expected: tuple[str, str]
) -> None:
    pairs = [(b"x-forwarded-proto", value.encode("latin-1")) for value in protos]
    pairs += [(b"x-forwarded-host", value.encode("latin-1")) for value in hosts]
    assert asked_for(pairs, hops) == expected


def test_claims_are_left_out_for_whom_nobody_trusts() -> None:
    plain = [(b"host", b"a"), (b"x-forwards", b"no claim"), (b"accept", b"*/*")]
    told = [(b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-user", b"root")]
    raw = [*plain, *told, (b"forwarded", b"for=6.6.6.6")]
    assert believed(raw, from_trusted_peer=False) == plain
    assert believed(raw, from_trusted_peer=True) == [*plain, *told]
    assert read_fields(raw).has_claims
    assert read_fields([(b"forwarded", b"for=6.6.6.6")]).has_claims
    assert not read_fields(plain).has_claims


# -- X-Forwarded-* and Forwarded ----------------------------------------------------------------------------------


def forwarding(*args: object, **options: object) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in forwarding_pairs(*args, **options):  # type: ignore[arg-type]
        found.setdefault(name.decode().lower(), []).append(value.decode("latin-1"))
    return found


def test_from_an_untrusted_peer_every_word_is_the_connections() -> None:
    assert forwarding("192.0.2.1", "http", "api.example.com:8000", "/api") == {
        "x-forwarded-for": ["192.0.2.1"],
        "x-forwarded-host": ["api.example.com:8000"],
        "x-forwarded-proto": ["http"],
        "x-forwarded-prefix": ["/api"],
        "forwarded": ['for=192.0.2.1;host="api.example.com:8000";proto=http'],
    }


def test_a_prefix_is_told_only_where_one_was_stripped() -> None:
    assert "x-forwarded-prefix" not in forwarding("192.0.2.1", "http", "a")


def test_a_host_that_never_came_is_not_told() -> None:
    """HTTP/1.0 may come without a Host field."""
    assert forwarding("192.0.2.1", "http", "") == {
        "x-forwarded-for": ["192.0.2.1"],
        "x-forwarded-proto": ["http"],
        "forwarded": ["for=192.0.2.1;proto=http"],
    }


def test_from_a_trusted_peer_the_chain_grows() -> None:
    trusted = [
        (b"x-forwarded-for", b"192.0.2.1, 10.0.0.2"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b"www.example.com"),
        (b"x-forwarded-prefix", b"/shop/"),
        (b"x-forwarded-port", b"443"),
    ]
    assert forwarding("10.0.0.1", "http", "inner", "/api", trusted) == {
        "x-forwarded-for": ["192.0.2.1, 10.0.0.2, 10.0.0.1"],
        "x-forwarded-host": ["www.example.com"],
        "x-forwarded-proto": ["https"],
        "x-forwarded-prefix": ["/shop/api"],
        "x-forwarded-port": ["443"],
        "forwarded": ["for=192.0.2.1;host=www.example.com;proto=https, for=10.0.0.2, for=10.0.0.1"],
    }


def test_a_trusted_peer_that_says_nothing_is_the_client_itself() -> None:
    assert forwarding("10.0.0.1", "http", "a", "", []) == forwarding("10.0.0.1", "http", "a")


def test_what_a_trusted_peer_leaves_out_is_the_connections() -> None:
    found = forwarding("10.0.0.1", "http", "inner", "", [(b"x-forwarded-for", b"192.0.2.1")])
    assert found["x-forwarded-host"] == ["inner"]
    assert found["forwarded"] == ["for=192.0.2.1;host=inner;proto=http, for=10.0.0.1"]
    found = forwarding("10.0.0.1", "http", "inner", "", [(b"x-forwarded-proto", b"https")])
    assert found["x-forwarded-for"] == ["10.0.0.1"]
    assert found["forwarded"] == ["for=10.0.0.1;host=inner;proto=https"]


def test_lines_of_one_name_are_one_list_and_its_first_member_is_the_clients() -> None:
    trusted = [
        (b"x-forwarded-for", b"192.0.2.1"),
        (b"x-forwarded-host", b"www.example.com, edge"),
        (b"x-forwarded-for", b" , 10.0.0.2"),
        (b"x-forwarded-host", b"inner"),
        (b"x-forwarded-proto", b"https,http"),
    ]
    assert forwarding("10.0.0.1", "http", "x", "", trusted) == {
        "x-forwarded-for": ["192.0.2.1, 10.0.0.2, 10.0.0.1"],
        "x-forwarded-host": ["www.example.com, edge, inner"],
        "x-forwarded-proto": ["https,http"],
        "forwarded": ["for=192.0.2.1;host=www.example.com;proto=https, for=10.0.0.2, for=10.0.0.1"],
    }


@pytest.mark.parametrize(
    ("entry", "node"),
    [
        # RFC 7239, section 6
        ("192.0.2.43", "192.0.2.43"),
        ("192.0.2.43:47011", '"192.0.2.43:47011"'),
        ("[2001:db8:cafe::17]", '"[2001:db8:cafe::17]"'),
        ("[2001:db8:cafe::17]:47011", '"[2001:db8:cafe::17]:47011"'),
        ("2001:db8:cafe::17", '"[2001:db8:cafe::17]"'),
        ("2001:DB8:0::17", '"[2001:db8::17]"'),
        ("::1", '"[::1]"'),
        ("::ffff:192.0.2.43", "192.0.2.43"),
        ("unknown", "unknown"),
        ("_gazonk", "unknown"),
        ('"_gazonk"', "unknown"),
        ("evil;host=x", "unknown"),
        ("[192.0.2.43]", "unknown"),
        ("192.0.2.43:470110", "unknown"),
        ("fe80::1%eth0", "unknown"),
        ("\xe9", "unknown"),
    ],
)
def test_an_entry_of_the_chain_becomes_a_node(entry: str, node: str) -> None:
    trusted = [(b"x-forwarded-for", entry.encode("latin-1"))]
    found = forwarding("10.0.0.1", "http", "a", "", trusted)
    assert found["forwarded"] == [f"for={node};host=a;proto=http, for=10.0.0.1"]
    assert found["x-forwarded-for"] == [f"{entry}, 10.0.0.1"]


def test_a_bare_ipv6_peer_is_bracketed_and_quoted() -> None:
    assert forwarding("2001:db8::1", "https", "[::1]:8000")["forwarded"] == [
        'for="[2001:db8::1]";host="[::1]:8000";proto=https'
    ]


def test_forwarded_says_what_the_trusted_ones_say() -> None:
    trusted = [(b"x-forwarded-proto", b"https, http"), (b"x-forwarded-host", b"evil.test, shop.test")]
    found = forwarding("10.0.0.1", "http", "inner", "", trusted, asked=("http", "shop.test"))
    assert found["forwarded"] == ["for=10.0.0.1;host=shop.test;proto=http"]
    assert found["x-forwarded-host"] == ["evil.test, shop.test"], "which is passed on as it came"


def test_a_value_cannot_leave_its_quotes() -> None:
    trusted = [(b"x-forwarded-host", b'a";for=127.0.0.1;x="\\')]
    assert forwarding("10.0.0.1", "http", "a", "", trusted)["forwarded"] == [
        r'for=10.0.0.1;host="a\";for=127.0.0.1;x=\"\\";proto=http'
    ]


def test_the_bytes_of_a_trusted_peer_pass_unchanged() -> None:
    trusted = [(b"x-forwarded-tls-subject", b"CN=caf\xc3\xa9"), (b"x-forwarded-user", b"\xff")]
    found = forwarding_pairs("10.0.0.1", "http", "a", "", trusted)
    assert [pair for pair in found if pair in trusted] == trusted


_ELEMENT = re.compile(r'(\w+)=([!#$%&\'*+.^_`|~0-9A-Za-z-]+|"(?:[^"\\]|\\.)*")(;|, |\Z)', re.DOTALL)


def parsed(forwarded: str) -> list[dict[str, str]]:
    """RFC 7239, section 4, read strictly."""
    elements: list[dict[str, str]] = [{}]
    end = 0
    while end < len(forwarded):
        match = _ELEMENT.match(forwarded, end)
        assert match is not None, forwarded[end:]
        name, value, mark = match.groups()
        assert name not in elements[-1]
        elements[-1][name] = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL) if value[0] == '"' else value
        if mark == ", ":
            elements.append({})
        end = match.end()
    return elements


visible = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20)


@given(st.ip_addresses(), visible, visible, st.lists(visible | st.ip_addresses().map(str), max_size=4))
def test_forwarded_is_valid_and_says_what_x_forwarded_says(
    peer: IPv4Address | IPv6Address, host: str, scheme: str, chain: list[str]
) -> None:
    trusted: list[Pair] = [(b"x-forwarded-for", entry.encode("latin-1")) for entry in chain]
    found = forwarding(str(peer), scheme, host, "", trusted)
    elements = parsed(found["forwarded"][0])
    entries = [entry.strip(" \t") for entry in found["x-forwarded-for"][0].split(",")]
    assert entries[-1] == str(peer)
    for element, entry in zip(elements, entries, strict=True):
        try:
            address = ip_address(entry)
        except ValueError:
            assert element["for"] == "unknown" or entry.startswith(("[", *"0123456789"))
            continue
        address = getattr(address, "ipv4_mapped", None) or address
        assert element["for"] == (f"[{address}]" if address.version == 6 else str(address))
    assert elements[0].get("host", "") == host.partition(",")[0].strip(" \t")
    assert elements[0].get("proto", "") == scheme.partition(",")[0].strip(" \t")
    assert all(element.keys() == {"for"} for element in elements[1:])


@pytest.mark.parametrize(("host", "prefix"), [("h" * 300, ""), ("a.example", "/" + "p" * 60_000)])
def test_what_a_client_chose_at_length_has_no_place_in_the_cache(host: str, prefix: str) -> None:
    before = http_forwarding._replaced.cache_info().currsize
    for number in range(5):
        found = dict(forwarding_pairs("192.0.2.1", "http", host, f"{prefix}{number}"))
        assert found[b"x-forwarded-prefix"] == f"{prefix}{number}".encode()
    assert http_forwarding._replaced.cache_info().currsize == before


def test_the_values_of_a_field_come_in_their_order() -> None:
    pairs = [(b"a", b"1"), (b"b", b"\xe4"), (b"a", b"3")]
    assert headers.all_of(pairs, b"a") == [b"1", b"3"]
    assert (headers.first_of(pairs, b"a"), headers.first_of(pairs, b"c")) == (b"1", None)
    assert (headers.first_text(pairs, b"b"), headers.first_text(pairs, b"c")) == ("ä", None)
