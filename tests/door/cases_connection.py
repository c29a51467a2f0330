"""Several requests on one connection, and the fields that are about the connection (RFC 9112, section 9)."""

from .corpus import EITHER, VALID, Case, Expect, case

HEAD = b"GET /1 HTTP/1.1\r\nHost: a.example\r\n"
ONE = HEAD + b"\r\n"
TWO = b"GET /2 HTTP/1.1\r\nHost: a.example\r\n\r\n"
POSTED = b"POST /1 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello"
OLD = b"GET /1 HTTP/1.0\r\nHost: a.example\r\n"
_WEBSOCKET = b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

_GLUED: tuple[tuple[str, Expect, bytes], ...] = (
    ("two GETs", VALID, ONE + TWO),
    ("five GETs", VALID, ONE + TWO + ONE + TWO + ONE),
    ("POST and GET", VALID, POSTED + TWO),
    (
        "chunked and GET",
        VALID,
        b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n" + TWO,
    ),
    ("HEAD and GET", VALID, ONE.replace(b"GET", b"HEAD") + TWO),
    ("a line end between", EITHER, POSTED + b"\r\n" + TWO),
    ("three line ends between", EITHER, ONE + b"\r\n\r\n\r\n" + TWO),
    ("garbage behind", EITHER, ONE + b"\0\x01\x02\x03\r\n\r\n"),
    ("half a request behind", EITHER, ONE + b"GET /2 HT"),
    ("a faulty one behind", EITHER, ONE + b"GET /2 HTTP/1.1\r\nHost : b\r\n\r\n"),
    ("a faulty one before", EITHER, b"GET /1 HTTP/1.1\r\nHost : a\r\n\r\n" + TWO),
    ("no Host before", EITHER, b"GET /1 HTTP/1.1\r\n\r\n" + TWO),
    ("close and another one", EITHER, HEAD + b"Connection: close\r\n\r\n" + TWO),
    ("HTTP/1.0 and another one", EITHER, OLD + b"\r\n" + TWO),
    ("a body longer than it says", EITHER, POSTED + b"!" * 5),
    ("a GET with bytes behind it", EITHER, ONE + b"hello"),
)

_FIELDS: tuple[tuple[str, Expect, bytes], ...] = (
    ("close", VALID, b"Connection: close\r\n"),
    ("keep-alive", VALID, b"Connection: keep-alive\r\n"),
    ("Keep-Alive with parameters", VALID, b"Connection: keep-alive\r\nKeep-Alive: timeout=5, max=100\r\n"),
    ("close and keep-alive", VALID, b"Connection: close, keep-alive\r\n"),
    ("upper case", VALID, b"CONNECTION: CLOSE\r\n"),
    ("two lines", VALID, b"Connection: keep-alive\r\nConnection: X-A\r\nX-A: b\r\n"),
    ("names a field", VALID, b"Connection: X-A\r\nX-A: b\r\nX-C: d\r\n"),
    ("names a field in odd case", VALID, b"Connection: x-A\r\nX-a: b\r\n"),
    ("names what is not there", VALID, b"Connection: X-Nothing\r\n"),
    ("empty members", VALID, b"Connection: ,, close ,,\r\n"),
    ("empty", VALID, b"Connection:\r\n"),
    ("a member that is no token", EITHER, b"Connection: a b, (c)\r\n"),
    ("names Via and X-Forwarded-For", VALID, b"Connection: Via, X-Forwarded-For\r\n"),
    ("names Authorization", EITHER, b"Connection: Authorization\r\nAuthorization: Basic YTpi\r\n"),
    ("a hundred members", EITHER, b"Connection: " + b", ".join(b"x-%d" % number for number in range(100)) + b"\r\n"),
    ("TE trailers", VALID, b"TE: trailers\r\nConnection: TE\r\n"),
    ("TE without Connection", VALID, b"TE: trailers\r\n"),
    ("TE with weights", VALID, b"TE: trailers, deflate;q=0.5\r\nConnection: TE\r\n"),
    ("Trailer and no trailers", VALID, b"Trailer: X-A\r\n"),
    ("Proxy-Connection", VALID, b"Proxy-Connection: keep-alive\r\n"),
    (
        "upgrade to h2c",
        VALID,
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
    ),
    ("upgrade to what nobody knows", VALID, b"Connection: Upgrade\r\nUpgrade: foo/2\r\n"),
    ("Upgrade without Connection", VALID, b"Upgrade: foo/2\r\n"),
    ("Connection upgrade without Upgrade", VALID, b"Connection: upgrade\r\n"),
    ("upgrade to TLS", VALID, b"Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n"),
    ("upgrade to websocket", EITHER, b"Connection: Upgrade\r\n" + _WEBSOCKET),
    ("upgrade to websocket without Connection", EITHER, _WEBSOCKET),
    ("upgrade to websocket of another version", EITHER, b"Connection: Upgrade\r\n" + _WEBSOCKET.replace(b"13", b"99")),
    ("Expect something else", EITHER, b"Expect: 200-ok\r\n"),
    ("Expect twice", EITHER, b"Expect: 100-continue\r\nExpect: 100-continue\r\n"),
    ("Expect without a body", EITHER, b"Expect: 100-continue\r\n"),
    ("Max-Forwards of a GET", VALID, b"Max-Forwards: 0\r\n"),
)

_WITH_BODY: tuple[tuple[str, Expect, bytes], ...] = (
    ("names Content-Length", EITHER, b"Connection: Content-Length\r\n"),
    ("names Transfer-Encoding", EITHER, b"Connection: Transfer-Encoding\r\n"),
    ("Expect: 100-continue", VALID, b"Expect: 100-continue\r\n"),
    ("Expect in odd case", VALID, b"Expect: 100-Continue\r\n"),
    ("Expect something else", EITHER, b"Expect: x\r\n"),
    ("upgrade to h2c", EITHER, b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
    ("upgrade to websocket", EITHER, b"Connection: Upgrade\r\n" + _WEBSOCKET),
)

_IN_1_0: tuple[tuple[str, Expect, bytes], ...] = (
    ("plain", VALID, b""),
    ("keep-alive", VALID, b"Connection: keep-alive\r\n"),
    ("keep-alive in capitals", VALID, b"Connection: Keep-Alive\r\n"),
    ("close", VALID, b"Connection: close\r\n"),
    ("Expect", EITHER, b"Expect: 100-continue\r\n"),
    ("Upgrade", EITHER, b"Connection: Upgrade\r\nUpgrade: foo\r\n"),
    ("upgrade to websocket", EITHER, b"Connection: Upgrade\r\n" + _WEBSOCKET),
)


def cases() -> list[Case]:
    made = [case(f"glued: {name}", expect, raw, "9.3") for name, expect, raw in _GLUED]
    made += [
        case(f"connection: {name}", expect, HEAD + lines + b"\r\n", "9, RFC 9110, 7.6")
        for name, expect, lines in _FIELDS
    ]
    made += [
        case(
            f"connection, with a body: {name}",
            expect,
            POSTED.replace(b"Content", lines + b"Content", 1),
            "9, RFC 9110, 7.6",
        )
        for name, expect, lines in _WITH_BODY
    ]
    chunked = b"POST /1 HTTP/1.1\r\nHost: a\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n"
    made.append(case("connection: names Transfer-Encoding", EITHER, chunked + b"1\r\na\r\n0\r\n\r\n", "9", body=b"a"))
    made += [case(f"HTTP/1.0: {name}", expect, OLD + lines + b"\r\n", "9.3") for name, expect, lines in _IN_1_0]
    return made
