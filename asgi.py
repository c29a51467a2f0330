"""The door: sets Django up. `application` is what a server of ASGI serves; `gateway serve` makes one in each worker."""

import os
from functools import partial
from typing import Any

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from gateway.config.django_settings import foreign_settings
from gateway.observe.log import configure, request_logger
from gateway.routing.loader import load_routes
from gateway.server.asgi import GatewayHandler
from gateway.server.worker import ALONE, Shared

if problem := foreign_settings(os.environ.get("DJANGO_SETTINGS_MODULE")):
    raise ImproperlyConfigured(problem)
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
django.setup(set_prefix=False)


def build(shared: Shared = ALONE) -> GatewayHandler:
    own = settings.GATEWAY.settings
    configure(own.log, own.log_level, worker=os.getpid(), packages=own.own_packages)
    handler = GatewayHandler(settings.GATEWAY, load_routes(settings.GATEWAY.declared), [request_logger()], shared)
    handler.worker.explain = partial(_explain, handler)
    return handler


async def _explain(handler: GatewayHandler, name: str) -> list[dict[str, Any]]:
    from gateway.management.explain_route import explain_route  # for whoever looks at the page of a route

    return await explain_route(handler.config, handler.routes, name)


def __getattr__(name: str) -> GatewayHandler:
    """`application`, made when somebody asks for it: workers of `gateway serve` make their own, which share."""
    if name != "application":
        raise AttributeError(name)
    application: GatewayHandler = globals().setdefault("application", build())
    return application
