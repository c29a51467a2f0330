"""Answers of the gateway's own: JSON, and the problems that failures become (RFC 9457, RFC 9209)."""

import traceback
from collections.abc import Mapping
from typing import Any

import orjson
from django.core.exceptions import BadRequest, PermissionDenied, RequestAborted, SuspiciousOperation
from django.http import Http404
from django.http.multipartparser import MultiPartParserError

from gateway.errors import GatewayError, Reason, drop_frames
from gateway.http.request import GatewayRequest
from gateway.http.response import GatewayResponse

_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", b"application/problem+json")


def json_response(data: Mapping[str, Any], status: int = 200) -> GatewayResponse:
    """An answer of the gateway's own, never to be stored."""
    return GatewayResponse(status, [_JSON, (b"cache-control", b"no-store")], orjson.dumps(data))


def problem_members(error: GatewayError, request_id: str, *, disclose_names: bool = True) -> dict[str, Any]:
    """The members of a failure's problem (RFC 9457)."""
    reason = error.reason
    members: dict[str, Any] = {
        "type": f"urn:portway:error:{reason.word}",
        "title": reason.title,
        "status": error.status,
        "detail": error.detail,
        "reason": reason.word,
        "request_id": request_id,
    }
    if disclose_names and error.upstream is not None:
        members["upstream"] = error.upstream
    if not disclose_names and error.members:  # its detail names a part
        return members | {"detail": reason.advice}
    return members | error.members


def problem(error: GatewayError, request_id: str, *, disclose_names: bool = True) -> GatewayResponse:
    """The problem answer (RFC 9457) of a failure, with its Proxy-Status (RFC 9209)."""
    members = problem_members(error, request_id, disclose_names=disclose_names)
    proxy_status = "portway"
    if error.reason.token is not None:
        proxy_status += f"; error={error.reason.token}"
    if "upstream" in members:
        proxy_status += f'; next-hop="{error.upstream}"'
    pairs = [_PROBLEM, (b"cache-control", b"no-store"), (b"proxy-status", proxy_status.encode("ascii"))]
    pairs.extend(error.headers)
    return GatewayResponse(error.status, pairs, orjson.dumps(members))


def problem_of(request: GatewayRequest, failure: GatewayError) -> GatewayResponse:
    """The problem that a request ends with. Its log line names the first failure of the request."""
    request.exchange.fail(failure)
    drop_frames(failure)
    return problem(failure, request.exchange.request_id, disclose_names=request.services.disclose_names)


def error_of_view(error: BaseException) -> GatewayError:
    """The failure for what a view raised. Django's own exceptions keep their meaning; others are faults, for the log
    only."""
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, Http404):
        return GatewayError(Reason.VIEW_NOT_FOUND)
    if isinstance(error, PermissionDenied):
        return GatewayError(Reason.REQUEST_DENIED)
    if isinstance(error, (BadRequest, SuspiciousOperation, MultiPartParserError, RequestAborted)):
        return GatewayError(Reason.REQUEST_INVALID)
    failure = GatewayError(Reason.VIEW_ERROR, cause="".join(traceback.format_exception(error)).rstrip())
    failure.raised = error
    return failure
