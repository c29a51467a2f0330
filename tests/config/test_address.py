"""The address to listen on."""

import socket
from typing import Any

import pytest

from gateway.config.address import AddressInUse, resolved, shown, try_bind


def test_an_address_is_itself_and_a_name_its_first_ipv4_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(host: str, port: int, **kind: Any) -> list[Any]:
        assert (host, port, kind) == ("gateway", 8000, {"type": socket.SOCK_STREAM})
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 8000, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", 8000)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.3", 8000)),
        ][: 3 if ipv4 else 1]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert resolved(("127.0.0.1", 1)) == ("127.0.0.1", 1)
    assert resolved(("::", 1)) == ("::", 1)
    ipv4 = True
    assert resolved(("gateway", 8000)) == ("127.0.0.2", 8000)
    ipv4 = False
    assert resolved(("gateway", 8000)) == ("::1", 8000)


def test_what_is_taken_or_not_ours_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()
        with pytest.raises(AddressInUse, match=f"cannot listen on 127.0.0.1:{address[1]}: address already in use"):
            try_bind(address)
        try_bind(("127.0.0.1", 0))
    with pytest.raises(AddressInUse, match=r"cannot listen on 192\.0\.2\.1:0: cannot assign requested address"):
        try_bind(("192.0.2.1", 0))
    with pytest.raises(AddressInUse, match=r"cannot listen on \[2001:db8::1\]:0: "):
        try_bind(("2001:db8::1", 0))


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    assert (shown(("::1", 8000)), shown(("127.0.0.1", 80))) == ("[::1]:8000", "127.0.0.1:80")
