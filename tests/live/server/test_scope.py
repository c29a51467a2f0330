"""What Granian puts into an ASGI scope, key by key: what the gateway reads off one is stated here.

`tests/application.py` makes scopes for tests without a server; it is held to this table.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.application import scope_of
from tests.live.harness import Answers, Gateway, Upstream, Wire, request_bytes

ROUTES = """
from django.http import HttpResponse
from django.urls import re_path
from gateway.routing import from_environment

async def show(request, rest=None):
    return HttpResponse(repr(dict(request.scope)), content_type="text/plain")

urlpatterns = [*from_environment(), re_path(r"^(.*)$", show)]
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("scope")
    (home / "routes.py").write_text(ROUTES)
    return home


@pytest.fixture(scope="module")
def gateway(up: Answers, home: Path) -> Iterator[Gateway]:
    environment = {"GATEWAY_UPSTREAM_U": up.url, "GATEWAY_ROUTE_U": "/up/** -> u"}
    with Gateway(environment, cwd=home) as running:
        yield running


@pytest.fixture(scope="module")
def dual(up: Answers, puppet: Upstream, home: Path) -> Iterator[Gateway]:
    """Listens on all addresses of both families, with one socket."""
    environment = {
        "GATEWAY_UPSTREAM_U": up.url,
        "GATEWAY_ROUTE_U": "/up/** -> u",
        "GATEWAY_UPSTREAM_PUPPET": puppet.url,
        "GATEWAY_ROUTE_PUPPET": "/puppet/** -> puppet",
    }
    with Gateway(environment, cwd=home, host="::") as running:
        yield running


def scope_for(gateway: Gateway, raw: bytes, host: str | None = None) -> dict[str, Any]:
    """The scope that the gateway was given for these bytes."""
    with Wire(host or gateway.host, gateway.port) as wire:
        wire.send(raw)
        answer = wire.read_answer()
    assert answer.status == 200, answer
    scope: dict[str, Any] = ast.literal_eval(answer.body.decode())
    return scope


@pytest.mark.parametrize(("version", "given"), [("1.0", "1"), ("1.1", "1.1")])
def test_http_1_0_is_1(gateway: Gateway, version: str, given: str) -> None:
    raw = f"GET /a HTTP/{version}\r\nHost: gateway.test\r\n\r\n".encode()
    assert scope_for(gateway, raw)["http_version"] == given


def test_a_scope_has_these_keys_and_types_as_tests_without_a_server_have_them(gateway: Gateway) -> None:
    scope = scope_for(gateway, request_bytes("GET", "/a%41/b%2Fc?x=%20&y=+"))
    made = scope_of("GET", "/a%41/b%2Fc?x=%20&y=+")
    assert {key: type(value) for key, value in scope.items()} == {key: type(value) for key, value in made.items()}
    same = ("type", "asgi", "http_version", "method", "scheme", "raw_path", "query_string", "root_path", "headers")
    assert {key: scope[key] for key in same} == {key: made[key] for key in same}
    for end in ("client", "server"):
        assert [type(part) for part in scope[end]] == [type(part) for part in made[end]] == [str, str]
    assert scope["extensions"].keys() == {"http.response.pathsend", "websocket.http.response"}
    assert scope["state"] == {}


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        ("/a%41/b%2Fc?x=%20&y=+", "/aA/b/c", b"/a%41/b%2Fc", b"x=%20&y=+"),
        ("//x//y;a=1", "//x//y;a=1", b"//x//y;a=1", b""),
        ("/a%5Cb/%5c/%3b", "/a\\b/\\/;", b"/a%5Cb/%5c/%3b", b""),
        ("/a??b", "/a", b"/a", b"?b"),
        ("/a?", "/a", b"/a", b""),
        ("http://other.test/a?b", "/a", b"/a", b"b"),
    ],
)
def test_path_is_decoded_and_raw_path_is_as_it_came(
    gateway: Gateway, target: str, path: str, raw_path: bytes, query: bytes
) -> None:
    scope = scope_for(gateway, request_bytes("GET", target))
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query)
    assert scope["root_path"] == ""


def test_names_are_lower_case_and_methods_and_values_are_not(gateway: Gateway) -> None:
    raw = b"PuRge /a HTTP/1.1\r\nHOST: H.x:1\r\nX-MiXed: A\r\nb: 1\r\nX-MiXed:\tb \r\nX_Under.Dot: c\r\n\r\n"
    scope = scope_for(gateway, raw)
    assert scope["method"] == "PuRge"
    host, mixed = (b"host", b"H.x:1"), [(b"x-mixed", b"A"), (b"x-mixed", b"b")]
    assert sorted(scope["headers"]) == sorted([host, *mixed, (b"b", b"1"), (b"x_under.dot", b"c")])


def test_a_missing_host_is_an_empty_one(gateway: Gateway) -> None:
    assert scope_for(gateway, b"GET /a HTTP/1.0\r\n\r\n")["headers"] == [(b"host", b"")]


def test_the_scheme_is_that_of_the_connection_whatever_the_client_says(gateway: Gateway) -> None:
    assert (
        scope_for(gateway, request_bytes("GET", "https://gateway.test/a", "X-Forwarded-Proto: https"))["scheme"]
        == "http"
    )


def test_client_and_server_are_the_ends_of_the_connection(gateway: Gateway) -> None:
    with gateway.connect(source="127.0.0.7") as wire:
        wire.send(request_bytes("GET", "/a", "Connection: close"))
        scope = ast.literal_eval(wire.read_answer().body.decode())
        assert scope["client"] == ("127.0.0.7", str(wire.socket.getsockname()[1]))
    assert scope["server"] == ("127.0.0.1", str(gateway.port))


@pytest.mark.parametrize(
    ("to", "given", "meant"), [("127.0.0.1", "::ffff:127.0.0.1", "127.0.0.1"), ("::1", "::1", "::1")]
)
def test_a_socket_of_both_families_shows_an_ipv4_peer_as_ipv6_and_the_gateway_means_the_ipv4_one(
    dual: Gateway, up: Answers, to: str, given: str, meant: str
) -> None:
    assert scope_for(dual, request_bytes("GET", "/a", "X-Request-ID: shown"), host=to)["client"][0] == given
    up.forget()
    with Wire(to, dual.port) as wire:
        wire.send(request_bytes("GET", "/up/a", f"X-Request-ID: {meant.replace(':', '.')}"))
        assert wire.read_answer().status == 200
    assert up.requests[0].one("x-forwarded-for") == meant
    assert dual.request_line(meant.replace(":", "."))["client"] == meant


@pytest.mark.parametrize("to", ["127.0.0.1", "::1"])
def test_client_and_server_name_the_connection_that_is_cut_also_where_all_addresses_are_listened_on(
    dual: Gateway, puppet: Upstream, to: str
) -> None:
    puppet.forget()
    with Wire(to, dual.port) as wire:
        wire.send(request_bytes("GET", "/puppet/a"))
        request = puppet.wait_for_request()
        request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        answer = wire.read_head()
        wire.read_body(answer, at_least=5)
        request.close()
        wire.read_body(answer)
        assert answer.broke_off
