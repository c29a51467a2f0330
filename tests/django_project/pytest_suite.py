"""The same clients in plain pytest: Django is set up by an import of `asgi`."""

import asgi  # noqa: F401
from django.test import AsyncClient, Client


async def test_a_proxied_route() -> None:
    answer = await AsyncClient().get("/prices/milk")
    assert (answer.status_code, answer.json()["target"]) == (200, "/prices/milk")


async def test_an_own_view_that_fetches() -> None:
    assert (await AsyncClient().get("/price/milk")).json()["price"]["target"] == "/prices/milk"


async def test_a_problem() -> None:
    assert (await AsyncClient().get("/nothing")).json()["reason"] == "route_not_found"


def test_the_synchronous_client() -> None:
    assert Client().get("/prices/milk").json()["target"] == "/prices/milk"
