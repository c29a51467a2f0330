"""Answers of `gateway dev` that `serve` does not give: failures show their place in the team's own code."""

import html
import traceback
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path

from django.http.response import HttpResponseBase

from gateway.errors import GatewayError, Reason
from gateway.http.inbox import Receive
from gateway.http.problem import json_response, problem_members
from gateway.http.request import GatewayRequest, Scope, Send
from gateway.http.response import GatewayResponse
from gateway.server.asgi import Choose, GatewayHandler

_PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title>
<style>:root {{ color-scheme: light dark }}
body {{ font: 15px system-ui; margin: 3rem auto; max-width: 60rem; padding: 0 1rem }}
pre {{ overflow: auto; padding: 1rem; border: 1px solid #8886; border-radius: 6px; font: 13px ui-monospace, monospace }}
h1 {{ font-size: 1.3rem }}</style>
<h1>{title}</h1><pre>{own}</pre><details><summary>All of it</summary><pre>{whole}</pre></details>"""


def own_lines(error: BaseException, folder: Path) -> list[str]:
    """The places in a folder that an exception came through, the innermost first: `routes.py:12 in home: 1 / 0`."""
    found = []
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.is_relative_to(folder) and "site-packages" not in path.parts:
            found.append(f"{path.relative_to(folder)}:{frame.lineno} in {frame.name}: {frame.line or ''}".rstrip(": "))
    return found[::-1]


def own_last(error: BaseException, folder: Path) -> str:
    """The traceback for a terminal: at its end, where people look first, the folder's own lines, and the exception."""
    whole = "".join(traceback.format_exception(error)).rstrip()
    own = own_lines(error, folder)
    if not own:
        return whole
    raised = "".join(traceback.format_exception_only(error)).rstrip()
    return "\n".join([whole, "", *(f"  {line}" for line in own[::-1]), raised])


_raised: ContextVar[BaseException | None] = ContextVar("gateway_raised", default=None)


class DevHandler(GatewayHandler):
    """The handler, with a traceback in the answer of a view that failed."""

    async def answer(self, request: GatewayRequest, choose: Choose | None = None) -> HttpResponseBase:
        async def noting(request: GatewayRequest) -> HttpResponseBase:
            try:
                return await (choose or self.choose)(request)
            except Exception as error:
                _raised.set(error)
                raise

        _raised.set(None)
        return await super().answer(request, noting)

    async def refusal(self, request: GatewayRequest, failure: GatewayError) -> HttpResponseBase:
        error = _raised.get()
        if error is None or failure.reason is not Reason.VIEW_ERROR:
            return await super().refusal(request, failure)
        folder = Path.cwd()
        own, whole = own_lines(error, folder), "".join(traceback.format_exception(error))
        raised = "".join(traceback.format_exception_only(error)).rstrip()
        failure.cause = own_last(error, folder)
        await super().refusal(request, failure)  # the log line, and other hooks
        if _wants_page(request.raw_headers):
            return page(raised, [*own, raised], whole)
        members = problem_members(failure, request.exchange.request_id)
        return json_response({**members, "detail": raised, "own": own, "traceback": whole.splitlines()}, failure.status)


class Broken:
    """Answers every request with the reason why the gateway cannot start, until a file is saved."""

    def __init__(self, problems: str) -> None:
        self._problems = problems

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            title = "The configuration cannot be served"
            lines = self._problems.splitlines()
            if _wants_page(scope["headers"]):
                response = page(title, lines, self._problems)
            else:
                response = json_response({"title": title, "status": 500, "problems": lines}, 500)
            await send({"type": "http.response.start", "status": 500, "headers": response.pairs})
            await send({"type": "http.response.body", "body": response.body})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        phase = (await receive())["type"]
        await send({"type": f"{phase}.complete"})
        if phase == "lifespan.shutdown":
            return


def page(title: str, own: Sequence[str], whole: str) -> GatewayResponse:
    text = _PAGE.format(title=html.escape(title), own=html.escape("\n".join(own)), whole=html.escape(whole))
    pairs = [(b"content-type", b"text/html; charset=utf-8"), (b"cache-control", b"no-store")]
    return GatewayResponse(500, pairs, text.encode("utf-8", "replace"))


def _wants_page(pairs: Sequence[tuple[bytes, bytes]]) -> bool:
    return any(name == b"accept" and b"text/html" in value for name, value in pairs)
