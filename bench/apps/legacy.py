"""Portway's routes for what a legacy call costs: one answer from an async view and from a thread; stuck threads."""

import threading

import msgspec

from gateway.routing import GatewayRequest, GatewayResponse, from_environment, legacy, route

ANSWER = {"report": 7, "state": "done"}


async def own(request: GatewayRequest) -> GatewayResponse:
    return GatewayResponse(200, [(b"content-type", b"application/json")], msgspec.json.encode(ANSWER))


def at_once() -> dict[str, object]:
    return ANSWER


def stuck() -> None:
    threading.Event().wait()


urlpatterns = [
    *from_environment(),
    route("/own", own),
    route("/legacy", legacy(at_once, queue=64)),
    route("/stuck", legacy(stuck, timeout="200ms")),
]
