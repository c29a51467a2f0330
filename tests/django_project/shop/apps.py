"""The app's checks, and what it hears of requests."""

import sys
from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.core.signals import got_request_exception, request_finished, request_started
from django.db.backends.signals import connection_created

heard: list[str] = []


class ShopConfig(AppConfig):
    name = "shop"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from shop import clock

        checks.register(stock, "shop")
        request_started.connect(started)
        request_finished.connect(finished)
        got_request_exception.connect(failed)
        connection_created.connect(clock.add_pause)


def stock(**_: object) -> list[checks.CheckMessage]:
    return [checks.Warning("the stock is low", id="shop.W001")]


def started(**of: Any) -> None:
    heard.append(f"started {of['scope']['path'] if 'scope' in of else of['environ']['PATH_INFO']}")


async def finished(**_: object) -> None:
    heard.append("finished")


def failed(request: object, **_: object) -> None:
    error = sys.exc_info()[1]  # as Sentry asks for it
    heard.append(f"failed {type(error).__name__} {getattr(request, 'path', None)}")
