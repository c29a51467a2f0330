"""The same clients in plain pytest: Django is set up by an import of `asgi`."""

import asyncio

import asgi  # noqa: F401
from django.test import AsyncClient, Client, override_settings


async def test_a_proxied_route() -> None:
    answer = await AsyncClient().get("/prices/milk")
    assert (answer.status_code, answer.json()["target"]) == (200, "/prices/milk")


async def test_an_own_view_that_fetches() -> None:
    assert (await AsyncClient().get("/price/milk")).json()["price"]["target"] == "/prices/milk"


async def test_a_problem() -> None:
    assert (await AsyncClient().get("/nothing")).json()["reason"] == "route_not_found"


async def test_requests_at_once_share_the_worker_that_the_first_starts() -> None:
    answers = await asyncio.gather(*(AsyncClient().get(f"/prices/{number}") for number in range(5)))
    assert [answer.json()["target"] for answer in answers] == [f"/prices/{number}" for number in range(5)]


async def test_an_event_stream_that_is_left_before_its_end() -> None:
    answer = await AsyncClient().get("/events")
    assert answer.streaming
    async for piece in answer.streaming_content:
        assert piece == b"data: tick\n\n"
        break


@override_settings(ROOT_URLCONF="routes_of_a_test")
async def test_other_routes_for_a_test() -> None:
    assert (await AsyncClient().get("/only-here")).json() == {"here": True}
    assert (await AsyncClient().get("/items")).status_code == 404


def test_the_synchronous_client() -> None:
    assert Client().get("/prices/milk").json()["target"] == "/prices/milk"
