"""Django's request and response, made lossless: a view sees what was received, and what it returns is what is sent.

Django's own classes join repeated fields, decode the path and spool the body before a view runs. These keep raw
pairs, the raw path and a body that streams, and build Django's `META`, `GET`, `COOKIES`, `POST` only when asked.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from functools import partial
from io import BytesIO
from types import MappingProxyType
from typing import Any, BinaryIO, TypeVar
from urllib.parse import unquote

from django.http import HttpRequest, QueryDict, UnreadablePostError
from django.http.cookie import parse_cookie
from django.http.multipartparser import MultiPartParserError
from django.http.request import RawPostDataException
from django.urls import ResolverMatch
from django.utils.functional import cached_property

from gateway.http.forwarding import peer_address
from gateway.http.headers import (
    Pair,
    Pairs,
    RequestFields,
    all_of,
    as_cgi,
    believed,
    cgi_fields,
    first_of,
    is_claim,
    read_fields,
    set_fields,
)
from gateway.http.identity import IDENTITY_WORDS, Identity, IdentityFields
from gateway.http.inbox import Inbox, too_large
from gateway.http.lifetime import Lifetime
from gateway.http.services import MatchedRoute, RouteStack, Services

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

# How much a view may read into memory, and the default of `__MAX_BODY`, which bounds bodies that are streamed.
DEFAULT_MAX_BODY_BYTES = 10 * 2**20


class BodyStreamsError(RawPostDataException, UnreadablePostError):
    """The body is not in memory, and accessing it does not read it: `await request.read_body()` does.

    Being an UnreadablePostError, it lets CsrfViewMiddleware go on to the field X-CSRFToken.
    """


RequestT = TypeVar("RequestT", bound="GatewayRequest")


class GatewayRequest(HttpRequest):
    """A Django request that loses nothing.

    `raw_path` (as the client sent it) and `query` (without its question mark) are ASCII text; `raw_headers` are the
    pairs as received; `fields` are the same, by kind. `stream()` gives the body as it arrives. `raw_values` are the raw
    segments of the route's parameters (None if Django's own `path()` matched), `raw_rest` is what its `**` took.
    `forwarded_scheme` and `forwarded_host` are the client's, as reported by a trusted proxy; empty without one.
    """

    # Defaults that most requests never change are here, not in `__init__`, where each would cost every request.
    raw_values: Mapping[str, str] | None = None
    raw_rest = ""
    route: MatchedRoute | None = None
    stack: RouteStack | None = None
    content_length: int | None = None
    from_trusted_peer = False
    answer_began = False
    is_preflight = False
    forwarded_by_fetch = False  # whether a view's calls sent fields of the client
    # The view that does not set the response fields of its options itself: the cache around it does.
    defers_fields_of: Any = None
    resolver_match: ResolverMatch | None = None
    _read_started = False
    _post_parse_error = False
    lent = 0  # to how many threads, which may use it after its end
    asked_by: Identity | None = None
    identity_fields: IdentityFields = ()  # sent to upstreams, whatever the options of upstream and route set
    used_identity = False  # whether a value of it was put into a call or an answer
    admitted_until_s: float | None = None  # when the first of its accepted tokens expires, since the epoch
    credential_in_query = False  # then it would be in the cache key, so nothing is stored
    forwarded_scheme = ""
    forwarded_host = ""
    page_is_named = False  # of a WebSocket handshake: __WEBSOCKET_ORIGINS names its page
    limits_met: Any = None  # the limits checked so far: an object of `limits.gate`
    # New values for the cookies of `BALANCE=sticky`, by cookie name, after another instance has responded.
    cookies_set: Mapping[bytes, bytes] = MappingProxyType({})
    tap: Callable[[bytes], None] | None = None  # is given each piece of the body as it is read
    on_head_sent: Callable[[], None] | None = None  # called once the response head has been handed over
    reached_view = False  # nothing before the view has refused it; set on routes where another service may stand in
    # Django's middleware reads it; the clients of django.test set it.
    _dont_enforce_csrf_checks = property(lambda self: "skips_csrf_checks" in self.scope)
    middleware_call: Any = None  # the view that middleware wraps, for this request
    added: Mapping[str, Any] = MappingProxyType({})  # what middleware has set on it, by name: `user`, `session`
    upgrade: Callable[..., Awaitable[Any]] | None = None  # of a WebSocket handshake: how a forwarding view responds

    def __init__(
        self,
        scope: Scope,
        lifetime: Lifetime,
        inbox: Inbox,
        fields: RequestFields,
        *,
        services: Services,
        traceparent: bytes | None = None,
    ) -> None:
        # HttpRequest's own __init__ builds six dictionaries; here they are built when asked for.
        self.scope = scope
        self.method: str = scope["method"]
        self.lifetime = lifetime
        self.exchange = exchange = lifetime.exchange
        self.raw_path: str = exchange.path
        self.inbox = inbox
        self.fields = fields
        self.services = services
        self.traceparent = traceparent

    def detached(self, kind: "type[RequestT]", pairs: Pairs, lifetime: Lifetime) -> "RequestT":
        """The same request without its client and its body, with other field lines and a lifetime of its own."""
        inbox = Inbox(_no_client, lifetime.exchange, self.inbox.idle_timeout_s, 0, expects_body=False)
        scope, fields = {**self.scope, "headers": pairs}, read_fields(pairs)
        other = kind(scope, lifetime, inbox, fields, services=self.services, traceparent=self.traceparent)
        for name in _KEPT:
            setattr(other, name, getattr(self, name))
        lifetime.request = other
        return other

    @property
    def peer(self) -> str:
        """The address that the connection came from; `exchange.client` is the client behind it."""
        return peer_address(self.scope["client"][0])

    @property
    def host_field(self) -> str:
        """The Host field as the client sent it, with its port; empty if HTTP/1.0 sent none."""
        value = self.fields.first(b"host")
        return value.decode("latin-1") if value else ""

    @property
    def raw_headers(self) -> list[Pair]:
        return self.scope["headers"]  # type: ignore[no-any-return]

    @property
    def query(self) -> str:
        return self.scope["query_string"].decode("latin-1")  # type: ignore[no-any-return]

    def hide_claims(self) -> None:
        """Remove an untrusted peer's claims about the client and the URL: no later code, nor any view, sees them."""
        fields = self.fields
        if self.from_trusted_peer and not fields.hides and b"forwarded" not in fields.own:
            return
        self.scope["headers"] = believed(
            self.scope["headers"], from_trusted_peer=self.from_trusted_peer, kinds=self.services.field_kinds
        )
        if not self.from_trusted_peer:
            fields.x_forwarded, fields.claims = [], []

    def matched(self, route: MatchedRoute, values: Mapping[str, str], rest: str) -> None:
        """Set the matched route. `values` are the raw segments of its parameters, `rest` is what `**` took."""
        self.route, self.stack = route, route.stack
        self.exchange.route = route.name
        self.raw_values = values
        self.raw_rest = rest

    # -- identity -------------------------------------------------------------------------------------------------

    @property
    def identity(self) -> Identity | None:
        """The authenticated identity; None if the route needs none."""
        return self.asked_by

    def admit(self, identity: Identity | None, fields: IdentityFields, *, in_query: bool = False) -> None:
        """It is authenticated. From now on it has these fields, and none of the client's that could pass for them."""
        self.asked_by = identity
        self.credential_in_query = in_query
        if not fields:
            return
        self.identity_fields = fields
        lines, names = self.fields, {as_cgi(name) for name, _ in fields}
        self.scope["headers"] = set_fields(self.scope["headers"], fields)
        lines.plain = set_fields(lines.plain, fields)
        lines.x_forwarded = [pair for pair in lines.x_forwarded if as_cgi(pair[0]) not in names]
        lines.claims = [pair for pair in lines.claims if as_cgi(pair[0]) not in names]
        self.forget_fields()

    def forget_fields(self) -> None:
        """Drop Django's mappings of the fields, which earlier code may have built, so that they are built anew."""
        for name in ("META", "headers", "COOKIES"):
            self.__dict__.pop(name, None)

    def going_up(self, changes: IdentityFields) -> IdentityFields:
        """The changes of the configuration, with identity fields in place of those of the same name."""
        if not self.identity_fields:
            return changes
        names = {as_cgi(name) for name, _ in self.identity_fields}
        return (*(change for change in changes if as_cgi(change[0]) not in names), *self.identity_fields)

    def reads_value(self, words: Sequence[str]) -> None:
        """A call or target uses the value of these words, so its response depends on more than its URL."""
        if words[0] in IDENTITY_WORDS:
            self.used_identity = True

    def believed(self, field: bytes) -> bytes:
        """The first value of a field (name in lower case) for use in a decision: empty if the field is missing, or is
        a claim that only a trusted peer may make."""
        if is_claim(field) and not self.from_trusted_peer:
            return b""
        return first_of(self.scope["headers"], field) or b""

    # -- the body -------------------------------------------------------------------------------------------------

    @property
    def may_discard_body(self) -> bool:
        """Whether nothing has begun to read the body, and the client does not wait for 100 Continue."""
        return not self._read_started and b"expect" not in self.fields.own

    @property
    def may_be_sent_again(self) -> bool:
        """Whether there is no body, or all of it is kept."""
        return hasattr(self, "_body") or (self.inbox.complete and not self.exchange.bytes_in)

    async def stream(self) -> AsyncIterator[bytes]:
        """The body as it arrives, once. Raises GatewayError as `Inbox.chunks` does."""
        self.check_unread()
        if hasattr(self, "_body"):
            yield self._body
            return
        self._read_started = True
        async for chunk in self.inbox.chunks():
            if self.tap is not None:
                self.tap(chunk)
            yield chunk

    def check_unread(self) -> None:
        """Raises RawPostDataException if there was a body and it has been streamed already."""
        if self._read_started and self.exchange.bytes_in and not hasattr(self, "_body"):
            raise RawPostDataException("the request body was already streamed")

    async def read_body(self) -> bytes:
        """The whole body in memory, bounded by `__MAX_BODY`'s default; then `body`, `POST` and `FILES` work.

        Raises GatewayError: as `Inbox.chunks`, and OVERLOADED where this worker keeps too many bodies already.
        """
        if not hasattr(self, "_body"):
            self._bound_body()
            arrived = bytearray()  # pieces may be of one byte each, which takes fifty as an object
            async for chunk in self.stream():
                self.services.bodies.take(self.lifetime, len(chunk))
                arrived += chunk
            if self.is_form():  # parsing it makes copies
                self.services.bodies.take(self.lifetime, len(arrived))
            self._body = bytes(arrived)
        return self._body

    def lend(self) -> Callable[[], None]:
        """Lend it to a thread that may outlive the request. Returns what to call, from any thread, when that is done.

        The call closes the files of the request. The body counts as kept until the last such call.
        """
        self.lent += 1
        return partial(self._give_back, asyncio.get_running_loop())

    def _give_back(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self.close()
        finally:
            if _runs_here(loop):  # no thread had it, as for most requests
                self._came_back()
            else:
                with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(self._came_back)

    def _came_back(self) -> None:
        self.lent -= 1
        if not self.lent and self.lifetime.is_over:
            self.services.bodies.end(self.lifetime)

    async def drop_body(self) -> None:
        """Read the body and discard it: for code that needs no body but must notice when the client leaves.

        Raises GatewayError as `Inbox.chunks` does.
        """
        if not hasattr(self, "_body"):
            self._bound_body()
            async for _ in self.stream():
                pass

    def _bound_body(self) -> None:
        inbox = self.inbox
        if inbox.max_bytes is None:
            inbox.max_bytes = DEFAULT_MAX_BODY_BYTES
        if self.content_length is not None and self.content_length > inbox.max_bytes:
            raise too_large(inbox.max_bytes)

    def is_form(self) -> bool:
        """Whether `POST` is parsed from the body."""
        kind = (first_of(self.scope["headers"], b"content-type") or b"").lower()
        return kind.startswith((b"multipart/form-data", b"application/x-www-form-urlencoded"))

    @property
    def body(self) -> bytes:
        if not hasattr(self, "_body"):
            if not self.inbox.complete or self.exchange.bytes_in:
                raise BodyStreamsError("the request body streams: `await request.read_body()` first")
            self._body = b""
        return self._body

    @cached_property
    def _stream(self) -> BinaryIO:  # type: ignore[override]
        """What `read`, `readline` and iteration read from, as in Django."""
        return BytesIO(self.body)

    # -- Django's view of it, built when asked for ------------------------------------------------------------------

    @cached_property
    def path(self) -> str:  # type: ignore[override]
        return unquote(self.raw_path, errors="replace")

    @cached_property
    def path_info(self) -> str:  # type: ignore[override]
        return self.path

    @cached_property
    def META(self) -> dict[str, Any]:  # type: ignore[override]  # noqa: N802 - Django's name
        client, server = self.scope.get("client") or ("", ""), self.scope.get("server") or ("unknown", "0")
        meta: dict[str, Any] = {
            "REQUEST_METHOD": self.method,
            "QUERY_STRING": self.query,
            "SCRIPT_NAME": "",
            "PATH_INFO": self.path,
            "REMOTE_ADDR": peer_address(client[0]),
            "REMOTE_HOST": peer_address(client[0]),
            "REMOTE_PORT": client[1],
            "SERVER_NAME": server[0],
            "SERVER_PORT": str(server[1]),
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
        }
        meta.update(cgi_fields(self.scope["headers"]))
        return meta

    @cached_property
    def GET(self) -> QueryDict:  # type: ignore[override]  # noqa: N802
        return QueryDict(self.query)

    @cached_property
    def COOKIES(self) -> dict[str, str]:  # type: ignore[override]  # noqa: N802
        cookies = [value.decode("latin-1") for value in all_of(self.scope["headers"], b"cookie")]
        return parse_cookie("; ".join(cookies))

    @property
    def POST(self) -> Any:  # noqa: N802
        if not hasattr(self, "_post"):
            self._load_post_and_files()
        return self._post

    @POST.setter
    def POST(self, post: Any) -> None:  # noqa: N802
        self._post = post

    @property
    def FILES(self) -> Any:  # type: ignore[override]  # noqa: N802
        if not hasattr(self, "_files"):
            self._load_post_and_files()
        return self._files  # type: ignore[attr-defined]

    def parse_file_upload(self, META: Mapping[str, Any], post_data: Any) -> Any:  # noqa: N803 - Django's name
        try:
            b"a\xff".decode(self.encoding or "utf-8", "replace")
        except (LookupError, UnicodeError) as error:  # not a text codec, as base64, or one not usable by itself
            raise MultiPartParserError(f"the form has no charset: {error}") from error
        # Django's parser treats a form without Content-Length, such as a chunked one, as empty.
        return super().parse_file_upload({**META, "CONTENT_LENGTH": str(len(self.body))}, post_data)

    @cached_property
    def content_type(self) -> str | None:  # type: ignore[override]
        self._set_content_type_params(self.META)  # type: ignore[attr-defined]
        return self.__dict__["content_type"]  # type: ignore[no-any-return]

    @cached_property
    def content_params(self) -> dict[str, str] | None:  # type: ignore[override]
        self._set_content_type_params(self.META)  # type: ignore[attr-defined]
        return self.__dict__["content_params"]  # type: ignore[no-any-return]

    def _get_raw_host(self) -> str:
        return self.forwarded_host or self.host_field or self._server  # Django would build META for it

    @property
    def _server(self) -> str:
        """The server's own name, for a request without Host, which HTTP/1.0 allows."""
        name, port = self.scope["server"]
        usual = 443 if self.is_secure() else 80
        return (f"[{name}]" if ":" in name else name) + (f":{port}" if int(port) != usual else "")

    def _get_scheme(self) -> str:
        return self.forwarded_scheme or self.scope.get("scheme") or "http"


# Attributes that neither the constructor nor user code sets: cached properties, and what the class declares for the
# gateway to set later.
_DECLARED = {name for name in vars(GatewayRequest) if name[:2] != "__" and not callable(getattr(GatewayRequest, name))}
BUILT_LATER = frozenset(
    {name for kind in GatewayRequest.__mro__ for name, one in vars(kind).items() if isinstance(one, cached_property)}
    | {"_body", "_stream", "_post", "_files", "_encoding"}
    | _DECLARED
)

_KEPT = (
    *("raw_values", "raw_rest", "route", "added"),
    *("from_trusted_peer", "forwarded_scheme", "forwarded_host", "defers_fields_of"),
    *("asked_by", "identity_fields"),
)


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:  # a thread has none
        return False


async def _no_client() -> Mapping[str, Any]:
    raise RuntimeError("a request without a client has nothing to receive")
