"""The log: structlog, one JSON object per line on stdout, or aligned text for people.

Each finished `Exchange` becomes one `request` line. Everything else logs through `log`, with dotted event names and
the ids of the request it happened in.
"""

import contextlib
import io
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Collection, MutableMapping
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

import msgspec
import orjson
import structlog

from gateway.errors import Reason, Side
from gateway.http.exchange import Exchange
from gateway.http.lifetime import current
from gateway.observe.outlet import Outlet, Raw, outlet_of, text_of
from gateway.observe.own_output import Handler, Prints, end_line
from gateway.observe.pool_faults import keep_faults
from gateway.text import plain, plain_json, plain_lines

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_PIPE_BUF: Final = 4096

EventDict = MutableMapping[str, Any]
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
# The id of this process, if it is a worker.
_worker: int | None = None


class _RequestLine(msgspec.Struct):
    """The line of a request, encoded at a third of the cost of a dictionary. `_added` gives its optional fields."""

    timestamp: str
    level: str
    event: str
    request_id: str
    trace_id: str
    client: str
    method: str
    host: str | None
    path: str
    route: str | None
    status: int | None
    reason: str | None
    bytes_in: int
    bytes_out: int
    ms: float
    upstream: str | None
    endpoint: str | None
    attempts: int | None
    upstream_ms: float | None
    cache: str | None
    parts: list[dict[str, Any]] | None
    auth: str | None
    identity: str | None
    worker: int | None


# The attributes read from an exchange, in the order of the line.
_FIELDS: Final = _RequestLine.__struct_fields__[3:-1]
_values_of = attrgetter(*_FIELDS)


class _Lines:
    """The logger below structlog's: every level writes a line in the same way."""

    def __init__(self, outlet: Outlet) -> None:
        self._write = outlet.write
        self.write_soon = outlet.write_soon

    def msg(self, line: bytes) -> None:
        self._write(line + b"\n")

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


# Outlets to the process's original stdout and stderr, once `take_streams` has taken them over.
_streams: list[Outlet] = []
_text_streams: list[io.TextIOWrapper] = []


def take_streams() -> None:
    """From now on Python's writes to stdout and stderr, log lines too, never block on a slow reader; see `outlet`.

    Both use descriptors of our own, so that it does not matter if something closes and reuses 1 or 2.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    errors = outlet_of(2)
    sys.stderr = text_of(errors)
    lines = outlet_of(1, _complain)
    sys.stdout = text_of(lines)
    _streams[:], _text_streams[:] = [lines, errors], [sys.stdout]


def _complain(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text)


def stdout_to_null() -> None:
    """Make descriptor 1 /dev/null, after `take_streams`.

    Otherwise the output of a library, or of a program that a view runs, would come between the lines of the log. And if
    something closed descriptor 1, the next socket would get its number, and with it all that output.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def flush(within_s: float) -> None:
    """Wait, at most `within_s`, until the queued lines have been written."""
    for outlet in _streams:
        outlet.wait(within_s / len(_streams))


def configure(
    kind: str, level: str, stream: Raw | None = None, *, worker: int | None = None, packages: Collection[str] = ()
) -> None:
    """Set logging up for this process: `kind` is json or console, `level` a word of GATEWAY_LOG_LEVEL.

    `worker` is its process id, if it is a worker: all its lines carry it. `packages` are the team's own.
    """
    global _worker  # noqa: PLW0603 - of the process
    _worker = worker
    if stream is None and _streams:
        outlet = _streams[0]
    else:
        outlet = Outlet(stream or io.FileIO(1, "wb", closefd=False), complain=_complain)
    is_coloured = outlet.stream.isatty() and not os.environ.get("NO_COLOR")
    render = _render_json if kind == "json" else _console(is_coloured)
    outlet.on_lost = lambda count: _rendered(render, "warning", event="log.lost", count=count)
    structlog.configure(
        processors=[_complete, render],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: _Lines(outlet),
        cache_logger_on_first_use=False,
    )
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers[:] = [Handler(log, packages)]
    root.setLevel(_LEVELS[level])  # libraries are not logged below warning: our own events cover what matters
    if kind == "json" and _streams:
        sys.stdout = Prints(_text_streams[0], lambda text: log.info("app.print", text=text))
    keep_faults()
    logging.getLogger("django.request").setLevel(logging.ERROR)  # "Method Not Allowed": the request line has it


def _rendered(render: Callable[[object, str, EventDict], bytes], level: str, **event: Any) -> bytes:
    return render(None, level, _complete(None, level, event)) + b"\n"


def _complete(logger: object, method: str, event: EventDict) -> EventDict:
    """Every line begins with timestamp, level and event; then the fields of an exchange, or the ids of the request."""
    head = {"timestamp": _timestamp(), "level": "warning" if method == "warn" else method, "event": event.pop("event")}
    exchange = event.pop("exchange", None)
    if exchange is not None:
        head.update(zip(_FIELDS, _values_of(exchange), strict=True))
        head["worker"] = _worker
        head.update(_added(exchange))
        return head
    if _worker is not None:
        head["worker"] = _worker
    lifetime = current.get()
    if lifetime is not None:
        exchange = lifetime.exchange
        head.update(request_id=exchange.request_id, trace_id=exchange.trace_id)
    if event.get("exc_info"):
        event = structlog.processors.format_exc_info(logger, method, event)
    else:
        event.pop("exc_info", None)
    head.update(event)
    return head


def _added(exchange: Exchange) -> dict[str, Any]:
    """The fields that only the lines of some requests have, after those that all have."""
    several = exchange.calls is not None and exchange.calls > 1
    if exchange.fallback is exchange.cause is exchange.socket is exchange.fields is None and not several:
        return _NONE_ADDED
    added: dict[str, Any] = dict(exchange.fields or ())
    if several:
        added["calls"] = exchange.calls
    if exchange.fallback is not None:
        added["fallback"] = exchange.fallback
    if exchange.cause is not None:
        added["cause"] = exchange.cause
    if (counts := exchange.socket) is not None:
        added |= {name: getattr(counts, name) for name in ("close_code", "closed_by", "messages_in", "messages_out")}
    return added


_NONE_ADDED: Final[dict[str, Any]] = {}


def _timestamp() -> str:
    """RFC 3339 in UTC, to the millisecond."""
    return _millisecond(time.time_ns() // 1_000_000)


@lru_cache(maxsize=2)  # under load several lines have the same one
def _millisecond(since_epoch_ms: int) -> str:
    return f"{_second(since_epoch_ms // 1000)}.{since_epoch_ms % 1000:03d}Z"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _render_json(logger: object, method: str, event: EventDict) -> bytes:
    line = plain_json(_dumped(event))
    # A pipe keeps a write of up to PIPE_BUF bytes whole. Longer lines are cut, since a client chooses the path.
    for most in (2000, 500, 100):
        if len(line) < _PIPE_BUF:
            break
        line = plain_json(_dumped({key: _shortened(value, most) for key, value in event.items()}))
    return line


def _dumped(event: EventDict) -> bytes:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # a lone surrogate, or a number of more than 64 bits
        return json.dumps({str(key): value for key, value in event.items()}, default=str).encode("ascii")


def _shortened(value: Any, most: int) -> Any:
    """A long text without its middle: a traceback tells most at its end, a path at its beginning."""
    if not isinstance(value, str) or len(value) <= most:
        return value
    return f"{value[: most // 2]} ... {value[-most // 2 :]}"


class Library(Handler):
    """The handler for the records of Granian, which creates its handlers itself."""

    def __init__(self) -> None:
        super().__init__(log)


def granian_logging() -> dict[str, Any]:
    """The logging configuration for Granian, so that its lines join ours as events `library`."""
    handler = {"class": "gateway.observe.log.Library"}
    return {"handlers": {"console": handler, "access": handler}, "formatters": {}}


# -- the request line ---------------------------------------------------------------------------------------------


_encoded: Final = msgspec.json.Encoder(enc_hook=str).encode


def request_line(exchange: Exchange, level: str) -> bytes:
    """The line of a finished request in JSON: the same bytes as from `_complete` and `_render_json`."""
    if not _added(exchange):
        try:
            line = plain_json(_encoded(_RequestLine(_timestamp(), level, "request", *_values_of(exchange), _worker)))  # type: ignore[call-arg]  # a star is of any length
        except (TypeError, ValueError):  # a lone surrogate
            line = b""
        if 0 < len(line) < _PIPE_BUF:
            return line
    return _render_json(None, level, _complete(None, level, {"event": "request", "exchange": exchange}))


def line_of(exchange: Exchange) -> dict[str, Any]:
    """The fields in the line of a finished request."""
    level = level_of(exchange)
    line: dict[str, Any] = msgspec.json.decode(request_line(exchange, level))
    return line


def request_logger() -> Callable[[Exchange], None]:
    """The hook that writes an exchange's line, as `log.info("request", exchange=exchange)` would, at a fraction of the
    cost. Lines of one turn of the loop are written together."""
    set_up = structlog.get_config()
    complete, render = set_up["processors"]
    write_soon = set_up["logger_factory"]().write_soon
    least = log.bind().get_effective_level()
    is_json = render is _render_json

    def hook(exchange: Exchange) -> None:
        end_line()
        level = level_of(exchange)
        if least <= _LEVELS[level]:
            if is_json:
                write_soon(request_line(exchange, level) + b"\n")
            else:
                write_soon(
                    render(None, level, complete(None, level, {"event": "request", "exchange": exchange})) + b"\n"
                )

    return hook


def level_of(exchange: Exchange) -> str:
    """A fault in the gateway's own Python is an error, any other fault of the gateway or an upstream a warning, a fault
    of the client info. A 5xx response, or one that lacks a part, is an upstream's fault too.

    Successful probes are debug.
    """
    if exchange.reason is None:
        status = exchange.status or 0
        if status >= 500 or (exchange.parts is not None and any(part["reason"] for part in exchange.parts)):
            return "warning"
        return "debug" if exchange.route in _PROBES and status < 400 else "info"
    reason = Reason[str(exchange.reason).upper()]
    if reason.side is Side.CLIENT or 400 <= (exchange.status or 0) <= 499:  # a status that a fan-out passes on
        return "info"
    return "error" if reason in {Reason.VIEW_ERROR, Reason.INTERNAL_ERROR} else "warning"


_PROBES: Final = frozenset({"/-/live", "/-/ready"})

# -- for people ---------------------------------------------------------------------------------------------------

# Put before each line of a traceback: an exception's text may hold line ends, then lines that look like ours.
_INDENT: Final = "    "
_COLOURS: Final = {2: "32", 3: "36", 4: "33", 5: "31"}
_LEVEL_COLOURS: Final = {"debug": "2", "info": "36", "warning": "33", "error": "31", "critical": "31"}


def _console(colours: bool) -> Callable[[object, str, EventDict], bytes]:
    def paint(text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if colours else text

    def render(logger: object, method: str, event: EventDict) -> bytes:
        if event["event"] == "start" and "text" in event:  # of several lines; a view may log a text too
            return plain_lines(str(event["text"])).encode("utf-8", "replace")
        clock = paint(event["timestamp"][11:23], "2")
        if event["event"] == "request":
            return f"{clock}  {_request_line(event, paint)}".encode("utf-8", "replace")
        return f"{clock}  {_event_line(event, paint)}".encode("utf-8", "replace")

    return render


def _request_line(event: EventDict, paint: Callable[[str, str], str]) -> str:
    status = event["status"] or 0
    line = (
        f"{plain(event['method']):<7} {paint(str(status), _COLOURS.get(status // 100, '0'))} "
        f"{event['ms']:>8.1f} ms  {plain(event['path'])}"
    )
    if event["upstream"]:
        several = (event["attempts"] or 0) > 1 and event["parts"] is None  # a fan-out counts those of all its parts
        attempts = f" ({event['attempts']} attempts)" if several else ""
        line += paint(plain(f"  -> {event['upstream']} {event['endpoint'] or ''}").rstrip() + attempts, "2")
    if event["reason"]:
        line += "  " + paint(event["reason"], "31" if status >= 500 else "33")
    for part in event["parts"] or ():
        if part["reason"]:
            is_status = part["reason"] == Reason.PART_STATUS.word and part["status"]
            line += "  " + paint(f"{part['part']}: {part['status'] if is_status else part['reason']}", "33")
    of_parts = [f"{part['part']}: {part['cause']}" for part in event["parts"] or () if part.get("cause")]
    for cause in [event["cause"]] if event.get("cause") else of_parts:
        line += "\n" + paint(plain_lines(cause.rstrip(), _INDENT), "2")
    return line


def _event_line(event: EventDict, paint: Callable[[str, str], str]) -> str:
    words = dict(event)
    words.pop("timestamp")
    words.pop("worker", None)
    level, name, error = words.pop("level"), words.pop("event"), words.pop("exception", None)
    values = "  ".join(f"{plain(str(key))}={plain(str(value))}" for key, value in words.items() if value is not None)
    return f"{paint(f'{level:<7}', _LEVEL_COLOURS.get(level, '0'))} {plain(str(name))}  {values}".rstrip() + (
        f"\n{plain_lines(str(error), _INDENT)}" if error else ""
    )
