"""Every kind of route by the clients of django.test, as `gateway test` runs them; the upstream is a real one."""

from asgiref.sync import async_to_sync
from django.test import AsyncClient, AsyncRequestFactory, TestCase
from django.urls import resolve, reverse
from gateway.routing import proxy

from shop import middleware, views
from shop.models import Item


class ByAsyncClient(TestCase):
    """What a test has written in its transaction, the views see."""

    @classmethod
    def setUpTestData(cls) -> None:
        cls.milk = Item.objects.create(name="milk")

    async def test_a_proxied_route(self) -> None:
        answer = await self.async_client.get("/prices/milk?in=eur", headers={"x-tenant": "acme"})
        self.assertEqual((answer.status_code, answer.json()["target"]), (200, "/prices/milk?in=eur"))
        self.assertEqual(answer.json()["fields"]["x-tenant"], "acme")
        self.assertEqual(answer["via"], "1.1 portway")

    async def test_a_proxied_post(self) -> None:
        answer = await self.async_client.post("/prices/milk", {"price": 2}, content_type="application/json")
        self.assertEqual((answer.json()["method"], answer.json()["body"]), ("POST", '{"price": 2}'))

    async def test_a_fan_out(self) -> None:
        answer = await self.async_client.get(f"/both/{self.milk.pk}")
        self.assertEqual(answer.json()["name"], "milk")
        self.assertEqual(answer["gateway-complete"], "?1")

    async def test_a_cached_route(self) -> None:
        answers = [await self.async_client.get("/stored/milk") for _ in range(2)]
        self.assertIn("stored", answers[0]["cache-status"])
        self.assertIn("hit", answers[1]["cache-status"])

    async def test_views_of_our_own(self) -> None:
        self.assertEqual((await self.async_client.get("/items")).json(), ["milk"])
        self.assertEqual((await self.async_client.get(f"/items/{self.milk.pk}")).json()["name"], "milk")
        self.assertEqual((await self.async_client.get("/price/milk")).json()["price"]["target"], "/prices/milk")

    async def test_a_legacy_function(self) -> None:
        answer = await self.async_client.get("/reports/2026")
        self.assertEqual(answer.json()["year"], 2026)

    async def test_lines_of_django(self) -> None:
        answer = await self.async_client.get(f"/django/{self.milk.pk}/")
        self.assertEqual(answer.json()["name"], "milk")
        self.assertEqual((await self.async_client.get("/api/count")).json(), {"count": 1})
        made = await self.async_client.post("/api/items", {"name": "tea"}, content_type="application/json")
        self.assertEqual((made.status_code, made.json()["name"]), (201, "tea"))

    async def test_choices_of_django_are_types_of_parameters(self) -> None:
        answer = await self.async_client.get("/chosen/s/1")
        self.assertEqual(answer.json(), {"size": "Small", "rank": "First"})
        for path in ("/chosen/xl/1", "/chosen/s/2"):
            self.assertEqual((await self.async_client.get(path)).status_code, 404, path)

    async def test_what_nobody_serves(self) -> None:
        answer = await self.async_client.get("/nothing")
        self.assertEqual((answer.status_code, answer.json()["reason"]), (404, "route_not_found"))
        self.assertEqual((await self.async_client.get("/items/seven")).status_code, 404)

    async def test_an_exception_of_a_view_is_raised_as_django_has_it(self) -> None:
        with self.assertRaises(ZeroDivisionError):
            await self.async_client.get("/fails")
        quiet = AsyncClient(raise_request_exception=False)
        self.assertEqual((await quiet.get("/fails")).json()["reason"], "view_error")

    async def test_what_a_client_says_of_itself(self) -> None:
        answer = await self.async_client.get("/who/", secure=True)
        self.assertEqual((answer.json()["secure"], answer.json()["uri"]), (True, "https://testserver/who/"))

    async def test_the_middleware_is_passed_once(self) -> None:
        before = middleware.passed
        answer = await self.async_client.get("/who/", headers={"x-tenant": "acme"})
        self.assertEqual((answer.json()["tenant"], answer["x-was-here"]), ("acme", "acme"))
        self.assertEqual(middleware.passed, before + 1)

    async def test_cookies_and_matches(self) -> None:
        answer = await self.async_client.get("/items")
        self.assertEqual(answer.resolver_match.view_name, "items")
        self.assertEqual(reverse("item", kwargs={"id": 7}), "/items/7")


class ByClient(TestCase):
    """The synchronous one: each request has a loop, and so a worker, of its own."""

    def test_every_kind_of_route(self) -> None:
        milk = Item.objects.create(name="milk")
        for path in ("/prices/milk", f"/both/{milk.pk}", "/stored/milk", "/items", "/reports/2026", "/api/count"):
            self.assertEqual(self.client.get(path).status_code, 200, path)
        self.assertEqual(self.client.get("/items").json(), ["milk"])
        self.assertEqual(self.client.post("/prices/milk", {"a": "b"}).json()["method"], "POST")

    def test_a_redirect_is_followed(self) -> None:
        self.assertRedirects(self.client.get("/moved"), "/items")
        self.assertEqual(self.client.get("/moved", follow=True).redirect_chain, [("/items", 302)])

    def test_an_event_stream_that_ends_is_whole(self) -> None:
        self.assertEqual(b"".join(self.client.get("/ends").streaming_content), b"data: a\n\ndata: b\n\n")


class ByFactory(TestCase):
    """Views called by themselves."""

    def test_views_of_every_kind(self) -> None:
        async_to_sync(self.call_views)()

    async def call_views(self) -> None:
        milk = await Item.objects.acreate(name="milk")
        request = AsyncRequestFactory().get("/prices/milk")
        answer = await proxy("prices")(request)
        self.assertEqual((answer.status_code, answer.content[:1]), (200, b"{"))
        both = await views.both(request, id=str(milk.pk))
        self.assertIn(b'"name":"milk"', both.content)
        for path in ("/prices/milk", "/stored/milk", f"/items/{milk.pk}", "/price/milk", "/reports/2026"):
            match = resolve(path)
            answer = await match.func(AsyncRequestFactory().get(path), *match.args, **match.kwargs)
            self.assertEqual(answer.status_code, 200, path)
        self.assertEqual((await views.items(request)).content, b'["milk"]')
