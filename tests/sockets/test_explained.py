"""`gateway explain` says what becomes of a handshake."""

from pathlib import Path

import pytest

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
