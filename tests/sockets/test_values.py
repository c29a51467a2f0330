"""What is decided of a socket: close codes, origins, the handshake towards an upstream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sockets import codes, handshake
from gateway.sockets.codes import CLIENT, GATEWAY, UPSTREAM, Closing
from gateway.sockets.origins import may_open


@pytest.mark.parametrize(
    ("closing", "for_client", "for_upstream"),
    [
        (Closing(1000, "bye", CLIENT), (1000, "bye"), (1000, "bye")),
        (Closing(1005, "", CLIENT), (1000, ""), (1000, "")),
        (Closing(1006, "", CLIENT), (1011, ""), (1001, "")),
        (Closing(4001, "x", UPSTREAM), (4001, "x"), (4001, "x")),
        (Closing(1005, "", UPSTREAM), (1000, ""), (1000, "")),
        (Closing(1006, "", UPSTREAM), (1011, "the service is gone"), (1011, "")),
        (Closing(1001, "", GATEWAY), (1001, ""), (1001, "")),
        (Closing(1015, "", UPSTREAM), (1011, ""), (1011, "")),
        (Closing(1000, "é" * 100, UPSTREAM), (1000, "é" * 61), (1000, "é" * 61)),
    ],
)
def test_what_each_side_is_told(closing: Closing, for_client: tuple[int, str], for_upstream: tuple[int, str]) -> None:
    assert (closing.for_client(), closing.for_upstream()) == (for_client, for_upstream)


@given(st.integers(0, 65_535), st.text(), st.sampled_from([CLIENT, UPSTREAM, GATEWAY]))
def test_nothing_is_ever_said_that_may_not_be_sent(code: int, reason: str, by: str) -> None:
    closing = Closing(code, reason, by)
    for told, text in (closing.for_client(), closing.for_upstream()):
        assert codes.may_be_sent(told)
        assert len(text.encode()) <= 123
        assert reason.startswith(text) or text == "the service is gone"


@pytest.mark.parametrize(
    ("code", "may"),
    [
        *((999, 0), (1000, 1), (1003, 1), (1004, 0), (1005, 0), (1006, 0), (1007, 1), (1014, 1), (1015, 0)),
        *((1016, 0), (2999, 0), (3000, 1), (4999, 1), (5000, 0)),
    ],
)
def test_codes_that_may_be_sent(code: int, may: int) -> None:
    assert codes.may_be_sent(code) is bool(may)


APP = "https://app.example.com"


@pytest.mark.parametrize(
    ("origin", "origins", "cors", "may"),
    [
        (None, None, (), True),
        (None, (APP,), (), True),
        ("https://gateway.test", None, (), True),
        ("http://gateway.test", None, (), True),
        ("https://gateway.test:443", None, (), True),
        ("https://gateway.test:8443", None, (), False),
        ("https://evil.test", None, (), False),
        ("null", None, (), False),
        ("", None, (), False),
        ("https://gateway.test.evil.test", None, (), False),
        ("https://evil.test/gateway.test", None, (), False),
        (APP, None, (APP,), True),
        (APP, None, ("*",), False),
        ("*", None, ("*",), False),
        (APP, (APP,), (), True),
        ("https://gateway.test", (APP,), (), False),
        (APP, ("https://other.test",), (APP,), False),
        ("https://evil.test", ("*",), (), True),
        ("null", ("*",), (), True),
        (APP, ("https://*.example.com",), (), True),
        ("https://example.com", ("https://*.example.com",), (), False),
        (APP, None, ("https://*.example.com",), True),
        ("http://app.example.com", None, ("https://*.example.com",), False),
    ],
)
def test_whose_pages_may_open_one(
    origin: str | None, origins: tuple[str, ...] | None, cors: tuple[str, ...], may: bool
) -> None:
    assert may_open(origin, "gateway.test", origins, cors) is may


def test_the_accept_key_of_the_rfc() -> None:
    assert handshake.accept_of(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # section 1.3


def test_a_handshake_goes_up_with_a_key_of_ours_and_no_extension() -> None:
    pairs = [
        (b"sec-websocket-key", b"theirs"),
        (b"sec-websocket-extensions", b"permessage-deflate"),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-protocol", b"b"),
        (b"cookie", b"a=1"),
    ]
    up = handshake.upgrade_pairs(pairs, b"ours", ["a", "b"])
    assert up[0] == (b"cookie", b"a=1")
    assert dict(up)[b"sec-websocket-key"] == b"ours"
    assert dict(up)[b"sec-websocket-protocol"] == b"a, b"
    assert b"sec-websocket-extensions" not in dict(up)


KEY = handshake.new_key(bytes(16))
ACCEPTED = (b"sec-websocket-accept", handshake.accept_of(KEY))


@pytest.mark.parametrize(
    ("pairs", "fault"),
    [
        ([ACCEPTED], None),
        ([ACCEPTED, (b"sec-websocket-protocol", b"a")], None),
        ([], "Sec-WebSocket-Accept"),
        ([(b"sec-websocket-accept", b"wrong")], "Sec-WebSocket-Accept"),
        ([ACCEPTED, ACCEPTED], "Sec-WebSocket-Accept"),
        ([ACCEPTED, (b"sec-websocket-extensions", b"permessage-deflate")], "extension"),
        ([ACCEPTED, (b"sec-websocket-protocol", b"c")], "subprotocol"),
        ([ACCEPTED, (b"sec-websocket-protocol", b"a"), (b"sec-websocket-protocol", b"b")], "subprotocol"),
    ],
)
def test_what_is_no_answer_to_our_handshake(pairs: list[tuple[bytes, bytes]], fault: str | None) -> None:
    found = handshake.fault_of(pairs, KEY, ["a", "b"])
    assert found is None if fault is None else fault in (found or "")


@pytest.mark.parametrize(
    ("values", "offered"),
    [([], []), ([b"a, b"], ["a", "b"]), ([b"a", b"b ,, c"], ["a", "b", "c"]), ([b"a b"], None), ([b"a, a"], None)],
)
def test_the_subprotocols_that_are_offered(values: list[bytes], offered: list[str] | None) -> None:
    assert handshake.offered_by(values) == offered


def test_a_denial_has_each_field_once() -> None:
    pairs = [(b"set-cookie", b"a=1"), (b"vary", b"a"), (b"set-cookie", b"b=2"), (b"vary", b"b")]
    assert handshake.once_each(pairs) == [(b"set-cookie", b"a=1"), (b"vary", b"a, b")]
