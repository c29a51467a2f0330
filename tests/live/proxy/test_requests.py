"""What goes up: method, target, fields and Host as the client sent them, and what the gateway says of the client."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.http.headers import ADDRESS_CLAIMS, URL_CLAIMS
from tests.live.harness import Answer, Answers, Gateway, Request, request_bytes

PROXY = "127.0.0.2"  # an address of ours that the gateway trusts; every other one it does not
OURS = {"host", "traceparent", "x-request-id", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"}
OURS |= {"forwarded"}


@pytest.fixture(scope="module")
def up6() -> Iterator[Answers]:
    with Answers(host="::1") as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(up: Answers, up6: Answers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    home = tmp_path_factory.mktemp("requests")
    (home / "token").write_text("Bearer s3cret\r\n", encoding="utf-8-sig", newline="")  # as Windows has it
    environment = {
        "GATEWAY_TRUSTED_PROXIES": f"{PROXY}, fd00::/8, 10.0.0.0/8",
        "GATEWAY_UPSTREAM_U": up.url,
        "GATEWAY_UPSTREAM_BASED": f"{up.url}/base%20path",
        "GATEWAY_UPSTREAM_SIX": up6.url,
        "GATEWAY_UPSTREAM_SETS": up.url,
        "GATEWAY_UPSTREAM_SETS__HEADER_X_TENANT": "acme",
        "GATEWAY_UPSTREAM_SETS__HEADER_AUTHORIZATION_FILE": str(home / "token"),
        "GATEWAY_UPSTREAM_SETS__HEADER_X_LAYER": "upstream",
        "GATEWAY_ROUTE_ALL": "/** -> u",
        "GATEWAY_ROUTE_STRIP": "/strip/** -> u:/**",
        "GATEWAY_ROUTE_MOVE": "/old/api/** -> u:/api/**",
        "GATEWAY_ROUTE_RENAME": "/here/** -> u:/there/**",
        "GATEWAY_ROUTE_TENANT": "/t/{tenant}/** -> u:/**",
        "GATEWAY_ROUTE_THING": "/thing/{id} -> u:/things/{id}/view?by={id}&fixed=1",
        "GATEWAY_ROUTE_BASED": "/based/** -> based",
        "GATEWAY_ROUTE_BASED_STRIP": "/based-strip/** -> based:/**",
        "GATEWAY_ROUTE_SIX": "/six/** -> six",
        "GATEWAY_ROUTE_PRESERVE": "/preserve/** -> u",
        "GATEWAY_ROUTE_PRESERVE__HOST": "preserve",
        "GATEWAY_ROUTE_SETS": "/sets/** -> sets",
        "GATEWAY_ROUTE_SETS__HEADER_X_LAYER": "route",
        "GATEWAY_ROUTE_SETS__HEADER_COOKIE": "-",
        "GATEWAY_ROUTE_SETS__HEADER_X_COOKIE": "-",
        "GATEWAY_UPSTREAM_CLOSED": "http://127.0.0.1:9",
        "GATEWAY_ROUTE_AREA": "/area/** -> u",
        "GATEWAY_ROUTE_AREA_CLOSED": "/area/closed/** -> closed",
        "GATEWAY_ROUTE_PROJECTS": "/projects/{id}/issues -> u",
        "GATEWAY_ROUTE_PROJECTS_CLOSED": "/projects/closed/** -> closed",
        "GATEWAY_ROUTE_RAW_INNER": "/raw/inner/** -> closed",
        "GATEWAY_ROUTE_RAW": "/raw/** -> u",
        "GATEWAY_ROUTE_RAW__PATH": "raw",
        "GATEWAY_ROUTE_FAN": "GET /fan",
        "GATEWAY_ROUTE_FAN__PART_A": "u:/part/{header.x-real-ip}/{header.x-forwarded-for}",
        "GATEWAY_ROUTE_RAW_THING": "/raw-thing/{id} -> u:/things/{id}",
        "GATEWAY_ROUTE_RAW_THING__PATH": "raw",
    }
    with Gateway(environment, cwd=home) as running:
        yield running


@pytest.fixture(scope="module")
def gateway6(up: Answers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    environment = {"GATEWAY_UPSTREAM_U": up.url, "GATEWAY_ROUTE_ALL": "/** -> u", "GATEWAY_TRUSTED_PROXIES": "fd00::/8"}
    with Gateway(environment, cwd=tmp_path_factory.mktemp("six"), host="::1") as running:
        yield running


def sent(
    gateway: Gateway, upstream: Answers, target: str, *fields: str, method: str = "GET", source: str | None = None
) -> Request:
    """The request as the upstream saw it."""
    upstream.forget()
    answer = gateway.ask(request_bytes(method, target, *fields), source=source)
    assert answer.status == 200, answer
    (request,) = upstream.requests
    return request


def refused(gateway: Gateway, upstream: Answers, raw: bytes) -> Answer:
    """The answer to a request that no upstream sees."""
    upstream.forget()
    answer = gateway.ask(raw)
    assert upstream.requests == []
    return answer


# -- method and target --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "M-SEARCH"])
def test_the_method_goes_up_as_sent(gateway: Gateway, up: Answers, method: str) -> None:
    assert sent(gateway, up, "/m", method=method).start == f"{method} /m HTTP/1.1"


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/a%2Fb//c;x?q=%2F+&&",
        "//double//slashes///",
        "/a%2fB%7e~%41?%2f=%41&a=b?c/d&&=",
        "/%E2%82%AC/%ff?%E2%82%AC=%ff",
        "/a'b(c)*d!e$f&g+h,i=j:k@l",
        "/semi;colon=1;b=2/x;y",
        "/a.b/...//.a./a..?a=../..&b=%2e%2e",
        '/[x]{y}|z^"?a=b%20c+d&a=&a&[x]={y}|z^`\\',
        "/long/" + "x" * 8000 + "?" + "y" * 8000,
    ],
)
def test_path_and_query_go_up_byte_for_byte(gateway: Gateway, up: Answers, target: str) -> None:
    assert sent(gateway, up, target).target == target


def test_a_target_path_takes_the_place_of_the_matched_prefix(gateway: Gateway, up: Answers) -> None:
    assert sent(gateway, up, "/strip/a%2Fb//c;x?q=%2F+&&").target == "/a%2Fb//c;x?q=%2F+&&"
    assert sent(gateway, up, "/here/a%2Fb/?q").target == "/there/a%2Fb/?q"


def test_a_double_star_also_takes_nothing(gateway: Gateway, up: Answers) -> None:
    assert sent(gateway, up, "/strip").target == "/"
    assert sent(gateway, up, "/strip/").target == "/"
    assert sent(gateway, up, "/strip?q=1").target == "/?q=1"


def test_a_template_value_goes_up_as_it_was_encoded_and_the_clients_query_comes_after_the_targets_own(
    gateway: Gateway, up: Answers
) -> None:
    request = sent(gateway, up, "/thing/a%2Fb%20c?mine=%2F&&x")
    assert request.target == "/things/a%2Fb%20c/view?by=a%2Fb%20c&fixed=1&mine=%2F&&x"


@pytest.mark.parametrize("own", ["fixed=2", "%66ixed=2", "fixed", "by=4", "fixed=2&b%79=4"])
def test_a_parameter_that_the_target_sets_is_its_own(gateway: Gateway, up: Answers, own: str) -> None:
    request = sent(gateway, up, f"/thing/1?{own}&Fixed=3&fixed[]=4;fixed=5&{own}")
    assert request.target == "/things/1/view?by=1&fixed=1&Fixed=3&fixed[]=4;fixed=5"


def test_what_would_end_a_query_value_is_encoded_in_it(gateway: Gateway, up: Answers) -> None:
    assert sent(gateway, up, "/thing/a&b=c+d").target.partition("?")[2] == "by=a%26b%3Dc%2Bd&fixed=1"


def test_the_path_of_a_base_url_is_a_prefix(gateway: Gateway, up: Answers) -> None:
    assert sent(gateway, up, "/based/x?y").target == "/base%20path/based/x?y"
    assert sent(gateway, up, "/based-strip/x?y").target == "/base%20path/x?y"


# -- fields -------------------------------------------------------------------------------------------------------


def test_nothing_is_invented(gateway: Gateway, up: Answers) -> None:
    """The whole head: what the client sent, and what the gateway must say of itself and the client."""
    request = sent(gateway, up, "/plain", "X-Request-ID: r-1", "Traceparent: 00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    assert request.start == "GET /plain HTTP/1.1"
    assert sorted(request.pairs) == [
        ("forwarded", "for=127.0.0.1;host=gateway.test;proto=http"),
        ("host", up.authority),
        ("traceparent", "00-" + "a" * 32 + "-" + "b" * 16 + "-01"),
        ("via", request.one("via")),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "gateway.test"),
        ("x-forwarded-proto", "http"),
        ("x-request-id", "r-1"),
    ]


def test_host_goes_up_first(gateway: Gateway, up: Answers) -> None:
    assert sent(gateway, up, "/plain").pairs[0] == ("host", up.authority)


def test_an_upload_brings_only_what_frames_it(gateway: Gateway, up: Answers) -> None:
    up.forget()
    gateway.ask(request_bytes("POST", "/plain", "Content-Length: 2", body=b"hi"))
    gateway.ask(request_bytes("POST", "/plain", "Transfer-Encoding: chunked", body=b"2\r\nhi\r\n0\r\n\r\n"))
    gateway.ask(request_bytes("POST", "/plain", "Content-Length: 0"))
    with_length, chunked, empty = up.requests
    assert with_length.names - OURS == {"content-length"}
    assert with_length.one("content-length") == "2"
    assert chunked.names - OURS == {"transfer-encoding"}
    assert chunked.one("transfer-encoding") == "chunked"
    assert empty.names - OURS == {"content-length"}
    assert empty.one("content-length") == "0"


def test_a_post_without_a_body_brings_no_length(gateway: Gateway, up: Answers) -> None:
    assert sent(gateway, up, "/plain", method="POST").names - OURS == set()


def test_repeated_fields_are_kept_apart_and_in_order(gateway: Gateway, up: Answers) -> None:
    fields = ["X-A: 1", "Accept: text/html", "X-B: x", "X-A: 2", "Cookie: a=1", "Accept: */*", "Cookie: b=2", "X-A: 1"]
    request = sent(gateway, up, "/fields", *fields)
    assert request.all("x-a") == ["1", "2", "1"]
    assert request.all("accept") == ["text/html", "*/*"]
    assert request.all("cookie") == ["a=1", "b=2"]
    assert len(request.lines) == len(fields) + len(OURS)


def test_field_values_go_up_byte_for_byte(gateway: Gateway, up: Answers) -> None:
    values = {
        "x-empty": "",
        "x-inner": "a  b\tc",
        "x-quoted": '"a, b";q="\\""',
        "x-utf8": "Zoë €".encode().decode("latin-1"),
        "x-latin-1": "Zo\xeb \x85\xa0\xff",  # what is no ASCII is opaque (RFC 9110, section 5.5)
        "accept-encoding": "gzip, br;q=0",
        "content-type": "text/x; charset=none",
        "user-agent": "",
        "authorization": "Basic YTpi",
        "range": "bytes=0-1",
        "x-long": "v" * 20_000,
    }
    request = sent(gateway, up, "/fields", *(f"{name}: {value}" for name, value in values.items()))
    assert {name: request.one(name) for name in values} == values


def test_hop_by_hop_fields_do_not_go_up(gateway: Gateway, up: Answers) -> None:
    request = sent(
        gateway,
        up,
        "/hops",
        "Connection: keep-alive, X-Secret",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic YTpi",
        "TE: trailers",
        "Trailer: X-Sum",
        "Upgrade: h2c",
        "X-Secret: 1",
        "X-Kept: 1",
    )
    assert request.names - OURS == {"x-kept"}


def test_what_connection_names_does_not_go_up(gateway: Gateway, up: Answers) -> None:
    request = sent(gateway, up, "/hops", "X-A: 1", "Connection: x-a,, X-B", "X-B: 2", "connection: x-C", "X-C: 3")
    assert request.names == OURS


def test_connection_cannot_take_away_what_the_gateway_says(gateway: Gateway, up: Answers) -> None:
    named = "Host, X-Forwarded-For, Forwarded, Via, X-Request-ID, traceparent, Content-Length"
    up.forget()
    raw = request_bytes("POST", "/hops", f"Connection: {named}", "Content-Length: 2", body=b"hi")
    assert gateway.ask(raw).status == 200
    assert up.requests[0].names == OURS | {"content-length"}
    assert up.requests[0].body == b"hi"


# -- Host ---------------------------------------------------------------------------------------------------------


def test_host_is_the_upstreams(gateway: Gateway, up: Answers, up6: Answers) -> None:
    assert sent(gateway, up, "/host").one("host") == up.authority
    assert sent(gateway, up6, "/six/host").one("host") == f"[::1]:{up6.port}"


def test_host_preserve_keeps_the_clients(gateway: Gateway, up: Answers) -> None:
    assert sent(gateway, up, "/preserve/x").one("host") == "gateway.test"
    up.forget()
    gateway.ask(request_bytes("GET", "/preserve/x", host="Api.Example.com:8443"))
    assert up.requests[0].one("host") == "Api.Example.com:8443"


# -- fields that are set ------------------------------------------------------------------------------------------


def test_a_set_field_replaces_every_one_of_the_clients(gateway: Gateway, up: Answers) -> None:
    request = sent(gateway, up, "/sets/x", "X-Tenant: evil", "X-Other: 1", "x-tenant: evil too", "Authorization: mine")
    assert request.all("x-tenant") == ["acme"]
    assert request.all("authorization") == ["Bearer s3cret"]
    assert request.all("x-other") == ["1"]


@pytest.mark.parametrize("name", ["X_Tenant", "X.Tenant", "X!Tenant", "x~tenant", "X_Cookie", "X.Cookie"])
def test_no_other_spelling_of_a_set_or_deleted_field_goes_up_beside_it(
    gateway: Gateway, up: Answers, name: str
) -> None:
    """CGI and WSGI make the same variable of `X-Tenant` and `X_Tenant`."""
    request = sent(gateway, up, "/sets/x", f"{name}: evil")
    assert "evil" not in request.raw.decode("latin-1")
    assert request.all("x-tenant") == ["acme"]
    assert sent(gateway, up, "/plain", f"{name}: kept").one(name) == "kept"


def test_a_routes_field_beats_the_upstreams(gateway: Gateway, up: Answers) -> None:
    assert sent(gateway, up, "/sets/x").one("x-layer") == "route"


def test_a_lone_dash_deletes_a_field(gateway: Gateway, up: Answers) -> None:
    assert not sent(gateway, up, "/sets/x", "Cookie: a=1", "Cookie: b=2").has("cookie")


# -- who is asking ------------------------------------------------------------------------------------------------


def test_an_untrusted_peer_says_nothing_of_whom_it_speaks_for(gateway: Gateway, up: Answers) -> None:
    request = sent(
        gateway,
        up,
        "/who",
        "X-Forwarded-For: 9.9.9.9",
        "X-Forwarded-For: 8.8.8.8",
        "X-Forwarded-Host: evil.test",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Port: 1",
        "X-Forwarded-Prefix: /evil",
        "X-Forwarded-User: root",
        "Forwarded: for=9.9.9.9;host=evil.test",
        "X-Request-ID: untrusted",
    )
    said = [pair for pair in request.pairs if "forwarded" in pair[0]]
    assert sorted(said) == [
        ("forwarded", "for=127.0.0.1;host=gateway.test;proto=http"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "gateway.test"),
        ("x-forwarded-proto", "http"),
    ]
    assert gateway.request_line("untrusted")["client"] == "127.0.0.1"


CLAIMS = sorted(name.decode() for name in ADDRESS_CLAIMS | URL_CLAIMS)
CLAIM_LINES = [f"{name}: 9.9.9.9" for name in CLAIMS]


def test_claims_about_who_asks_for_what_go_up_from_a_trusted_peer_alone(gateway: Gateway, up: Answers) -> None:
    other_spellings = [line.replace("-", mark, 1) for line in CLAIM_LINES[:30] for mark in "_."]
    request = sent(gateway, up, "/who", *CLAIM_LINES)
    assert [value for _, value in request.pairs if "9.9.9.9" in value] == []
    request = sent(gateway, up, "/who", *CLAIM_LINES, source=PROXY)
    assert sorted(name for name, value in request.pairs if value == "9.9.9.9") == CLAIMS
    for source in (PROXY, None):
        request = sent(gateway, up, "/who", *other_spellings, "Proxy: http://9.9.9.9", "X-A: 1", source=source)
        assert "9.9.9.9" not in request.raw.decode("latin-1")
        assert request.one("x-a") == "1"


def test_a_part_is_told_no_claim_of_a_stranger(gateway: Gateway, up: Answers) -> None:
    raw = request_bytes("GET", "/fan", "X-Real-IP: 9.9.9.9", "X-Forwarded-For: 9.9.9.9")
    assert refused(gateway, up, raw).json()["reason"] == "template_value"
    gateway.ask(raw, source=PROXY)
    assert up.requests[0].target == "/part/9.9.9.9/9.9.9.9"


def test_the_method_that_a_client_would_rather_have_is_no_claim_of_who_or_where(gateway: Gateway, up: Answers) -> None:
    assert sent(gateway, up, "/who", "X-HTTP-Method-Override: PUT").one("x-http-method-override") == "PUT"


def test_more_than_a_hundred_proxies_are_400(gateway: Gateway, up: Answers) -> None:
    sent(gateway, up, "/who", f"X-Forwarded-For: {', '.join(['10.0.0.1'] * 100)}", source=PROXY)
    sent(gateway, up, "/who", f"X-Forwarded-For: {',' * 30_000}")  # nobody reads it
    up.forget()
    for name in ("For", "Host", "Proto"):
        line = f"X-Forwarded-{name}: {','.join(['10.0.0.1'] * 101)}"
        answer = gateway.ask(request_bytes("GET", "/who", line), source=PROXY)
        assert (answer.status, answer.json()["reason"]) == (400, "header_invalid")
    assert up.requests == []


def test_a_trusted_peers_word_is_lengthened(gateway: Gateway, up: Answers) -> None:
    request = sent(
        gateway,
        up,
        "/who",
        "X-Forwarded-For: 9.9.9.9, 203.0.113.7",
        "X-Forwarded-For: 10.1.2.3",
        "X-Forwarded-Host: shop.example:8443",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Port: 8443",
        "Forwarded: for=1.1.1.1",
        "X-Request-ID: trusted",
        source=PROXY,
    )
    said = [pair for pair in request.pairs if "forwarded" in pair[0]]
    assert sorted(said) == [
        (
            "forwarded",
            'for=9.9.9.9;host="shop.example:8443";proto=https, for=203.0.113.7, for=10.1.2.3, for=127.0.0.2',
        ),
        ("x-forwarded-for", "9.9.9.9, 203.0.113.7, 10.1.2.3, 127.0.0.2"),
        ("x-forwarded-host", "shop.example:8443"),
        ("x-forwarded-port", "8443"),
        ("x-forwarded-proto", "https"),
    ]
    # The rightmost untrusted one: 10.1.2.3 is a proxy of ours, and what stands left of 203.0.113.7 is hearsay.
    assert gateway.request_line("trusted")["client"] == "203.0.113.7"


def test_a_trusted_peer_that_says_nothing_is_the_client(gateway: Gateway, up: Answers) -> None:
    request = sent(gateway, up, "/who", "X-Request-ID: silent", source=PROXY)
    assert request.one("x-forwarded-for") == PROXY
    assert request.one("forwarded") == f"for={PROXY};host=gateway.test;proto=http"
    assert gateway.request_line("silent")["client"] == PROXY


def test_ipv6_addresses_and_ports_are_quoted_in_forwarded(gateway: Gateway, up: Answers) -> None:
    request = sent(
        gateway, up, "/who", "X-Forwarded-For: 2001:db8::7, [fd00::1]:4711", "X-Request-ID: six", source=PROXY
    )
    assert request.one("x-forwarded-for") == "2001:db8::7, [fd00::1]:4711, 127.0.0.2"
    nodes = [element.partition(";")[0] for element in request.one("forwarded").split(", ")]
    assert nodes == ['for="[2001:db8::7]"', 'for="[fd00::1]:4711"', "for=127.0.0.2"]
    assert gateway.request_line("six")["client"] == "2001:db8::7"


def test_an_entry_that_is_no_address_ends_the_walk(gateway: Gateway, up: Answers) -> None:
    request = sent(gateway, up, "/who", "X-Forwarded-For: 9.9.9.9, unknown, 10.0.0.1", "X-Request-ID: w", source=PROXY)
    assert gateway.request_line("w")["client"] == "10.0.0.1"
    assert request.one("forwarded").split(", ")[1] == "for=unknown"


def test_a_peer_on_ipv6_is_told_in_brackets(gateway6: Gateway, up: Answers) -> None:
    up.forget()
    raw = request_bytes("GET", "/who", "X-Forwarded-For: 9.9.9.9", "X-Request-ID: v6", host=gateway6.authority)
    assert gateway6.ask(raw).status == 200
    (request,) = up.requests
    assert request.one("x-forwarded-for") == "::1"
    assert request.one("x-forwarded-host") == gateway6.authority
    assert request.one("forwarded") == f'for="[::1]";host="{gateway6.authority}";proto=http'
    line = gateway6.request_line("v6")
    assert (line["client"], line["host"]) == ("::1", "[::1]")


def test_a_stripped_prefix_goes_up(gateway: Gateway, up: Answers) -> None:
    assert sent(gateway, up, "/strip/x/y").one("x-forwarded-prefix") == "/strip"
    assert sent(gateway, up, "/strip").one("x-forwarded-prefix") == "/strip"
    assert sent(gateway, up, "/old/api/x").one("x-forwarded-prefix") == "/old"
    assert sent(gateway, up, "/t/a%2Fb/x").one("x-forwarded-prefix") == "/t/a%2Fb"


def test_a_prefix_that_was_not_stripped_does_not_go_up(gateway: Gateway, up: Answers) -> None:
    assert not sent(gateway, up, "/plain/x").has("x-forwarded-prefix")
    assert not sent(gateway, up, "/here/x").has("x-forwarded-prefix")
    assert not sent(gateway, up, "/thing/1").has("x-forwarded-prefix")


def test_a_trusted_proxys_prefix_stands_before_ours(gateway: Gateway, up: Answers) -> None:
    request = sent(gateway, up, "/strip/x", "X-Forwarded-Prefix: /outer", source=PROXY)
    assert request.one("x-forwarded-prefix") == "/outer/strip"
    assert sent(gateway, up, "/plain", "X-Forwarded-Prefix: /outer", source=PROXY).one("x-forwarded-prefix") == "/outer"


def test_via_is_appended_to_what_came(gateway: Gateway, up: Answers) -> None:
    request = sent(gateway, up, "/via", "Via: 1.1 first", "Via: 2 second (x)")
    assert re.fullmatch(r"1.1 first, 2 second \(x\), 1.1 portway \([0-9a-f]{8}\)", ", ".join(request.all("via")))


def test_via_names_the_version_that_the_client_spoke(gateway: Gateway, up: Answers) -> None:
    up.forget()
    assert gateway.ask(b"GET /via HTTP/1.0\r\nHost: gateway.test\r\n\r\n").status == 200
    assert up.requests[0].one("via").startswith("1.0 portway (")


# -- paths that are refused ---------------------------------------------------------------------------------------

DOTS = ["/a/..%2Fb", "/a/x%2f..%2f..%2fb", "/a/..%5cb", "/a\\b", "/a/..;/b", "/a/..;x=1/b", "/a;..", "/a/%2e%2e%3bx"]
DOTS += ["/a/../b", "/a/%2e%2e/b", "/a/.%2E/b", "/a/./b", "/a/%2e", "/..", "/a/..", "/a%00b", "/%00", "/strip/../x"]


@pytest.mark.parametrize("target", DOTS)
def test_a_dot_segment_or_a_nul_is_400(gateway: Gateway, up: Answers, target: str) -> None:
    answer = refused(gateway, up, request_bytes("GET", target))
    assert (answer.status, answer.json()["reason"]) == (400, "path_invalid")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "PURGE"])
@pytest.mark.parametrize(
    "spelled",
    [
        "//closed/x",
        "/closed%2Fx",
        "/closed%5cx",
        "//closed",
        "/closed;a=1/x",
        "/%63losed%2fx",
        "/;/closed",
        "/%2fclosed/x",
    ],
)
def test_what_a_server_could_read_as_another_routes_path_is_400(
    gateway: Gateway, up: Answers, spelled: str, method: str
) -> None:
    """Whoever stands behind it decodes slashes, merges them, or cuts parameters off."""
    up.forget()
    with gateway.connect() as wire:
        wire.send(request_bytes(method, f"/area{spelled}", "Connection: close"))
        answer = wire.read_answer(method)
    assert answer.status == 400
    if method != "HEAD":
        assert answer.json()["reason"] == "path_ambiguous"
    assert up.requests == []


@pytest.mark.parametrize("spelled", ["/%2d/status", "//-/status", "/-%2Fstatus", "/;x/-/status"])
def test_what_a_server_could_read_as_the_gateways_own_is_400(gateway: Gateway, up: Answers, spelled: str) -> None:
    answer = refused(gateway, up, request_bytes("GET", spelled))
    assert (answer.status, answer.json()["reason"]) == (400, "path_ambiguous")


@pytest.mark.parametrize(
    "target",
    [
        *(
            "/area//x",
            "/area/x%2Fy",
            "/area/x;closed",
            "/area/closed%252Fx",
            "/area/x//closed",
            "/area//",
            "/area?a=//closed",
        ),
        *("/projects/group%2Fapp/issues", "/projects/a%40b/issues", "/projects/a;v=1/issues"),
    ],
)
def test_other_slashes_and_parameters_go_up_as_they_came(gateway: Gateway, up: Answers, target: str) -> None:
    assert sent(gateway, up, target).target == target


@pytest.mark.parametrize("spelled", ["/projects/closed%2Fx/issues", "/projects/closed;x/issues"])
def test_a_value_in_which_another_routes_words_stand_is_400(gateway: Gateway, up: Answers, spelled: str) -> None:
    answer = refused(gateway, up, request_bytes("GET", spelled))
    assert (answer.status, answer.json()["reason"]) == (400, "path_ambiguous")


@pytest.mark.parametrize(
    "target",
    ["/raw/../b", "/raw/%2e%2E/b", "/raw/a%00b", "/raw/./.", "/raw/..%2fb", "/raw/a\\b", "/raw//inner%2Fx"],
)
def test_path_raw_lets_them_through_byte_for_byte(gateway: Gateway, up: Answers, target: str) -> None:
    assert sent(gateway, up, target).target == target


@pytest.mark.parametrize(
    "target", ["/thing/", "/raw-thing/", "/raw-thing/..", "/raw-thing/%2E", "/raw-thing/..%2Fx", "/raw-thing/x;.."]
)
def test_a_template_value_that_would_move_the_path_is_400(gateway: Gateway, up: Answers, target: str) -> None:
    answer = refused(gateway, up, request_bytes("GET", target))
    assert (answer.status, answer.json()["reason"]) == (400, "template_value")


# -- several endpoints --------------------------------------------------------------------------------------------


def test_several_base_urls_take_turns(tmp_path: Path) -> None:
    with Answers() as first, Answers() as second:
        bases = f"{first.url}, {second.url}/base"
        turns = {"GATEWAY_UPSTREAM_U": bases, "GATEWAY_UPSTREAM_U__BALANCE": "round_robin"}
        with Gateway({**turns, "GATEWAY_ROUTE_ALL": "/** -> u"}, cwd=tmp_path) as gateway:
            for _ in range(6):
                assert gateway.get("/x").status == 200
        assert [request.target for request in first.requests] == ["/x"] * 3
        assert [request.target for request in second.requests] == ["/base/x"] * 3


def test_a_dot_at_the_end_of_host_is_ignored_and_goes_up_where_host_does(up: Answers, tmp_path: Path) -> None:
    environment = {
        "GATEWAY_UPSTREAM_U": up.url,
        "GATEWAY_ROUTE_API": "api.example.com/api -> u",
        "GATEWAY_ROUTE_API__HOST": "preserve",
        "GATEWAY_ROUTE_OTHER": "other.example.com/api -> u",
        "GATEWAY_ROUTE_STORED": "api.example.com/stored -> u",
        "GATEWAY_ROUTE_STORED__CACHE": "60s",
    }
    with Gateway(environment, cwd=tmp_path) as gateway:
        for host in ("api.example.com.", "API.example.com.:8000", "api.example.com"):
            up.forget()
            answer = gateway.ask(request_bytes("GET", "/api", host=host))
            line = gateway.request_line(answer.one("x-request-id"))
            assert (answer.status, line["route"], line["host"]) == (200, "api", "api.example.com")
            assert (up.requests[0].one("host"), up.requests[0].one("x-forwarded-host")) == (host, host)
        # What the spelling with a dot got is stored for nobody; what is stored is for both, and goes with a write.
        up.forget()
        for host in ("api.example.com.", "api.example.com", "api.example.com.", "api.example.com"):
            assert gateway.ask(request_bytes("GET", "/stored", host=host)).status == 200
        assert len(up.requests) == 2
        gateway.ask(request_bytes("PUT", "/stored", "Content-Length: 0", host="api.example.com."))
        gateway.ask(request_bytes("GET", "/stored", host="api.example.com"))
        assert len(up.requests) == 4
        for host in (".", "api.example.com..", "api.example.com.evil"):
            assert gateway.ask(request_bytes("GET", "/api", host=host)).status in {400, 404}
