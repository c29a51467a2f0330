"""The shapes of what stands around the view of a route: what may answer before it, and what changes its answer."""

from collections.abc import Awaitable, Callable

from django.http.response import HttpResponseBase

from gateway.http.request import GatewayRequest

# What the handler calls: a view that answers, or the stack of a route around it.
View = Callable[..., Awaitable[HttpResponseBase]]
# Before the view: None lets the request go on, at once or awaited; a response answers instead, a GatewayError refuses.
Gate = Callable[[GatewayRequest], Awaitable[HttpResponseBase | None] | None]
# After it: the answer that leaves, which may be another one. It is given the problems of the gateway too.
Finish = Callable[[GatewayRequest, HttpResponseBase], Awaitable[HttpResponseBase]]
