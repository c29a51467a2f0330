"""What editors and mypy make of a routes module: one run over a small one that says each verdict beside its line.

`# wrong: code` marks a line that must be refused with that code; every other line must pass. Nothing tells mypy where
the gateway is: it finds the installed package, and reads its types because of `py.typed`.
"""

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from gateway.cache.view import cached
from gateway.config import table
from gateway.fanout.typed import fanout
from gateway.legacy.view import legacy
from gateway.proxy.keywords import ProxyKeywords
from gateway.proxy.view import proxy
from gateway.upstreams.options import OF_CALL

HOME = Path(__file__).resolve().parent.parent

MODULE = '''
from typing import Annotated, Any, TypedDict, assert_type

from gateway.routing import cached, fanout, fetch, from_environment, legacy, part, proxy, route
from gateway.testing import Reason, Reply, TestGateway
from msgspec import Struct


class User(Struct):
    name: str


class Order(TypedDict):
    id: int


class Home(Struct):
    hello: str
    count: int


@fanout
async def home(
    id: str,
    user: Annotated[User, part("users:/users/{id}")],
    orders: Annotated[list[Order], part("orders:/orders", timeout="300ms", default=[])],
) -> Home:
    """The start page."""
    user.nickname  # wrong: attr-defined
    return Home(user.name, len(orders))


@fanout(timeout="2s", concurrency=4, passes=[404], forward_headers=["x-tenant"])
async def page(user: Annotated[User | None, part("users:/me", optional=True)]) -> dict[str, Any]:
    user.name  # wrong: union-attr
    return {"user": user}


async def test_home() -> None:
    answer = await home.function(id="1", user=User("Ada"), orders=[{"id": 1}])
    assert_type(answer, Home)
    assert_type(await page.function(user=None), dict[str, Any])
    await home.function("1", User("Ada"), [])
    await home.function(id="1", user=User("Ada"), orders=[{"id": "1"}])  # wrong: typeddict-item
    await home.function(id="1", user="Ada", orders=[])  # wrong: arg-type
    await home.function(id="1", user=User("Ada"))  # wrong: call-arg
    await home.function(id="1", user=User("Ada"), orders=[], more=1)  # wrong: call-arg
    answer.name  # wrong: attr-defined
    await home(id="1", user=User("Ada"), orders=[])  # wrong: call-arg arg-type arg-type


@fanout  # wrong: arg-type
def synchronous(user: Annotated[User, part("users:/me")]) -> User:
    return user


@fanout(timeout=2)  # wrong: call-overload untyped-decorator
async def without_unit(user: Annotated[User, part("users:/me")]) -> User:
    return user


async def view(request: Any) -> list[str]:
    answer = await fetch("users:/users/{id}", params={"id": 1}, timeout="300ms", headers={"X-Tenant": "acme"})
    assert_type(answer.status, int)
    assert_type(answer.field("content-type"), str | None)
    assert_type(answer.decode(User), User)
    assert_type(answer.decode(list[Order]), list[Order])
    assert_type(answer.decode(dict[str, int]), dict[str, int])
    maybe: User | None = answer.decode(User | None)
    assert_type(maybe, User | None)
    assert_type(answer.json(), Any)
    await fetch("users:/users/1", timeout=3)  # wrong: arg-type
    await fetch("users:/users/1", params={"id": None})  # wrong: dict-item
    return answer.decode(User)  # wrong: arg-type


orders = proxy("orders:/v2/**", timeout="5s", host="preserve", header_x_tenant="acme", response_header_x_from="-")
proxy("orders", timeout=5)  # wrong: call-overload
proxy("orders", header_x_tenant=None)  # wrong: call-overload
stored = cached(orders, "60s", max_body="1MiB", stale_if_error="1h")
cached(orders, max_body=2)  # wrong: arg-type
cached(orders, ttl_s="60s")  # wrong: call-arg
report = legacy(sorted, threads=2, queue=0, timeout="30s", name="reports")
legacy(sorted, threads="2")  # wrong: arg-type
urlpatterns = [*from_environment(), route("GET /home/{id}", home), route("/page", page, name="page")]
urlpatterns += [route("/orders/**", stored), route("/report", report)]
route(home, "/home")  # wrong: arg-type arg-type
urlpatterns += [route("/m", page, auth="token", roles="ops", rate_limit="60/1m", cost=2, middleware=["team.Tenant"])]
route("/m", page, cost="2")  # wrong: arg-type
route("/m", page, colour="red")  # wrong: call-arg


async def test_kit(gateway: TestGateway) -> None:
    gateway.users["/users/1"] = {"name": "Ada"}
    gateway.orders["*"] = [Reply(503, delay="20ms"), Reason.CONNECTION_RESET, lambda call: call.params]
    answer = await gateway.get("/home/1", headers={"x-a": "1"}, json=[1])
    assert_type(answer.status, int)
    assert_type(answer.reason, Reason | None)
    assert_type(gateway.users.calls[0].headers["x-a"], str)
    Reply("503")  # wrong: arg-type
    Reply(delay=2)  # wrong: arg-type
    async with gateway.websocket("/chat") as socket:
        await socket.send("hello")
    async with TestGateway({"UPSTREAM_USERS": "http://users.test"}, routes=urlpatterns) as other:
        assert_type(other, TestGateway)
        other.clock.tick(60)  # wrong: arg-type
'''


@pytest.mark.timeout(180)  # without its cache it reads Django too
def test_mypy_understands_a_routes_module(tmp_path: Path) -> None:
    (tmp_path / "routes.py").write_text(MODULE, encoding="utf-8")
    wanted = {
        number: found[1].split()
        for number, line in enumerate(MODULE.splitlines(), start=1)
        if (found := re.search(r"# wrong: (.+)$", line))
    }
    # A cache of its own: a mypy that runs beside this one writes to the other.
    cache = HOME / ".mypy_cache" / "typing"
    options = ["--strict", "--config-file=", "--no-error-summary", f"--cache-dir={cache}", "--follow-imports=silent"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "routes.py"],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    said: dict[int, list[str]] = {}
    for number, code in re.findall(r"^routes\.py:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE):
        said.setdefault(int(number), []).append(code)
    assert said == wanted, done.stdout + done.stderr


# -- the names are the environment's --------------------------------------------------------------------------------


def keywords_of(function: Callable[..., Any]) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {one.name for one in parameters if one.default is not one.empty and one.kind is not one.POSITIONAL_ONLY}


def test_the_keywords_of_proxy_are_the_options_of_a_call() -> None:
    named = {option.name.lower() for option in OF_CALL if not option.is_open}
    assert ProxyKeywords.__optional_keys__ == named
    assert ProxyKeywords.__required_keys__ == frozenset()


@pytest.mark.parametrize("name", sorted(ProxyKeywords.__optional_keys__))
def test_a_keyword_of_proxy_takes_what_its_option_takes(name: str) -> None:
    hint, option = get_type_hints(ProxyKeywords)[name], table.TABLE["route", name.upper()]
    if get_origin(hint) is Literal:
        assert "|".join(get_args(hint)) == option.unit.label
    else:
        assert hint is str
        assert "|" not in option.unit.label
    proxy("users", **{name: option.example})


def test_the_keywords_of_cached_legacy_and_fanout_are_options() -> None:
    of_cache = {
        name for family, name in table.TABLE if family == "route" and "CACHE" in name and name != "CACHE_CONTROL"
    }
    assert {"CACHE", *(f"CACHE_{name.upper()}" for name in keywords_of(cached) - {"ttl", "stale_if_error"})} == of_cache
    assert ("route", "STALE_IF_ERROR") in table.TABLE
    of_legacy = {name.lower() for family, name in table.TABLE if family == "legacy"}
    assert keywords_of(legacy) == {"name", *of_legacy}
    of_route = {name.removesuffix("es") if name == "passes" else name for name in keywords_of(fanout)}
    assert all(("route", name.upper()) in table.TABLE for name in of_route)
