"""One word for one failure: phase and side, the same in the log line, the metric label and the problem answer.

The list is closed. Every foreign exception is translated into a `GatewayError` at one border (`client` for the wire,
`handler` for views), and caught nowhere else. The status, the RFC 9209 token and the advice follow from the word.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Final

from gateway.units import format_duration


class Side(Enum):
    """The side that caused a failure, in the words of someone on call."""

    CLIENT = "client"
    GATEWAY = "gateway"
    UPSTREAM = "upstream"


class Reason(Enum):
    """(status, side, RFC 9209 token or None, title, what to do)."""

    # fmt: off
    # The request, before any view saw it
    TARGET_INVALID = (400, Side.CLIENT, "http_request_error", "The request target is not valid",
        "Percent-encode it.")
    PATH_INVALID = (400, Side.CLIENT, "http_request_error", "The path has a dot segment, a backslash or a NUL",
        "Resolve `.` and `..` before sending; a route may lift this with `__PATH=raw`.")
    PATH_AMBIGUOUS = (400, Side.CLIENT, "http_request_error", "The path could be read as that of another route",
        "Send it plain, without `%2F`, `//` and `;`; a route may lift this with `__PATH=raw`.")
    HOST_INVALID = (400, Side.CLIENT, "http_request_error", "The Host field is missing, repeated or malformed",
        "Send exactly one Host field with a host and an optional port.")
    HEADER_INVALID = (400, Side.CLIENT, "http_request_error", "A header field cannot be forwarded",
        "Send each framing field once, and no name that passes for one of the gateway's own.")
    TEMPLATE_VALUE = (400, Side.CLIENT, "http_request_error", "A value cannot stand in the upstream's URL",
        "Send it: it is missing, empty, `.` or `..`.")
    REQUEST_INVALID = (400, Side.CLIENT, "http_request_error", "A view refused the request as malformed",
        "A view of `routes.py` raised BadRequest or SuspiciousOperation: look there what it wants.")
    AUTH_MISSING = (401, Side.CLIENT, "http_request_denied", "The request has no credential",
        "Send one: WWW-Authenticate names what is taken. `gateway explain -H` tells who would be let in.")
    AUTH_INVALID = (401, Side.CLIENT, "http_request_denied", "The credential is not accepted",
        "Send a good one: `cause` in the log says what is wrong, `gateway auth token` takes a token to pieces.")
    AUTH_EXPIRED = (401, Side.CLIENT, "http_request_denied", "The token has expired",
        "Get a new one from its issuer. If it is new, a clock is wrong: `__LEEWAY` forgives seconds.")
    AUTH_FORBIDDEN = (403, Side.CLIENT, "http_request_denied", "The caller is known, and may not do this",
        "It lacks a role or scope that the route asks for; `__ROLES_CLAIM` tells where roles stand in a token.")
    ORIGIN_REFUSED = (403, Side.CLIENT, "http_request_denied", "A page of another origin sent the request",
        "If it may, name it in `GATEWAY_CORS`, for sockets in `__WEBSOCKET_ORIGINS`: browsers send cookies along.")
    REQUEST_DENIED = (403, Side.CLIENT, "http_request_denied", "The request is not allowed",
        "A view of `routes.py` raised PermissionDenied: look there whom it lets in.")
    ROUTE_NOT_FOUND = (404, Side.CLIENT, "destination_not_found", "No route matches this path",
        "`gateway routes` lists what there is; `gateway explain` tells which came near.")
    VIEW_NOT_FOUND = (404, Side.CLIENT, "http_request_error", "There is nothing here",
        "Check the path: a view raised Http404, or a legacy function wants a parameter of another type.")
    METHOD_NOT_ALLOWED = (405, Side.CLIENT, "http_request_error", "The path has a route, but not for this method",
        "Use one that the Allow field lists.")
    FILE_NOT_FOUND = (404, Side.CLIENT, "destination_not_found", "There is no such file",
        "Look into the folder of the route; files that begin with a dot and links that lead out of it are not sent.")
    CLIENT_BODY_TIMEOUT = (408, Side.CLIENT, "http_request_error", "The request body stopped arriving",
        "It paused for `GATEWAY_CLIENT_IDLE` or `__IDLE_TIMEOUT`, or stayed below `GATEWAY_MIN_UPLOAD_RATE`.")
    CLIENT_BODY_TOO_LARGE = (413, Side.CLIENT, "http_request_error", "The request body is too large",
        "Send less, or raise `__MAX_BODY`.")
    EXPECTATION_FAILED = (417, Side.CLIENT, "http_request_error", "The expectation cannot be met",
        "Leave Expect out: only `100-continue` is known.")
    RATE_LIMITED = (429, Side.CLIENT, "http_request_denied", "Too many requests",
        "Wait for as long as Retry-After says; RateLimit-Policy names the limits that hold.")
    HEADERS_TOO_LARGE = (431, Side.CLIENT, "http_request_error", "The header block is too large",
        "Send less, cookies for one, or raise `GATEWAY_MAX_HEADERS`.")
    CLIENT_BODY_BROKEN = (499, Side.CLIENT, None, "The request body ended before it was complete",
        "It left, or broke its framing: then it sees a 400. The upstream request was broken off.")
    CLIENT_STALLED = (408, Side.CLIENT, None, "The client stopped reading the answer",
        "In the log only: the transfer was cut after `GATEWAY_CLIENT_IDLE`. Raise it if clients must pause.")
    CLIENT_GONE = (499, Side.CLIENT, None, "The client left",
        "In the log only: the upstream call was cancelled. Many of them: was the answer too slow?")
    WEBSOCKET_UNSUPPORTED = (501, Side.CLIENT, "http_upgrade_failed", "The route takes no WebSockets",
        "It is a fan-out, a legacy function or a view that takes none, or `__WEBSOCKET=off` holds for it.")
    NOT_CACHED = (504, Side.CLIENT, None, "Nothing is stored that may answer this request",
        "Ask without `only-if-cached`.")
    ADMIN_REQUIRED = (401, Side.CLIENT, "http_request_denied", "This endpoint asks for the admin token",
        "Send it as `Authorization: Bearer ...`, or as the password of HTTP Basic.")
    ADMIN_DENIED = (403, Side.CLIENT, "http_request_denied", "This endpoint is not for this caller",
        "Set `GATEWAY_ADMIN_TOKEN`; without one, only direct requests from this machine are let in.")
    # The gateway itself
    VIEW_ERROR = (500, Side.GATEWAY, "proxy_internal_error", "The gateway's own Python failed",
        "Mend the view of `routes.py` that raised; its traceback is in the log.")
    INTERNAL_ERROR = (500, Side.GATEWAY, "proxy_internal_error", "The gateway failed",
        "A fault of Portway; its traceback is in the log. Please report it.")
    DRAIN_CUT = (503, Side.GATEWAY, "proxy_internal_response", "The gateway stopped before the answer was complete",
        "Ask again. If many are cut, raise `GATEWAY_DRAIN`, for which a stop waits.")
    METHOD_UNSUPPORTED = (501, Side.GATEWAY, "http_request_denied", "The gateway does not serve this method",
        "CONNECT and TRACE are not served, and a method's name is case-sensitive.")
    CODING_UNSUPPORTED = (501, Side.GATEWAY, "http_request_denied", "The gateway does not know this transfer coding",
        "Send the body with `chunked` alone, or with a Content-Length.")
    WEBSOCKETS_FULL = (503, Side.GATEWAY, "proxy_internal_response", "The gateway has all the WebSockets it may have",
        "`GATEWAY_MAX_WEBSOCKETS` of the worker are open: raise it, each takes about 170 kB, or add a worker.")
    MAINTENANCE = (503, Side.GATEWAY, "proxy_internal_response", "The service is closed for maintenance",
        "Set `GATEWAY_MAINTENANCE` off, or take away the file that it names.")
    LOOP_DETECTED = (508, Side.GATEWAY, "proxy_loop_detected", "The request has been here before",
        "Via names this gateway already: an upstream's address leads back to it. The log line's `path` tells by which.")
    OVERLOADED = (503, Side.GATEWAY, "proxy_internal_response", "The gateway is full",
        "`GATEWAY_MAX_IN_FLIGHT` requests, 64 MiB of kept bodies, or (see `cause`) all files of `ulimit -n`: raise it.")
    RATE_LIMIT_UNAVAILABLE = (503, Side.GATEWAY, "proxy_internal_response", "The counts of a limit cannot be asked for",
        "Valkey is away (see `cause`), and `__ON_FAILURE=closed` lets nobody pass without it: `local` would.")
    # A legacy function in its threads
    LEGACY_FULL = (503, Side.GATEWAY, "proxy_internal_response", "The legacy function has all the calls it may have",
        "`THREADS` ran and `QUEUE` waited, or this one waited for all of its `TIMEOUT`: is it slow, or the pool small?")
    LEGACY_STUCK = (503, Side.GATEWAY, "proxy_internal_response", "All threads of the legacy function are stuck",
        "`legacy.stuck` in the log tells in which calls. Set time limits inside; a restart frees the threads.")
    LEGACY_TIMEOUT = (504, Side.GATEWAY, "http_response_timeout", "The legacy function did not answer in time",
        "Is it slow, or `TIMEOUT` of its pool low? Its thread is held until the function returns.")
    # On the way to the upstream
    UPSTREAM_FULL = (503, Side.UPSTREAM, "connection_limit_reached", "The upstream has all the requests it may have",
        "`__MAX_IN_FLIGHT` were open and `__QUEUE` waited: is it slow, or the limit low?")
    QUEUE_TIMEOUT = (503, Side.UPSTREAM, "connection_limit_reached", "The request waited too long for its turn",
        "`__MAX_IN_FLIGHT` were open for all of `__QUEUE_TIMEOUT`: is it slow, or the limit low?")
    DESTINATION_UNAVAILABLE = (503, Side.UPSTREAM, "destination_unavailable", "No endpoint of the upstream is healthy",
        "Probes (`__HEALTH`) took all of them out; the log has `upstream.down` with the cause.")
    AUTH_UNAVAILABLE = (503, Side.UPSTREAM, "destination_unavailable", "It could not be found out who asks",
        "The issuer's keys were never fetched, or the service that is asked fails: `cause` in the log says why.")
    DNS_TIMEOUT = (504, Side.UPSTREAM, "dns_timeout", "Looking up the upstream's name took too long",
        "Is the name server well? After the first look-up its last answer is kept.")
    DNS_FAILED = (502, Side.UPSTREAM, "dns_error", "The upstream's name did not resolve",
        "Check the host name, and that the gateway may ask a name server that knows it.")
    CONNECTION_REFUSED = (502, Side.UPSTREAM, "connection_refused", "The upstream refused the connection",
        "Nothing listens there: is the service up, and the port right?")
    CONNECTION_FAILED = (502, Side.UPSTREAM, "destination_ip_unroutable", "The upstream could not be reached",
        "Check address, network and firewall: there is no way to the host.")
    TLS_FAILED = (502, Side.UPSTREAM, "tls_protocol_error", "The TLS handshake with the upstream failed",
        "Check that the port speaks TLS, and `__CA_FILE`, `__CLIENT_CERT_FILE`.")
    TLS_CERTIFICATE = (502, Side.UPSTREAM, "tls_certificate_error", "The upstream's certificate is not trusted",
        "Name its authority with `__CA_FILE`; the host name must match.")
    CONNECT_TIMEOUT = (504, Side.UPSTREAM, "connection_timeout", "Connecting to the upstream took too long",
        "Is the host up, or does a firewall swallow packets? `__CONNECT_TIMEOUT` sets the limit.")
    # The upstream has the request
    CONNECTION_RESET = (502, Side.UPSTREAM, "connection_terminated",
        "The upstream broke the connection before it answered",
        "Look whether it crashed or restarted. If it closes idle connections early, lower `__KEEPALIVE`.")
    RESPONSE_INVALID = (502, Side.UPSTREAM, "http_protocol_error", "The upstream's answer is not valid HTTP",
        "Is the port right, and does it speak HTTP/1.1?")
    RESPONSE_HEADERS_TOO_LARGE = (502, Side.UPSTREAM, "http_response_header_section_size",
        "The upstream's header block is too large", "Make it send less: 64 KiB is the limit.")
    RESPONSE_TIMEOUT = (504, Side.UPSTREAM, "http_response_timeout", "The upstream did not answer in time",
        "Is it slow or stuck? `__TIMEOUT` sets the limit.")
    REQUEST_WRITE_TIMEOUT = (504, Side.UPSTREAM, "connection_write_timeout", "The upstream stopped reading the request",
        "Is it stuck? `__IDLE_TIMEOUT` sets how long it may pause.")
    # A part of a fan-out, beside all of these
    PART_STATUS = (502, Side.UPSTREAM, None, "A part was answered with an error or a redirect",
        "Its status is `part_status` in the problem and `s` in Gateway-Parts; `__PASS` lets it through.")
    PART_INVALID = (502, Side.UPSTREAM, None, "A part's answer is not the JSON that was expected",
        "Mend the service, or make the part optional.")
    PART_TOO_LARGE = (502, Side.UPSTREAM, "http_response_body_size", "A part's answer is too large",
        "Make the service send less, or raise `__PART_X__MAX_BODY`.")
    PART_VALUE = (502, Side.UPSTREAM, None, "A value of one part cannot stand in the URL of another",
        "It is missing, null, empty, `.`, `..` or no scalar: `__OPTIONAL` forgives the part that needs it.")
    PART_TOO_MANY = (502, Side.UPSTREAM, None, "A part maps over too many items",
        "Ask for a shorter list, or raise `__MAX_ITEMS`.")
    PARTS_CLASH = (502, Side.UPSTREAM, None, "The parts cannot be merged into one object",
        "`__MERGE=flat` takes objects whose names differ; without it parts stand under their own names.")
    SKIPPED = (502, Side.UPSTREAM, None, "A part was not asked for",
        "Look at the one that it depends on: that failed.")
    # The answer had begun: it leaves as a broken transfer, the status stands as it was sent
    RESPONSE_INCOMPLETE = (502, Side.UPSTREAM, "http_response_incomplete", "The upstream's answer broke off",
        "Look whether it crashed: it closed in the middle of the body.")
    RESPONSE_IDLE_TIMEOUT = (504, Side.UPSTREAM, "connection_read_timeout", "The upstream's answer stalled",
        "Is it stuck? A stream that is quiet for long needs a larger `__IDLE_TIMEOUT`.")
    TOTAL_TIMEOUT = (504, Side.UPSTREAM, "http_response_timeout", "The whole exchange took too long",
        "`__TOTAL_TIMEOUT` sets the limit.")
    # fmt: on

    def __init__(self, status: int, side: Side, token: str | None, title: str, advice: str) -> None:
        self.status: Final = status
        self.side: Final = side
        self.token: Final = token
        self.title: Final = title
        self.advice: Final = advice
        self.word: Final = self.name.lower()


_LONGEST_DETAIL: Final = 500
_LONGEST_CAUSE: Final = 10_000


def _shortened(text: str, most: int) -> str:
    """A text that is too long, without its middle: the end of a traceback matters most."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


class GatewayError(Exception):
    """A failure that has its word.

    `detail` is one sentence for the reader of the answer. It may name what the client sent, never an internal address
    or a secret; where this case needs no words of its own, it is the advice of the reason. `cause` goes to the log
    only. `upstream` is the name in the configuration. `headers` are extra fields of the answer (Allow, Retry-After),
    `members` of its problem; `status` replaces the reason's status, where a route passes another one on. `limit` is the
    option and the seconds of the time limit that was exceeded, until `cause` names it. `raised` is the exception of the
    team's own code behind this failure, until the receivers of Django's signal have been called.
    """

    raised: BaseException | None = None

    def __init__(
        self,
        reason: Reason,
        detail: str = "",
        *,
        upstream: str | None = None,
        cause: str | None = None,
        headers: Iterable[tuple[bytes, bytes]] = (),
        status: int | None = None,
        members: Mapping[str, str | int | None] | None = None,
        limit: tuple[str, float] | None = None,
    ) -> None:
        super().__init__(reason.word)
        self.reason = reason
        # They may quote what a client or an upstream sent, of any length.
        self.detail = _shortened(detail or reason.advice, _LONGEST_DETAIL)
        self.is_specific = bool(detail)  # else its detail is the advice that the reason gives
        self.upstream = upstream
        self.cause = None if cause is None else _shortened(cause, _LONGEST_CAUSE)
        self.headers = tuple(headers)
        self.status = status or reason.status
        self.members = dict(members or {})
        self.limit = limit

    def name_limit(self, place_of: Callable[[str], str]) -> None:
        """Name the limit that was exceeded in the cause: `after 500ms, GATEWAY_ROUTE_ORDERS__TIMEOUT`.

        `place_of` gives the place where an option is set, by its attribute; empty for a default.
        """
        if self.limit is None:
            return
        attribute, seconds = self.limit
        place = place_of(attribute) or f"the default of {attribute.removesuffix('_s').upper()}"
        met = f"after {format_duration(round(seconds, 3))}, {place}"
        self.cause, self.limit = met if self.cause is None else f"{met}: {self.cause}", None

    def __repr__(self) -> str:
        return f"<GatewayError {self.reason.word} {self.upstream or '-'}: {self.detail}>"


def drop_frames(error: BaseException) -> None:
    """Release the frames of an exception and of the exceptions before it.

    Exception and frames refer to each other. Until the garbage collector runs, they would keep the failed request and
    its whole body in memory.
    """
    if isinstance(error, GatewayError) and error.raised is not None:
        drop_frames(error.raised)
        error.raised = None
    seen: BaseException | None = error
    while seen is not None and seen.__traceback__ is not None:
        seen.__traceback__ = None
        seen = seen.__cause__ or seen.__context__
