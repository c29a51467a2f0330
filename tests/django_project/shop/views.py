"""Views of every kind, and every kind of result."""

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from gateway.routing import GatewayResponse, fanout, fetch, part
from pydantic import BaseModel

from shop import apps, clock
from shop.models import Item


class AsStruct(msgspec.Struct):
    id: int


@dataclasses.dataclass
class AsDataclass:
    id: int


class AsModel(BaseModel):
    id: int


class Size(models.TextChoices):
    SMALL = "s", "Small"


class Rank(models.IntegerChoices):
    FIRST = 1, "First"


KINDS: dict[str, Any] = {
    "dict": lambda: {"id": 1},
    "list": lambda: [1],
    "struct": lambda: AsStruct(1),
    "dataclass": lambda: AsDataclass(1),
    "pydantic": lambda: AsModel(id=1),
    "lazy": lambda: TemplateResponse(None, "page", {"word": "lazy"}),
    "none": lambda: None,
    "text": lambda: "text",
}


async def results(request: HttpRequest, kind: str) -> object:
    return KINDS[kind]()


def results_in_thread(request: HttpRequest, kind: str) -> object:
    return KINDS[kind]()


async def items(request: HttpRequest) -> JsonResponse:
    return JsonResponse([item.name async for item in Item.objects.order_by("pk")], safe=False)


async def item(request: HttpRequest, id: int) -> dict[str, object]:
    try:
        found = await Item.objects.aget(pk=id)
    except Item.DoesNotExist:
        raise Http404 from None
    return {"id": found.pk, "name": found.name}


async def slow(request: HttpRequest) -> dict[str, float]:
    found = await Item.objects.annotate(waited=clock.pause(0.5)).afirst()
    assert found is not None
    return {"waited": found.waited}


async def price(request: HttpRequest, name: str) -> dict[str, object]:
    asked = await fetch("prices:/prices/{name}", params={"name": name})
    return {"name": name, "price": asked.json()}


@fanout
async def both(price: Annotated[Any, part("prices:/prices/{id}")], id: int) -> dict[str, object]:
    if id == 0:
        raise ZeroDivisionError
    item = await Item.objects.filter(pk=id).afirst()
    return {"price": price, "name": item and item.name}


def report(year: int) -> dict[str, int]:
    return {"year": year, "items": Item.objects.count(), "next": 1 // year + year + 1}


async def fails(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError


def fails_in_thread(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError


async def converted(request: HttpRequest, id: uuid.UUID, size: Literal["s", "m"], exact: bool) -> dict[str, str]:
    return {"id": type(id).__name__, "size": size, "exact": repr(exact)}


async def chosen(request: HttpRequest, size: Size, rank: Rank | None) -> dict[str, object]:
    return {"size": size.label, "rank": rank and rank.label}


async def events(request: HttpRequest) -> GatewayResponse:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"data: tick\n\n"
            await asyncio.sleep(0.01)

    return GatewayResponse(200, [(b"content-type", b"text/event-stream")], endless())


async def ends(request: HttpRequest) -> GatewayResponse:
    async def pieces() -> AsyncIterator[bytes]:
        for name in ("a", "b"):
            yield f"data: {name}\n\n".encode()
            await asyncio.sleep(0)

    return GatewayResponse(200, [(b"content-type", b"text/event-stream")], pieces())


async def moved(request: HttpRequest) -> HttpResponse:
    return redirect("/items")


async def who(request: HttpRequest) -> dict[str, object]:
    return {
        "secure": request.is_secure(),
        "uri": request.build_absolute_uri(),
        "forwarded": request.META.get("HTTP_X_FORWARDED_PROTO"),
        "tenant": getattr(request, "tenant", None),
    }


async def heard(request: HttpRequest) -> list[str]:
    told = apps.heard[:]
    apps.heard.clear()
    return told
