"""What editors and mypy make of fan-outs: one run over a small routes module that says each verdict beside its line.

`# wrong: code` marks a line that must be refused with that code; every other line must pass.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parent.parent

MODULE = '''
from typing import Annotated, Any, TypedDict, assert_type

from gateway.routing import fanout, fetch, from_environment, part, route
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


urlpatterns = [*from_environment(), route("GET /home/{id}", home), route("/page", page, name="page")]
route(home, "/home")  # wrong: arg-type arg-type
'''


@pytest.mark.timeout(180)  # without its cache it reads Django too
def test_mypy_understands_fan_outs(tmp_path: Path) -> None:
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
        env={"MYPYPATH": str(HOME)},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    said: dict[int, list[str]] = {}
    for number, code in re.findall(r"^routes\.py:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE):
        said.setdefault(int(number), []).append(code)
    assert said == wanted, done.stdout + done.stderr
