"""The result of a team's own view becomes an answer that can be sent: of a known kind, rendered, well framed.

The result of every view that is not the gateway's passes here once, before it is stored or sent. Answers of upstreams
do not: the client that read them has checked all of this.
"""

import dataclasses
import inspect
import re
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import msgspec
from asgiref.sync import iscoroutinefunction
from django.http.response import HttpResponseBase
from django.utils.functional import Promise

from gateway.http.headers import HOP_BY_HOP, Pair, Pairs, all_of, connection_options, is_token
from gateway.http.response import GatewayResponse, pairs_of

_JSON = (b"content-type", b"application/json")
_LENGTH = b"content-length"
_NO_PIECES: tuple[bytes, ...] = ()
WITHOUT_BODY = frozenset({204, 304})  # RFC 9110, section 6.4.1; a view cannot answer with 1xx
# RFC 9110, section 5.5: CR, LF and NUL are dangerous, other control characters invalid; a tab is neither.
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def name_of_view(view: Callable[..., Any]) -> str:
    """How a log line names a view: `routes.home`."""
    view = getattr(view, "view_class", view)  # of what `as_view()` made
    module = getattr(view, "__module__", None) or type(view).__module__
    return f"{module}.{getattr(view, '__qualname__', type(view).__qualname__)}"


async def finished(
    result: object,
    view: Callable[..., Any],
    *,
    is_head: bool,
    in_thread: Callable[[Callable[[], Any]], Awaitable[Any]] | None = None,
) -> HttpResponseBase:
    """The answer that a view's result makes; one that renders itself is rendered by `in_thread`, or awaited.

    Without `in_thread`, what can be rendered in a thread has been rendered already. Raises TypeError or ValueError,
    which name the view, for what cannot be sent, and whatever the rendering raises.
    """
    response = response_of(result, view)
    render = _rendering(response)
    if render is not None:
        if iscoroutinefunction(render):
            response = response_of(await render(), view)
        elif in_thread is not None:
            response = response_of(await in_thread(render), view)
    return sendable(response, view, is_head=is_head)


def rendered_in_thread(result: object) -> object:
    """A synchronous view's result; an answer that renders itself is rendered here, in the view's own thread."""
    render = _rendering(result)
    if render is None or iscoroutinefunction(render):
        return result
    return render()


def _rendering(response: object) -> Callable[[], Any] | None:
    """The method that renders a response which is not rendered yet, such as a SimpleTemplateResponse."""
    if not isinstance(response, HttpResponseBase) or getattr(response, "is_rendered", False):
        return None
    render = getattr(response, "render", None)
    return render if callable(render) else None


# -- of a kind we know --------------------------------------------------------------------------------------------


def response_of(result: object, view: Callable[..., Any]) -> HttpResponseBase:
    """A view's result as a response; a dict, list, Struct, dataclass or pydantic model becomes JSON. Raises TypeError
    for anything else."""
    if isinstance(result, HttpResponseBase):
        return result
    if isinstance(result, (dict, list, msgspec.Struct)) or (
        dataclasses.is_dataclass(result) and not isinstance(result, type)
    ):
        return GatewayResponse(200, [_JSON], msgspec.json.encode(result, enc_hook=_plain))
    if hasattr(result, "model_dump_json") and not isinstance(result, type):  # of pydantic, which is no dependency
        return GatewayResponse(200, [_JSON], result.model_dump_json().encode())
    raise TypeError(f"the view {name_of_view(view)} returned {described(result)}")


def described(result: object) -> str:
    """What a view returned instead of an answer, and what to do about it."""
    if inspect.iscoroutine(result):
        result.close()  # else Python would warn that it was never awaited
        return "a coroutine that nobody awaited: what is wrapped around an async view must be async too"
    kind = "None" if result is None else f"a value of the type {type(result).__name__}"
    return f"{kind}: return a response of Django's, or a dict, which becomes JSON"


def _plain(value: Any) -> Any:
    """Values in a dict that msgspec does not know: lazily translated texts, models of pydantic."""
    if isinstance(value, Promise):
        return str(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"a {type(value).__name__} cannot become JSON")


# -- well framed --------------------------------------------------------------------------------------------------


def sendable(response: HttpResponseBase, view: Callable[..., Any], *, is_head: bool) -> HttpResponseBase:
    """The same response, with field lines that may be sent and framing that fits its body.

    Raises ValueError or TypeError, which name the view, for what cannot be sent (`corrections`, `check_lines`). The
    body of a GatewayResponse that streams raises them while it is read (`exactly`).
    """
    try:
        check_lines(pairs_of(response))
        pairs = [(name.lower(), value) for name, value in pairs_of(response)]
        size: int | None = None
        if isinstance(response, GatewayResponse):
            body = _body_of(response.body)
            if isinstance(body, bytes):
                response.body, size = body, len(body)
            else:
                response.body = exactly(body, promised_bytes(pairs))
        elif not response.streaming:
            size = len(response.content)  # type: ignore[attr-defined]
        drop, add = corrections(pairs, size, response.status_code, is_head=is_head)
    except (ValueError, TypeError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"the view {name_of_view(view)} answered with {error}") from error
    if isinstance(response, GatewayResponse):
        lines = [(name.lower(), value) for name, value in response.pairs]
        response.pairs[:] = [*(pair for pair in lines if pair[0] not in drop), *add]
    else:
        for name in drop:
            del response[name.decode()]
        for name, value in add:
            response[name.decode()] = value.decode()
    return response


def check_lines(pairs: Iterable[Pair]) -> None:
    """Raises ValueError for a field name that is no token or a value that holds a control character, TypeError for what
    is no pair of bytes (RFC 9110, sections 5.1 and 5.5)."""
    for pair in pairs:
        given: Any = pair  # a person may write anything here
        if not (isinstance(given, tuple) and len(given) == 2 and all(isinstance(one, bytes) for one in given)):
            raise TypeError(f"a field line that is no pair of bytes: {pair!r}")
        name, value = pair
        if not is_token(name):
            raise ValueError(f"a field name that is none: {name!r}")
        if _CONTROL.search(value):
            raise ValueError(f"a control character in the field {name.decode()}: {value!r}")


def corrections(pairs: Pairs, size: int | None, status: int, *, is_head: bool) -> tuple[frozenset[bytes], Pairs]:
    """How to correct the field lines of an answer: the names to remove, and the lines to add then.

    `size` is the size of a whole body, None for one that streams. Framing is the gateway's, so hop-by-hop fields go
    (they come along with the fields of an upstream); a view may wish for `Connection: close`. A Content-Length that is
    less than the whole body is corrected. Raises ValueError for one that is more, since a body that lacks something
    must not look whole; and for one that is not a clear number, of a stream.
    """
    names = {name for name, _ in pairs}
    drop, add = names & HOP_BY_HOP, Pairs()
    if b"connection" in drop:
        values = all_of(pairs, b"connection")
        drop |= names & connection_options(values)
        if any(value.strip().lower() == b"close" for value in values):
            add.append((b"connection", b"close"))
    if _LENGTH not in names:
        return frozenset(drop), add
    if status in WITHOUT_BODY:
        return frozenset(drop | {_LENGTH}), add
    if size is None:
        length = promised_bytes(pairs)
    elif is_head and not size:  # it is the size of the answer to a GET
        return frozenset(drop), add
    else:
        length = size
        values = all_of(pairs, _LENGTH)
        promised = max((int(value) for value in values if _is_length(value)), default=0)
        if promised > size:
            raise ValueError(f"{size} bytes, but a Content-Length of {promised}")
    add.append((_LENGTH, b"%d" % (length or 0)))
    return frozenset(drop | {_LENGTH}), add


def promised_bytes(pairs: Pairs) -> int | None:
    """The Content-Length of a body that is still to come. Raises ValueError where it is not one clear number."""
    values = set(all_of(pairs, _LENGTH))
    if not values:
        return None
    if len(values) > 1 or not _is_length(min(values)):
        raise ValueError(f"a Content-Length that is no number: {b', '.join(sorted(values))!r}")
    return int(values.pop())


def _is_length(value: bytes) -> bool:
    return value.isdigit() and len(value) < 20


async def exactly(body: AsyncIterable[bytes], length: int | None) -> AsyncIterator[bytes]:
    """The pieces of a body: exactly as many bytes as `length`, where that is given.

    Raises ValueError instead of yielding a piece that would exceed it, and at the end of a body that is shorter;
    TypeError for a piece that is no bytes.
    """
    size = 0
    try:
        async for piece in body:
            if not isinstance(piece, (bytes, bytearray, memoryview)):
                raise TypeError(f"a body gave a piece of the type {type(piece).__name__} instead of bytes")
            size += len(piece)
            if length is not None and size > length:
                raise ValueError(f"a body is longer than its Content-Length of {length}")
            yield bytes(piece)
    finally:
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()
    if length is not None and size < length:
        raise ValueError(f"a body ended after {size} bytes, but its Content-Length is {length}")


async def nothing(body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """An empty stream, instead of a body that may not be sent, which is closed unread."""
    close = getattr(body, "aclose", None)
    if close is not None:
        await close()
    for piece in _NO_PIECES:
        yield piece


def _body_of(body: Any) -> bytes | AsyncIterable[bytes]:
    if isinstance(body, (bytearray, memoryview)):
        return bytes(body)
    if isinstance(body, (bytes, AsyncIterable)):
        return body
    raise TypeError(f"a body of the type {type(body).__name__}: give bytes, or an async iterator of bytes")
