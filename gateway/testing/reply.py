"""Answers of a service of a test: keys, and their values."""

import inspect
import re
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from gateway import units
from gateway.errors import Reason
from gateway.testing.wire import Pair

if TYPE_CHECKING:
    from gateway.testing.service_socket import ServiceSocket

_UNSET: Final = object()
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_JSON: Final = ("content-type", "application/json")

# The failures that a service, or the way to it, can have; others belong to a client, the gateway or a whole fan-out.
FAILURES: Final = (
    *(Reason.DNS_FAILED, Reason.DNS_TIMEOUT, Reason.CONNECTION_REFUSED, Reason.CONNECTION_FAILED, Reason.TLS_FAILED),
    *(Reason.TLS_CERTIFICATE, Reason.CONNECT_TIMEOUT, Reason.CONNECTION_RESET, Reason.RESPONSE_INVALID),
    *(Reason.RESPONSE_HEADERS_TOO_LARGE, Reason.RESPONSE_TIMEOUT, Reason.RESPONSE_INCOMPLETE),
    Reason.RESPONSE_IDLE_TIMEOUT,
)
# Failures before any byte of the request was sent.
BEFORE_THE_REQUEST: Final = frozenset(FAILURES[:7])

Body = bytes | str | Iterable[bytes | Reason] | AsyncIterable[bytes | Reason]
Fields = Mapping[str, str] | Sequence[Pair]


class Reply:
    """An answer of a service: `Reply(503)`, `Reply(json=[...])`, `Reply(404, body="no", headers={"x-from": "a"})`.

    `json` is anything that msgspec encodes, a Struct or dataclass too. `body` is bytes, a text, or an iterable or async
    iterator of bytes, which is sent piece by piece, and may end with a failure. `headers` are a mapping, or pairs if a
    name is repeated. `delay` is how long the answer takes, with its unit: "20ms". Raises TypeError and ValueError.
    """

    def __init__(
        self,
        status: int = 200,
        *,
        json: Any = _UNSET,
        body: Body | None = None,
        headers: Fields = (),
        delay: str = "0s",
    ) -> None:
        given: Any = status  # a person may write anything here
        if type(given) is not int or not 200 <= status <= 599:
            raise ValueError(f"Reply({status!r}): a status is a number from 200 to 599")
        if json is not _UNSET and body is not None:
            raise ValueError("Reply(): an answer has json= or body=, not both")
        self.status = status
        self.pairs = _pairs(headers)
        self.delay_s = units.duration(delay)
        self.body: bytes | Iterable[bytes | Reason] | AsyncIterable[bytes | Reason] = b""
        if json is not _UNSET:
            self.body = _encoded(json)
            if not any(name.lower() == "content-type" for name, _ in self.pairs):
                self.pairs.insert(0, _JSON)
        elif isinstance(body, str):
            self.body = body.encode()
        elif body is not None:
            self.body = body

    def __repr__(self) -> str:
        return f"<Reply {self.status}>"


class SocketReply:
    """An answer that accepts a WebSocket: `function` is async and is called with the `ServiceSocket`.

    `subprotocol` is chosen if it is offered. When the function returns, the socket is closed.
    """

    def __init__(
        self, function: "Callable[[ServiceSocket], Awaitable[None]]", *, subprotocol: str | None = None
    ) -> None:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"SocketReply({function!r}): give it an async function, which is called with the socket")
        self.function = function
        self.subprotocol = subprotocol


def reply_of(value: object, place: str) -> Reply | SocketReply | Reason:
    """The answer for one value: a Reply, a failure, or JSON. Raises TypeError and ValueError, with the place."""
    if isinstance(value, (Reply, SocketReply)):
        return value
    if isinstance(value, Reason):
        if value not in FAILURES:
            words = ", ".join(one.name for one in FAILURES)
            raise ValueError(f"{place}: {value.name} is no failure of a service; there are {words}")
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"{place}: bytes are no JSON; write Reply(body=...)")
    if isinstance(value, BaseException) or (isinstance(value, type) and issubclass(value, BaseException)):
        raise TypeError(f"{place}: a failure is said by its word, as Reason.CONNECTION_REFUSED")
    try:
        return Reply(json=value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{place}: {error}") from None


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise TypeError(f"this cannot become JSON: {error}") from None


def _pairs(headers: Fields) -> list[Pair]:
    given: Any = headers.items() if isinstance(headers, Mapping) else headers  # a person may write anything here
    if isinstance(given, (str, bytes)):
        raise TypeError(f"headers={given!r}: write a mapping of names and values, or a list of pairs")
    pairs = []
    for name, value in given:
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"the header {name!r} has the value {value!r}: both are texts")
        if not _NAME.fullmatch(name) or re.search(r"[\r\n\0]", value):
            raise ValueError(f"{name}: {value!r} is no header field")
        pairs.append((name, value))
    return pairs


# -- keys -----------------------------------------------------------------------------------------------------------


class Key(NamedTuple):
    """Which calls an answer is for; None is any."""

    method: str | None
    path: str | None
    query: str | None

    def matches(self, method: str, path: str, query: str) -> bool:
        """Whether it is for such a call. An answer for GET is also one for HEAD."""
        return (
            (self.method is None or self.method == method or (self.method, method) == ("GET", "HEAD"))
            and (self.path is None or self.path == path)
            and (self.query is None or self.query == query)
        )

    @property
    def rank(self) -> tuple[bool, bool, bool]:
        """Of two that match, the greater one answers."""
        return (self.path is not None, self.query is not None, self.method is not None)


_KEY: Final = re.compile(r"(?:([A-Z]+) )?(?:(/[^\s?#]*)(?:\?(\S*))?|\*)")


def key_of(text: object, service: str) -> Key:
    """Read a key: `"GET /path"`, `"/path"`, `"/path?query"`, `"*"`. Raises ValueError, with a sentence."""
    match = _KEY.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"gateway.{service}[{text!r}]: a key is 'GET /path', '/path', '/path?query' or '*'")
    if "{" in (match[2] or ""):
        raise ValueError(
            f"gateway.{service}[{text!r}]: a key is a path as it is asked for, and no pattern; write one for each "
            "path, or a function for '*'"
        )
    return Key(match[1], match[2], match[3])
