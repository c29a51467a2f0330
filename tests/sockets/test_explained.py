"""`gateway explain` says what becomes of a handshake."""

from pathlib import Path

import pytest

from gateway.auth.keys import line_of
from tests.live.management.test_commands import run

USERS = {
    "GATEWAY_UPSTREAM_USERS": "http://127.0.0.1:9",
    "GATEWAY_ROUTE_USERS": "/users/** -> users",
    "GATEWAY_CORS": "https://app.example.com",
}


@pytest.mark.parametrize(
    ("origin", "options", "words"),
    [
        ("https://app.example.com", {}, ["passes, in HTTP/1.1", "its own host, https://app.example.com", "1MiB", "1h"]),
        ("https://evil.example", {}, ["403 origin_refused: https://evil.example"]),
        ("https://app.example.com", {"GATEWAY_ROUTE_USERS__WEBSOCKET": "off"}, ["501 websocket_unsupported"]),
        ("https://evil.example", {"GATEWAY_WEBSOCKET_ORIGINS": "*"}, ["passes, in HTTP/1.1"]),
    ],
)
def test_a_handshake_is_explained(tmp_path: Path, origin: str, options: dict[str, str], words: list[str]) -> None:
    fields = ("-H", "Upgrade: websocket", "-H", "Connection: Upgrade", "-H", f"Origin: {origin}")
    ran = run(tmp_path, "explain", "GET", "/users/x", *fields, **USERS, **options)
    assert ran.code == 0, ran.errors
    for word in words:
        assert word in ran.output, ran.output


@pytest.mark.parametrize(
    ("pages", "word"), [("*", "403 origin_refused"), ("https://page.example", "let in"), ("", "403 origin_refused")]
)
def test_a_page_is_let_in_by_a_cookie_only_where_it_is_named(tmp_path: Path, pages: str, word: str) -> None:
    options = {"GATEWAY_AUTH_K": "keys", "GATEWAY_AUTH_K__FROM": "cookie:session", "GATEWAY_AUTH": "k"}
    options |= {"GATEWAY_AUTH_K__KEYS": line_of("ann", "a-key")} | (
        {"GATEWAY_WEBSOCKET_ORIGINS": pages} if pages else {}
    )
    fields = ("-H", "Upgrade: websocket", "-H", "Connection: Upgrade", "-H", "Origin: https://page.example")
    ran = run(tmp_path, "explain", "GET", "/users/x", *fields, "-H", "Cookie: session=a-key", **USERS, **options)
    asked = ran.output.partition("Who asks")[2].partition("\n\n")[0]
    assert word in asked, ran.output
    get = run(tmp_path, "explain", "GET", "/users/x", *fields[4:], "-H", "Cookie: session=a-key", **USERS, **options)
    assert "origin_refused" not in get.output
