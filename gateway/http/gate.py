"""Types of what stands around the view of a route: gates that may answer before it, finishes that change its answer."""

from collections.abc import Awaitable, Callable

from django.http.response import HttpResponseBase

from gateway.http.request import GatewayRequest

# What the handler calls: a view that answers, or the stack of a route around it.
View = Callable[..., Awaitable[HttpResponseBase]]
# Before the view: None lets the request go on, at once or awaited; a response answers instead, a GatewayError refuses.
Gate = Callable[[GatewayRequest], Awaitable[HttpResponseBase | None] | None]
# After the view: takes the answer, problems of the gateway too, and returns the one to send.
Finish = Callable[[GatewayRequest, HttpResponseBase], Awaitable[HttpResponseBase]]
