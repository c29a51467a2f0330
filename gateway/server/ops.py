"""The gateway's own endpoints under `/-/`."""

import asyncio
import os
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import time
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from gateway.cache.keys import KINDS
from gateway.config import effective
from gateway.config.describe import rows
from gateway.config.records import Config
from gateway.errors import GatewayError, Reason
from gateway.http.headers import first_text
from gateway.http.problem import json_response
from gateway.http.request import GatewayRequest
from gateway.http.response import GatewayResponse
from gateway.limits.grammar import text_of_key, text_of_rate
from gateway.limits.store import Away
from gateway.observe.log import log
from gateway.observe.metrics import exposition
from gateway.observe.status import Status
from gateway.routing.urls import Routes
from gateway.server import admin
from gateway.server.snapshot import publish, snapshots_of_all
from gateway.server.worker import Worker

PREFIX = "/-/"
_EVERY_S = 1.0
_STILL_CHANGES_S = 6  # how far back a second of the history may still change
_LOOK_S = 0.02


def live(worker: Worker) -> GatewayResponse:
    """200 while the process works."""
    return json_response({"status": "live"})


def ready(worker: Worker) -> GatewayResponse:
    """200; 503 only before start-up has ended and while draining, never because of an upstream."""
    if worker.draining and not worker.is_replaced:
        return json_response({"status": "draining"}, 503)
    if not worker.ready:
        return json_response({"status": "starting"}, 503)
    return json_response({"status": "ready"})


async def purge(worker: Worker, routes: Routes, request: GatewayRequest) -> GatewayResponse:
    """DELETE: forget stored answers, by one of path, prefix, route, tag and all. Raises REQUEST_INVALID."""
    asked = parse_qs(request.query, keep_blank_values=True)
    kind, values = next(iter(asked.items()), ("", []))
    if len(asked) != 1 or kind not in KINDS or len(values) != 1 or (kind != "all" and not values[0]):
        raise GatewayError(Reason.REQUEST_INVALID, f"Say what: one of {', '.join(f'{word}=...' for word in KINDS)}.")
    begins = ("/", "http://", "https://") if kind == "path" else "/"
    if kind in {"path", "prefix"} and not values[0].startswith(begins):
        raise GatewayError(Reason.REQUEST_INVALID, f"A {kind} begins with a slash.")
    spellings = routes.spellings_of(values[0]) if kind == "path" else values
    count = sum([await worker.cache.purge(kind, one) for one in spellings])
    return json_response({"purged": count, kind: values[0]})


async def limits(worker: Worker) -> GatewayResponse:
    """GET: every limit in use, with how many keys it has and how many of them are over."""
    listing = await worker.limits.listing()
    rows = [
        {
            "name": policy.name,
            "limit": policy.limit,
            "rate": text_of_rate(policy.rate),
            "by": text_of_key(policy.key),
            "on_failure": policy.on_failure,
            "keys": None if counted is None else counted.keys,
            "over": None if counted is None else counted.over,
        }
        for policy, counted in listing
    ]
    return json_response({**worker.limits.state(), "limits": rows})


async def forget(worker: Worker, request: GatewayRequest) -> GatewayResponse:
    """DELETE: let a key send again at once, in all limits or in one. Raises REQUEST_INVALID, RATE_LIMIT_UNAVAILABLE."""
    asked = parse_qs(request.query, keep_blank_values=True)
    keys, names = asked.pop("key", []), asked.pop("limit", [])
    if asked or len(keys) != 1 or not keys[0] or len(names) > 1:
        raise GatewayError(Reason.REQUEST_INVALID, "Say which key, and perhaps of which limit: key=...&limit=...")
    name = names[0] if names else None
    known = [word for policy in worker.limits.policies for word in (policy.limit, policy.name)]
    if name is not None and name not in known:
        raise GatewayError(Reason.REQUEST_INVALID, "There is no such limit.")
    try:
        count = await worker.limits.forget(keys[0], name)
    except Away as error:
        raise GatewayError(Reason.RATE_LIMIT_UNAVAILABLE, cause=str(error)) from None
    log.info("limits.forgotten", limit=name, count=count)
    return json_response({"forgotten": count})


def metrics(worker: Worker, request: GatewayRequest) -> GatewayResponse:
    """The counts of all workers, for Prometheus."""
    accept = first_text(request.raw_headers, b"accept") or ""
    publish(worker)  # the counts shown must outlive this worker, if it dies now: a counter must not fall
    content_type, text = exposition(snapshots_of_all(worker), accept, running(worker))
    return GatewayResponse(200, [(b"content-type", content_type.encode("ascii")), _NO_STORE], text)


async def state(worker: Worker, routes: Routes, request: GatewayRequest) -> GatewayResponse:
    """The state of the gateway, or of one route or upstream, as JSON; every second if event streams are accepted, and
    as a page if HTML is. Raises ROUTE_NOT_FOUND."""
    configuration = configuration_rows(worker.config, running(worker)["pid"])
    status = Status(partial(snapshots_of_all, worker), rows(routes), configuration, partial(running, worker))
    accept = b",".join(value for field, value in request.raw_headers if field == b"accept")
    streams = b"text/event-stream" in accept
    kind, name = _detail(request.raw_path)
    look: Look = partial(_overview, status, [0] if streams else None)
    further: dict[str, Any] = {}
    if kind:
        look = partial(status.route if kind == "routes" else status.upstream, name)
        if look() is None:
            raise GatewayError(Reason.ROUTE_NOT_FOUND, f"There is no {kind[:-1]} of that name.")
        if b"text/html" in accept and not streams:
            return page()
    if kind == "routes" and worker.explain is not None:
        further["explain"] = await worker.explain(name)
    if streams:
        events = _events(worker, look, further)
        return GatewayResponse(200, [(b"content-type", b"text/event-stream"), _NO_STORE, _BY_ACCEPT], events)
    return GatewayResponse(200, [_JSON, _NO_STORE, _BY_ACCEPT], msgspec.json.encode((look() or {}) | further))


Look = Callable[[], dict[str, Any] | None]


def _detail(path: str) -> tuple[str, str]:
    """`routes` or `upstreams`, and a name; empty for any other path."""
    for kind in ("routes", "upstreams"):
        if path.startswith(f"{PREFIX}{kind}/"):
            return kind, unquote(path.removeprefix(f"{PREFIX}{kind}/"))
    return "", ""


def _overview(status: Status, since_s: list[int] | None = None) -> dict[str, Any]:
    """With `since_s`, the history too: all of it the first time, then only the seconds that may still change."""
    if since_s is None:
        return status.now()
    found = status.now(since_s[0])
    since_s[0] = int(time()) - _STILL_CHANGES_S
    return found


async def _events(worker: Worker, look: Look, further: dict[str, Any]) -> AsyncIterator[bytes]:
    """Server-sent events, one a second, until the worker drains: a page must not hold it up.

    Parts that do not change come with the first one.
    """
    worker.watchers += 1
    try:
        while not worker.draining and (found := look()) is not None:
            yield b"data: " + msgspec.json.encode(found | further) + b"\n\n"
            further = {}
            await asyncio.sleep(_EVERY_S)
    finally:
        worker.watchers -= 1


def configuration_rows(config: Config, salt: int) -> list[dict[str, str]]:
    """The variables that are set in the environment: name, masked value and origin, as they were read.

    A masked value has a `mark`: 16 bits of a digest, enough to tell a new value from an old one, and of no use to guess
    either. `salt` is the pid of the gateway, so that marks of two gateways cannot be compared.
    """
    found = []
    texts = {entry.variable.removesuffix("_FILE"): entry.text.strip() for entry in config.entries}
    for row in (row for group in effective.effective(config.entries) for row in group if row.origin != "default"):
        shown = {"variable": row.variable, "value": row.value, "origin": row.origin}
        text = texts.get(row.variable)
        if text is not None and text != row.value:
            shown["mark"] = sha256(f"{salt} {row.variable} {text}".encode("utf-8", "surrogatepass")).hexdigest()[:4]
        found.append(shown)
    return found


def running(worker: Worker) -> dict[str, Any]:
    """The process and configuration that answer, and the outcomes of reloads."""
    board = worker.board
    return {
        "pid": os.getpid() if board is None else board.parent_pid,
        "generation": worker.generation,
        "config_hash": worker.via.identity,
        "reloads": {} if board is None else board.counts,
    }


async def reload(worker: Worker) -> GatewayResponse:
    """POST: read the configuration again; the answer is the outcome. Raises ROUTE_NOT_FOUND without a parent."""
    board = worker.board
    if board is None:
        raise GatewayError(Reason.ROUTE_NOT_FOUND, "This worker has no parent process that could reload it.")
    ended = board.ask()
    while board.ended < ended:  # noqa: ASYNC110 - it is another process that ends it
        await asyncio.sleep(_LOOK_S)
    outcome, _, text = board.last()
    return json_response({"outcome": outcome.word, "generation": board.generation, "problems": text.splitlines()})


def page() -> GatewayResponse:
    """The status page."""
    return GatewayResponse(
        200, [(b"content-type", b"text/html; charset=utf-8"), _NO_STORE, _BY_ACCEPT, *_PAGE_POLICY], _PAGE
    )


def _hashes(tag: str) -> str:
    """The hashes of the page's own script or style, for a policy that allows nothing else."""
    inline = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), _PAGE, re.DOTALL)
    return " ".join(f"'sha256-{b64encode(sha256(text).digest()).decode()}'" for text in inline)


_JSON = (b"content-type", b"application/json")
_BY_ACCEPT = (b"vary", b"accept")
_NO_STORE = (b"cache-control", b"no-store")
_PAGE = (Path(__file__).parent / "page.html").read_bytes()
_PAGE_POLICY = [
    (
        b"content-security-policy",
        f"default-src 'none'; connect-src 'self'; img-src data:; script-src {_hashes('script')}; "
        f"style-src {_hashes('style')}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'".encode(),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
_OPEN: dict[str, Callable[[Worker], GatewayResponse]] = {"/-/live": live, "/-/ready": ready}
FOR_PROBES = _OPEN.keys()
_CLOSED = frozenset({"/-/", "/-/metrics", "/-/status", "/-/cache", "/-/limits", "/-/reload"})


_METHODS = {
    "/-/cache": frozenset(("DELETE",)),
    "/-/limits": frozenset(("GET", "HEAD", "DELETE")),
    "/-/reload": frozenset(("POST",)),
}


def options(request: GatewayRequest) -> GatewayResponse:
    """The answer to `OPTIONS *`, which asks the server and no resource (RFC 9110, section 9.3.7)."""
    request.exchange.route = "*"
    return GatewayResponse(204, [(b"allow", b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH")])


def check_path(path: str) -> None:
    """Raises ROUTE_NOT_FOUND."""
    if path not in _OPEN and path not in _CLOSED and not _detail(path)[1]:
        raise GatewayError(Reason.ROUTE_NOT_FOUND, "The gateway has no such endpoint of its own.")


def check_method(path: str, method: str) -> None:
    """Raises METHOD_NOT_ALLOWED."""
    allowed = _METHODS.get(path, frozenset(("GET", "HEAD")))
    if method not in allowed:
        raise GatewayError(Reason.METHOD_NOT_ALLOWED, headers=[(b"allow", ", ".join(sorted(allowed)).encode())])


async def answer(worker: Worker, routes: Routes, request: GatewayRequest) -> GatewayResponse:
    """The answer to a request under `/-/`. Raises ROUTE_NOT_FOUND, METHOD_NOT_ALLOWED, ADMIN_REQUIRED or _DENIED."""
    path = request.raw_path
    check_path(path)
    kind, _ = _detail(path)
    request.exchange.route = PREFIX + kind if kind else path
    is_open = _OPEN.get(path)
    if is_open is None:
        await admin.admit(request, worker.config.settings.admin_token, worker.admin_gate)
    check_method(path, request.method)
    if is_open is not None:
        return is_open(worker)
    if path == "/-/cache":
        return await purge(worker, routes, request)
    if path == "/-/reload":
        return await reload(worker)
    if path == "/-/limits":
        return await (forget(worker, request) if request.method == "DELETE" else limits(worker))
    if path == "/-/metrics":
        return metrics(worker, request)
    return page() if path == "/-/" else await state(worker, routes, request)
