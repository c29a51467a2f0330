"""The view that answers with a status, a redirect or a text of the configuration. Such an answer is no failure."""

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import orjson
from asgiref.sync import markcoroutinefunction

from gateway.answers.targets import Answer
from gateway.errors import GatewayError, Reason
from gateway.http.headers import Pairs
from gateway.http.request import GatewayRequest
from gateway.http.response import GatewayResponse
from gateway.upstreams.targets import TargetValueError, text_of

_TEXT = "text/plain; charset=utf-8"
_WITHOUT_BODY = frozenset({204, 205, 304})


class OwnAnswer:
    """An async Django view that always gives the same answer."""

    def __init__(self, answer: Answer, body: str | None, media_type: str | None, name: str) -> None:
        self.answer = answer
        self.body = body
        self._type = media_type
        self.__name__ = self.__qualname__ = name
        markcoroutinefunction(self)

    async def __call__(self, request: GatewayRequest, **params: Any) -> GatewayResponse:
        try:
            return answered(request, self.answer, self.body, self._type, params)
        except TargetValueError as error:
            raise GatewayError(
                Reason.TEMPLATE_VALUE,
                f"The value of {error.reference.text} in the redirect is empty, or leads elsewhere.",
            ) from error


def answered(
    request: GatewayRequest,
    answer: Answer,
    body: str | None = None,
    media_type: str | None = None,
    params: Mapping[str, Any] | None = None,
) -> GatewayResponse:
    """The response. Raises TargetValueError for a value that cannot stand in a redirect's path."""
    pairs: Pairs = []
    if answer.template is not None:
        raw = request.raw_values
        if raw is None:
            raw = {name: quote(str(value), safe="") for name, value in (params or {}).items()}
        value = partial(text_of, request)
        path = answer.template.path(raw, request.raw_rest, value)
        location = answer.location(path, answer.template.query(raw, value), request.query)
        pairs.append((b"location", location.encode("latin-1")))
    content = b""
    if body is not None and answer.status not in _WITHOUT_BODY:
        content = body.encode()
        pairs.append((b"content-type", (media_type or _TEXT).encode("latin-1")))
    elif answer.status >= 400:
        content = _problem(answer.status, request.exchange.request_id)
        pairs += [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
    if answer.status not in _WITHOUT_BODY:
        pairs.append((b"content-length", b"%d" % len(content)))
    return GatewayResponse(answer.status, pairs, content)


def _problem(status: int, request_id: str) -> bytes:
    """A problem without a reason: RFC 9457, section 4.2.1, calls its type `about:blank`."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Refused"
    return orjson.dumps({"type": "about:blank", "title": title, "status": status, "request_id": request_id})
