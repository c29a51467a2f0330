"""The same shop by django-ninja."""

from django.http import HttpRequest
from ninja import NinjaAPI, Schema

from shop.models import Item

api = NinjaAPI(urls_namespace="shop-api")


class ItemOut(Schema):
    id: int
    name: str
    price: int


class ItemIn(Schema):
    name: str
    price: int = 0


@api.get("/items/{item_id}", response=ItemOut)
async def one(request: HttpRequest, item_id: int) -> Item:
    return await Item.objects.aget(pk=item_id)


@api.post("/items", response={201: ItemOut})
async def make(request: HttpRequest, item: ItemIn) -> tuple[int, Item]:
    return 201, await Item.objects.acreate(**item.dict())


@api.get("/count")
def count(request: HttpRequest) -> dict[str, int]:
    return {"count": Item.objects.count()}
