"""The examples of the pages in the test kit: each gateway that a recipe starts, and what some of them answer."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.testing import Reason, Reply, TestGateway
from tests.test_docs import DOCS, HOME, PAGES, Block, blocks_of

# Recipes that need more than a gateway: by page, and a word of what they export.
NOT_HERE = {
    ("django.md", "GATEWAY_APPS"): "Django is set up once in a process; live/config has a process for each",
    ("cache.md", "GATEWAY_DATABASE"): "the same",
    ("legacy.md", "GATEWAY_DATABASE"): "the same",
    ("python-routes.md", "GATEWAY_DATABASE"): "the same",
    ("proxying.md", "AUTHORIZATION_FILE"): "a secret that the page makes in a shell",
    ("tls.md", "GATEWAY_TLS_CERT"): "certificates that the page makes in a shell",
    ("auth.md", "SECRET_FILE"): "a secret that the page makes in a shell",
}


@dataclass(frozen=True)
class Recipe:
    """What a page has exported and written when it starts a gateway."""

    page: Path
    line: int
    exported: dict[str, str]
    files: tuple[Block, ...]

    def folder(self, folder: Path) -> Path:
        for block in self.files:
            path = folder / block.what.partition(" ")[2]
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        return folder

    def gateway(self, folder: Path) -> TestGateway:
        self.folder(folder)
        has_routes = "GATEWAY_URLCONF" in self.exported or (folder / "routes.py").exists()
        environ = {"GATEWAY_URLCONF": "routes", **self.exported} if has_routes else self.exported
        return TestGateway(environ, folder=folder)


def exports(script: str) -> dict[str, str]:
    """The variables of lines `export A=b C='d'  # comment`."""
    found = {}
    for line in re.findall(r"^export (.*)$", script.replace("\\\n", " "), re.MULTILINE):
        for word in shlex.split(line, comments=True):
            name, equals, value = word.partition("=")
            if equals and name.startswith("GATEWAY_"):
                found[name] = value
    return found


def recipes_of(page: Path) -> Iterator[Recipe]:
    exported: dict[str, str] = {}
    in_file: dict[str, str] = {}  # of --env-file, beneath what is exported
    files: list[Block] = []
    for block in blocks_of(page):
        kind, _, rest = block.what.partition(" ")
        if block.what == "sh recipe":
            exported |= exports(block.text)
            for name in re.findall(r"^unset (.*)$", block.text, re.MULTILINE):
                for one in name.split():
                    exported.pop(one, None)
            beneath = in_file if "--env-file" in block.text else {}
            yield Recipe(page, block.line, beneath | exported, tuple(files))
        elif rest.endswith(".env"):
            in_file |= dict(re.findall(r"^(GATEWAY_\w+)=(.*)$", block.text, re.MULTILINE))
        elif "." in rest and kind in {"python", "text", "html", "json"}:
            files.append(block)


RECIPES = [recipe for page in PAGES for recipe in recipes_of(page) if recipe.exported]


def why_not(recipe: Recipe) -> str | None:
    said = " ".join(f"{name}={value}" for name, value in recipe.exported.items())
    return next((why for (page, word), why in NOT_HERE.items() if page == recipe.page.name and word in said), None)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: f"{one.page.name}:{one.line}")
async def test_every_gateway_of_a_page_starts_in_the_kit(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if (why := why_not(recipe)) is not None:
        pytest.skip(why)
    async with recipe.gateway(tmp_path) as gateway:
        answer = await gateway.get("/-/live")
        assert answer.status == 200


# -- what they answer -------------------------------------------------------------------------------------------------

USER = {"id": 2, "name": "Ben Osei", "team_id": 10}
ORDERS = [{"id": 9003, "user": 2, "product_id": 504, "quantity": 1}]


def of(page: Path, number: int) -> Recipe:
    return list(recipes_of(page))[number]


async def test_the_readme(tmp_path: Path) -> None:
    last = of(HOME / "README.md", -1)
    async with last.gateway(tmp_path) as gateway:
        gateway.orders["GET /orders/9003"] = ORDERS[0]
        gateway.orders["/orders?user=2"] = Reply(json=ORDERS)
        gateway.users["/users/2"] = USER
        gateway.teams["*"] = Reply(503)
        assert (await gateway.get("/api/orders/9003")).json() == ORDERS[0]
        assert (await gateway.get("/orders/9003")).reason is Reason.ROUTE_NOT_FOUND
        home = await gateway.get("/home/2")
        assert home.json() == {"orders": ORDERS, "team": None, "user": USER}
        assert home.headers["gateway-complete"] == "?0"
        assert gateway.teams.calls[0].path == "/teams/10"
        assert [(await gateway.get("/users/2")).log["cache"] for _ in range(2)] == ["miss", "hit"]
        assert (await gateway.get("/welcome/2")).json() == {"hello": "Ben Osei", "orders": 1}
        assert (await gateway.get("/reports/2026")).json() == {"year": 2026, "total": 1250}


async def test_the_page_of_fan_outs(tmp_path: Path) -> None:
    def say(gateway: Any) -> None:
        gateway.users["/users/2"] = USER
        gateway.users["*"] = Reply(404)
        gateway.orders["/orders?user=2"] = Reply(json=ORDERS)
        gateway.orders["/products/504"] = {"name": "Headphones", "price": 1}

    page = DOCS / "fan-out.md"
    async with of(page, 0).gateway(tmp_path) as gateway:
        say(gateway)
        gateway.orders["*"] = Reply(json=[])
        assert (await gateway.get("/home/2")).json() == {"orders": ORDERS, "user": USER}
        missing = await gateway.get("/home/99")
        assert (missing.status, missing.reason) == (502, Reason.PART_STATUS)
        assert missing.json()["part"] == "user"
    async with of(page, 1).gateway(tmp_path) as gateway:
        say(gateway)
        gateway.teams["*"] = [{"name": "Platform"}, Reason.RESPONSE_TIMEOUT, Reason.RESPONSE_TIMEOUT]
        assert (await gateway.get("/home/2?delay=0ms")).json()["team"] == {"name": "Platform"}
        late = await gateway.get("/home/2?delay=1s")
        assert late.json()["team"] == {"name": "unknown"}
        assert late.headers["cache-control"] == "no-store"
        assert late.parts["team"]["reason"] == "response_timeout"
    async with of(page, 2).gateway(tmp_path) as gateway:
        say(gateway)
        assert (await gateway.get("/cart/2")).json() == {
            "orders": [{"product_id": 504}],
            "products": [{"name": "Headphones"}],
        }
        async with gateway.stream("GET", "/cart/2", headers={"accept": "text/event-stream"}) as answer:
            assert [event["id"] async for event in answer.events()] == ["orders", "products", "end"]
