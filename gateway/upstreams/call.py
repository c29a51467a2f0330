"""What a call to an endpoint is and what comes of it, in words of our own: who makes calls need not know aiohttp."""

from collections.abc import AsyncIterator, Sequence
from string import ascii_letters, digits
from typing import Final, NamedTuple, Protocol

from gateway.errors import GatewayError, Reason
from gateway.http.headers import Pair, is_token
from gateway.upstreams.endpoint import Endpoint

MAX_RESPONSE_HEADERS_BYTES: Final = 64 * 1024
_CONTROLS: Final = bytes((*range(0x09), *range(0x0A, 0x20), 0x7F))
_TOKEN_CHARACTERS: Final = b"!#$%&'*+-.^_`|~" + ascii_letters.encode() + digits.encode()

Fault = tuple[Reason, str]


class Call(NamedTuple):
    """One request to an endpoint. `target` is the raw path and query; `pairs` hold Host and no hop-by-hop fields.

    A body in bytes goes out with the head, one that is iterated after it. A connection that has been idle for
    `reuse_idle_s` or longer is not used for it.
    """

    upstream: str
    endpoint: Endpoint
    method: str
    target: str
    pairs: Sequence[Pair]
    body: bytes | AsyncIterator[bytes] | None
    chunked: bool
    idle_timeout_s: float
    reuse_idle_s: float = float("inf")
    keep: bool = True  # the connection, for other calls


def head_of(call: Call) -> bytes:
    """The request's head (RFC 9112, sections 3 and 5). Raises HEADER_INVALID for a field that would break its line."""
    lines = [f"{call.method} {call.target} HTTP/1.1".encode("ascii")]
    lines += [name + b": " + value for name, value in call.pairs]
    if call.chunked:
        lines.append(b"transfer-encoding: chunked")
    head = b"\r\n".join(lines)
    # A line break within a field would begin another one. The door and the configuration let none through; this holds.
    breaks = len(lines) - 1
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head:
        raise GatewayError(Reason.HEADER_INVALID, "A field line holds a line break or NUL.")
    return head + b"\r\n\r\n"


def one_chunk(body: bytes) -> bytes:
    """A whole body in the chunked coding (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"


def fault_of(status: int, pairs: Sequence[Pair], codings: Sequence[str], *, chunked: bool) -> Fault | None:
    """Why a head that parsed may not go down, if so: it would not survive the way, or mean something else.

    `codings` are the values of its Transfer-Encoding, `chunked` is how the parser reads the body.
    """
    fault = fault_of_fields(pairs)
    if fault is not None:
        return fault
    if not 200 <= status <= 599:
        return Reason.RESPONSE_INVALID, f"status {status}"
    if codings and not (chunked and len(codings) == 1 and codings[0].strip().lower() == "chunked"):
        # It is taken off here, and nobody below could know that the body is still coded (RFC 9112, section 6.1).
        return Reason.RESPONSE_INVALID, f"Transfer-Encoding: {', '.join(codings)}"
    return None


def fault_of_fields(pairs: Sequence[Pair]) -> Fault | None:
    """Why the field lines of an answer may not be believed, if so: too many bytes, a name or value that cannot be.

    RFC 9112, section 5.1: no white space between name and colon. A reader that takes it for a part of the name sees no
    `Content-Length` in `Content-Length : 4`, and the parser does.
    """
    if not pairs:
        return None
    names, values = zip(*pairs, strict=True)
    name_bytes, value_bytes = b"".join(names), b"".join(values)
    size = len(name_bytes) + len(value_bytes) + 4 * len(pairs)
    if size > MAX_RESPONSE_HEADERS_BYTES:
        return Reason.RESPONSE_HEADERS_TOO_LARGE, f"{size} bytes of header fields"
    if name_bytes.translate(None, _TOKEN_CHARACTERS) or b"" in names:
        wrong = next(name for name in names if not is_token(name))
        return Reason.RESPONSE_INVALID, f"a field name that is no token: {wrong[:100]!r}"
    if has_controls(value_bytes):
        return Reason.RESPONSE_INVALID, "a control character in a header field"
    return None


def has_controls(value: bytes) -> bool:
    """Whether there is a control character in a field value; a tab is none (RFC 9110, section 5.5)."""
    return len(value.translate(None, _CONTROLS)) != len(value)


class Unsent(GatewayError):
    """No connection could be made: nothing of the request has left."""


class StaleConnection(GatewayError):
    """A kept-alive connection turned out dead: the upstream may have closed it just as it was used again."""


class Outcome(Protocol):
    """Who wants to know how an answer ended. One of these is called, once, for an answer whose head has arrived."""

    def ended(self, status: int) -> None:
        """All of it has arrived."""

    def broke(self, reason: Reason) -> None:
        """The upstream broke it off, or stalled."""

    def dropped(self) -> None:
        """Nobody wanted the rest."""


class Answer(Protocol):
    """An upstream's answer, once its request was written. `head` comes first; then read it to its end or `close` it."""

    status: int
    pairs: Sequence[Pair]

    async def head(self) -> None:
        """Wait for status and pairs. Raises GatewayError, `StaleConnection`. May be cancelled and called again."""

    def whole(self) -> bytes | None:
        """The body if all of it is here already, else None and nothing was taken. Raises RESPONSE_INCOMPLETE."""

    async def settle(self, max_bytes: int, timeout_s: float, unknown_timeout_s: float) -> bool:
        """Wait until the body is here, if it says it has at most `max_bytes`; another time holds if it says nothing.

        False where it said so, and nothing more of it came in that time. Raises RESPONSE_INCOMPLETE.
        """

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises GatewayError RESPONSE_INCOMPLETE or RESPONSE_IDLE_TIMEOUT."""

    def close(self) -> None:
        """Break it off, unless it is over. Never waits."""
